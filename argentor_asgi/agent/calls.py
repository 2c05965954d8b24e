"""The calls of a run's turns: run by the skills, timed, counted, audited, told, and ended when the run is."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from argentor_asgi.agent.approver import Emit
from argentor_asgi.agent.findings import looked_at, record_finding
from argentor_asgi.agent.model_call import CLEANUP_S
from argentor_asgi.agent.skills import SkillContext, SkillOutput, SkillRegistry
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.audit_entry import Outcome
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import UNKNOWN_SKILL, Spans, header, skill_ended
from argentor_asgi.protocol.events import Guardrail, ToolResult
from argentor_asgi.protocol.turn import CANCELLED, Call, Streak

if TYPE_CHECKING:
    from argentor_asgi.agent.guardrails import Guardrails

log = logging.getLogger("argentor.agent")

KEPT_BACK: Final = "A guardrail kept back what the skill returned."


@dataclass(frozen=True, slots=True)
class CallEnd:
    """What a call came to, the seconds it took, and what the guardrails found in it."""

    output: SkillOutput
    seconds: float = 0.0
    findings: Sequence[Guardrail] = ()


class Calls:
    """Runs the calls of one run.

    `outputs`: what each call came to (content, is_error) by its id, as soon as it is there. `streak`: of failures.
    """

    def __init__(
        self,
        *,
        skills: SkillRegistry,
        metrics: Metrics,
        audit: Audit,
        clock: Clock,
        context: Callable[[Call, str | None], SkillContext],
        emit: Emit,
        spans: Spans,
        trace: str | None,
        guardrails: "Guardrails | None",
    ) -> None:
        """Prepare; `context` makes what a skill is told, from a call and its trace. `trace`: the run's."""
        self.outputs: dict[str, tuple[str, bool]] = {}
        self.streak = Streak()
        self._skills = skills
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._context = context
        self._emit = emit
        self._spans = spans
        self._trace = trace
        self._guardrails = guardrails

    async def run(self, calls: Sequence[Call]) -> None:
        """Run the calls of a turn, together when each may, and tell their results in call order.

        Cancelled, those that still run are cancelled and waited for, at most `CLEANUP_S`. Raises what `emit` raises.
        """
        together = all(self._is_parallel_safe(call) for call in calls)
        for batch in [calls] if together else [[call] for call in calls]:
            await self._run_batch(batch)

    def _is_parallel_safe(self, call: Call) -> bool:
        found = self._skills.get(call.name)
        return found is None or found.descriptor.parallel_safe

    async def _run_batch(self, calls: Sequence[Call]) -> None:
        """Run the calls at the same time; a result is told as soon as those before it are."""
        tasks = [asyncio.create_task(self._call(call)) for call in calls]
        try:
            for call, task in zip(calls, tasks, strict=True):
                await asyncio.wait((task,))
                await self._report(call, _outcome(task))
        finally:
            await _end(tasks)

    async def _call(self, call: Call) -> CallEnd:
        """Run one call; its output counts from then on, even if nobody hears it."""
        began = self._clock.monotonic()
        output, findings = await self._screened(await self._traced(call))
        self.outputs[call.id] = (output.content, output.is_error)
        return CallEnd(output, self._clock.monotonic() - began, findings)

    async def _screened(self, output: SkillOutput) -> tuple[SkillOutput, Sequence[Guardrail]]:
        """Return the output as the guardrails let it pass, before anybody hears of it."""
        guardrails = self._guardrails
        if guardrails is None:
            return output, ()
        seen = await looked_at(guardrails.tool_result, output.content)
        if seen.is_blocked:
            return SkillOutput(KEPT_BACK, is_error=True), seen.findings
        return replace(output, content=seen.text), seen.findings

    async def _traced(self, call: Call) -> SkillOutput:
        """Return what the call comes to; its span ends with it, however it does."""
        span = self._spans.begin(self._trace)
        told = self._context(call, header(span, self._trace))
        error: str | None = "cancelled"
        try:
            output = await self._output(call, told)
            error = "tool_error" if output.is_error else None
        finally:
            name = self._name(call)
            skill_ended(self._spans, span, name=name, call_id=call.id, error=error)
            self._record("tool_result", name, told, {"error": error})
        return output

    async def _output(self, call: Call, told: SkillContext) -> SkillOutput:
        if call.denial is not None:
            self._record("tool_call", self._name(call), told, {"denied": call.denial}, outcome="denied")
        if call.refusal is not None:
            return SkillOutput(call.refusal, is_error=True)
        if call.captured is not None:
            return SkillOutput(call.captured)
        arguments = call.arguments or {}
        self._record("tool_call", self._name(call), told, {"arguments": sorted(arguments)})
        return await self._skills.call(call.name, arguments, told)

    def _name(self, call: Call) -> str:
        return call.name if self._skills.get(call.name) is not None else UNKNOWN_SKILL

    def _record(
        self, action: str, name: str, told: SkillContext, details: dict[str, object], *, outcome: Outcome | None = None
    ) -> None:
        """Keep as evidence what was called, never what with or what it said."""
        self._audit.record(
            action,
            outcome=outcome or ("error" if details.get("error") else "success"),
            principal=told.scope.owner,
            tenant=told.scope.tenant,
            session_id=told.session_id,
            skill_name=name,
            details={"run_id": told.run_id, "call_id": told.call_id, **details},
        )

    async def _report(self, call: Call, end: CallEnd) -> None:
        output, seconds = end.output, end.seconds
        if self._skills.get(call.name) is not None:
            self._metrics.tool_ended(call.name, seconds, output.is_error)
        for finding in end.findings:
            told = self._context(call, None)
            record_finding(
                self._audit, self._metrics, finding, told.scope, session_id=told.session_id, run_id=told.run_id
            )
            await self._emit(finding)
        self.streak = self.streak.after(call, is_error=output.is_error)
        duration_ms = round(seconds * 1000)
        await self._emit(ToolResult(call.id, call.name, output.content, output.is_error, duration_ms, output.truncated))


def _outcome(task: asyncio.Task[CallEnd]) -> CallEnd:
    """Return what became of a call that is done; a skill that cancelled itself has no output of its own."""
    return CallEnd(SkillOutput(CANCELLED, is_error=True)) if task.cancelled() else task.result()


async def _end(tasks: Sequence[asyncio.Task[CallEnd]]) -> None:
    """Cancel what still runs and wait for it, at most `CLEANUP_S`."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running and (await asyncio.wait(running, timeout=CLEANUP_S))[1]:
        log.error("a skill goes on though it was cancelled")

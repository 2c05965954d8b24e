"""One run being worked: the turns it takes, what it stores and tells, and how it is settled when it ends early.

It decides nothing itself: `protocol.turn` says what a turn came to and what follows; this awaits, stores and emits.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from argentor_asgi.agent.approver import Emit
from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.calls import Calls
from argentor_asgi.agent.clearance import Judge, clear
from argentor_asgi.agent.findings import record_finding
from argentor_asgi.agent.model_call import CLEANUP_S, ModelCall
from argentor_asgi.agent.run_context import RunContext
from argentor_asgi.agent.skills import SkillContext, SkillRegistry
from argentor_asgi.errors import ContextOverflow, GatewayError, MaxTurns, OutputBlocked, RunInterrupted, ToolFailed
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import NO_SPANS, Span, Spans, header, turn_ended
from argentor_asgi.protocol.events import Guardrail, RunEvent, Steered, TextDelta, TurnEnd
from argentor_asgi.protocol.history import halve, mend, open_calls
from argentor_asgi.protocol.llm import LlmEvent, LlmRequest
from argentor_asgi.protocol.messages import Message, Part, Role, plain_text
from argentor_asgi.protocol.schema import JsonObject, to_builtins
from argentor_asgi.protocol.turn import (
    Answered,
    Call,
    Effect,
    Fail,
    GoOn,
    RunTools,
    Shrink,
    Turn,
    decide,
    finish_reason,
    restored,
    results,
)
from argentor_asgi.sessions.store import SessionStore

if TYPE_CHECKING:
    from argentor_asgi.agent.guardrails import Guardrails, OutputGuard

log = logging.getLogger("argentor.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What runs are worked with, the same for all of them.

    `max_turns`: model calls of a run; `context_messages`: how many of the session's messages the model is shown;
    `max_tokens`: of one answer. All >= 1.
    """

    backend: LlmBackend
    skills: SkillRegistry
    sessions: SessionStore
    metrics: Metrics
    audit: Audit
    clock: Clock
    policy: Judge
    system_prompt: str
    guardrails: "Guardrails | None" = None
    spans: Spans = NO_SPANS
    max_turns: int = 20
    context_messages: int = 100
    max_tokens: int = 4096


class Work:
    """One run being worked: the history as stored, and what is not stored yet."""

    def __init__(self, kit: Kit, context: RunContext, emit: Emit, trace: str | None) -> None:
        self._kit = kit
        self._context = context
        self._emit = emit
        self._history: list[Message] = []
        self._taken: set[str] = set()
        self._next_index = 0
        self._untold: deque[RunEvent] = deque()
        self._began = kit.clock.monotonic()
        self._is_heard = False
        self._trace = trace
        self._span: Span | None = None
        self._turn: Turn | None = None
        self._guard: OutputGuard | None = None
        self._calls: Sequence[Call] = ()
        # No bound method of its own: in a cycle, all that the run said would wait for the garbage collector.
        told = partial(_skill_context, context, kit.clock)
        self._skills = Calls(
            skills=kit.skills,
            metrics=kit.metrics,
            audit=kit.audit,
            clock=kit.clock,
            context=told,
            emit=emit,
            spans=kit.spans,
            trace=trace,
            guardrails=kit.guardrails,
        )
        self._may_shrink = True
        self._write: asyncio.Task[None] | None = None

    async def loop(self) -> None:
        """Take turns until one is the answer."""
        kit, context = self._kit, self._context
        await self._tell(context.notices)
        await self._recall()
        for number in range(context.turns + 1, kit.max_turns + 1):
            turn = await self._ask(number)
            effect = decide(turn, may_shrink=self._may_shrink)
            await self._keep(turn, effect)
            await self._act(effect, turn)
            is_steered = await self._steer()
            if isinstance(effect, Answered) and not is_steered:
                context.is_listening = False
                return
        raise MaxTurns

    async def _recall(self) -> None:
        """Read what was said before; a run that waited for a person first makes the calls that it waited for."""
        kit, context = self._kit, self._context
        recent = await kit.sessions.recent(context.session_id, limit=kit.context_messages)
        self._history = mend(recent)
        self._taken = {str(call.id) for message in self._history for call in message.tool_calls}
        if context.resumed is None:
            return
        waiting = open_calls(recent)
        if not waiting:
            raise RunInterrupted
        del self._history[-1]  # `mend` answered the calls, since most that are left open are never made
        self._next_index = context.resumed.next_index
        self._calls = [restored(part, is_cut=part.id in context.resumed.cut_calls) for part in waiting]
        await self._run_tools(self._calls, context.resumed.asked_calls)
        await self._steer()

    async def _ask(self, number: int) -> Turn:
        """Read one model call to its end, or to where it breaks off."""
        context = self._context
        if context.budget is not None:
            context.budget.take_turn()
        context.turns, context.text = number, ""
        turn = self._turn = Turn(next_index=self._next_index, taken=self._taken)
        guard = self._guard = None if self._kit.guardrails is None else self._kit.guardrails.output()
        self._span = self._kit.spans.begin(self._trace)
        call = ModelCall(self._kit.backend, self._request(), context.run_id)
        try:
            while turn.finish is None and (event := await call.next()) is not None:
                await (self._hear(turn, (event,)) if guard is None else self._screen(turn, guard, event))
            if guard is not None and turn.finish is None:
                await self._hear(turn, guard.end())
        finally:
            self._next_index = turn.next_index
            await call.close()
        return turn

    async def _screen(self, turn: Turn, guard: "OutputGuard", event: LlmEvent) -> None:
        """Take what the guardrails let pass of an event, a portion at a time."""
        for at, portion in enumerate(guard.portions(event)):
            if at:
                await asyncio.sleep(0)
            if turn.finish is None:
                await self._hear(turn, guard.feed(portion))

    async def _hear(self, turn: Turn, events: Iterable[LlmEvent]) -> None:
        """Take what the model said, as far as it was let pass, and tell it; a cancel finds all of it taken."""
        try:
            for event in events:
                self._untold.extend(turn.feed(event))
        finally:
            await self._tell(())

    def _request(self) -> LlmRequest:
        kit = self._kit
        budget = self._context.budget
        return LlmRequest(
            kit.system_prompt,
            tuple(self._history),
            kit.skills.specs(),
            max_tokens=None if budget is None else budget.max_tokens(kit.max_tokens),
            tenant=self._context.scope.tenant,
            deadline=self._context.deadline,
            trace_parent=header(self._span, self._trace),
        )

    async def _tell(self, events: Sequence[RunEvent]) -> None:
        """Emit the events, behind those that a cancel kept from being told."""
        self._untold.extend(events)
        while self._untold:
            event = self._untold.popleft()
            if isinstance(event, Guardrail):
                self._record(event)
            if not self._is_heard and isinstance(event, TextDelta):
                self._is_heard = True
                self._kit.metrics.first_token(self._kit.clock.monotonic() - self._began)
            await self._emit(event)

    def _record(self, finding: Guardrail) -> None:
        context = self._context
        record_finding(
            self._kit.audit,
            self._kit.metrics,
            finding,
            context.scope,
            session_id=context.session_id,
            run_id=context.run_id,
        )

    async def _keep(self, turn: Turn, effect: Effect) -> None:
        """Store a turn that was read to its end, and say that it ended; one that is no turn stays for `settle`."""
        if turn.finish is None:
            return
        self._dismiss(turn, finish_reason(turn, effect))
        self._calls = turn.calls if isinstance(effect, RunTools) else ()
        said = self._said(turn, is_whole=not isinstance(effect, Fail | Shrink))
        await self._store(*said, *([] if self._calls else self._results(turn.calls)))
        await self._emit(TurnEnd(self._context.turns, finish_reason(turn, effect), turn.usage))

    def _dismiss(self, turn: Turn, reason: str, *, error: str | None = None) -> None:
        """Count a turn that is over, once; `error`: the code of what ended it, if it did not end itself."""
        kit, used = self._kit, turn.usage
        self._turn = None
        self._context.text = turn.text
        self._context.usage = self._context.usage.plus(used)
        provider, model = kit.backend.name, turn.model or kit.backend.model
        if self._context.budget is not None:
            self._context.budget.used(model, used)
        kit.metrics.turn_ended(provider, reason, used.input_tokens, used.output_tokens)
        turn_ended(kit.spans, self._span, provider=provider, model=model, usage=used, reason=reason, error=error)

    async def _act(self, effect: Effect, turn: Turn) -> None:
        match effect:
            case RunTools():
                await self._run_tools(turn.calls)
            case Answered(reason):
                self._context.finish_reason = reason
            case GoOn():
                pass
            case Shrink():
                self._shrink()
            case _:
                raise effect.error

    async def _steer(self) -> bool:
        """Hand over what was left for this safe point; with nothing left and an answer given, nothing more is taken."""
        waiting = self._take_steering()
        await self._store(*waiting)
        for message in waiting:
            await self._emit(Steered(message.content))
        return bool(waiting)

    def _take_steering(self) -> list[Message]:
        texts = tuple(self._context.steering)
        self._context.steering.clear()
        return [self._message("user", (Part("text", text=text),)) for text in texts]

    def _shrink(self) -> None:
        """Go on with half of the history, once. Raises `ContextOverflow` when half is no less."""
        halved = halve(self._history)
        if len(halved) >= len(self._history):
            raise ContextOverflow
        self._history = halved
        self._may_shrink = False

    async def _run_tools(self, calls: Sequence[Call], asked: Collection[str] = ()) -> None:
        """Run the calls that may, then store what came of them all; `asked`: those that a person was asked for."""
        kit, context = self._kit, self._context
        await clear(calls, skills=kit.skills, policy=kit.policy, approver=context.approver, asked_before=asked)
        running = sum(call.runs for call in calls)
        if context.budget is not None:
            context.budget.take_calls(running)
        context.tool_calls += running
        await self._skills.run(calls)
        self._calls = ()
        self._count_inner()
        await self._store(*self._results(calls))
        if any(call.is_edited for call in calls):
            self._history = mend(self._history)
        if self._skills.streak.is_hopeless:
            raise ToolFailed

    def _count_inner(self) -> None:
        """Let the run's usage hold that of the runs inside of it, which its budget has counted."""
        context = self._context
        if context.budget is not None and not context.depth:
            context.usage = context.budget.usage

    async def settle(self, code: str) -> None:
        """After an end by `code`: end the open calls, store what was there, answer every stored call.

        Takes `CLEANUP_S` at most for each; only a cancel raises, and what was there is stored even so.
        """
        self._context.is_listening = False
        ended, left = self._left_over(code)
        try:
            await self._within(self._tell(ended))
        finally:
            await self._within(self._store_rest(left))
            if self._write is not None:
                self._write.cancel()

    def _left_over(self, code: str) -> tuple[Sequence[RunEvent], list[Message]]:
        """Return what is still to be told, and to be stored."""
        turn = self._turn
        if turn is None:
            return (), [*self._results(self._calls), *self._take_steering()]
        ended = [*self._held(turn), *turn.close()]
        self._dismiss(turn, code, error=code)
        return ended, [*self._said(turn, is_whole=False), *self._results(turn.calls), *self._take_steering()]

    def _held(self, turn: Turn) -> Sequence[RunEvent]:
        """Return what is told of the text that the guardrails still hold back, once they have looked at it."""
        told: list[RunEvent] = []
        if self._guard is not None and turn.finish is None:
            with suppress(OutputBlocked):
                for passed in self._guard.end():
                    told += turn.feed(passed)
        return told

    async def _within(self, step: Coroutine[None, None, None]) -> None:
        try:
            async with asyncio.timeout(CLEANUP_S):
                await step
        except GatewayError as error:
            log.warning("run %s did not end cleanly: %s", self._context.run_id, error)
        except Exception:
            log.exception("run %s did not end cleanly", self._context.run_id)

    async def _store_rest(self, messages: Sequence[Message]) -> None:
        if await self._is_stored():
            await self._store(*messages)

    async def _is_stored(self) -> bool:
        """Wait for the write that is going on, if any; whether the last one succeeded, so that more may follow it."""
        if self._write is None:
            return True
        await asyncio.wait((self._write,))
        return not self._write.cancelled() and self._write.exception() is None

    async def _store(self, *messages: Message) -> None:
        """Append messages to the session; once begun it happens, whoever is cancelled meanwhile."""
        if messages:
            self._history += messages
            self._write = asyncio.create_task(self._append(messages))
            await asyncio.shield(self._write)

    async def _append(self, messages: Sequence[Message]) -> None:
        await self._kit.sessions.append(self._context.session_id, messages)

    def _said(self, turn: Turn, *, is_whole: bool) -> list[Message]:
        """Return the turn as a message; none when the model said nothing, since no wire takes an empty one."""
        metadata: JsonObject = {"usage": to_builtins(turn.usage)}
        if turn.finish is not None and turn.finish.metadata:
            metadata["backend"] = turn.finish.metadata
        if not is_whole:
            metadata["interrupted"] = True
        return [self._message("assistant", turn.parts, metadata)] if turn.parts else []

    def _results(self, calls: Sequence[Call]) -> list[Message]:
        """Return the message that answers the calls, with what came of them or `cancelled`; none without calls."""
        return [self._message("tool", results(calls, self._skills.outputs))] if calls else []

    def _message(self, role: Role, parts: tuple[Part, ...], metadata: JsonObject | None = None) -> Message:
        return Message(
            id=str(uuid4()),
            role=role,
            content=plain_text(parts),
            session_id=self._context.session_id,
            timestamp=self._kit.clock.now(),
            parts=parts,
            metadata=metadata or {},
        )


def _skill_context(context: RunContext, clock: Clock, call: Call, trace_parent: str | None) -> SkillContext:
    return SkillContext(
        run_id=context.run_id,
        session_id=context.session_id,
        call_id=call.id,
        scope=context.scope,
        now=clock.now(),
        trace_parent=trace_parent,
        budget=context.budget,
        depth=context.depth,
        reviewer=call.reviewer,
    )

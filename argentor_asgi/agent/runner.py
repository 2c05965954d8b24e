"""The agent loop: ask the model, run the skills it calls, ask again, until it answers.

One loop serves every caller, streaming or not. It decides nothing itself: `protocol.turn` says what a turn came to and
what follows; this shell awaits, stores and emits. Whoever calls `run` owns the run's first and its terminal event.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never, runtime_checkable
from uuid import uuid4

from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.skills import SkillContext, SkillOutput, SkillRegistry
from argentor_asgi.errors import ContextOverflow, GatewayError, MaxTurns, ProviderUnavailable, RunTimeout, ToolFailed
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.events import RunEvent, Steered, ToolResult, TurnEnd
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest
from argentor_asgi.protocol.messages import Message, Part, Role, Usage, plain_text
from argentor_asgi.protocol.schema import JsonObject, to_builtins
from argentor_asgi.protocol.turn import (
    CANCELLED,
    Answered,
    Call,
    Effect,
    Fail,
    GoOn,
    RunTools,
    Shrink,
    Streak,
    Turn,
    decide,
    finish_reason,
    halve,
    mend,
    results,
)
from argentor_asgi.sessions.session import Scope, SessionStore

STEERING: Final = 16
"""How many texts may wait for a run's next safe point."""
CLEANUP_S: Final = 2.0
"""How long a run that ends early may take to close its model's stream, its skills, and to store what was there."""

log = logging.getLogger("argentor.agent")

Emit = Callable[[RunEvent], Awaitable[None]]


@dataclass(slots=True)
class RunContext:
    """One run, between its owner and the loop.

    `deadline`: monotonic s on the runner's clock, None for none. The fields from `text` on are filled by the loop, and
    are right after any ending: the text of the last turn as far as it came, the turns begun, the tokens of them all.
    """

    run_id: str
    session_id: str
    scope: Scope
    deadline: float | None = None
    steering: deque[str] = field(default_factory=deque)
    is_listening: bool = True
    text: str = ""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None

    def steer(self, text: str) -> bool:
        """Leave `text` for the run's next safe point; False when `STEERING` texts wait or the run is past its last."""
        if not self.is_listening or len(self.steering) >= STEERING:
            return False
        self.steering.append(text)
        return True


class AgentRunner:
    """Works runs; holds no state of any of them, so that one serves them all."""

    def __init__(
        self,
        *,
        backend: LlmBackend,
        skills: SkillRegistry,
        sessions: SessionStore,
        metrics: Metrics,
        clock: Clock,
        system_prompt: str,
        max_turns: int = 20,
        context_messages: int = 100,
    ) -> None:
        """Keep the collaborators. `max_turns` (>= 1): model calls of a run; `context_messages` (>= 1) of history."""
        self.backend = backend
        self.skills = skills
        self.sessions = sessions
        self.metrics = metrics
        self.clock = clock
        self.system_prompt = system_prompt
        self.max_turns = max_turns
        self.context_messages = context_messages

    async def run(self, context: RunContext, emit: Emit) -> None:
        """Work one user message, already in the session, to its answer in `context.text`.

        Emits every event but the first and the terminal one. Raises a `GatewayError` when the run fails: `RunTimeout`,
        `MaxTurns`, `ToolFailed`, `ContentFiltered`, `ContextOverflow`, `StreamTruncated`, `ProviderUnavailable`, what
        the backend, the store or `emit` raises. However it ends, open calls get their end, what the model said so far
        is stored and each stored call has a result, within `CLEANUP_S`; then a cancel goes on as `CancelledError`.
        """
        work = _Work(self, context, emit)
        left = None if context.deadline is None else context.deadline - self.clock.monotonic()
        deadline = asyncio.timeout(left)
        try:
            async with deadline:
                await work.loop()
        except BaseException as error:
            await work.settle()
            if isinstance(error, TimeoutError) and deadline.expired():
                raise RunTimeout from None
            raise
        finally:
            context.is_listening = False


class _Work:
    """One run being worked: the history as stored, and what is not stored yet."""

    def __init__(self, runner: AgentRunner, context: RunContext, emit: Emit) -> None:
        self._runner = runner
        self._context = context
        self._emit = emit
        self._history: list[Message] = []
        self._taken: set[str] = set()
        self._next_index = 0
        self._turn: Turn | None = None
        self._calls: Sequence[Call] = ()
        self._outputs: dict[str, tuple[str, bool]] = {}
        self._streak = Streak()
        self._may_shrink = True
        self._write: asyncio.Task[None] | None = None

    async def loop(self) -> None:
        """Take turns until one is the answer."""
        runner, context = self._runner, self._context
        recent = await runner.sessions.recent(context.session_id, limit=runner.context_messages)
        self._history = mend(recent)
        self._taken = {str(call.id) for message in self._history for call in message.tool_calls}
        for number in range(1, runner.max_turns + 1):
            turn = await self._ask(number)
            effect = decide(turn, may_shrink=self._may_shrink)
            await self._keep(turn, effect)
            await self._act(effect, turn)
            is_steered = await self._steer()
            if isinstance(effect, Answered) and not is_steered:
                return
        raise MaxTurns

    async def _ask(self, number: int) -> Turn:
        """Read one model call to its end, or to where it breaks off."""
        self._context.turns, self._context.text = number, ""
        turn = self._turn = Turn(next_index=self._next_index, taken=self._taken)
        tools = self._runner.skills.specs()
        stream = self._stream(LlmRequest(self._runner.system_prompt, tuple(self._history), tools))
        try:
            while (event := await self._next(stream)) is not None and turn.finish is None:
                for heard in turn.feed(event):
                    await self._emit(heard)
        finally:
            self._next_index = turn.next_index
            await _close(stream)
        return turn

    def _stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        try:
            return self._runner.backend.stream(request)
        except Exception as error:
            raise self._unavailable(error) from error

    async def _next(self, stream: AsyncIterator[LlmEvent]) -> LlmEvent | None:
        """Return the model's next event, None at the end of its stream; a full context is a way to finish."""
        try:
            return await anext(stream, None)
        except ContextOverflow:
            return Finish("context_overflow")
        except Exception as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> GatewayError:
        """Return what the caller is told of a backend's exception; what was not meant for callers is only logged."""
        if isinstance(error, GatewayError):
            return error
        log.error("run %s: %s raised", self._context.run_id, self._runner.backend.name, exc_info=error)
        return ProviderUnavailable()

    async def _keep(self, turn: Turn, effect: Effect) -> None:
        """Store a turn that was read to its end, and say that it ended; one that is no turn stays for `settle`."""
        if turn.finish is None:
            return
        self._dismiss(turn, finish_reason(turn, effect))
        self._calls = turn.calls if isinstance(effect, RunTools) else ()
        self._outputs = {call.id: (call.refusal, True) for call in turn.calls if call.refusal}
        said = self._said(turn, is_whole=not isinstance(effect, Fail | Shrink))
        await self._store(*said, *([] if self._calls else self._results(turn.calls)))
        await self._emit(TurnEnd(self._context.turns, finish_reason(turn, effect), turn.usage))

    def _dismiss(self, turn: Turn, reason: str) -> None:
        """Count a turn that is over, once."""
        self._turn = None
        self._context.text = turn.text
        self._context.usage = self._context.usage.plus(turn.usage)
        used = turn.usage
        self._runner.metrics.turn_ended(self._runner.backend.name, reason, used.input_tokens, used.output_tokens)

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
            case Fail(error):
                raise error
            case _:
                assert_never(effect)

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

    async def _run_tools(self, calls: Sequence[Call]) -> None:
        """Run the calls, together when each may, and store their results in call order."""
        together = all(self._is_parallel_safe(call) for call in calls)
        for batch in [calls] if together else [[call] for call in calls]:
            await self._run_batch(batch)
        self._calls = ()
        await self._store(*self._results(calls))
        if self._streak.is_hopeless:
            raise ToolFailed

    def _is_parallel_safe(self, call: Call) -> bool:
        found = self._runner.skills.get(call.name)
        return found is None or found.descriptor.parallel_safe

    async def _run_batch(self, calls: Sequence[Call]) -> None:
        """Run the calls at the same time; a result is told as soon as those before it are."""
        tasks = [asyncio.create_task(self._call(call)) for call in calls]
        try:
            for call, task in zip(calls, tasks, strict=True):
                await asyncio.wait((task,))
                await self._report(call, *_outcome(task))
        finally:
            await self._end(tasks)

    async def _call(self, call: Call) -> tuple[SkillOutput, float]:
        """Return what the call came to, and the seconds it took; it counts from then on, even if nobody hears it."""
        runner, context = self._runner, self._context
        began = runner.clock.monotonic()
        if call.refusal is None:
            mine = SkillContext(context.run_id, context.session_id, call.id, context.scope, runner.clock.now())
            output = await runner.skills.call(call.name, call.arguments or {}, mine)
        else:
            output = SkillOutput(call.refusal, is_error=True)
        self._outputs[call.id] = (output.content, output.is_error)
        return output, runner.clock.monotonic() - began

    async def _report(self, call: Call, output: SkillOutput, seconds: float) -> None:
        known = self._runner.skills.get(call.name) is not None
        self._runner.metrics.tool_ended(call.name if known else "unknown", seconds, output.is_error)
        self._streak = self._streak.after(call, is_error=output.is_error)
        await self._emit(
            ToolResult(call.id, call.name, output.content, output.is_error, round(seconds * 1000), output.truncated)
        )

    async def _end(self, tasks: Sequence[asyncio.Task[tuple[SkillOutput, float]]]) -> None:
        """Cancel what still runs and wait for it, at most `CLEANUP_S`."""
        running = [task for task in tasks if not task.done()]
        for task in running:
            task.cancel()
        if running and (await asyncio.wait(running, timeout=CLEANUP_S))[1]:
            log.error("run %s: a skill goes on though it was cancelled", self._context.run_id)

    async def settle(self) -> None:
        """After any early end: end the open calls, store what was there, answer every stored call. Never raises."""
        try:
            async with asyncio.timeout(CLEANUP_S):
                await self._tidy()
        except GatewayError as error:
            log.warning("run %s: what was left could not be stored: %s", self._context.run_id, error)
        except Exception:
            log.exception("run %s: what was left could not be stored", self._context.run_id)
        finally:
            if self._write is not None:
                self._write.cancel()

    async def _tidy(self) -> None:
        turn = self._turn
        if turn is None:
            left = self._results(self._calls)
        else:
            for heard in turn.close():
                await self._emit(heard)
            self._dismiss(turn, "interrupted")
            left = [*self._said(turn, is_whole=False), *self._results(turn.calls)]
        if await self._is_stored():
            await self._store(*left, *self._take_steering())

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
        await self._runner.sessions.append(self._context.session_id, messages)

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
        return [self._message("tool", results(calls, self._outputs))] if calls else []

    def _message(self, role: Role, parts: tuple[Part, ...], metadata: JsonObject | None = None) -> Message:
        return Message(
            id=str(uuid4()),
            role=role,
            content=plain_text(parts),
            session_id=self._context.session_id,
            timestamp=self._runner.clock.now(),
            parts=parts,
            metadata=metadata or {},
        )


def _outcome(task: asyncio.Task[tuple[SkillOutput, float]]) -> tuple[SkillOutput, float]:
    """Return the result of a call that is done; a skill that cancelled itself has none of its own."""
    return (SkillOutput(CANCELLED, is_error=True), 0.0) if task.cancelled() else task.result()


@runtime_checkable
class _Closes(Protocol):
    """An iterator that can be ended early."""

    async def aclose(self) -> None: ...


async def _close(stream: AsyncIterator[LlmEvent]) -> None:
    """End the model's stream now, within `CLEANUP_S`; what goes wrong there changes nothing for the run."""
    if isinstance(stream, _Closes):
        try:
            async with asyncio.timeout(CLEANUP_S):
                await stream.aclose()
        except Exception:
            log.exception("a model's stream could not be closed")

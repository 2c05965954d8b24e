"""The agent loop: ask the model, run the skills it calls, ask again, until it answers.

One loop serves every caller, streaming or not. It decides nothing itself: `protocol.turn` says what a turn came to and
what follows; this shell awaits, stores and emits. Whoever calls `run` owns the run's first and its terminal event.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, runtime_checkable
from uuid import uuid4

from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.calls import CLEANUP_S, Calls, Emit
from argentor_asgi.agent.skills import SkillContext, SkillRegistry
from argentor_asgi.errors import ContextOverflow, GatewayError, MaxTurns, ProviderUnavailable, RunTimeout, ToolFailed
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import NO_SPANS, Span, Spans, header, run_ended, turn_ended
from argentor_asgi.protocol.events import RunEvent, Steered, TextDelta, TurnEnd
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest
from argentor_asgi.protocol.messages import Message, Part, Role, Usage, plain_text
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
    halve,
    mend,
    results,
)
from argentor_asgi.sessions.session import Scope, SessionStore

STEERING: Final = 16
"""How many texts may wait for a run's next safe point."""

log = logging.getLogger("argentor.agent")


@dataclass(slots=True)
class RunContext:
    """One run, between its owner and the loop.

    `deadline`: monotonic s on the runner's clock, None for none. `trace`: the `traceparent` of what asked for the run.
    The fields from `text` on are filled by the loop, and are right after any ending: the text of the last turn as far
    as it came, the turns begun, the tokens of them all.
    """

    run_id: str
    session_id: str
    scope: Scope
    deadline: float | None = None
    trace: str | None = None
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
        audit: Audit,
        clock: Clock,
        system_prompt: str,
        max_turns: int = 20,
        context_messages: int = 100,
        spans: Spans = NO_SPANS,
    ) -> None:
        """Keep the collaborators. `max_turns` (>= 1): model calls of a run; `context_messages` (>= 1) of history."""
        self.backend = backend
        self.skills = skills
        self.sessions = sessions
        self.metrics = metrics
        self.audit = audit
        self.clock = clock
        self.system_prompt = system_prompt
        self.max_turns = max_turns
        self.context_messages = context_messages
        self.spans = spans

    async def run(self, context: RunContext, emit: Emit) -> None:
        """Work one user message, already in the session, to its answer in `context.text`.

        Emits every event but the first and the terminal one. Raises a `GatewayError` when the run fails: `RunTimeout`,
        `MaxTurns`, `ToolFailed`, `ContentFiltered`, `ContextOverflow`, `StreamTruncated`, `ProviderUnavailable`, what
        the backend, the store or `emit` raises. However it ends, open calls get their end, what the model said so far
        is stored and each stored call has a result; then a cancel goes on as `CancelledError`. That takes a moment, and
        never more than `CLEANUP_S` for each thing that hangs; a second cancel meanwhile cuts it short.
        """
        span, code = self.spans.begin(context.trace), None
        work = _Work(self, context, emit, header(span, context.trace))
        left = None if context.deadline is None else context.deadline - self.clock.monotonic()
        deadline = asyncio.timeout(left)
        try:
            async with deadline:
                await work.loop()
        except BaseException as error:
            is_late = isinstance(error, TimeoutError) and deadline.expired()
            code = RunTimeout.code if is_late else _code(error)
            await work.settle(code)
            if is_late:
                raise RunTimeout from None
            raise
        finally:
            run_ended(
                self.spans, span, run_id=context.run_id, session_id=context.session_id, usage=context.usage, error=code
            )


class _Work:
    """One run being worked: the history as stored, and what is not stored yet."""

    def __init__(self, runner: AgentRunner, context: RunContext, emit: Emit, trace: str | None) -> None:
        self._runner = runner
        self._context = context
        self._emit = emit
        self._history: list[Message] = []
        self._taken: set[str] = set()
        self._next_index = 0
        self._untold: deque[RunEvent] = deque()
        self._began = runner.clock.monotonic()
        self._is_heard = False
        self._trace = trace
        self._span: Span | None = None
        self._turn: Turn | None = None
        self._calls: Sequence[Call] = ()
        # No bound method of its own: in a cycle, all that the run said would wait for the garbage collector.
        told = partial(_skill_context, context, runner.clock)
        self._skills = Calls(
            skills=runner.skills,
            metrics=runner.metrics,
            audit=runner.audit,
            clock=runner.clock,
            context=told,
            emit=emit,
            spans=runner.spans,
            trace=trace,
        )
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
                context.is_listening = False
                return
        raise MaxTurns

    async def _ask(self, number: int) -> Turn:
        """Read one model call to its end, or to where it breaks off."""
        self._context.turns, self._context.text = number, ""
        turn = self._turn = Turn(next_index=self._next_index, taken=self._taken)
        self._span = self._runner.spans.begin(self._trace)
        stream = self._stream(self._request())
        try:
            while (event := await self._next(stream)) is not None and turn.finish is None:
                await self._tell(turn.feed(event))
        finally:
            self._next_index = turn.next_index
            await _close(stream)
        return turn

    def _request(self) -> LlmRequest:
        runner = self._runner
        trace_parent = header(self._span, self._trace)
        return LlmRequest(runner.system_prompt, tuple(self._history), runner.skills.specs(), trace_parent=trace_parent)

    async def _tell(self, events: Sequence[RunEvent]) -> None:
        """Emit the events, behind those that a cancel kept from being told."""
        self._untold.extend(events)
        while self._untold:
            event = self._untold.popleft()
            if not self._is_heard and isinstance(event, TextDelta):
                self._is_heard = True
                self._runner.metrics.first_token(self._runner.clock.monotonic() - self._began)
            await self._emit(event)

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
        said = self._said(turn, is_whole=not isinstance(effect, Fail | Shrink))
        await self._store(*said, *([] if self._calls else self._results(turn.calls)))
        await self._emit(TurnEnd(self._context.turns, finish_reason(turn, effect), turn.usage))

    def _dismiss(self, turn: Turn, reason: str, *, error: str | None = None) -> None:
        """Count a turn that is over, once; `error`: the code of what ended it, if it did not end itself."""
        runner, used = self._runner, turn.usage
        self._turn = None
        self._context.text = turn.text
        self._context.usage = self._context.usage.plus(used)
        provider, model = runner.backend.name, runner.backend.model
        runner.metrics.turn_ended(provider, reason, used.input_tokens, used.output_tokens)
        turn_ended(runner.spans, self._span, provider=provider, model=model, usage=used, reason=reason, error=error)

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

    async def _run_tools(self, calls: Sequence[Call]) -> None:
        """Run the calls, then store what came of them."""
        await self._skills.run(calls)
        self._calls = ()
        await self._store(*self._results(calls))
        if self._skills.streak.is_hopeless:
            raise ToolFailed

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
        ended = turn.close()
        self._dismiss(turn, code, error=code)
        return ended, [*self._said(turn, is_whole=False), *self._results(turn.calls), *self._take_steering()]

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
        return [self._message("tool", results(calls, self._skills.outputs))] if calls else []

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


def _skill_context(context: RunContext, clock: Clock, call_id: str, trace_parent: str | None) -> SkillContext:
    return SkillContext(context.run_id, context.session_id, call_id, context.scope, clock.now(), trace_parent)


def _code(error: BaseException) -> str:
    """Return the word under which metrics count a model call that `error` ended."""
    if isinstance(error, GatewayError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"


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

"""One model call as it is read, and what comes after it: the decisions of the agent loop as plain functions.

`Turn` folds the model's events into message parts and the run's events; `decide` says what comes next. Nothing here
awaits, reads a clock or knows a store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from argentor_asgi.errors import ContentFiltered, ContextOverflow, GatewayError, StreamTruncated
from argentor_asgi.protocol.events import (
    ReasoningDelta,
    Retry,
    RunEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from argentor_asgi.protocol.llm import (
    Finish,
    LlmEvent,
    ReasoningPiece,
    Retrying,
    Screened,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Part, Usage
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode, scrub

TOOL_CALLS_PER_TURN = 64
"""How many calls of one turn are run; the next is answered with an error, those behind it are dropped."""
ARGUMENT_BYTES = 256 * 1024
"""How many bytes of UTF-8 the arguments of one call may have."""
ANSWER_CHARS = 1024 * 1024
"""How many characters of text and reasoning one turn may have; there it ends as if the model had said `length`."""
ID_CHARS = 256
"""How long the id of a call may be that a model gives; each event of the call repeats it."""
NAME_CHARS = 256
"""How much is kept of the name of a skill that a model calls; no skill has so long a name."""
SAME_FAILURES = 3
"""How often in a row the same call may fail before the run is given up."""

CANCELLED = "cancelled"
_CUT_OFF = "The call was cut off before its arguments were complete. Make it again."
_TOO_MANY = f"At most {TOOL_CALLS_PER_TURN} calls are run in one turn. Make the others in the next one."
_TOO_LARGE = f"The arguments are larger than {ARGUMENT_BYTES} bytes."


@dataclass(slots=True)
class Call:
    """A call as the model makes it, piece by piece.

    `arguments`: set once complete and a JSON object; what a reviewer put in their place if `is_edited`. `refusal`: why
    it cannot run, in words for the model, or None. `is_cut`: the model never completed it. `captured`: what is told in
    the place of running it, or None. `denial`: the code under which policy or a person kept it from running.
    `reviewer`: the principal who approved it.
    """

    id: str
    name: str
    pieces: list[str] = field(default_factory=list)
    size_bytes: int = 0
    arguments: JsonObject | None = None
    refusal: str | None = None
    is_cut: bool = False
    captured: str | None = None
    denial: str | None = None
    reviewer: str | None = None
    is_edited: bool = False

    def add(self, piece: str) -> bool:
        """Take a piece of the arguments; False when it is dropped, since they grew too large."""
        self.size_bytes += len(piece.encode())
        if self.size_bytes > ARGUMENT_BYTES:
            self.pieces.clear()
            self.refusal = _TOO_LARGE
            return False
        self.pieces.append(piece)
        return True

    def complete(self) -> None:
        """Read the joined pieces as a JSON object, none at all as an empty one; else say why it cannot run."""
        if self.size_bytes > ARGUMENT_BYTES:
            return
        try:
            self.arguments = decode("".join(self.pieces).strip().encode() or b"{}", dict)
        except GatewayError as error:
            self.refusal = f"The arguments must be one JSON object. {error.message}"

    @property
    def runs(self) -> bool:
        """Whether a skill is to be called for it."""
        return self.refusal is None and self.captured is None

    @property
    def part(self) -> Part:
        """The call as a message keeps it: always with an object of arguments, since every wire wants one."""
        return Part("tool_call", id=self.id, name=self.name, arguments=self.arguments or {})


def restored(part: Part, *, is_cut: bool) -> Call:
    """Return the call that a stored message makes; one that the model never completed cannot run."""
    arguments = part.arguments if isinstance(part.arguments, dict) else {}
    return Call(str(part.id), str(part.name), arguments=arguments, refusal=_CUT_OFF if is_cut else None, is_cut=is_cut)


@dataclass(slots=True)
class Prose:
    """Text or reasoning that came in one go."""

    kind: Literal["text", "reasoning"]
    pieces: list[str]

    @property
    def part(self) -> Part:
        """The prose as a message keeps it."""
        return Part(self.kind, text="".join(self.pieces))


class Turn:
    """One model call being read: feed it the model's events, get the run's events; then ask what it came to.

    `next_index`: the number of the run's next text piece. `taken`: the call ids of the conversation; a call whose id is
    among them gets another, since wires refuse a history with an id twice. The turn adds its own to the set.
    """

    __slots__ = ("_blocks", "_open", "_room", "_taken", "calls", "finish", "model", "next_index", "usage")

    def __init__(self, *, next_index: int, taken: set[str]) -> None:
        self.next_index = next_index
        self.calls: list[Call] = []
        self.usage = Usage()
        self.model: str | None = None
        self.finish: Finish | None = None
        self._taken = taken
        self._blocks: list[Prose | Call] = []
        self._open: dict[str, Call] = {}
        self._room = ANSWER_CHARS

    def feed(self, event: LlmEvent) -> Sequence[RunEvent]:
        """Take one event of the model and return what the run's readers hear of it; deaf once finished."""
        if self.finish is not None:
            return ()
        match event:
            case TextPiece(text):
                return self._say("text", text)
            case ReasoningPiece(text):
                return self._say("reasoning", text)
            case ToolStart() | ToolArgs() | ToolEnd():
                return self._call(event)
            case Finish():
                return self._end(event)
            case _:
                return self._note(event)

    def close(self) -> Sequence[RunEvent]:
        """Give up the calls that are still open, since the run ends; safe to call at any time, and again."""
        return [self._give_up(call_id, CANCELLED) for call_id in tuple(self._open)]

    @property
    def text(self) -> str:
        """The answer so far: what the text deltas of this turn join to."""
        return "".join(part.text or "" for part in self.parts if part.type == "text")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The turn as an assistant's message keeps it."""
        return tuple(block.part for block in self._blocks)

    def _note(self, event: UsageReport | Retrying | Screened) -> Sequence[RunEvent]:
        """Take what is said of the answer and is no part of it."""
        match event:
            case UsageReport(usage, model):
                self.usage, self.model = usage, model or self.model
                return ()
            case Retrying(attempt, delay_ms, reason):
                return (Retry(attempt, delay_ms, reason),)
            case Screened(finding):
                return (finding,)

    def _say(self, kind: Literal["text", "reasoning"], text: str) -> Sequence[RunEvent]:
        piece = scrub(text[: self._room])
        self._room -= len(piece)
        events: list[RunEvent] = []
        if piece:
            self._keep(kind, piece)
            events.append(self._delta(kind, piece))
        if len(piece) < len(text):
            events += self._end(Finish("length", raw_reason="answer_chars"))
        return events

    def _delta(self, kind: Literal["text", "reasoning"], piece: str) -> RunEvent:
        if kind == "reasoning":
            return ReasoningDelta(piece)
        self.next_index += 1
        return TextDelta(piece, self.next_index - 1)

    def _keep(self, kind: Literal["text", "reasoning"], piece: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, Prose) and last.kind == kind:
            last.pieces.append(piece)
        else:
            self._blocks.append(Prose(kind, [piece]))

    def _call(self, event: ToolStart | ToolArgs | ToolEnd) -> Sequence[RunEvent]:
        if isinstance(event, ToolStart):
            return self._start(event.id, event.name)
        if isinstance(event, ToolArgs):
            return self._extend(event.id, scrub(event.piece))
        return self._complete(event.id)

    def _start(self, call_id: str, name: str) -> Sequence[RunEvent]:
        if len(self.calls) > TOOL_CALLS_PER_TURN:
            return ()
        events: list[RunEvent] = [self._give_up(call_id, _CUT_OFF)] if call_id in self._open else []
        call = Call(self._free(call_id), scrub(name[:NAME_CHARS]))
        if len(self.calls) == TOOL_CALLS_PER_TURN:
            call.refusal = _TOO_MANY
        self._open[call_id] = call
        self.calls.append(call)
        self._blocks.append(call)
        return [*events, ToolCallStart(call.id, call.name)]

    def _free(self, call_id: str) -> str:
        """Return the model's id for the call, or the next free one made from it."""
        wanted = scrub(call_id[:ID_CHARS]) or "call"
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}-{number}"
        self._taken.add(found)
        return found

    def _extend(self, call_id: str, piece: str) -> Sequence[RunEvent]:
        call = self._open.get(call_id)
        if call is None or not piece or not call.add(piece):
            return ()
        return (ToolCallDelta(call.id, piece),)

    def _complete(self, call_id: str) -> Sequence[RunEvent]:
        call = self._open.pop(call_id, None)
        if call is None:
            return ()
        call.complete()
        return (ToolCallEnd(call.id, call.name, call.arguments),)

    def _give_up(self, call_id: str, refusal: str) -> RunEvent:
        call = self._open.pop(call_id)
        call.is_cut = True
        call.refusal = refusal
        return ToolCallEnd(call.id, call.name, None)

    def _end(self, finish: Finish) -> Sequence[RunEvent]:
        self.finish = finish
        return [self._give_up(call_id, _CUT_OFF) for call_id in tuple(self._open)]


@dataclass(frozen=True, slots=True)
class RunTools:
    """Run the turn's calls, then ask the model again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The turn's text is the run's answer."""

    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GoOn:
    """The model paused; ask it again."""


@dataclass(frozen=True, slots=True)
class Shrink:
    """The history does not fit the model; ask again with half of it."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The run has failed."""

    error: type[GatewayError]


Effect: TypeAlias = RunTools | Answered | GoOn | Shrink | Fail


def decide(turn: Turn, *, may_shrink: bool) -> Effect:
    """Say what follows a turn that was read to its end, by its calls before its reason.

    `may_shrink`: whether the history can still be halved. Source: agent.md 2.3, rules 3 and 8.
    """
    if turn.finish is None:
        return Fail(StreamTruncated)
    reason = turn.finish.reason
    if reason == "content_filter":
        return Fail(ContentFiltered)
    if reason == "context_overflow":
        return Shrink() if may_shrink else Fail(ContextOverflow)
    if any(not call.is_cut for call in turn.calls) or (turn.calls and reason != "length"):
        return RunTools()
    if reason == "pause":
        return GoOn()
    return Answered("length" if reason == "length" else "stop")


def finish_reason(turn: Turn, effect: Effect) -> str:
    """Return what readers hear of a finished turn: the model's reason, put right where its calls say otherwise."""
    if isinstance(effect, RunTools):
        return "tool_calls"
    if isinstance(effect, Answered):
        return effect.finish_reason
    return turn.finish.reason if turn.finish else "truncated"


@dataclass(frozen=True, slots=True)
class Streak:
    """How often in a row the same call has failed; once hopeless it stays so."""

    call: tuple[str, JsonValue] | None = None
    length: int = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether the same call failed `SAME_FAILURES` times in a row."""
        return self.length >= SAME_FAILURES

    def after(self, call: Call, *, is_error: bool) -> "Streak":
        """Return the streak once this call has its result."""
        if self.is_hopeless:
            return self
        if not is_error:
            return Streak()
        key = (call.name, "".join(call.pieces) if call.arguments is None else call.arguments)
        return Streak(key, self.length + 1 if key == self.call else 1)


def results(calls: Sequence[Call], outputs: Mapping[str, tuple[str, bool]]) -> tuple[Part, ...]:
    """Return one result for each call, in call order: its output (content, is_error) by id, or why it has none.

    One whose arguments were edited has them too: what the model hears of, later, is what was called.
    """
    return tuple(_result(call, *outputs.get(call.id, (call.refusal or CANCELLED, True))) for call in calls)


def _result(call: Call, content: str, is_error: bool) -> Part:
    edited = call.arguments if call.is_edited else None
    return Part("tool_result", id=call.id, name=call.name, arguments=edited, content=content, is_error=is_error)

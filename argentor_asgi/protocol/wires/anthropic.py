"""The wire of Anthropic's messages (agent.md 1.5).

What a model thought goes back with its signature, unchanged and at its place: `Finish.metadata` keeps the blocks. A
guardrail that changed the visible reasoning breaks the signature, so then they stay away. `Usage.input_tokens` counts
all input, what was read from or written to the provider's cache too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from argentor_asgi.errors import GatewayError, StreamTruncated
from argentor_asgi.protocol.llm import (
    Finish,
    FinishReason,
    LlmEvent,
    LlmRequest,
    ReasoningPiece,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Message, Part, Usage
from argentor_asgi.protocol.schema import JsonObject, JsonValue, encode
from argentor_asgi.protocol.sse_reader import ServerEvent
from argentor_asgi.protocol.wires import refusals, shared
from argentor_asgi.protocol.wires.wire import Reading
from argentor_asgi.providers import TokensField

MAX_TOKENS: Final = 4096
"""The limit of tokens of a request that has none, since this wire wants one."""

_NAME: Final = "anthropic"
_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "pause",
    "refusal": "content_filter",
}
_COUNTED: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
"""What is read of a usage; whatever else it holds is not kept."""
_TEXT: Final = "text"
_WINDOW: Final = "model_context_window_exceeded"


# --- asking ------------------------------------------------------------------------------------------------------


class AnthropicWire:
    """`POST /v1/messages`, streamed."""

    def path(self, model: str) -> str:  # noqa: ARG002  other wires have the model in their path
        """Return the path, the same for every model."""
        return "/v1/messages"

    def headers(self) -> Mapping[str, str]:
        """Return the version of the format."""
        return {"anthropic-version": "2023-06-01"}

    def body(self, request: LlmRequest, model: str, *, tokens_field: TokensField) -> JsonObject:  # noqa: ARG002  has its own
        """Return the body; the history's system messages are part of the system prompt, for want of such a role."""
        body: JsonObject = {"model": model, "max_tokens": request.max_tokens or MAX_TOKENS}
        if system := shared.system_text(request):
            body["system"] = system
        turns = shared.merged(_turn(message) for message in request.messages)
        body["messages"] = [{"role": role, "content": _results_first(blocks)} for role, blocks in turns]
        if request.tools:
            body["tools"] = [
                {"name": spec.name, "description": spec.description, "input_schema": spec.parameters}
                for spec in request.tools
            ]
        if request.temperature is not None:
            body["temperature"] = request.temperature
        return {**body, "stream": True}

    def reading(self) -> Reading:
        """Return a fresh reading of one answer."""
        return AnthropicReading()

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Return the declared error of an answer that is not a 2xx."""
        return refusals.refusal(status, headers, body)


def _turn(message: Message) -> tuple[str, list[JsonObject]]:
    if message.role == "assistant":
        return "assistant", list(_said(message))
    if message.role == "tool":
        return "user", [_result(part) for part in message.tool_results]
    return "user", [] if message.role == "system" else list(_text(shared.said(message)))


def _text(text: str) -> Iterator[JsonObject]:
    """Yield a block of text, none for a blank one, which is refused."""
    if text.strip():
        yield {"type": "text", "text": text}


def _said(message: Message) -> Iterator[JsonObject]:
    """Yield the blocks of an assistant's message, each thought before the part that it came before.

    A message of thoughts alone is left out, since it is refused.
    """
    visible = [part for part in shared.parts(message) if part.type in {"text", "tool_call"}]
    blocks = [list(_text(part.text or "")) if part.type == "text" else [_call(part)] for part in visible]
    thoughts = _thoughts(message) if any(blocks) else []
    for at, shown in enumerate(blocks):
        yield from (block for before, block in thoughts if before == at)
        yield from shown


def _thoughts(message: Message) -> list[tuple[int, JsonObject]]:
    """Return the thoughts that were kept, each with the number of the part behind it; none if they were changed."""
    found = shared.kept(message, _NAME).get("thoughts", [])
    blocks: list[tuple[int, JsonObject]] = [(each["before"], each["block"]) for each in found]
    shown = "".join(part.text or "" for part in message.parts if part.type == "reasoning")
    return blocks if "".join(block.get("thinking", "") for _, block in blocks) == shown else []


def _call(part: Part) -> JsonObject:
    return {
        "type": "tool_use",
        "id": shared.call_id(part.id),
        "name": shared.call_name(part.name),
        "input": part.arguments or {},
    }


def _result(part: Part) -> JsonObject:
    # An empty result is refused where it is an error.
    block = {"type": "tool_result", "tool_use_id": shared.call_id(part.id), "content": part.content or shared.EMPTY}
    return {**block, "is_error": True} if part.is_error else block


def _results_first(blocks: list[JsonObject]) -> list[JsonObject]:
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    type: str | None = None
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: JsonValue = None


@dataclass(frozen=True, slots=True)
class _Delta:
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Message:
    id: str | None = None
    usage: JsonValue = None


@dataclass(frozen=True, slots=True)
class _Frame:
    type: str | None = None
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: JsonValue = None
    error: JsonValue = None


@dataclass(slots=True)
class _Thought:
    """A thought being read. `before`: the number of the visible part that it comes before."""

    before: int
    pieces: list[str] = field(default_factory=list)
    signature: str = ""
    data: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the provider would take it back: signed, or redacted."""
        return self.data is not None or bool(self.signature)

    @property
    def kept(self) -> JsonObject:
        """The thought as `Finish.metadata` keeps it, with the block as it is sent back."""
        thought = {"type": "thinking", "thinking": "".join(self.pieces), "signature": self.signature}
        block = thought if self.data is None else {"type": "redacted_thinking", "data": self.data}
        return {"before": self.before, "block": block}


@dataclass(slots=True)
class _Call:
    """A call being made. `given`: arguments that came whole with its start, for a server that sends no pieces."""

    id: str
    given: JsonObject
    has_pieces: bool = False


class AnthropicReading:
    """One answer; finished by `message_stop`."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_id",
        "_is_done",
        "_kind",
        "_open",
        "_parts",
        "_reason",
        "_room",
        "_thoughts",
        "_unended",
        "_usage",
    )

    def __init__(self) -> None:
        self._open: dict[int, _Call | _Thought | str | None] = {}
        self._thoughts: list[_Thought] = []
        self._calls: set[str] = set()
        self._unended: str | None = None
        self._usage: JsonObject = {}
        self._id: str | None = None
        self._reason: str | None = None
        self._is_done = False
        self._kind = ""
        self._parts = 0
        self._blocks = 0
        self._room = shared.KEPT_CHARS

    def feed(self, event: ServerEvent) -> Sequence[LlmEvent]:
        """Return what the event says, nothing for one of a type that is not known; raises as `Reading.feed`."""
        if self._is_done or not event.data.strip():
            return ()
        frame = shared.frame(event.data, _Frame)
        return list(self._events(frame.type or event.event, frame))

    def end(self) -> Sequence[LlmEvent]:
        """Return `Finish`; raises `StreamTruncated` for an answer without its `message_stop`."""
        if not self._is_done:
            raise StreamTruncated
        reason = _REASONS.get(self._reason or "end_turn", "stop")
        # The window can be full before a word is said, which only a shorter history mends; else the answer is cut.
        if self._reason == _WINDOW and not self._parts:
            reason = "context_overflow"
        reason = shared.settled(reason, has_calls=bool(self._calls))
        # At its limit a model stops inside its last call, which then has no end.
        ends = self._end_call() if reason != "length" else ()
        return [*ends, Finish(reason, self._reason, self._id, self._metadata())]

    def _events(self, kind: str, frame: _Frame) -> Iterable[LlmEvent]:
        events: Iterable[LlmEvent] = ()
        match kind:
            case "error":
                raise refusals.in_band(frame.error)
            case "message_start":
                events = self._begin(frame)
            case "content_block_start":
                events = self._start(frame.index, frame.content_block or _Block())
            case "content_block_delta":
                events = self._extend(frame.index, frame.delta or _Delta())
            case "content_block_stop":
                events = self._stop(frame.index)
            case "message_delta":
                events = self._finish(frame)
            case "message_stop":
                self._is_done = True
        return events

    def _begin(self, frame: _Frame) -> Sequence[LlmEvent]:
        message = frame.message or _Message()
        self._id = message.id
        return self._report(message.usage)

    def _report(self, usage: JsonValue) -> Sequence[LlmEvent]:
        """Return the usage so far: reports are cumulative, and a later one may tell less."""
        if not isinstance(usage, dict) or not usage:
            return ()
        self._usage.update((name, usage[name]) for name in _COUNTED if usage.get(name) is not None)
        fresh = shared.count(self._usage, "input_tokens")
        read = shared.count(self._usage, "cache_read_input_tokens")
        written = shared.count(self._usage, "cache_creation_input_tokens")
        return (UsageReport(Usage(fresh + read + written, shared.count(self._usage, "output_tokens"), read)),)

    def _start(self, index: int, block: _Block) -> Iterator[LlmEvent]:
        """Open a block; the provider's own tools, and types that are not known, are passed over."""
        yield from self._end_call()
        self._open[index] = None
        self._blocks += 1
        if self._blocks > shared.CALLS:
            raise shared.garbled()
        if block.type == "tool_use":
            yield self._call(index, block)
        elif block.type == _TEXT:
            self._open[index] = _TEXT
            yield from self._say(_TEXT, block.text)
        elif block.type in {"thinking", "redacted_thinking"}:
            yield from self._think(index, block)

    def _call(self, index: int, block: _Block) -> ToolStart:
        if not block.name:
            raise shared.garbled()
        call = _Call(shared.fresh_id(block.id, self._calls), block.input if isinstance(block.input, dict) else {})
        self._open[index] = call
        self._calls.add(call.id)
        self._show("tool_call")
        return ToolStart(call.id, block.name)

    def _think(self, index: int, block: _Block) -> Iterator[LlmEvent]:
        thought = _Thought(self._parts)
        self._thoughts.append(thought)
        self._open[index] = thought
        self._room -= len(block.data or "")
        thought.data = block.data if self._room >= 0 else None
        yield from self._extend(index, _Delta(None, thinking=block.thinking, signature=block.signature))

    def _extend(self, index: int, delta: _Delta) -> Iterator[LlmEvent]:
        block = self._open.get(index)
        if isinstance(block, _Call):
            yield from self._argue(block, delta.partial_json)
        elif isinstance(block, _Thought):
            self._keep(block, delta.thinking or "", delta.signature or "")
            yield from self._say("reasoning", delta.thinking)
        elif block == _TEXT:
            yield from self._say(_TEXT, delta.text)

    def _keep(self, thought: _Thought, text: str, signature: str) -> None:
        self._room -= len(text) + len(signature)
        if self._room >= 0:
            thought.pieces.append(text)
            thought.signature += signature

    def _argue(self, call: _Call, piece: str | None) -> Iterator[LlmEvent]:
        if piece:
            call.has_pieces = True
            yield ToolArgs(call.id, piece)

    def _say(self, kind: str, text: str | None) -> Iterator[LlmEvent]:
        if text:
            self._show(kind)
            yield TextPiece(text) if kind == _TEXT else ReasoningPiece(text)

    def _show(self, kind: str) -> None:
        """Count the parts of the message as the turn makes them: pieces of text that follow each other are one."""
        if kind != "reasoning" and (kind == "tool_call" or kind != self._kind):
            self._parts += 1
        self._kind = kind

    def _stop(self, index: int) -> Sequence[LlmEvent]:
        """Close a block; a call's end waits for what follows, which tells whether the call was cut."""
        block = self._open.get(index)
        if not isinstance(block, _Call):
            return ()
        self._open[index] = None
        self._unended = block.id
        return () if block.has_pieces else (ToolArgs(block.id, encode(block.given).decode()),)

    def _end_call(self) -> Sequence[LlmEvent]:
        ended, self._unended = self._unended, None
        return () if ended is None else (ToolEnd(ended),)

    def _finish(self, frame: _Frame) -> Sequence[LlmEvent]:
        if frame.delta and frame.delta.stop_reason:
            self._reason = frame.delta.stop_reason
        return self._report(frame.usage)

    def _metadata(self) -> JsonObject:
        """Return the thoughts to be sent back, all or none: one that is missing breaks the rest."""
        if not self._thoughts or self._room < 0 or not all(thought.is_whole for thought in self._thoughts):
            return {}
        return {_NAME: {"thoughts": [thought.kept for thought in self._thoughts]}}

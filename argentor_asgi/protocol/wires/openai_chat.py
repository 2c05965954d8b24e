"""The wire of OpenAI's chat completions, which most providers and local servers speak (agent.md 1.5).

Servers differ in what they leave out, so a reading needs little: calls may lack their index or id, or come whole; a
finish reason is judged by the calls that came. Reasoning is shown and not sent back, but to DeepSeek, which refuses a
history of calls without it (its guide to the thinking mode).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from argentor_asgi.errors import GatewayError, ProviderUnavailable, StreamTruncated
from argentor_asgi.protocol.llm import (
    Finish,
    FinishReason,
    LlmEvent,
    LlmRequest,
    ReasoningPiece,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolSpec,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Message, Part, Usage
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode_value, encode
from argentor_asgi.protocol.sse_reader import ServerEvent
from argentor_asgi.protocol.wires import refusals, shared
from argentor_asgi.protocol.wires.wire import Reading
from argentor_asgi.providers import TokensField

HELD_CHARS: Final = 64 * 1024
"""How much of a call's arguments may come before its name."""

_DONE: Final = "[DONE]"
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "model_length": "length",
    "content_filter": "content_filter",
}
_FAILURES: Final = {"error", "insufficient_system_resource", "abort"}
_DEEPSEEK: Final = re.compile(r"deepseek-(?!r1)[\w.-]+")
_MISTRALS: Final = "(?:open-|labs-)?(?:mistral|mixtral|ministral|magistral|codestral|devstral|pixtral|voxtral)"
_MISTRAL: Final = re.compile(rf"{_MISTRALS}-[\w.-]+|ft:{_MISTRALS}-[\w.:-]+")
_MISTRAL_ID: Final = re.compile(r"[A-Za-z0-9]{9}")


# --- asking ------------------------------------------------------------------------------------------------------


class OpenAiChatWire:
    """`POST /v1/chat/completions`, streamed."""

    def path(self, model: str) -> str:  # noqa: ARG002  other wires have the model in their path
        """Return the path, the same for every model."""
        return "/v1/chat/completions"

    def headers(self) -> Mapping[str, str]:
        """Return nothing: the format has no headers of its own."""
        return {}

    def body(self, request: LlmRequest, model: str, *, tokens_field: TokensField) -> JsonObject:
        """Return the body; a temperature and a limit of tokens only where the request has them."""
        body: JsonObject = {"model": model, "messages": list(_messages(request, model))}
        if request.tools:
            body["tools"] = [_tool(spec) for spec in request.tools]
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body[tokens_field] = request.max_tokens
        body["stream"] = True
        if not _MISTRAL.fullmatch(model):
            # Mistral tells the usage unasked, and refuses a body with a member that it does not know.
            body["stream_options"] = {"include_usage": True}
        return body

    def reading(self) -> Reading:
        """Return a fresh reading of one answer."""
        return OpenAiChatReading()

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Return the declared error of an answer that is not a 2xx."""
        return refusals.refusal(status, headers, body)


def _tool(spec: ToolSpec) -> JsonObject:
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


def _messages(request: LlmRequest, model: str) -> Iterator[JsonObject]:
    if request.system.strip():
        yield {"role": "system", "content": request.system}
    for message in request.messages:
        if message.role == "assistant":
            yield from _assistant(message, model)
        elif message.role == "tool":
            for part in message.tool_results:
                yield {"role": "tool", "tool_call_id": _call_id(part.id, model), "content": part.content or ""}
        else:
            yield {"role": message.role, "content": shared.said(message)}


def _assistant(message: Message, model: str) -> Iterator[JsonObject]:
    """Yield an assistant's message, none for one that says nothing: servers refuse it."""
    text, calls = shared.said(message), message.tool_calls
    if not text and not calls:
        return
    sent: JsonObject = {"role": "assistant", "content": text or None}
    if calls and _DEEPSEEK.fullmatch(model):
        # Refused without, even where there was no reasoning; other servers refuse a message with it.
        sent["reasoning_content"] = "".join(part.text or "" for part in message.parts if part.type == "reasoning")
    if calls:
        sent["tool_calls"] = [_call(part, model) for part in calls]
    yield sent


def _call(part: Part, model: str) -> JsonObject:
    function = {"name": shared.call_name(part.name), "arguments": encode(part.arguments or {}).decode()}
    return {"id": _call_id(part.id, model), "type": "function", "function": function}


def _call_id(given: str | None, model: str) -> str:
    """Return a call's id; Mistral's models take nine letters and digits alone."""
    found = shared.call_id(given)
    if not _MISTRAL.fullmatch(model) or _MISTRAL_ID.fullmatch(found):
        return found
    return sha256(found.encode()).hexdigest()[:9]


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Function:
    name: str | None = None
    arguments: str | JsonObject | None = None

    @property
    def piece(self) -> str:
        """The arguments as text; a few servers send the object itself."""
        given = self.arguments
        return encode(given).decode() if isinstance(given, dict) else given or ""


@dataclass(frozen=True, slots=True)
class _ToolDelta:
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


@dataclass(frozen=True, slots=True)
class _Delta:
    content: JsonValue = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolDelta] | None = None
    function_call: _Function | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    index: int | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    id: JsonValue = None
    object: JsonValue = None
    choices: list[_Choice] | None = None
    usage: JsonValue = None
    error: JsonValue = None


@dataclass(slots=True)
class _Call:
    """A call being made. `given_id`: the server's, None where `id` was made here; `held`: arguments before the name."""

    id: str
    given_id: str | None
    name: str = ""
    held: list[str] = field(default_factory=list)


class OpenAiChatReading:
    """One answer; finished by a finish reason or by `[DONE]`, after which only a usage is read."""

    __slots__ = ("_by_index", "_calls", "_has_refused", "_is_done", "_reason", "_response_id")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._reason: str | None = None
        self._response_id: str | None = None
        self._has_refused = False
        self._is_done = False

    def feed(self, event: ServerEvent) -> Sequence[LlmEvent]:
        """Return what the chunk says, in the order reasoning, text, calls, usage; raises as `Reading.feed`."""
        data = event.data.strip()
        if self._is_done or not data:
            return ()
        if data == _DONE:
            self._is_done = True
            return ()
        chunk = shared.frame(data, _Chunk)
        if chunk.error or chunk.object == "error" or event.event == "error":
            raise refusals.in_band(chunk.error or decode_value(data.encode()))
        if isinstance(chunk.id, str) and self._response_id is None:
            self._response_id = chunk.id
        return list(self._events(chunk))

    def end(self) -> Sequence[LlmEvent]:
        """Return the ends of the calls and `Finish`; raises `StreamTruncated` for an answer that is not finished."""
        if not self._is_done and self._reason is None:
            raise StreamTruncated
        if any(not call.name for call in self._calls):
            raise shared.garbled()
        reason = _REASONS.get(self._reason or "stop", "stop")
        if self._has_refused:
            reason = "content_filter"
        # At its limit a model stops inside its last call, which then has no end.
        complete = self._calls[:-1] if reason == "length" else self._calls
        finish = Finish(shared.settled(reason, has_calls=bool(self._calls)), self._reason, self._response_id)
        return [*(ToolEnd(call.id) for call in complete), finish]

    def _events(self, chunk: _Chunk) -> Iterator[LlmEvent]:
        for choice in chunk.choices or ():
            if choice.index in {0, None}:
                yield from self._choice(choice)
        if chunk.usage:
            yield UsageReport(_usage(chunk.usage))

    def _choice(self, choice: _Choice) -> Iterator[LlmEvent]:
        delta = choice.delta or _Delta()
        if reasoning := delta.reasoning_content or delta.reasoning:
            yield ReasoningPiece(reasoning)
        yield from _content(delta.content)
        if delta.refusal:
            self._has_refused = True
            yield TextPiece(delta.refusal)
        legacy = [_ToolDelta(0, None, delta.function_call)] if delta.function_call else []
        for tool in delta.tool_calls or legacy:
            yield from self._tool(tool)
        if choice.finish_reason in _FAILURES:
            raise ProviderUnavailable
        self._reason = self._reason or choice.finish_reason or None

    def _tool(self, delta: _ToolDelta) -> Iterator[LlmEvent]:
        function = delta.function or _Function()
        call = self._find(delta, function.name)
        if not call.name and function.name:
            call.name = function.name
            yield ToolStart(call.id, call.name)
        if function.piece:
            call.held.append(function.piece)
        if call.name:
            yield from (ToolArgs(call.id, piece) for piece in call.held)
            call.held.clear()
        elif sum(map(len, call.held)) > HELD_CHARS:
            raise shared.garbled()

    def _find(self, delta: _ToolDelta, name: str | None) -> _Call:
        """Return the call that the delta goes on with, else a new one.

        By its index; without one by its id; without either the last call, unless the delta names another. A server that
        gives every call the same index gives each its own id and name.
        """
        if delta.index is not None:
            found = self._by_index.get(delta.index)
            is_other = found and name and found.given_id and delta.id not in {None, "", found.given_id}
            found = None if is_other else found
        elif delta.id:
            found = next((call for call in self._calls if call.given_id == delta.id), None)
        else:
            found = self._calls[-1] if self._calls and not name else None
        return found or self._begin(delta)

    def _begin(self, delta: _ToolDelta) -> _Call:
        if len(self._calls) >= shared.CALLS:
            raise shared.garbled()
        call = _Call(shared.fresh_id(delta.id, {call.id for call in self._calls}), delta.id or None)
        self._calls.append(call)
        if delta.index is not None:
            self._by_index[delta.index] = call
        return call


def _content(content: JsonValue) -> Iterator[LlmEvent]:
    """Yield what a delta's content says: text, or Mistral's list of texts and thoughts."""
    if isinstance(content, str):
        yield from [TextPiece(content)] if content else []
    elif isinstance(content, list):
        for block in content:
            if text := _text(block, "thinking"):
                yield ReasoningPiece(text)
            if text := _text(block, "text"):
                yield TextPiece(text)
    elif content is not None:
        raise shared.garbled()


def _text(block: JsonValue, member: str) -> str:
    """Return the text under `member` of a block, itself text or a list of blocks with text."""
    value = block.get(member) if isinstance(block, dict) else None
    if isinstance(value, list):
        return "".join(_text(each, "text") for each in value)
    return value if isinstance(value, str) else ""


def _usage(usage: JsonValue) -> Usage:
    """Return the usage; `output_tokens` has the reasoning, which a few servers count beside the completion."""
    prompt = shared.count(usage, "prompt_tokens")
    completion = shared.count(usage, "completion_tokens")
    total = shared.count(usage, "total_tokens")
    cached = shared.count(usage, "prompt_tokens_details", "cached_tokens")
    cached = cached or shared.count(usage, "prompt_cache_hit_tokens")
    return Usage(prompt, max(completion, total - prompt), min(cached, prompt))

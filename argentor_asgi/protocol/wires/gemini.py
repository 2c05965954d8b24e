"""The wire of Google's Gemini (agent.md 1.5, D14): the key is in a header, never in the URL.

A skill's schema goes as `parametersJsonSchema`, which takes JSON Schema as it is; the older `parameters` refuses most
of its words. `Finish.metadata` keeps what goes back with each call, by its place: its id, if Gemini gave it one, since
some of its servers take no other, and the signature of its thoughts. A call that another provider's model made has no
signature, which models since Gemini 3 refuse: Google's documented stand-in says so ("Thought signatures", FAQ).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final
from urllib.parse import quote

from argentor_asgi.errors import GatewayError, ProviderBadRequest, StreamTruncated
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
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode, encode
from argentor_asgi.protocol.sse_reader import ServerEvent
from argentor_asgi.protocol.wires import refusals, shared
from argentor_asgi.protocol.wires.wire import Reading
from argentor_asgi.providers import TokensField

_NAME: Final = "gemini"
_STAND_IN: Final = "skip_thought_signature_validator"
_UNSIGNED_MODELS: Final = ("gemini-1", "gemini-2", "gemma")
_FILTERED: Final = {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
_BROKEN: Final = {
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "OTHER",
}
"""Ends of an answer that is not whole; another try mostly is."""
_UNTAKEN: Final = "MISSING_THOUGHT_SIGNATURE"


# --- asking ------------------------------------------------------------------------------------------------------


class GeminiWire:
    """`POST /v1beta/models/{model}:streamGenerateContent`."""

    def path(self, model: str) -> str:
        """Return the path of the model, with the query that asks for server-sent events."""
        name = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
        return f"/v1beta/{quote(name)}:streamGenerateContent?alt=sse"

    def headers(self) -> Mapping[str, str]:
        """Return nothing: the format has no headers of its own."""
        return {}

    def body(self, request: LlmRequest, model: str, *, tokens_field: TokensField) -> JsonObject:  # noqa: ARG002  has its own
        """Return the body; the history's system messages are part of the system prompt, for want of such a role."""
        body: JsonObject = {}
        if system := shared.system_text(request):
            body["systemInstruction"] = {"parts": [{"text": system}]}
        is_signed = not model.removeprefix("models/").startswith(_UNSIGNED_MODELS)
        ids = dict(pair for message in request.messages for pair in _given_ids(message))
        turns = shared.merged(_turn(message, ids, is_signed=is_signed) for message in request.messages)
        body["contents"] = [{"role": "model" if role == "model" else "user", "parts": parts} for role, parts in turns]
        if request.tools:
            declared = [
                {"name": spec.name, "description": spec.description, "parametersJsonSchema": spec.parameters}
                for spec in request.tools
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        limits = {"temperature": request.temperature, "maxOutputTokens": request.max_tokens}
        if sampling := {name: value for name, value in limits.items() if value is not None}:
            body["generationConfig"] = sampling
        return body

    def reading(self) -> Reading:
        """Return a fresh reading of one answer."""
        return GeminiReading()

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Return the declared error of an answer that is not a 2xx."""
        return refusals.refusal(status, headers, body)


def _turn(message: Message, ids: Mapping[str | None, str], *, is_signed: bool) -> tuple[str, list[JsonObject]]:
    """Return a message as parts; results stay apart from a user's words, since a turn has all of a kind or none."""
    if message.role == "assistant":
        return "model", list(_said(message, is_signed=is_signed))
    if message.role == "tool":
        return "results", [_result(part, ids) for part in message.tool_results]
    text = "" if message.role == "system" else shared.said(message)
    return "user", [{"text": text}] if text.strip() else []


def _kept_calls(message: Message) -> Iterator[tuple[Part, JsonObject]]:
    """Yield each call with what was kept of it, nothing for those of another wire's model."""
    calls = message.tool_calls
    yield from zip_longest(calls, shared.kept(message, _NAME).get("calls", [])[: len(calls)], fillvalue={})


def _given_ids(message: Message) -> Iterator[tuple[str | None, str]]:
    return ((part.id, kept["id"]) for part, kept in _kept_calls(message) if "id" in kept)


def _said(message: Message, *, is_signed: bool) -> Iterator[JsonObject]:
    yield from ({"text": part.text} for part in shared.parts(message) if part.type == "text" and part.text)
    for at, (part, kept) in enumerate(_kept_calls(message)):
        given = {"id": kept["id"]} if "id" in kept else {}
        # Only the first of parallel calls is signed.
        signature = kept.get("signature") or (_STAND_IN if is_signed and at == 0 else None)
        call = {"functionCall": {**given, "name": shared.call_name(part.name), "args": part.arguments or {}}}
        yield {**call, "thoughtSignature": signature} if signature else call


def _result(part: Part, ids: Mapping[str | None, str]) -> JsonObject:
    given = {"id": ids[part.id]} if part.id in ids else {}
    return {"functionResponse": {**given, "name": shared.call_name(part.name), "response": _response(part)}}


def _response(part: Part) -> JsonObject:
    """Return a result as an object: its own JSON if it is one, else its text under a name that says how it went."""
    content = part.content or ""
    if part.is_error:
        return {"error": content}
    # Gemini takes any `$ref` in a response for the name of a function, and refuses it.
    if not content.lstrip().startswith("{") or '"$ref"' in content:
        return {"result": content}
    try:
        return decode(content.encode(), dict)
    except (GatewayError, UnicodeEncodeError):
        return {"result": content}


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FunctionCall:
    name: str
    id: str | None = None
    args: JsonValue = None


@dataclass(frozen=True, slots=True)
class _Part:
    text: str | None = None
    thought: bool | None = None
    functionCall: _FunctionCall | None = None  # noqa: N815  the wire's name
    thoughtSignature: str | None = None  # noqa: N815  the wire's name


@dataclass(frozen=True, slots=True)
class _Content:
    parts: list[_Part] | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    index: int | None = None
    content: _Content | None = None
    finishReason: str | None = None  # noqa: N815  the wire's name


@dataclass(frozen=True, slots=True)
class _Feedback:
    blockReason: str | None = None  # noqa: N815  the wire's name


@dataclass(frozen=True, slots=True)
class _Frame:
    candidates: list[_Candidate] | None = None
    promptFeedback: _Feedback | None = None  # noqa: N815  the wire's name
    usageMetadata: JsonValue = None  # noqa: N815  the wire's name
    responseId: str | None = None  # noqa: N815  the wire's name
    error: JsonValue = None


class GeminiReading:
    """One answer; finished by a finish reason, the last of which counts, or by the refusal of the prompt."""

    __slots__ = ("_block", "_calls", "_kept", "_reason", "_response_id", "_room")

    def __init__(self) -> None:
        self._calls: list[str] = []
        self._kept: list[JsonObject] = []
        self._reason: str | None = None
        self._block: str | None = None
        self._response_id: str | None = None
        self._room = shared.KEPT_CHARS

    def feed(self, event: ServerEvent) -> Sequence[LlmEvent]:
        """Return what the partial answer says, each call whole; raises as `Reading.feed`."""
        if not event.data.strip():
            return ()
        frame = shared.frame(event.data, _Frame)
        if frame.error:
            raise refusals.in_band(frame.error)
        self._response_id = self._response_id or shared.short_id(frame.responseId)
        if frame.promptFeedback and frame.promptFeedback.blockReason:
            self._block = frame.promptFeedback.blockReason
        return list(self._events(frame))

    def end(self) -> Sequence[LlmEvent]:
        """Return `Finish`; raises `StreamTruncated` without a finish reason or the refusal of the prompt."""
        told = self._block or self._reason
        if told is None:
            raise StreamTruncated
        reason: FinishReason = "length" if told == "MAX_TOKENS" else "stop"
        if self._block or told in _FILTERED:
            reason = "content_filter"
        metadata: JsonObject = {_NAME: {"calls": self._kept}} if any(self._kept) else {}
        return [Finish(shared.settled(reason, has_calls=bool(self._calls)), told, self._response_id, metadata)]

    def _events(self, frame: _Frame) -> Iterator[LlmEvent]:
        for candidate in frame.candidates or ():
            if candidate.index in {0, None}:
                yield from self._candidate(candidate)
        if frame.usageMetadata:
            yield UsageReport(_usage(frame.usageMetadata))

    def _candidate(self, candidate: _Candidate) -> Iterator[LlmEvent]:
        for part in (candidate.content or _Content()).parts or ():
            if part.functionCall is not None:
                yield from self._call(part.functionCall, part.thoughtSignature)
            elif part.text:
                yield ReasoningPiece(part.text) if part.thought else TextPiece(part.text)
        if candidate.finishReason == _UNTAKEN:
            raise ProviderBadRequest
        if candidate.finishReason in _BROKEN:
            raise StreamTruncated
        self._reason = candidate.finishReason or self._reason

    def _call(self, call: _FunctionCall, signature: str | None) -> Iterator[LlmEvent]:
        if len(self._calls) >= shared.CALLS:
            raise shared.garbled()
        # Made ids begin with the answer's own, so that they differ from turn to turn.
        call_id = shared.fresh_id(call.id, self._calls, self._response_id or "call")
        self._calls.append(call_id)
        self._room -= len(signature or "")
        kept = {"id": shared.short_id(call.id), "signature": signature if self._room >= 0 else None}
        self._kept.append({name: value for name, value in kept.items() if value})
        yield ToolStart(call_id, call.name)
        yield ToolArgs(call_id, encode({} if call.args is None else call.args).decode())
        yield ToolEnd(call_id)


def _usage(usage: JsonValue) -> Usage:
    """Return the usage: thoughts are output, and what tools of the provider put into the prompt is input."""
    prompt = shared.count(usage, "promptTokenCount") + shared.count(usage, "toolUsePromptTokenCount")
    output = shared.count(usage, "candidatesTokenCount") + shared.count(usage, "thoughtsTokenCount")
    return Usage(prompt, output, min(shared.count(usage, "cachedContentTokenCount"), prompt))

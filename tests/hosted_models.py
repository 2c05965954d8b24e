"""A hosted model on each wire, as a handler of `raw_server`: it says two pieces, or calls `look` when it is offered."""

import json

from contracts.llm_backend import user
from raw_server import Asked, Line

from argentor_asgi.agent.providers.hosted import HostedBackend, Manner
from argentor_asgi.api_keys import Secret
from argentor_asgi.errors import GatewayError
from argentor_asgi.net.http import Client, Timeouts
from argentor_asgi.protocol.llm import LlmRequest, ToolSpec
from argentor_asgi.providers import PROVIDERS

WIRES = ("openai", "anthropic", "gemini")
PROVIDER_OF = {"openai": "openai", "anthropic": "claude", "gemini": "gemini"}
KEY = "sk-very-secret-0123456789"
LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "integer"}}})
HELLO = LlmRequest("Be kind.", (user("hello"),))
LOOK_THERE = LlmRequest("", (user("look"),), (LOOK,))


def openai_chunk(delta=None, reason=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **more}


def named(kind, **more):
    """Return an event of Anthropic's wire."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def _block(index, block, *deltas):
    yield named("content_block_start", index=index, content_block=block)
    yield from (named("content_block_delta", index=index, delta=delta) for delta in deltas)
    yield named("content_block_stop", index=index)


def _anthropic(blocks, reason):
    usage = {"input_tokens": 3, "output_tokens": 1}
    yield named("message_start", message={"id": "m1", "model": "m", "usage": usage})
    yield from blocks
    yield named("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2})
    yield named("message_stop")


def _gemini(*parts):
    for number, part in enumerate(parts, 1):
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}}
        last = {"finishReason": "STOP"} if number == len(parts) else {}
        yield {
            "candidates": [candidate | last],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
            "responseId": "r1",
        }


OPENAI_USAGE = openai_chunk(usage={"prompt_tokens": 3, "completion_tokens": 2})
TEXT = {
    "openai": [openai_chunk({"content": "two "}), openai_chunk({"content": "piécés"}, "stop"), OPENAI_USAGE, "[DONE]"],
    "anthropic": list(
        _anthropic(
            _block(
                0,
                {"type": "text", "text": ""},
                {"type": "text_delta", "text": "two "},
                {"type": "text_delta", "text": "piécés"},
            ),
            "end_turn",
        )
    ),
    "gemini": list(_gemini({"text": "two "}, {"text": "piécés"})),
}
"""Each wire's events of an answer that is `two piécés`, with 3 tokens of input and 2 of output."""


def _openai_call(call_id, **function):
    return openai_chunk({"tool_calls": [{"index": 0, "id": call_id, "function": function}]})


CALL = {
    "openai": [
        _openai_call("c1", name="look", arguments=""),
        _openai_call(None, arguments='{"at"'),
        _openai_call(None, arguments=": 1}"),
        openai_chunk({}, "tool_calls"),
        OPENAI_USAGE,
        "[DONE]",
    ],
    "anthropic": list(
        _anthropic(
            _block(
                0,
                {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"at"'},
                {"type": "input_json_delta", "partial_json": ": 1}"},
            ),
            "tool_use",
        )
    ),
    "gemini": list(_gemini({"functionCall": {"id": "c1", "name": "look", "args": {"at": 1}}})),
}
"""Each wire's events of a call of `look` at 1."""

OVERLOADED = {
    "openai": {"error": {"message": f"no room for {KEY}", "type": "server_error", "code": None}},
    "anthropic": named("error", error={"type": "overloaded_error", "message": f"no room for {KEY}"}),
    "gemini": {"error": {"code": 503, "message": f"no room for {KEY}", "status": "UNAVAILABLE"}},
}
"""Each wire's error within a stream: the provider is overloaded."""


def has_asked_to_look(asked: Asked) -> bool:
    """Whether the request offers tools and its last word is the user's `look`."""
    body = asked.json()
    last = (body.get("messages") or body.get("contents"))[-1]
    return bool(body.get("tools")) and '"look"' in json.dumps(last) and "esult" not in json.dumps(last)


def talk(wire):
    """Return a model on this wire that answers whatever it is asked."""

    async def talking(asked: Asked, line: Line) -> None:
        await line.events(*(CALL if has_asked_to_look(asked) else TEXT)[wire])

    return talking


def asking(raw, wire="openai", *, model="m-1", key=KEY, provider=None, manner=None, **timeouts):
    """Return a backend that asks this server over this wire, or as this provider."""
    return HostedBackend(
        PROVIDERS[provider or PROVIDER_OF[wire]],
        model,
        client=Client(timeouts=Timeouts(**timeouts), allow_private=True),
        manner=manner or Manner(max_tokens=4096),
        key=Secret(key) if key else None,
        base_url=raw if isinstance(raw, str) else raw.url,
    )


async def heard(backend, request=HELLO):
    """Return what a backend says, its error last if it has one, and close it."""
    events = []
    try:
        async for event in backend.stream(request):
            events.append(event)  # noqa: PERF401  what came before an error is wanted
    except GatewayError as error:
        events.append(error)
    finally:
        await backend.aclose()
    return events


async def answer_of(backend, request=HELLO):
    """Return the whole answer of a backend, which stays open."""
    return [event async for event in backend.stream(request)]

"""Model servers that mean harm, before real gateways: no key gets out, nothing grows, and every run has one end.

What a server repeats of the key that it was sent, in bodies, streams, heads and broken HTTP, is nowhere in what the
gateway writes, at any level of its log, or tells. What it makes up to be repeated or kept is bounded.
"""

import json
import re
from contextlib import AsyncExitStack

import psutil
import pytest
from hosted_env import hosted_env
from hosted_models import PROVIDER_OF
from processes import server
from raw_server import raw_server
from recording import client

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
KEY = "sk-A-Provider-Knows-Me-By-This-0123456789"
HALF = KEY[: len(KEY) // 2].lower().encode()
"""As little of it, and in any case, is too much."""
WORD = "internal.upstream.example/secret-path"
"""What a provider says of itself: for the operator's log, and for nobody else."""
LARGE, MANY = "u" * 900_000, 20
GROWTH_BYTES, ANSWER_BYTES, STORED_BYTES = 48 * MIB, 4 * MIB, 10 * MIB
FORMATS = {"openai": "json", "anthropic": "console", "gemini": "json"}
CHECKED = ("/metrics", "/api/v1/runs", "/api/v1/sessions", "/api/v1/approvals", "/health/ready", "/api/v1/audit/logs")


def key_of(asked):
    """Return the whole value of the header that the key came in."""
    return next(value for value in asked.headers.values() if KEY in value)


def repeated(key):
    """Return an error that says the key, and where the server is, wherever an error can say something."""
    words = f"You sent {key} to http://{WORD}"
    error = {"message": words, "type": key, "code": key.upper(), "status": key, "param": key}
    return {"type": "error", "error": {**error, "details": [{"reason": key, "retryDelay": key}]}}


def refuses(status):
    async def handler(asked, line):
        body, key = json.dumps(repeated(key_of(asked))).encode(), key_of(asked)
        fields = {"x-echo": key, "retry-after": key, "content-type": "application/json", "location": f"http://{WORD}"}
        await line.answer(body, status, fields)

    return handler


async def cut_in_two(_asked, line):
    await line.answer_json({"error": {"message": "x" * (300 - len(HALF)) + KEY}}, 400)


async def in_the_stream(asked, line):
    await line.events(b"event: error\ndata: " + json.dumps(repeated(key_of(asked))).encode() + b"\n\n")


async def as_garbage(asked, line):
    await line.events(f"{{{key_of(asked)}")


async def as_the_kind(asked, line):
    await line.answer(b"hi", content_type=f"text/html; key={key_of(asked)}")


async def as_a_header(asked, line):
    await line.send(f"HTTP/1.1 200 OK\r\nno field {key_of(asked)}\r\n\r\n".encode())
    await line.cut()


async def as_a_status(asked, line):
    await line.send(f"HTTP/1.1 {key_of(asked)}\r\n\r\n".encode())
    await line.cut()


async def as_a_chunk(asked, line):
    await line.stream(content_type="text/event-stream")
    await line.send(f"{key_of(asked)}\r\n".encode())
    await line.cut()


ECHOES = [*map(refuses, (302, 400, 401, 404, 413, 429, 500)), cut_in_two, in_the_stream, as_garbage, as_the_kind]
ECHOES += [as_a_header, as_a_status, as_a_chunk]


@pytest.mark.parametrize("wire", FORMATS)
async def test_a_key_that_a_provider_repeats_is_written_and_told_nowhere(wire, tmp_path):
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(raw_server(*(each for echo in ECHOES for each in (echo, echo))))
        more = {"llm_api_key": KEY, "log_level": "debug", "log_format": FORMATS[wire], "llm_breaker_failures": "1000"}
        env = hosted_env(raw.url, wire, **more)
        running = await stack.enter_async_context(server("serve", cwd=tmp_path, env=env))
        http = await stack.enter_async_context(client(running.port))
        told = []
        for _ in ECHOES:
            plain = await http.post("/api/v1/agent/chat", json={"message": "hello"})
            streamed = await http.post("/api/v1/chat/stream", json={"input": "hello"})
            assert plain.status_code >= 400
            assert len(re.findall('"type":"(?:done|error|cancelled)"', streamed.text)) == 1
            told += [plain, streamed]
        told += [await http.get(path) for path in CHECKED]
        assert len(raw.asked) == 2 * len(ECHOES)
    written = {path.name: path.read_bytes().lower() for path in tmp_path.rglob("*") if path.is_file()}
    written["clients"] = "".join(f"{answer.headers}{answer.text}" for answer in told).lower().encode()
    assert [name for name, text in written.items() if HALF in text] == []
    assert [name for name, text in written.items() if WORD.encode() in text] == ["server.log"]


def chunk(**delta):
    return {"choices": [{"index": 0, "delta": delta}]}


def opened(**block):
    return {"type": "content_block_start", "index": 0, "content_block": block}


def called(number, signature):
    part = {"functionCall": {"name": "calculator", "id": str(number), "args": {}}, "thoughtSignature": signature}
    return {"candidates": [{"content": {"parts": [part]}}]}


ANTHROPIC_END = [opened(type="text", text="hi"), {"type": "message_stop"}]
GEMINI_END = [{"candidates": [{"finishReason": "STOP"}]}]
GREEDY = {
    "an id that each piece repeats": (
        "openai",
        [
            chunk(tool_calls=[{"index": 0, "id": LARGE, "function": {"name": "calculator"}}]),
            *[chunk(tool_calls=[{"index": 0, "function": {"arguments": " "}}])] * MANY,
            "[DONE]",
        ],
    ),
    "an answer's id that each call repeats": (
        "gemini",
        [{"responseId": LARGE}, *[called(number, "") for number in range(MANY)], *GEMINI_END],
    ),
    "signatures": ("gemini", [*[called(number, LARGE) for number in range(MANY)], *GEMINI_END]),
    "usages": (
        "anthropic",
        [*[{"type": "message_delta", "usage": {f"{n}": LARGE}} for n in range(MANY)], *ANTHROPIC_END],
    ),
    "thoughts": ("anthropic", [*[opened(type="redacted_thinking", data=LARGE)] * MANY, *ANTHROPIC_END]),
    "calls of one place": ("anthropic", [*[opened(type="tool_use", name="help")] * 100 * MANY, *ANTHROPIC_END]),
    "one long text": ("openai", [*[chunk(content="1234 5678 " * 90_000)] * MANY, "[DONE]"]),
}


async def greedy(asked, line):
    """Say what the message asks for; a second round is refused."""
    if b"calculator" in asked.body.partition(b'"hello: ')[2].partition(b'"tools"')[0] or b"tool_result" in asked.body:
        await line.answer(b"", 500)
        return
    name = next(name for name in GREEDY if f"hello: {name}".encode() in asked.body)
    await line.events(*GREEDY[name][1])


@pytest.mark.parametrize("wire", PROVIDER_OF)
async def test_what_a_model_makes_up_is_neither_repeated_nor_kept_without_a_bound(wire, tmp_path):
    names = [name for name, (of, _) in GREEDY.items() if of == wire]
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(raw_server(greedy))
        running = await stack.enter_async_context(server("serve", cwd=tmp_path, env=hosted_env(raw.url, wire)))
        http = await stack.enter_async_context(client(running.port))
        await http.post("/api/v1/agent/chat", json={"message": ""})
        process = psutil.Process(running.pid)
        before = process.memory_info().rss
        for name in names:
            answer = await http.post("/api/v1/chat/stream", json={"input": f"hello: {name}"})
            assert len(re.findall('"type":"(?:done|error|cancelled)"', answer.text)) == 1
            assert len(answer.content) < ANSWER_BYTES
        assert process.memory_info().rss - before < GROWTH_BYTES
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < STORED_BYTES

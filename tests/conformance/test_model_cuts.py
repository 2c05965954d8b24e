"""Runs that a model breaks in the middle of more than words: in a call, behind a round of skills, at a deadline.

As `test_model_faults`, with raw bytes: one end, its code, a history that every wire can read, and nothing left open.
"""

import asyncio
import json

import pytest
from failing_models import ANSWER, breaks_off, failed, goes_on, led, says
from hosted_gateways import KEY, WAYS, asking, hosted_gateways
from hosted_models import TEXT, named, openai_chunk
from raw_server import sse
from relay import relay

pytestmark = pytest.mark.slow

WIRES = ("openai", "anthropic", "gemini")
MESSAGE = "Say it."
SUM = '{"operation":"evaluate","expression":"17*23"}'
RUN_S = 0.6
CALL_S = 0.5


def _openai(call_id, piece="", name=None, index=0):
    function = {"arguments": piece} | ({"name": name} if name else {})
    call = {"index": index, "function": function} | ({"id": call_id} if name else {})
    return openai_chunk({"tool_calls": [call]})


def _anthropic(index, call_id, *pieces):
    block = {"type": "tool_use", "id": call_id, "name": "calculator", "input": {}}
    yield named("content_block_start", index=index, content_block=block)
    for piece in pieces:
        yield named("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
    yield named("content_block_stop", index=index)


def _gemini(call_id, **last):
    call = {"id": call_id, "name": "calculator", "args": json.loads(SUM)}
    candidate = {"index": 0, "content": {"role": "model", "parts": [{"functionCall": call}]}}
    return {"candidates": [candidate | last], "responseId": "r1"}


CALLS = {
    "openai": [
        openai_chunk({"content": "I see. "}),
        _openai("c1", name="calculator"),
        _openai("c1", SUM[:20]),
        _openai("c1", SUM[20:]),
        _openai("c2", name="calculator", index=1),
        _openai("c2", SUM, index=1),
        openai_chunk({}, "tool_calls"),
        "[DONE]",
    ],
    "anthropic": [
        named("message_start", message={"id": "m1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        named("content_block_delta", index=0, delta={"type": "text_delta", "text": "I see. "}),
        named("content_block_stop", index=0),
        *_anthropic(1, "c1", SUM[:20], SUM[20:]),
        *_anthropic(2, "c2", SUM),
        named("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
        named("message_stop"),
    ],
    "gemini": [
        {"candidates": [{"index": 0, "content": {"parts": [{"text": "I see. "}]}}], "responseId": "r1"},
        _gemini("c1"),
        _gemini("c2", finishReason="STOP"),
    ],
}
"""Each wire's events of two calls behind a word; the last of them are what makes the answer whole."""
WHOLE_AT = {"openai": 7, "anthropic": 13, "gemini": 3}
"""How many of them make it whole."""


@pytest.fixture(scope="module")
def line():
    with relay() as running:
        yield running


@pytest.fixture(scope="module")
def houses(line, tmp_path_factory):
    settings = {wire: asking(line.url, wire) for wire in WIRES}
    settings |= {
        "late": asking(line.url, agent_run_timeout_s=RUN_S),
        "short": asking(line.url, llm_timeout_s=CALL_S),
    }
    with hosted_gateways(tmp_path_factory.mktemp("gateways"), **settings) as running:
        yield running


PLACES = [(wire, at) for wire in WIRES for at in range(1, WHOLE_AT[wire])]


@pytest.mark.parametrize(("wire", "at"), PLACES)
async def test_calls_of_an_answer_that_breaks_are_never_made(wire, at, line, houses):
    """Cut behind each of its events: whatever the model had asked for by then, it had not said that it was all."""
    way = WAYS[at % len(WAYS)]
    async with led(line, says(*CALLS[wire][:at], then="cut"), says(*TEXT[wire])):
        told = await houses[wire].ask(way, MESSAGE)
        failed(told, "stream_truncated", partial="I see. " if told.stored[1:] else None)
        assert told.heard.of("tool_result") == []
        assert {(part["content"], part["is_error"]) for part in told.parts("tool_result")} <= {("cancelled", True)}
        await goes_on(houses[wire], way, told)


@pytest.mark.parametrize("wire", WIRES)
async def test_the_whole_of_it_is_two_calls(wire, line, houses):
    """What the test above cuts would have been answered."""
    async with led(line, says(*CALLS[wire]), says(*TEXT[wire])):
        told = await houses[wire].ask("ws", MESSAGE)
        assert (told.code, told.said[-1]) == (None, ("assistant", ANSWER))
        assert [part["content"] for part in told.parts("tool_result")] == ['{"result":391}'] * 2


@pytest.mark.parametrize("wire", WIRES)
async def test_a_round_that_was_made_stays_when_the_next_one_breaks(wire, line, houses):
    for way in WAYS:
        async with led(line, says(*CALLS[wire]), breaks_off(wire), says(*TEXT[wire])):
            told = await houses[wire].ask(way, MESSAGE)
            failed(told, "stream_truncated", partial="two ", before="I see. ")
            assert [part["content"] for part in told.parts("tool_result")] == ['{"result":391}'] * 2
            assert [role for role, _ in told.said] == ["user", "assistant", "tool", "assistant"]
            assert told.run["tool_calls"] == 2
            await goes_on(houses[wire], way, told)


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_has_its_time_and_a_model_is_left_when_it_is_over(way, line, houses):
    async with led(line, breaks_off("openai", "stall"), says(*TEXT["openai"])) as raw:
        told = await houses["late"].ask(way, MESSAGE)
        failed(told, "timeout", partial="two ")
        await asyncio.wait_for(raw.lines[0].gone(), 1)
        await goes_on(houses["late"], way, told)


@pytest.mark.parametrize("begun", [0, 1])
async def test_a_call_of_a_model_has_its_time(begun, line, houses):
    async with led(line, says(*TEXT["openai"][:begun], then="stall"), says(*TEXT["openai"])) as raw:
        told = await houses["short"].ask("sse", MESSAGE)
        failed(told, "stream_truncated" if begun else "provider_unavailable", partial="two " * begun)
        await asyncio.wait_for(raw.lines[0].gone(), 1)
        await goes_on(houses["short"], "sse", told)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_may_come_with_its_length_or_end_with_its_connection(way, line, houses):
    body = b"".join(event if isinstance(event, bytes) else sse(event) for event in TEXT["openai"])

    async def with_length(_, line):
        await line.head(content_type="text/event-stream", content_length=str(len(body)))
        await line.drip(body, 1)

    async def to_the_end(_, line):
        await line.head(content_type="text/event-stream", connection="close")
        await line.drip(body, 9)
        await line.cut()

    async with led(line, with_length, to_the_end, with_length):
        for _ in range(3):
            told = await houses["openai"].ask(way, MESSAGE)
            assert (told.code, told.text) == (None, ANSWER)


async def test_the_key_of_the_provider_is_kept_nowhere(line, houses):
    async def repeats(asked, line):
        await line.answer_json({"error": {"message": f"bad key {asked.headers['authorization']}"}}, 401)

    async with led(line, repeats) as raw:
        for way in WAYS:
            failed(await houses["openai"].ask(way, MESSAGE), "provider_auth")
        assert KEY in raw.asked[0].headers["authorization"]
    directory = houses["openai"].file.parent
    files = [file for file in directory.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"openai.db", "server.log"}
    assert [file.name for file in files if KEY.encode() in file.read_bytes()] == []
    assert KEY not in str(await houses["openai"].get("/metrics"))

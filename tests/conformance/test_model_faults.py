"""Models that fail, and the whole gateway before them: every client hears once, and rightly, how it ended.

agent.md 8 item 4, with a foreign server that breaks its answers as told (llmock), and with raw bytes for what it cannot
do. Whatever breaks, no client is told `done`, what was said so far is kept as what it is, and the session goes on.
"""

import asyncio
import json

import pytest
from failing_models import ANSWER, BEGUN, breaks_off, failed, goes_on, led, refuses, says
from hosted_gateways import KEY, WAYS, asking, hosted_gateways
from hosted_models import OVERLOADED, TEXT
from model_servers import llmock
from raw_server import sse
from relay import relay

pytestmark = pytest.mark.slow

WIRES = ("openai", "anthropic", "gemini")
PLACE = {"openai": "", "anthropic": "/anthropic", "gemini": "/gemini"}
FAULTS = ("truncate", "disconnect", "malformed", "stall")
STORY = "Once upon a time there was a gateway that stood before a model, and the model told it a story. " * 3
HASTY_S = 0.5
MESSAGE = "Say it."


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with llmock(tmp_path_factory.mktemp("llmock")) as running:
        yield running


@pytest.fixture(scope="module")
def line():
    """Where the gateways' raw model is: it leads to the server of each test."""
    with relay() as running:
        yield running


@pytest.fixture(scope="module")
def houses(models, line, tmp_path_factory):
    hasty = {"llm_idle_timeout_s": HASTY_S, "llm_first_byte_timeout_s": HASTY_S}
    settings = {f"mock_{wire}": asking(models.url + PLACE[wire], wire, **hasty) for wire in WIRES}
    settings |= {wire: asking(line.url, wire) for wire in WIRES}
    settings |= {"hasty": asking(line.url, **hasty)}
    with hosted_gateways(tmp_path_factory.mktemp("gateways"), **settings) as running:
        yield running


def written(data, size=None):
    """Return a handler that streams these bytes, in chunks of `size`."""

    async def handler(_, line):
        await line.stream(content_type="text/event-stream")
        await line.chunks(data, size or len(data))
        await line.end()

    return handler


# --- a foreign server that breaks its answers ------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_that_breaks_is_told_and_kept_as_broken(wire, fault, models, houses):
    house = houses[f"mock_{wire}"]
    for way in WAYS if fault != "stall" else WAYS[WIRES.index(wire) :][:1]:
        broken = {"type": "stream_fault", "kind": fault, "after_chunks": 30, "stall_seconds": 5}
        await asyncio.to_thread(models.script, broken, {"type": "reply", "text": STORY})
        told = await house.ask(way, MESSAGE)
        assert STORY.startswith(told.text)
        assert len(told.text) > 64
        failed(told, "stream_truncated", partial=told.text)
        assert told.answer.get("retryable", True)
        await asyncio.to_thread(models.script, {"type": "reply", "text": "All is well."})
        await goes_on(house, way, told, "All is well.")


@pytest.mark.parametrize("wire", WIRES)
async def test_a_model_that_calls_no_skill_that_there_is_gets_to_hear_it(wire, models, houses):
    house = houses[f"mock_{wire}"]
    for kind, words in (("unknown_tool", "llmock_unknown_tool"), ("malformed_arguments", "")):
        call = {"type": "reply", "tool_calls": [{"name": "calculator", "arguments": {"operation": "add"}}]}
        await asyncio.to_thread(
            models.script, {"type": "tool_fault", "kind": kind}, call, {"type": "reply", "text": "I see."}
        )
        told = await house.ask("ws", MESSAGE)
        assert (told.code, told.said[-1]) == (None, ("assistant", "I see."))
        (result,) = told.parts("tool_result")
        assert result["is_error"]
        assert words in result["content"]


# --- raw bytes: what is whole is read, however it is written ---------------------------------------------------------


def joined(wire):
    return b"".join(event if isinstance(event, bytes) else sse(event) for event in TEXT[wire])


FLOOD = b": keep alive\n\n" * 2000
WRITTEN = {
    "a byte at a time": (lambda data: data, 1),
    "split inside of characters": (lambda data: data, 7),
    "without a blank behind the colon": (lambda data: data.replace(b"data: ", b"data:"), None),
    "in lines that end as on a typewriter": (lambda data: data.replace(b"\n", b"\r\n"), 3),
    "in lines that end in a return": (lambda data: data.replace(b"\n", b"\r"), 5),
    "between comments": (lambda data: FLOOD + data.replace(b"\n\n", b"\n\n" + FLOOD), 4096),
    "behind a mark of the byte order": (lambda data: b"\xef\xbb\xbf" + data, None),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_is_read_however_it_is_written(wire, how, line, houses):
    change, size = WRITTEN[how]
    async with led(line, written(change(joined(wire)), size)):
        for way in WAYS if wire == "openai" else ("ws",):
            told = await houses[wire].ask(way, MESSAGE)
            assert (told.code, told.text) == (None, ANSWER), told.answer
            assert told.heard.last["tokens_used"] == 5  # the usage comes last, and counts
            assert told.said == [("user", MESSAGE), ("assistant", ANSWER)]


async def test_a_call_without_ids_and_indexes_is_a_call(line, houses):
    def bare(**delta):
        return {"choices": [{"delta": delta}]}

    call = {"function": {"name": "calculator", "arguments": '{"operation":"evaluate",'}}
    rest = {"function": {"arguments": '"expression":"17*23"}'}}
    calling = says(bare(tool_calls=[call]), bare(tool_calls=[rest]), {"choices": [{"finish_reason": "stop"}]})
    async with led(line, *[calling, says(bare(content="391."), "[DONE]")] * len(WAYS)) as raw:
        for way in WAYS:
            told = await houses["openai"].ask(way, MESSAGE)
            assert (told.code, told.said[-1]) == (None, ("assistant", "391."))
            assert [part["content"] for part in told.parts("tool_result")] == ['{"result":391}']
            assert told.heard.last["usage"]["estimated"]
        sent = raw.asked[1].json()["messages"]
        assert sent[-1]["tool_call_id"] == sent[-2]["tool_calls"][0]["id"]


# --- raw bytes: what is not whole is told ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "end", "reset", "stall"])
async def test_a_connection_that_ends_in_an_answer_ends_the_run_as_truncated(how, line, houses):
    house = houses["hasty"]
    for way in WAYS:
        async with led(line, breaks_off("openai", how), says(*TEXT["openai"])):
            told = await house.ask(way, MESSAGE)
            failed(told, "stream_truncated" if told.text else "provider_unavailable", partial=told.text)
            assert told.text in ({"two ", ""} if how == "reset" else {"two "})  # a reset may overtake what was sent
            await goes_on(house, way, told)


@pytest.mark.parametrize("wire", WIRES)
async def test_an_error_in_a_stream_is_an_error_and_quotes_nobody(wire, line, houses):
    house = houses[wire]
    begun = TEXT[wire][: BEGUN[wire]]
    async with led(line, *[says(*begun, OVERLOADED[wire], *TEXT[wire]), says(*TEXT[wire])] * len(WAYS)):
        for way in WAYS:
            told = await house.ask(way, MESSAGE)
            failed(told, "provider_unavailable", partial="two ")
            assert told.answer.get("retryable", True)
            assert "no room" not in json.dumps([told.answer, told.heard.events])
            await goes_on(house, way, told)


GARBLED = {
    "no JSON": "data: {\n\n",
    "other JSON": "data: [1]\n\n",
    "no UTF-8": b"data: \xff\xfe\n\n",
    "a number for a text": 'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
}


@pytest.mark.parametrize("how", GARBLED)
async def test_what_cannot_be_read_ends_the_run_as_truncated(how, line, houses):
    data = GARBLED[how] if isinstance(GARBLED[how], bytes) else GARBLED[how].encode()
    house, first = houses["openai"], TEXT["openai"][0]
    async with led(line, *[says(first, data, *TEXT["openai"]), says(*TEXT["openai"])] * len(WAYS)):
        for way in WAYS:
            told = await house.ask(way, MESSAGE)
            failed(told, "stream_truncated", partial="two ")
            await goes_on(house, way, told)


REFUSED = {
    400: ("provider_bad_request", 502),
    401: ("provider_auth", 502),
    403: ("provider_auth", 502),
    404: ("provider_bad_request", 502),
    429: ("provider_rate_limited", 503),
    500: ("provider_unavailable", 502),
    529: ("provider_unavailable", 502),
}


@pytest.mark.parametrize("status", REFUSED)
async def test_a_refusal_has_its_own_code_and_its_connection_is_used_again(status, line, houses):
    code, own = REFUSED[status]
    refusal = refuses(status, {"error": {"message": f"no, {KEY}", "type": "x"}})
    house = houses["openai"]
    async with led(line, *[refusal, says(*TEXT["openai"])] * len(WAYS)) as raw:
        for way in WAYS:
            told = await house.ask(way, MESSAGE)
            failed(told, code)
            assert told.status == (own if way == "rest" else 200)
            assert "no, " not in json.dumps([told.answer, told.heard.events])
            await goes_on(house, way, told)
        assert {asked.connection for asked in raw.asked} == {0}
    assert KEY not in (house.file.parent / "server.log").read_text()


async def test_what_is_no_stream_and_who_is_not_there_have_codes_too(line, houses):
    async def page(_, line):
        await line.answer(b"<html>", content_type="text/html")

    async def moved(_, line):
        await line.answer(b"", 307, location="http://127.0.0.1:1/")

    async def nothing(_, line):
        line.abort()

    for handler, code in ((page, "provider_bad_request"), (moved, "provider_bad_request")):
        async with led(line, handler):
            for way in WAYS:
                failed(await houses["openai"].ask(way, MESSAGE), code)
    async with led(line, nothing):
        failed(await houses["openai"].ask("ws", MESSAGE), "provider_unavailable")
    line.to(1)  # where nobody listens
    for way in WAYS:
        failed(await houses["openai"].ask(way, MESSAGE), "provider_unavailable")


async def test_a_model_that_never_begins_is_not_waited_for(line, houses):
    async def silent(_, line):
        await line.stall()

    async with led(line, silent, says(*TEXT["openai"])) as raw:
        told = await houses["hasty"].ask("sse", MESSAGE)
        failed(told, "provider_unavailable")
        await raw.lines[0].gone()
        await goes_on(houses["hasty"], "ws", told)

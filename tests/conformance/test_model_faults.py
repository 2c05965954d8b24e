"""Models that fail, and the whole gateway before them: every client hears once, and rightly, how it ended.

agent.md 8 item 4, with a foreign server that breaks its answers as told (llmock), and with raw bytes for what it cannot
do. Whatever breaks, no client is told `done`, what was said so far is kept as what it is, and the session goes on.
"""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from hosted_gateways import KEY, MODEL_OF, WAYS, asking, hosted_gateways
from hosted_models import OVERLOADED, TEXT
from model_servers import llmock
from raw_server import raw_server, sse
from recording import PATIENCE_S
from relay import relay

pytestmark = pytest.mark.slow

WIRES = ("openai", "anthropic", "gemini")
PLACE = {"openai": "", "anthropic": "/anthropic", "gemini": "/gemini"}
FAULTS = ("truncate", "disconnect", "malformed", "stall")
STORY = "Once upon a time there was a gateway that stood before a model, and the model told it a story. " * 3
BEGUN = {"openai": 1, "anthropic": 3, "gemini": 1}
"""How many events of `TEXT` say its first piece, `two `."""
ANSWER = "two piécés"
HASTY_S = 0.5
OPEN_S = 1.5
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
def spare():
    """Where the model is that stands in for it."""
    with relay() as running:
        yield running


@pytest.fixture(scope="module")
def houses(models, line, spare, tmp_path_factory):
    stand_in = {"provider": "claude", "model": "claude-haiku-4-5", "api_key": "sk-spare", "base_url": spare.url}
    hasty = {"llm_idle_timeout_s": HASTY_S, "llm_first_byte_timeout_s": HASTY_S}
    settings = {f"mock_{wire}": asking(models.url + PLACE[wire], wire, **hasty) for wire in WIRES}
    settings |= {wire: asking(line.url, wire) for wire in WIRES}
    settings |= {
        "hasty": asking(line.url, **hasty),
        "patient": asking(line.url, llm_retries=2),
        "doubled": asking(line.url, llm_fallbacks=[stand_in]),
        "careful": asking(line.url, llm_breaker_failures=2, llm_breaker_open_s=OPEN_S),
    }
    with hosted_gateways(tmp_path_factory.mktemp("gateways"), **settings) as running:
        yield running


@asynccontextmanager
async def led(line, *handlers):
    """Lead the relay to a raw server with this script, one handler a request."""
    async with raw_server(*handlers) as raw:
        line.to(raw.port)
        yield raw


def says(*events, **more):
    """Return a handler that streams these events."""

    async def handler(_, line):
        await line.events(*events, **more)

    return handler


def refuses(status, body=None, **headers):
    async def handler(_, line):
        await line.answer_json({} if body is None else body, status, _dashed(headers))

    return handler


def written(data, size=None):
    """Return a handler that streams these bytes, in chunks of `size`."""

    async def handler(_, line):
        await line.stream(content_type="text/event-stream")
        await line.chunks(data, size or len(data))
        await line.end()

    return handler


def breaks_off(wire, how="cut"):
    """Return a handler that says one piece and then nothing more, one way or another."""

    async def handler(_, line):
        await line.events(*TEXT[wire][: BEGUN[wire]], end=how == "end")
        if how == "stall":
            await line.stall()
        elif how == "reset":
            line.abort()
        elif how == "cut":
            await line.cut()

    return handler


def _dashed(headers):
    return {name.replace("_", "-"): str(value) for name, value in headers.items()}


def failed(told, code, *, partial=None):
    """Check that it failed with this code alone; `partial`: what the model had said, as it is kept."""
    assert told.code == code, told.answer
    last = told.heard.last
    assert (last["type"], last["code"]) == ("error", code)
    assert told.heard.of("done") == []
    assert told.run["status"] == "failed"
    assert told.run["error_code"] == code
    assert told.broken_off == ([partial] if partial else [])
    assert told.text == (partial or "")


async def goes_on(house, way, told, answer=ANSWER):
    """Check that the next message of the session is answered, and by a history that the model can read."""
    again = await house.ask(way, "And now?", told.session_id)
    assert (again.code, again.text) == (None, answer), again.answer
    assert again.session_id == told.session_id
    assert again.said[-1] == ("assistant", answer)


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


# --- once more, and elsewhere ----------------------------------------------------------------------------------------


async def test_a_limit_is_waited_for_as_it_says(line, houses):
    async with led(line, refuses(429, retry_after=1), says(*TEXT["openai"])) as raw:
        began = time.monotonic()
        told = await houses["patient"].ask("sse", MESSAGE)
        assert time.monotonic() - began >= 1.0
        assert (told.code, told.text) == (None, ANSWER)
        (retried,) = told.streamed.of("retry")
        assert (retried["attempt"], retried["delay_ms"], retried["reason"]) == (1, 1000, "provider_rate_limited")
        assert len({asked.body for asked in raw.asked}) == 1


async def test_an_overload_and_a_broken_begin_are_asked_again_and_the_client_hears_of_it(line, houses):
    async def cut(_, line):
        await line.events(end=False)
        await line.cut()

    for way in WAYS:
        async with led(line, refuses(529), cut, says(*TEXT["openai"])) as raw:
            told = await houses["patient"].ask(way, MESSAGE)
            assert (told.code, told.text) == (None, ANSWER)
            retried = [(event["attempt"], event["reason"]) for event in told.streamed.of("retry")]
            assert retried == [(1, "provider_unavailable"), (2, "provider_unavailable")]
            assert len({asked.body for asked in raw.asked}) == 1
            assert told.said == [("user", MESSAGE), ("assistant", ANSWER)]


async def test_what_would_not_help_is_not_asked_again(line, houses):
    for status, code in ((401, "provider_auth"), (400, "provider_bad_request")):
        for way in WAYS:
            async with led(line, refuses(status), says(*TEXT["openai"])) as raw:
                failed(await houses["patient"].ask(way, MESSAGE), code)
                assert len(raw.asked) == 1
    async with led(line, breaks_off("openai"), says(*TEXT["openai"])) as raw:
        failed(await houses["patient"].ask("sse", MESSAGE), "stream_truncated", partial="two ")
        assert len(raw.asked) == 1


@pytest.mark.parametrize("first", [refuses(500), refuses(401), refuses(429, retry_after=3600), breaks_off("gemini")])
async def test_another_model_answers_before_the_first_word(first, line, spare, houses):
    """Of `breaks_off` for another wire nothing can be read, so nothing was said."""
    before = await houses["doubled"].metric("argentor_llm_failovers_total")
    async with led(line, first) as preferred, led(spare, says(*TEXT["anthropic"])) as other:
        for way in WAYS:
            told = await houses["doubled"].ask(way, MESSAGE)
            assert (told.code, told.text) == (None, ANSWER), told.answer
            (retried,) = told.streamed.of("retry")
            assert (retried["attempt"], retried["delay_ms"]) == (1, 0)
        assert len(preferred.asked) == len(other.asked) == len(WAYS)
        assert {asked.headers["x-api-key"] for asked in other.asked} == {"sk-spare"}
        assert other.asked[0].json()["model"] == "claude-haiku-4-5"
        assert other.asked[0].target == "/v1/messages"
    assert await houses["doubled"].metric("argentor_llm_failovers_total") == before + len(WAYS)


async def test_no_other_model_answers_after_the_first_word_or_where_the_request_is_at_fault(line, spare, houses):
    async with led(spare, says(*TEXT["anthropic"])) as other:
        for way in WAYS:
            async with led(line, breaks_off("openai")):
                failed(await houses["doubled"].ask(way, MESSAGE), "stream_truncated", partial="two ")
            async with led(line, refuses(400)):
                failed(await houses["doubled"].ask(way, MESSAGE), "provider_bad_request")
        assert other.asked == []


async def test_a_model_that_keeps_failing_is_left_alone_and_tried_again_later(line, houses):
    house = houses["careful"]
    labels = f'{{model="{MODEL_OF["openai"]}",provider="openai"}}'

    async def state():
        ready = await house.get("/health/ready")
        return await house.metric(f"argentor_llm_breaker_state{labels}"), ready["checks"]["llm"], ready["status"]

    async with led(line, refuses(500), refuses(503), says(*TEXT["openai"])) as raw:
        for way in ("rest", "sse"):
            failed(await house.ask(way, MESSAGE), "provider_unavailable")
        assert await state() == (2, "not_ready", "not_ready")
        for way in WAYS:
            failed(await house.ask(way, MESSAGE), "provider_unavailable")
        assert len(raw.asked) == 2
        await eventually(state, (1, "ok", "ready"))
        told = await house.ask("ws", MESSAGE)
        assert (told.code, told.text) == (None, ANSWER)
        assert await state() == (0, "ok", "ready")
        assert len(raw.asked) == 3
        assert await house.metric("argentor_llm_breaker_rejected_total") == len(WAYS)


async def eventually(look, wanted):
    """Look again and again until it is as it should be."""
    async with asyncio.timeout(PATIENCE_S):
        while await look() != wanted:  # noqa: ASYNC110  it comes to that in another process
            await asyncio.sleep(0.02)

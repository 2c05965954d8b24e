"""Models that are asked again, that stand in for others, and that are left alone, behind the whole gateway.

agent.md 2.3 rules 7 and 9: before the first word only, as the provider says, and so that the client hears of it.
"""

import asyncio
import time

import pytest
from failing_models import ANSWER, breaks_off, failed, led, refuses, says
from hosted_gateways import MODEL_OF, WAYS, asking, hosted_gateways
from hosted_models import CALL, TEXT
from recording import PATIENCE_S
from relay import relay

pytestmark = pytest.mark.slow

OPEN_S = 1.5
MESSAGE = "Say it."


@pytest.fixture(scope="module")
def line():
    """Where the gateways' model is: it leads to the server of each test."""
    with relay() as running:
        yield running


@pytest.fixture(scope="module")
def spare():
    """Where the model is that stands in for it."""
    with relay() as running:
        yield running


@pytest.fixture(scope="module")
def houses(line, spare, tmp_path_factory):
    stand_in = {"provider": "claude", "model": "claude-haiku-4-5", "api_key": "sk-spare", "base_url": spare.url}
    settings = {
        "patient": asking(line.url, llm_retries=2),
        "doubled": asking(line.url, llm_fallbacks=[stand_in]),
        "doubled_by_gemini": asking(
            line.url, llm_fallbacks=[stand_in | {"provider": "gemini", "model": "gemini-3-pro"}]
        ),
        "careful": asking(line.url, llm_breaker_failures=2, llm_breaker_open_s=OPEN_S),
        "twice_careful": asking(
            line.url, llm_breaker_failures=1, llm_breaker_open_s=60, llm_fallbacks=[stand_in | {"model": "m-2"}]
        ),
    }
    with hosted_gateways(tmp_path_factory.mktemp("gateways"), **settings) as running:
        yield running


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
    for way in WAYS:
        async with led(line, refuses(529), says(then="cut"), says(*TEXT["openai"])) as raw:
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


@pytest.mark.parametrize("wire", ["claude", "gemini"])
async def test_a_model_on_another_wire_goes_on_in_the_middle_of_a_run(wire, line, spare, houses):
    """The calls that one model made, and their results, are read by another, and by the first one afterwards."""
    house = houses["doubled" if wire == "claude" else "doubled_by_gemini"]
    answer = TEXT["anthropic" if wire == "claude" else "gemini"]
    for way in WAYS:
        async with (
            led(line, says(*CALL["openai"]), refuses(500), says(*TEXT["openai"])) as preferred,
            led(spare, says(*answer)) as other,
        ):
            told = await house.ask(way, MESSAGE)
            assert (told.code, told.said[-1]) == (None, ("assistant", ANSWER))
            assert [part["id"] for part in told.parts("tool_result")] == ["c1"]
            sent = other.asked[0].json()
            if wire == "claude":
                use, result = sent["messages"][-2]["content"][-1], sent["messages"][-1]["content"][0]
                assert (use["type"], result["type"]) == ("tool_use", "tool_result")
                assert (use["id"], use["name"]) == (result["tool_use_id"], "look") == ("c1", "look")
            else:
                use, result = sent["contents"][-2]["parts"][-1], sent["contents"][-1]["parts"][0]
                assert use["functionCall"] == {"name": "look", "args": {"at": 1}}
                assert use["thoughtSignature"]  # a stand-in, without which calls of others are refused
                assert result["functionResponse"]["name"] == "look"
            again = await house.ask(way, "And now?", told.session_id)
            assert (again.code, again.text) == (None, ANSWER)
            roles = [message["role"] for message in preferred.asked[-1].json()["messages"]]
            assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


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


async def test_a_model_that_is_left_alone_leaves_its_work_to_the_next(line, spare, houses):
    house = houses["twice_careful"]
    async with led(line, refuses(500)) as preferred, led(spare, says(*TEXT["anthropic"])) as other:
        for way in WAYS:
            told = await house.ask(way, MESSAGE)
            assert (told.code, told.text) == (None, ANSWER)
            assert len(told.streamed.of("retry")) == (way == WAYS[0])  # nobody tries what is left alone
        assert (len(preferred.asked), len(other.asked)) == (1, len(WAYS))
        assert (await house.get("/health/ready"))["checks"]["llm"] == "ok"  # there is one that answers


async def test_the_last_failure_is_told_when_nothing_helps(line, spare, houses):
    for name, tries in (("patient", 3), ("doubled", 2)):
        async with led(line, refuses(500)) as raw, led(spare, refuses(529)) as other:
            told = await houses[name].ask("ws", MESSAGE)
            failed(told, "provider_unavailable")
            assert [event["attempt"] for event in told.streamed.of("retry")] == list(range(1, tries))
            assert len(raw.asked) + len(other.asked) == tries


async def eventually(look, wanted):
    """Look again and again until it is as it should be."""
    async with asyncio.timeout(PATIENCE_S):
        while await look() != wanted:  # noqa: ASYNC110  it comes to that in another process
            await asyncio.sleep(0.02)

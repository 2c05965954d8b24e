"""`argentor_asgi.agent.providers.build`: the configured models behind one backend, asked over real sockets."""

import asyncio
import subprocess
import sys

import pytest
from hosted_models import KEY, LOOK_THERE, OVERLOADED, TEXT, WIRES, answer_of, heard, talk
from raw_server import raw_server
from still_clock import StillClock

from argentor_asgi.agent.providers.build import backends, hosted
from argentor_asgi.agent.resilience.breaker import Rules
from argentor_asgi.agent.resilience.failover import Patience, Resilient
from argentor_asgi.agent_sections import Fallback, Llm
from argentor_asgi.api_keys import Secret
from argentor_asgi.config import Config
from argentor_asgi.errors import (
    ConfigError,
    ProviderAuth,
    ProviderBadRequest,
    ProviderUnavailable,
    StreamTruncated,
)
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.llm import Finish, Retrying, TextPiece, UsageReport
from argentor_asgi.protocol.messages import Usage

pytestmark = pytest.mark.slow

SAID = [TextPiece("two "), TextPiece("piécés")]


def config(url, *others, provider="openai", **llm):
    fallbacks = tuple(Fallback("openai", f"m-{at}", Secret(KEY), each) for at, each in enumerate(others, 2))
    chosen = {"model": "m-1", "api_key": Secret(KEY), "base_url": url, "fallbacks": fallbacks, **llm}
    return Config(llm=Llm(provider=provider, **chosen))


def patient(found, clock, *, retries=3, failures=5):
    return Resilient(
        backends(found),
        patience=Patience(retries, Rules(failures, 30.0)),
        clock=clock,
        metrics=Metrics(clock=clock),
        sleep=clock.sleep,
        draw=lambda: 0.5,
    )


def answering(status, **headers):
    """Return a model that refuses with this status."""

    async def talking(_asked, line):
        await line.answer(b"{}", status, {name.replace("_", "-"): value for name, value in headers.items()})

    return talking


# --- building -----------------------------------------------------------------------------------------------------


async def test_every_setting_of_a_model_call_reaches_the_provider():
    async with raw_server(talk("openai")) as raw:
        found = config(f"{raw.url}/v1/", max_tokens=77, temperature=0.5, max_tokens_field="max_tokens")
        await heard(hosted(found, clock=SystemClock(), metrics=Metrics(clock=SystemClock())))
    body = raw.asked[0].json()
    assert raw.asked[0].target == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m-1", 77, 0.5)


async def test_the_deadlines_are_those_configured():
    async with raw_server(lambda _, line: line.stall()) as raw:
        found = config(raw.url, retries=0, first_byte_timeout_s=0.05)
        (error,) = await heard(hosted(found, clock=SystemClock(), metrics=Metrics(clock=SystemClock())))
    assert isinstance(error, ProviderUnavailable)


async def test_a_whole_call_has_its_time():
    """A server that always says a little never stalls, and still does not hold a call for ever."""

    async def drip(_asked, line):
        await line.events(TEXT["openai"][0], end=False)
        while not line.closed.done():
            await line.chunk(b": still here\n\n")
            await asyncio.wait({line.closed}, timeout=0.01)

    async with raw_server(drip) as raw:
        found = config(raw.url, timeout_s=0.1)
        events = await heard(hosted(found, clock=SystemClock(), metrics=Metrics(clock=SystemClock())))
        await raw.lines[0].gone()
    assert [type(event) for event in events] == [TextPiece, StreamTruncated]


async def test_models_are_asked_in_order_and_closed_together():
    found = backends(config("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3/v1"))
    assert [(each.name, each.model) for each in found] == [("openai", "m-1"), ("openai", "m-2"), ("openai", "m-3")]
    for each in found:
        await each.aclose()


async def test_breakers_are_published_from_the_start():
    metrics = Metrics(clock=SystemClock())
    made = hosted(config(None, provider="anthropic"), clock=SystemClock(), metrics=metrics)
    assert (made.name, made.model) == ("claude", "m-1")
    assert b'argentor_llm_breaker_state{model="m-1",provider="claude"} 0.0' in (await metrics.render(None))[0]
    await made.check()
    await made.aclose()


@pytest.mark.parametrize(
    "url", ["ftp://a", "a.example.org", "https://", "https://u:p@a", "http://2130706433", "https://a/?b=c"]
)
def test_a_base_that_no_request_could_go_to_is_a_start_up_error(url):
    with pytest.raises(ConfigError, match=r"llm\.base_url"):
        backends(config(url))
    with pytest.raises(ConfigError, match=r"llm\.fallbacks\[0\]\.base_url"):
        backends(config(None, url))


@pytest.mark.parametrize("key", ["qq\nb", " qq", "qq ", "schlüssel", "a\r\nx: y"])
def test_a_key_that_no_header_carries_is_a_start_up_error_that_does_not_show_it(key):
    with pytest.raises(ConfigError, match=r"llm\.api_key") as caught:
        backends(config(None, api_key=Secret(key)))
    assert key not in str(caught.value)


def test_without_its_extra_a_hosted_model_is_a_start_up_error_that_names_it():
    code = """
import sys
sys.modules["httpcore2"] = sys.modules["httpx2"] = None
from argentor_asgi.agent.providers.build import backends
from argentor_asgi.config import Config, Llm
from argentor_asgi.errors import ConfigError
try:
    backends(Config(llm=Llm(provider="ollama", model="m")))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603  ours
    assert "pip install 'argentor-asgi[llm]'" in done.stdout


# --- resilience over the wire -------------------------------------------------------------------------------------


async def test_a_rate_limit_is_waited_for_as_long_as_it_says():
    """agent.md 8 item 4: 429 with `Retry-After`, within 50 ms on a fake clock."""
    clock = StillClock()
    async with raw_server(
        answering(429, retry_after="2"), answering(429, retry_after_ms="1500"), talk("openai")
    ) as raw:
        events = await heard(patient(config(raw.url), clock))
    assert events[:4] == [Retrying(1, 2000, "provider_rate_limited"), Retrying(2, 1500, "provider_rate_limited"), *SAID]
    assert clock.slept == [2.0, 1.5]


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
async def test_what_may_pass_is_tried_again(status):
    async with raw_server(answering(status), talk("anthropic")) as raw:
        events = await heard(patient(config(raw.url, provider="claude"), StillClock()))
    first, *said = [event for event in events if not isinstance(event, UsageReport)]
    assert first == Retrying(1, 250, "provider_unavailable")
    assert said[:2] == SAID
    assert isinstance(said[-1], Finish)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_will_not_pass_is_not_tried_again(status):
    """agent.md 1.10 D16: 401 is not retried, whatever words come with it."""

    async def talking(_asked, line):
        await line.answer_json({"error": {"message": "500 timeout 429"}}, status)

    async with raw_server(talking) as raw:
        (error,) = await heard(patient(config(raw.url), StillClock()))
    assert isinstance(error, ProviderAuth if status in {401, 403} else ProviderBadRequest)
    assert len(raw.asked) == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_an_error_within_a_stream_is_tried_again_before_the_first_word_only(wire):
    provider = {"anthropic": "claude"}.get(wire, wire)
    said = TEXT[wire][:-1]
    async with raw_server(lambda _, line: line.events(OVERLOADED[wire]), talk(wire)) as raw:
        events = await heard(patient(config(raw.url, provider=provider), StillClock()))
    assert events[0] == Retrying(1, 250, "provider_unavailable")
    assert isinstance(events[-1], Finish)
    async with raw_server(lambda _, line: line.events(*said, OVERLOADED[wire])) as raw:
        events = await heard(patient(config(raw.url, provider=provider), StillClock()))
    assert not any(isinstance(event, Retrying) for event in events)
    assert isinstance(events[-1], ProviderUnavailable)
    assert len(raw.asked) == 1


async def test_the_next_model_answers_before_the_first_word_only():
    """agent.md 8 item 4: and the tokens are counted as those of the model that answered."""

    async def breaks_off(_asked, line):
        await line.events(TEXT["openai"][0], end=False)
        await line.cut()

    async with raw_server(answering(500), breaks_off) as first, raw_server(talk("openai")) as second:
        events = await heard(patient(config(first.url, second.url), StillClock(), retries=0))
        assert events[:3] == [Retrying(1, 0, "provider_unavailable"), *SAID]
        assert UsageReport(Usage(3, 2), "m-2") in events
        assert second.asked[0].json()["model"] == "m-2"
        events = await heard(patient(config(first.url, second.url), StillClock(), retries=0))
        assert [type(event) for event in events] == [TextPiece, StreamTruncated]
        assert len(second.asked) == 1


async def test_a_key_that_is_refused_is_told_or_another_model_is_asked():
    async with raw_server(answering(401)) as first, raw_server(talk("openai")) as second:
        events = await heard(patient(config(first.url, second.url), StillClock()), LOOK_THERE)
    assert events[0] == Retrying(1, 0, "provider_auth")
    assert isinstance(events[-1], Finish)


async def test_ten_calls_at_once_are_one_request_to_a_provider_that_was_left_alone():
    """agent.md 1.10 D15."""
    clock, answer = StillClock(), asyncio.Event()

    async def slow(asked, line):
        await answer.wait()
        await talk("openai")(asked, line)

    async with raw_server(answering(500), slow) as raw:
        backend = patient(config(raw.url), clock, retries=0, failures=1)
        with pytest.raises(ProviderUnavailable):
            await answer_of(backend)
        clock.at += 30
        waiting = [asyncio.create_task(answer_of(backend)) for _ in range(10)]
        tasks = waiting
        while len(waiting) > 1:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        answer.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await backend.aclose()
    assert len(raw.asked) == 2
    assert sum(isinstance(each, ProviderUnavailable) for each in done) == 9


async def test_a_cancel_anywhere_closes_every_connection_and_frees_the_breaker():
    """agent.md 8 item 5: in a try, in the wait between two, and in the next one's."""

    async def talking(_asked, line):
        await line.events(TEXT["openai"][0], end=False)
        await line.stall()

    async with raw_server(*[answering(500)] * 10, talking) as raw:
        clock = StillClock()
        backend = patient(config(raw.url), clock, retries=3, failures=1000)
        for steps in range(60):
            task = asyncio.create_task(answer_of(backend))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert backend.models[0].breaker.phase == "closed"
        await backend.aclose()
        for line in raw.lines:
            await line.gone()
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(left, timeout=5)
    assert asyncio.all_tasks() == {asyncio.current_task()}

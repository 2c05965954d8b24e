"""`argentor_asgi.agent.resilience.failover`: what a call becomes of when models fail, by a clock that stands still."""

import asyncio
from dataclasses import replace

import pytest
from contracts.llm_backend import LlmBackendContract, user
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_backend import USAGE, Park, ScriptedBackend, answer, call, calling
from still_clock import StillClock

from argentor_asgi.agent.resilience.breaker import Rules
from argentor_asgi.agent.resilience.failover import Patience, Resilient
from argentor_asgi.errors import (
    ContentFiltered,
    ContextOverflow,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.llm import (
    Finish,
    LlmRequest,
    ReasoningPiece,
    Retrying,
    TextPiece,
    ToolSpec,
    ToolStart,
    UsageReport,
)

ASKED = LlmRequest("", [user("hello")])
LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {}})
DOWN = [ProviderUnavailable()]
PROVIDER_ERRORS = [ProviderUnavailable, ProviderRateLimited, StreamTruncated]


class Place:
    """Models that play scripts behind one `Resilient`, which waits `half` of what it may."""

    def __init__(self, *scripts, retries=3, failures=100, timeout_s=None, half=0.5):
        self.clock = StillClock()
        self.metrics = Metrics(clock=self.clock)
        self.models = [ScriptedBackend(*each) for each in scripts]
        for number, model in enumerate(self.models, 1):
            model.name, model.model = f"p{number}", f"m{number}"
        self.backend = Resilient(
            self.models,
            patience=Patience(retries, Rules(failures, 30.0), timeout_s),
            clock=self.clock,
            metrics=self.metrics,
            sleep=self.clock.sleep,
            draw=lambda: half,
        )
        self.metrics.provide(self.backend.states)

    async def hear(self, request=ASKED):
        return [event async for event in self.backend.stream(request)]

    async def hear_until(self, error, request=ASKED):
        """Return what is heard before this error."""
        heard = []
        try:
            async for event in self.backend.stream(request):
                heard.append(event)  # noqa: PERF401  what came before the error is wanted
        except error as caught:
            self.error = caught
            return heard
        pytest.fail(f"no {error.__name__}")

    @property
    def asked(self):
        return [len(model.requests) for model in self.models]

    @property
    def phases(self):
        return [model.breaker.phase for model in self.backend.models]


def whole(model="m1"):
    return [TextPiece("ok"), UsageReport(USAGE, model), Finish("stop")]


class TestResilient(LlmBackendContract):
    def make(self):
        def said(request):
            if request.tools == [LOOK] and request.messages[-1].role == "user":
                return calling(call("c1", "look", '{"at"', ": 1}"))
            return answer("two ", "pieces")

        clock = StillClock()
        patience = Patience(3, Rules(5, 30.0))
        return Resilient([ScriptedBackend(then=said)], patience=patience, clock=clock, metrics=Metrics(clock=clock))

    def text_request(self):
        return ASKED

    def tool_request(self):
        return LlmRequest("", [user("look")], [LOOK])


# --- retries ------------------------------------------------------------------------------------------------------


async def test_a_failure_before_the_first_word_is_tried_again_and_told():
    place = Place([DOWN, DOWN])
    assert await place.hear() == [
        Retrying(1, 250, "provider_unavailable"),
        Retrying(2, 500, "provider_unavailable"),
        *whole(),
    ]
    assert place.clock.slept == [0.25, 0.5]


async def test_the_wait_that_a_rate_limit_asks_for_is_kept():
    """agent.md 8 item 4: within 50 ms, and here exactly."""
    place = Place([[ProviderRateLimited(retry_after=7)]])
    assert (await place.hear())[0] == Retrying(1, 7000, "provider_rate_limited")
    assert place.clock.slept == [7.0]


async def test_retries_end_with_the_last_error():
    place = Place([DOWN, DOWN, [ProviderRateLimited()]], retries=2)
    assert [event.attempt for event in await place.hear_until(ProviderRateLimited)] == [1, 2]
    assert place.asked == [3]


@pytest.mark.parametrize("error", [ProviderAuth, ProviderBadRequest, ContextOverflow, ContentFiltered])
async def test_what_will_not_pass_is_not_tried_again(error):
    """agent.md 1.10 D16: a 401 is not retried, and the text of an error has no say."""
    place = Place([[error("timeout 500 429")]])
    assert await place.hear_until(error) == []
    assert place.asked == [1]
    assert place.clock.slept == []


@pytest.mark.parametrize("said", [TextPiece("a"), ReasoningPiece("a"), ToolStart("c", "look")])
@pytest.mark.parametrize("error", [*PROVIDER_ERRORS, ProviderAuth])
async def test_nothing_is_tried_again_once_something_was_said(said, error):
    place = Place([[said, error()]], [])
    assert await place.hear_until(error) == [said]
    assert place.asked == [1, 0]


@pytest.mark.parametrize("said", [UsageReport(USAGE), TextPiece("")])
async def test_tokens_and_empty_pieces_say_nothing(said):
    place = Place([[said, ProviderUnavailable()]])
    assert (await place.hear())[1:] == [Retrying(1, 250, "provider_unavailable"), *whole()]


async def test_a_stream_that_just_ends_is_truncated():
    """agent.md 1.10 D13."""
    place = Place([[TextPiece("a"), UsageReport(USAGE)]])
    await place.hear_until(StreamTruncated)
    place = Place([[UsageReport(USAGE)]])
    assert (await place.hear())[1:] == [Retrying(1, 250, "stream_truncated"), *whole()]


async def test_retries_are_counted_by_their_reason():
    place = Place([DOWN, [ProviderRateLimited()], DOWN])
    await place.hear()
    body, _ = await place.metrics.render(None)
    assert b'argentor_llm_retries_total{provider="p1",reason="provider_unavailable"} 2.0' in body
    assert b'argentor_llm_retries_total{provider="p1",reason="provider_rate_limited"} 1.0' in body


# --- failover -----------------------------------------------------------------------------------------------------


async def test_the_next_model_answers_when_the_first_cannot():
    place = Place([DOWN] * 2, [], retries=1)
    assert await place.hear() == [
        Retrying(1, 250, "provider_unavailable"),
        Retrying(2, 0, "provider_unavailable"),
        *whole("m2"),
    ]
    assert (place.backend.name, place.backend.model) == ("p1", "m1")
    body, _ = await place.metrics.render(None)
    assert b"argentor_llm_failovers_total 1.0" in body


async def test_another_model_has_another_key():
    place = Place([[ProviderAuth()]], [])
    assert await place.hear() == [Retrying(1, 0, "provider_auth"), *whole("m2")]


@pytest.mark.parametrize("error", [ProviderBadRequest, ContextOverflow, ContentFiltered])
async def test_a_request_at_fault_is_not_asked_elsewhere(error):
    place = Place([[error()]], [])
    await place.hear_until(error)
    assert place.asked == [1, 0]


async def test_a_wait_that_is_too_long_goes_to_the_next_model_or_to_the_caller():
    place = Place([[ProviderRateLimited(retry_after=61)]], [])
    assert await place.hear() == [Retrying(1, 0, "provider_rate_limited"), *whole("m2")]
    place = Place([[ProviderRateLimited(retry_after=61)]])
    await place.hear_until(ProviderRateLimited)
    assert place.error.retry_after == 61


async def test_when_all_fail_the_last_one_s_error_is_told():
    place = Place([[ProviderAuth()]], [DOWN], retries=0)
    assert await place.hear_until(ProviderUnavailable) == [Retrying(1, 0, "provider_auth")]


# --- the time of the whole call -----------------------------------------------------------------------------------


async def test_no_wait_is_begun_that_the_call_has_no_time_for():
    place = Place([[ProviderRateLimited(retry_after=10)]], timeout_s=10.0)
    await place.hear_until(ProviderRateLimited)
    assert place.clock.slept == []


@pytest.mark.parametrize("timeout_s", [None, 1000.0])
async def test_no_wait_is_begun_that_whoever_asked_has_no_time_for(timeout_s):
    place = Place([[ProviderRateLimited(retry_after=10)]] * 2, timeout_s=timeout_s)
    await place.hear_until(ProviderRateLimited, replace(ASKED, deadline=place.clock.at + 10))
    assert place.clock.slept == []
    assert await place.hear(replace(ASKED, deadline=place.clock.at + 11)) == [
        Retrying(1, 10_000, "provider_rate_limited"),
        *whole(),
    ]


@pytest.mark.parametrize(
    ("script", "error"), [([Park()], ProviderUnavailable), ([TextPiece("a"), Park()], StreamTruncated)]
)
async def test_a_call_ends_with_its_time(script, error):
    place = Place([script], timeout_s=0.02)
    place.clock.monotonic = asyncio.get_running_loop().time
    await place.hear_until(error)
    assert place.asked == [1]
    assert place.models[0].streams == 0


# --- breakers -----------------------------------------------------------------------------------------------------


async def test_a_model_that_failed_again_and_again_is_left_alone():
    place = Place([DOWN] * 5, retries=2, failures=3)
    await place.hear_until(ProviderUnavailable)
    assert place.phases == ["open"]
    assert await place.hear_until(ProviderUnavailable) == []
    assert (place.asked, place.error.retry_after) == ([3], 30)
    with pytest.raises(ProviderUnavailable, match="p1/m1"):
        await place.backend.check()


async def test_a_call_that_opens_the_breaker_goes_on_elsewhere_at_once():
    place = Place([DOWN] * 5, [], retries=9, failures=2)
    assert (await place.hear())[:2] == [
        Retrying(1, 250, "provider_unavailable"),
        Retrying(2, 0, "provider_unavailable"),
    ]
    assert place.asked == [2, 1]


async def test_nothing_is_waited_for_that_will_be_left_alone():
    place = Place([DOWN] * 5, retries=9, failures=2)
    assert await place.hear_until(ProviderUnavailable) == [Retrying(1, 250, "provider_unavailable")]
    assert place.clock.slept == [0.25]


async def test_the_next_model_answers_for_one_that_is_left_alone_and_no_retry_is_told():
    place = Place([DOWN], [], retries=0, failures=1)
    await place.hear()
    assert await place.hear() == whole("m2")
    assert place.asked == [1, 2]
    await place.backend.check()


async def test_the_wait_told_is_the_shortest_of_all():
    place = Place([DOWN], [DOWN], retries=0, failures=1)
    await place.hear_until(ProviderUnavailable)
    place.clock.at += 12
    assert place.phases == ["open", "open"]
    await place.hear_until(ProviderUnavailable)
    assert place.error.retry_after == 18


@pytest.mark.parametrize("error", [ProviderBadRequest, ContextOverflow, ContentFiltered])
async def test_a_provider_that_refuses_a_request_works(error):
    place = Place([DOWN, [error()], DOWN], retries=0, failures=2)
    for expected in (ProviderUnavailable, error, ProviderUnavailable):
        await place.hear_until(expected)
    assert place.phases == ["closed"]


@pytest.mark.parametrize("error", [*PROVIDER_ERRORS, ProviderAuth])
@pytest.mark.parametrize("said", [[], [TextPiece("a")]])
async def test_every_failure_of_the_provider_counts(error, said):
    place = Place([[*said, error()]], retries=0, failures=1)
    await place.hear_until(error)
    assert place.phases == ["open"]


async def test_ten_calls_at_once_are_one_request_while_half_open():
    """agent.md 1.10 D15: half-open admits one probe, and the others are told to wait."""
    place = Place([DOWN, [Park(), *answer("ok")]], retries=0, failures=1)
    await place.hear_until(ProviderUnavailable)
    place.clock.at += 30
    tasks = [asyncio.create_task(place.hear()) for _ in range(10)]
    await place.models[0].parked.wait()
    waiting = tasks
    while len(waiting) > 1:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    place.models[0].release.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert place.asked == [2]
    assert sorted(type(each).__name__ for each in done) == ["ProviderUnavailable"] * 9 + ["list"]
    assert place.phases == ["closed"]
    body, _ = await place.metrics.render(None)
    assert b"argentor_llm_breaker_rejected_total 9.0" in body


async def test_a_probe_that_is_cancelled_frees_its_place():
    place = Place([DOWN, [Park()]], retries=0, failures=1)
    await place.hear_until(ProviderUnavailable)
    place.clock.at += 30
    task = asyncio.create_task(place.hear())
    await place.models[0].parked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (place.phases, place.models[0].streams) == (["half_open"], 0)
    assert await place.hear() == whole()
    assert place.phases == ["closed"]


async def test_a_probe_whose_reader_goes_before_a_word_frees_its_place():
    place = Place([DOWN, [UsageReport(USAGE), Park()]], retries=0, failures=1)
    await place.hear_until(ProviderUnavailable)
    place.clock.at += 30
    stream = place.backend.stream(ASKED)
    await anext(stream)
    await stream.aclose()
    assert (place.phases, place.models[0].streams) == (["half_open"], 0)
    assert await place.hear() == whole()


async def test_a_probe_that_is_being_answered_lets_the_others_in():
    place = Place([DOWN, [TextPiece("a"), Park(), ProviderUnavailable()]], retries=0, failures=1)
    await place.hear_until(ProviderUnavailable)
    place.clock.at += 30
    stream = place.backend.stream(ASKED)
    await anext(stream)
    assert place.phases == ["closed"]
    assert await place.hear() == whole()
    await stream.aclose()
    assert place.phases == ["closed"]


async def test_a_stream_that_cannot_be_closed_is_let_go():
    class Plain:
        def __init__(self):
            self.left = iter(answer("ok"))

        def __aiter__(self):
            return self

        async def __anext__(self):
            return next(self.left)

    place = Place([])
    place.models[0].stream = lambda _request: Plain()
    assert await place.hear() == whole()


async def test_a_bug_in_a_backend_is_no_failure_of_the_provider_and_is_not_hidden():
    place = Place([[ValueError("bug")]], failures=1)
    await place.hear_until(ValueError)
    assert place.phases == ["closed"]


async def test_the_state_of_each_breaker_is_published():
    place = Place([DOWN], [], retries=0, failures=1)
    await place.hear()
    body, _ = await place.metrics.render(None)
    assert b'argentor_llm_breaker_state{model="m1",provider="p1"} 2.0' in body
    assert b'argentor_llm_breaker_state{model="m2",provider="p2"} 0.0' in body
    place.clock.at += 30
    body, _ = await place.metrics.render(None)
    assert b'argentor_llm_breaker_state{model="m1",provider="p1"} 1.0' in body


async def test_a_model_in_two_places_shows_the_worse_one():
    place = Place([DOWN], [], retries=0, failures=1)
    place.models[1].name, place.models[1].model = "p1", "m1"
    await place.hear()
    assert place.backend.states()["argentor_llm_breaker_state"] == {("p1", "m1"): 2}


async def test_what_opens_and_closes_is_logged_once(caplog):
    caplog.set_level("INFO", logger="argentor.models")
    place = Place([DOWN, DOWN], retries=0, failures=2)
    for _ in range(3):
        await place.hear_until(ProviderUnavailable)
    place.clock.at += 30
    await place.hear()
    assert [record.getMessage() for record in caplog.records] == [
        "p1/m1 failed again and again and is left alone for 30 s",
        "p1/m1 answers again",
    ]


async def test_closing_closes_every_model_even_behind_one_that_fails(caplog):
    place = Place([], [])
    first = place.models[0]

    async def fail():
        raise OSError("stuck")

    first.aclose = fail
    await place.backend.aclose()
    assert place.models[1].is_closed
    assert "stuck" in caplog.text


# --- any scripts --------------------------------------------------------------------------------------------------

STEPS = st.sampled_from(
    [TextPiece("a"), TextPiece(""), UsageReport(USAGE), Finish("stop"), *(error() for error in PROVIDER_ERRORS)]
)


@settings(max_examples=60)
@given(st.lists(st.lists(st.lists(STEPS, max_size=4), max_size=4), min_size=1, max_size=3), st.integers(0, 2))
def test_no_answer_is_spliced_from_two(scripts, retries):
    """A retry comes before anything is said, a `Finish` comes once and last, and without one an error ends it."""

    async def heard():
        place, events = Place(*scripts, retries=retries), []
        try:
            async for event in place.backend.stream(ASKED):
                events.append(event)  # noqa: PERF401  what came before the error is wanted
        except tuple(PROVIDER_ERRORS):
            events.append(None)
        return events

    events = asyncio.run(heard())
    spoken = [isinstance(event, TextPiece) and bool(event.text) for event in events]
    first = spoken.index(True) if True in spoken else len(events)
    assert not any(isinstance(event, Retrying) for event in events[first:])
    assert [isinstance(event, Finish) or event is None for event in events] == [False] * (len(events) - 1) + [True]

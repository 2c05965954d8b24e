"""`argentor_asgi.agent.resilience.retry`: what follows a failure, for every error and every wait."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.resilience.retry import (
    DELAY_MS,
    PASSING,
    PROVIDER_FAILURES,
    RETRY_AFTER_S,
    Again,
    Elsewhere,
    GiveUp,
    after,
    jittered_ms,
)
from argentor_asgi.errors import (
    ProviderAuth,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
    every_error,
)

DRAWS = st.floats(min_value=0, max_value=1, exclude_max=True)


def step(error, *, tries=1, retries=3, draw=0.5, left_s=None):
    return after(error, tries=tries, retries=retries, draw=draw, left_s=left_s)


@pytest.mark.parametrize("error", list(every_error()))
def test_the_class_of_an_error_decides_and_never_its_words(error):
    """agent.md 1.10 D16: no word in a message makes it retried, or keeps it from being."""
    kinds = {type(step(error(words))) for words in (None, "400", "401 timeout", "429", "500 bad gateway", "")}
    assert kinds == {Again if error in PASSING else Elsewhere if error is ProviderAuth else GiveUp}


def test_failures_of_the_provider_are_these():
    assert set(PROVIDER_FAILURES) == {ProviderUnavailable, ProviderRateLimited, StreamTruncated, ProviderAuth}


@given(st.integers(1, 12), st.integers(0, 10))
def test_a_model_is_asked_once_and_its_retries(tries, retries):
    assert isinstance(step(ProviderUnavailable(), tries=tries, retries=retries), Again) == (tries <= retries)


@given(st.integers(1, 100), DRAWS)
def test_a_delay_is_within_what_doubles_up_to_the_cap(tries, draw):
    assert 0 <= jittered_ms(tries, draw) <= min(500 * 2 ** (tries - 1), DELAY_MS)


@given(st.integers(1, 10))
def test_jitter_is_full(tries):
    most = min(500 * 2 ** (tries - 1), DELAY_MS)
    assert jittered_ms(tries, 0.0) == 0
    assert jittered_ms(tries, 0.5) == most // 2
    assert jittered_ms(tries, 0.999_999) == pytest.approx(most, abs=1)


@settings(max_examples=50)
@given(st.integers(1, 3), DRAWS, st.integers(1, RETRY_AFTER_S))
def test_a_provider_s_own_wait_is_the_least(tries, draw, told_s):
    found = step(ProviderRateLimited(retry_after=told_s), tries=tries, draw=draw)
    assert found == Again(max(told_s * 1000, jittered_ms(tries, draw)))


def test_a_first_retry_waits_exactly_as_long_as_told():
    assert step(ProviderRateLimited(retry_after=1), draw=0.999) == Again(1000)


def test_a_provider_that_wants_to_be_left_alone_for_long_is_not_waited_for():
    assert step(ProviderRateLimited(retry_after=RETRY_AFTER_S)) == Again(RETRY_AFTER_S * 1000)
    assert step(ProviderRateLimited(retry_after=RETRY_AFTER_S + 1)) == Elsewhere()


def test_a_wait_that_the_call_has_no_time_for_is_not_begun():
    assert step(ProviderRateLimited(retry_after=2), left_s=2.1) == Again(2000)
    assert step(ProviderRateLimited(retry_after=2), left_s=2.0) == Elsewhere()
    assert step(ProviderUnavailable(), left_s=0.0) == GiveUp()


@given(DRAWS, st.floats(min_value=-10, max_value=100), st.none() | st.integers(1, 100))
def test_no_delay_reaches_the_end_of_the_call(draw, left_s, told_s):
    found = step(ProviderUnavailable(retry_after=told_s), draw=draw, left_s=left_s)
    assert not isinstance(found, Again) or found.delay_ms < left_s * 1000


def test_a_wait_that_is_told_in_ms_is_kept_to_the_ms():
    error = ProviderRateLimited(retry_after=1)
    error.wait_ms = 20
    assert after(error, tries=1, retries=3, draw=0.0, left_s=None) == Again(20)

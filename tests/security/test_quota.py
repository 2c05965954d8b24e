"""`argentor_asgi.security.quota`: no more than the burst and what time gives back, and no promise is broken."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.security.quota import (
    HALF_TICK_S,
    TICK_S,
    after,
    fresh,
    is_fresh,
    left,
    rate,
    rescaled,
    spent,
    wait_s,
)

RATES = st.builds(rate, st.integers(1, 10**6), st.sampled_from([1, 60, 3600]), st.none() | st.integers(1, 10**6))
SMALL_RATES = st.builds(rate, st.integers(1, 40), st.sampled_from([1, 60, 3600]), st.none() | st.integers(1, 40))
MOMENTS = st.floats(0, 2.0**29)
STEPS = st.lists(st.floats(0, 200), max_size=120)


def times(begin, steps):
    found = [begin]
    for step in steps:
        found.append(found[-1] + step)
    return found


def admitted(moments, limit):
    """Return the moments at which a call is admitted."""
    at, found = fresh(moments[0], limit), []
    for now in moments:
        if at <= now:
            at = after(at, now, limit)
            found.append(now)
    return found


@given(RATES)
def test_a_gap_is_a_whole_number_of_ticks(limit):
    assert (limit.gap_s / TICK_S).is_integer()
    assert limit.gap_s >= TICK_S


@given(st.integers(1, 10**9), st.sampled_from([1, 60, 3600]))
def test_no_rate_is_faster_than_its_numbers(calls, window_s):
    limit = rate(calls, window_s)
    exact = Fraction(window_s, calls)
    assert exact <= Fraction(limit.gap_s) < exact + Fraction(TICK_S)
    assert (limit.burst, limit.window_s) == (calls, window_s)


def test_a_rate_with_a_burst_of_its_own_says_how_long_that_takes_to_come_back():
    assert (rate(1000, 1, 2500).burst, rate(1000, 1, 2500).window_s) == (2500, 3)


def test_a_rate_of_none_has_the_numbers_of_one():
    assert rate(0, 60) == rate(1, 60)


@settings(max_examples=60)
@given(SMALL_RATES, MOMENTS, STEPS)
def test_in_any_window_no_more_than_the_burst_and_what_the_time_gives_back(limit, begin, steps):
    calls = admitted(times(begin, steps), limit)
    for first, start in enumerate(calls):
        for count, end in enumerate(calls[first:], 1):
            assert count <= limit.burst + (Fraction(end) - Fraction(start) + Fraction(TICK_S)) / Fraction(limit.gap_s)


@settings(max_examples=60)
@given(SMALL_RATES, MOMENTS, STEPS)
def test_it_admits_what_an_exact_token_bucket_admits_and_at_most_a_tick_earlier(limit, begin, steps):
    at, tokens, gap = fresh(begin, limit), Fraction(limit.burst), Fraction(limit.gap_s)
    moments = times(begin, steps)
    for before, now in pairwise([begin, *moments]):
        tokens = min(Fraction(limit.burst), tokens + (Fraction(now) - Fraction(before)) / gap)
        if tokens >= 1:
            assert at <= now
        if at <= now:
            assert tokens >= 1 - Fraction(TICK_S) / gap
            at, tokens = after(at, now, limit), tokens - 1


@given(RATES, MOMENTS)
def test_who_has_used_nothing_may_use_the_whole_burst(limit, now):
    at = fresh(now, limit)
    assert (left(at, now, limit), spent(at, now, limit), is_fresh(at, now, limit)) == (limit.burst, 0, True)
    assert not is_fresh(after(at, now, limit), now, limit)


@given(SMALL_RATES, MOMENTS, st.integers(0, 60), st.floats(0, 100))
def test_what_is_left_is_what_is_admitted(limit, begin, used, later):
    at, now = fresh(begin, limit), begin + later
    for _ in range(min(used, limit.burst)):
        at = after(at, begin, limit)
    promised = left(at, now, limit)
    for _ in range(promised):
        assert at <= now
        at = after(at, now, limit)
    assert at > now
    assert left(at, now, limit) == 0


@given(RATES, MOMENTS, st.integers(1, 50))
def test_at_the_promised_second_a_call_is_admitted_and_no_whole_second_before(limit, now, more):
    at = fresh(now, limit) + limit.slack_s
    for _ in range(more):
        at = after(at, now, limit)
    wait = wait_s(at, now)
    assert wait >= 1
    assert at <= now + wait
    if wait > 1:
        assert at > now + wait - 1 - TICK_S


@pytest.mark.parametrize("calls", [1, 7, 60, 100, 1000])
def test_after_each_wait_one_call_is_admitted_for_ever(calls):
    limit, now = rate(calls, 60), 12345.678
    at = fresh(now, limit)
    for _ in range(3 * calls):
        if at > now:
            now += wait_s(at, now)
        assert at <= now
        at = after(at, now, limit)


@given(SMALL_RATES, SMALL_RATES, MOMENTS, st.integers(0, 40))
def test_what_was_spent_stays_spent_under_another_rate(before, limit, now, used):
    at = fresh(now, before)
    for _ in range(used):
        at = after(at, now, before)
    other = rescaled(at, now, before, limit)
    assert spent(other, now, limit) == pytest.approx(used, abs=HALF_TICK_S * 50 / min(before.gap_s, limit.gap_s))
    assert abs(left(other, now, limit) - max(0, limit.burst - used)) <= 1


def test_fifty_of_a_hundred_at_fifty_a_minute_and_ninety_left_after_ten_of_a_hundred():
    assert len(admitted([5.0] * 100, rate(50, 60))) == 50
    limit = rate(100, 60)
    at = fresh(5.0, limit)
    for _ in range(10):
        at = after(at, 5.0, limit)
    assert left(at, 5.0, limit) == 90

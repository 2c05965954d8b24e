"""`argentor_asgi.security.throttle`: guessing is slow, slips cost nothing, and who guesses fills no memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.errors import TooManyFailures
from argentor_asgi.security.throttle import ADDRESSES, BURST, GAP_S, OTHERS, Throttle

HOME = "203.0.113.9"


def made():
    told = []
    return Throttle(told.append), told


def wait(throttle, address, now):
    """Return how long the address has to wait, 0 when it is not refused."""
    try:
        throttle.refuse_if_throttled(address, now)
    except TooManyFailures as refused:
        return refused.retry_after
    return 0


def is_refused(throttle, address, now):
    """Say whether the address is refused, and check that it is not when it comes back as told."""
    told = wait(throttle, address, now)
    assert told == 0 or wait(throttle, address, now + told) == 0
    return told > 0


def test_ten_failures_are_free_and_then_one_every_six_seconds():
    throttle, told = made()
    now = 1000.0
    for _ in range(BURST):
        assert not is_refused(throttle, HOME, now)
        throttle.failed(HOME, now)
    with pytest.raises(TooManyFailures) as refused:
        throttle.refuse_if_throttled(HOME, now)
    assert (refused.value.retry_after, refused.value.status) == (GAP_S, 429)
    for _ in range(5):
        now += GAP_S
        assert not is_refused(throttle, HOME, now)
        throttle.failed(HOME, now)
        assert is_refused(throttle, HOME, now)
    assert told == [HOME] * 6
    assert not is_refused(throttle, "203.0.113.10", now)
    throttle.sweep(now + BURST * GAP_S)
    assert len(throttle) == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([HOME, "::1", None]), st.floats(0, 30)), max_size=80))
def test_in_any_time_no_more_guesses_are_looked_at_than_the_burst_and_one_every_gap(tries):
    throttle, _ = made()
    now, looked = 0.0, {}
    for address, later in tries:
        now += later
        if not is_refused(throttle, address, now):
            throttle.failed(address, now)
            looked.setdefault(address, []).append(now)
    for guesses in looked.values():
        for first, start in enumerate(guesses):
            for count, end in enumerate(guesses[first:], 1):
                assert count <= BURST + (end - start + 1e-5) / GAP_S


def test_it_is_told_once_each_time_that_an_address_begins_to_be_refused():
    throttle, told = made()
    for _ in range(BURST + 20):
        throttle.failed(HOME, 0.0)
    assert told == [HOME]
    assert not is_refused(throttle, HOME, float(GAP_S)), "failing while refused prolongs nothing"


def test_an_ipv6_customer_and_a_unix_socket_are_one_address_each():
    throttle, told = made()
    for number in range(BURST):
        throttle.failed(f"2001:db8::{number}", 0.0)
        throttle.failed(None, 0.0)
    assert is_refused(throttle, "2001:db8::ffff", 0.0)
    assert is_refused(throttle, None, 0.0)
    assert told == ["2001:db8::/64", "unix"]


def test_who_has_not_failed_is_not_refused_and_costs_no_memory():
    throttle, _ = made()
    throttle.failed(HOME, 0.0)
    for number in range(100):
        assert not is_refused(throttle, f"10.0.0.{number}", 0.0)
    assert len(throttle) == 1


def test_no_more_addresses_are_told_apart_than_the_bound_and_the_rest_are_one():
    throttle, told = made()
    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(ADDRESSES + BURST)]
    for address in addresses:
        throttle.failed(address, 0.0)
    assert (len(throttle), told) == (ADDRESSES + 1, [OTHERS])
    assert is_refused(throttle, "192.0.2.1", 0.0)
    assert not is_refused(throttle, addresses[0], 0.0)
    throttle.failed("192.0.2.1", 60.0)
    assert len(throttle) == 1, "those that are as new made room"


def test_a_full_map_is_swept_for_newcomers_not_more_often_than_each_second():
    throttle, _ = made()
    for number in range(ADDRESSES):
        throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    throttle.sweep(5.5)
    throttle.failed("192.0.2.1", 6.0)
    assert len(throttle) == ADDRESSES + 1
    throttle.failed("192.0.2.2", 6.5)
    assert len(throttle) == 2


@pytest.mark.slow
def test_a_hundred_thousand_addresses_leave_it_bounded():
    throttle, told = made()
    for number in range(100_000):
        throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", number / 10_000)
    assert len(throttle) <= ADDRESSES + 1
    assert set(told) == {OTHERS}

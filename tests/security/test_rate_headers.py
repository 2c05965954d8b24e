"""`argentor_asgi.security.rate_headers`: what an answer says is true, complete, and can be parsed."""

from math import ceil

import pytest
from callers import FEW, MIDNIGHT, Desk
from hypothesis import given, settings
from hypothesis import strategies as st
from structured_fields import items

from argentor_asgi.security.quota import left
from argentor_asgi.security.rate_headers import RESETS

NAMES = (
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"ratelimit",
    b"ratelimit-policy",
)
POLICY = [("minute", {"q": 5, "w": 60}), ("hour", {"q": 8, "w": 3600})]


def whole(desk: Desk) -> int:
    return ceil(desk.wall.timestamp())


def test_an_answer_says_where_the_minute_stands_and_which_rate_is_tightest():
    desk = Desk()
    account = desk.account(FEW)
    desk.ask(account, 2)
    fields = desk.limiter.fields(account)
    assert tuple(name for name, _ in fields) == NAMES
    assert [value for _, value in fields] == [
        b"5",
        b"3",
        b"%d" % (whole(desk) + 24),
        b'"minute";r=3;t=24',
        b'"minute";q=5;w=60, "hour";q=8;w=3600',
    ]


def test_the_hour_is_told_when_less_is_left_of_it():
    desk = Desk()
    account = desk.account(FEW)
    desk.ask(account, 5)
    desk.wait(60)
    desk.ask(account, 2)
    fields = dict(desk.limiter.fields(account))
    assert fields[b"x-ratelimit-remaining"] == b"3"
    assert items(fields[b"ratelimit"]) == [("hour", {"r": 1, "t": 7 * 450 - 60})]


def test_with_nothing_left_it_tells_when_the_next_is_admitted():
    desk = Desk()
    account = desk.account(FEW)
    desk.ask(account, 5)
    fields = dict(desk.limiter.fields(account))
    assert items(fields[b"ratelimit"]) == [("minute", {"r": 0, "t": 12})]
    assert desk.refusal(account).retry_after == 12


@settings(max_examples=60)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 100)), max_size=8),
)
def test_the_headers_agree_with_the_account_and_can_be_parsed(per_minute, per_hour, calls):
    desk = Desk(requests_per_minute=per_minute, requests_per_hour=per_hour, requests_per_second=10**6, burst=10**6)
    account = desk.account()
    for times, later in calls:
        desk.wait(later)
        desk.ask(account, times)
    fields = dict(desk.limiter.fields(account))
    assert all(value.isascii() and name == name.lower() for name, value in fields.items())
    own = account.numbers
    of_minute, of_hour = left(account.minute_at, desk.mono, own.minute), left(account.hour_at, desk.mono, own.hour)
    assert int(fields[b"x-ratelimit-limit"]) == per_minute
    assert int(fields[b"x-ratelimit-remaining"]) == of_minute
    assert 0 <= int(fields[b"x-ratelimit-reset"]) - desk.wall.timestamp() <= 61
    is_hour_last = of_hour == 0 and account.hour_at > account.minute_at
    [(policy, told)] = items(fields[b"ratelimit"])
    assert (policy, told["r"]) == (("hour", of_hour) if of_hour < of_minute or is_hour_last else ("minute", of_minute))
    assert 0 <= told["t"] <= (3601 if policy == "hour" else 61)
    assert [name for name, _ in items(fields[b"ratelimit-policy"])] == ["minute", "hour"]
    before = told["t"]
    desk.wait(before)
    [(policy, told)] = items(dict(desk.limiter.fields(account))[b"ratelimit"])
    assert told["r"] > 0, "after t there is something, whichever rate it is"


@pytest.mark.parametrize("why", ["minute", "hour", "day", "gateway"])
def test_a_refusal_has_every_header_with_nothing_remaining_and_names_the_limit(why):
    desk = Desk(requests_per_second=1, burst=8)
    account = desk.account(FEW)
    if why == "minute":
        desk.ask(account, 5)
    elif why == "hour":
        desk.ask(account, 5)
        desk.wait(60)
        desk.ask(account, 3)
    elif why == "day":
        account.use(100, account.day)
    else:
        desk.ask(desk.account(), 8)
    error = desk.refusal(account)
    fields = dict(error.headers)
    assert tuple(name for name, _ in error.headers) == NAMES
    assert (fields[b"x-ratelimit-limit"], fields[b"x-ratelimit-remaining"]) == (b"5", b"0")
    assert int(fields[b"x-ratelimit-reset"]) == whole(desk) + error.retry_after
    assert items(fields[b"ratelimit"]) == [(why, {"r": 0, "t": error.retry_after})]
    extra = {"minute": [], "hour": [], "gateway": [("gateway", {"q": 8, "w": 8})]}
    extra["day"] = [("day", {"q": 100, "w": 86_400, "qu": "tokens"})]
    assert items(fields[b"ratelimit-policy"]) == [*POLICY, *extra[why]]
    assert error.members == {"violated-policies": [why]}


def test_the_wall_clock_is_looked_at_again_after_a_second():
    desk = Desk()
    account = desk.account(FEW)
    desk.ask(account)
    assert int(dict(desk.limiter.fields(account))[b"x-ratelimit-reset"]) == whole(desk) + 12
    desk.wall = MIDNIGHT
    desk.mono += 1
    assert int(dict(desk.limiter.fields(account))[b"x-ratelimit-reset"]) == whole(desk) + 11


def test_ready_made_resets_are_bounded():
    desk = Desk(requests_per_second=10**6, burst=10**6)
    account = desk.account(FEW)
    for _ in range(3 * RESETS):
        desk.wait(12)
        desk.ask(account)
        desk.limiter.fields(account)
    assert 0 < len(desk.limiter._fields._resets) <= RESETS


def test_numbers_beyond_the_tables_are_written_too():
    desk = Desk(requests_per_minute=5000, requests_per_hour=5000, requests_per_second=10**6, burst=10**6)
    account = desk.account()
    desk.ask(account)
    fields = dict(desk.limiter.fields(account))
    assert (fields[b"x-ratelimit-remaining"], fields[b"ratelimit"]) == (b"4999", b'"minute";r=4999;t=1')
    desk.mono += 10_000
    assert dict(desk.limiter.fields(account))[b"ratelimit"] == b'"minute";r=5000;t=0'


@pytest.mark.parametrize("bad", [b"", b'"a', b"a,", b'"a";q=', b'"a";Q=1', b'"a" "b"', b'"a";q=1.5x', b",a"])
def test_the_reader_of_these_tests_is_strict(bad):
    with pytest.raises(ValueError, match="no "):
        items(bad)


def test_the_reader_of_these_tests_reads():
    assert items(b'"a;,";q=10; w=-1;x , tok;b=?1') == [("a;,", {"q": 10, "w": -1, "x": True}), ("tok", {"b": True})]

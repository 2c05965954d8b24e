"""`argentor_asgi.security.limits`: who gets how much, what is said to those who get no more, and what is kept."""

from datetime import timedelta

import pytest
from callers import FEW, ME, MIDNIGHT, NOON, PLANS, YOU, Desk
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.config import Limits, Plan
from argentor_asgi.errors import Forbidden, GatewayError, Overloaded, RateLimited
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.limits import ANONYMOUS_ACCOUNTS, RESERVED_S, Limiter

DAY_S = 86_400


def state(account):
    return {name: getattr(account, name) for name in type(account).__slots__ if name != "principal"}


# --- requests ----------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_original():
    own = Desk().account().numbers
    assert (own.requests_per_minute, own.requests_per_hour, own.tokens_per_day) == (60, 1000, 1_000_000)


def test_five_a_minute_admits_five_and_refuses_the_sixth_until_there_is_room():
    desk = Desk()
    account = desk.account(FEW)
    assert desk.ask(account, 6) == 5
    error = desk.refusal(account)
    assert (error.message, error.code) == ("requests per minute limit exceeded", "rate_limit_exceeded")
    assert 1 <= error.retry_after <= 60
    assert desk.rejected == [("minute", "default/few")] * 2
    desk.wait(61)
    assert desk.ask(account) == 1


def test_of_a_hundred_at_fifty_a_minute_fifty_are_admitted():
    desk = Desk(requests_per_minute=50)
    assert desk.ask(desk.account(), 100) == 50


def test_after_ten_of_a_hundred_ninety_are_left():
    desk = Desk(requests_per_minute=100)
    account = desk.account()
    desk.ask(account, 10)
    assert dict(desk.limiter.fields(account))[b"x-ratelimit-remaining"] == b"90"
    assert desk.limiter.stats(account).minute == 10


def test_the_hour_is_counted_besides_the_minute():
    desk = Desk()
    account = desk.account(FEW)
    assert desk.ask(account, 5) == 5
    desk.wait(60)
    assert desk.ask(account, 5) == 3
    assert desk.refusal(account).message == "requests per hour limit exceeded"


def test_callers_do_not_take_from_each_other():
    desk = Desk(requests_per_minute=2)
    assert desk.ask(desk.account(ME), 5) == 2
    for other in (desk.account(YOU), desk.account(Principal("me", "acme")), desk.stranger("10.0.0.1")):
        assert desk.ask(other, 5) == 2
    assert desk.ask(desk.stranger("10.0.0.2"), 5) == 2


def test_the_gateway_as_a_whole_has_a_rate_of_its_own():
    desk = Desk(requests_per_second=10, burst=3)
    assert desk.ask(desk.account(ME), 2) == 2
    assert desk.ask(desk.account(YOU), 2) == 1
    error = desk.refusal(desk.account(ME))
    assert (error.message, error.retry_after) == ("gateway request limit exceeded", 1)
    assert error.members == {"violated-policies": ["gateway"]}
    desk.wait(0.1)
    assert desk.ask(desk.account(ME), 2) == 1


def test_who_is_over_several_limits_hears_of_the_first_and_waits_for_the_last():
    desk = Desk(requests_per_second=1, burst=8)
    account = desk.account(FEW)
    desk.ask(account, 5)
    desk.wait(60)
    desk.ask(account, 3)
    desk.mono += 1.0
    account.minute_at = desk.mono + 7
    desk.limiter._at = desk.mono + 3
    account.use(100, account.day)
    error = desk.refusal(account)
    assert error.message == "requests per minute limit exceeded"
    assert error.members == {"violated-policies": ["minute", "hour", "day", "gateway"]}
    assert error.retry_after == int((MIDNIGHT - desk.wall).total_seconds())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 400)), max_size=60))
def test_a_request_costs_all_or_nothing_and_comes_in_at_the_promised_second(calls):
    desk = Desk(requests_per_second=1, burst=4, requests_per_minute=5, requests_per_hour=30)
    accounts = [desk.account(ME), desk.account(YOU), desk.account(FEW)]
    for who, later in calls:
        desk.wait(later if later > 200 else 0)
        before = [state(account) for account in accounts], desk.limiter._at
        if refused := desk.tried(accounts[who]):
            assert ([state(account) for account in accounts], desk.limiter._at) == before
            assert refused.retry_after >= 1
            desk.wait(refused.retry_after)
            desk.limiter.take(accounts[who])


def test_the_time_may_be_read_by_the_caller():
    desk = Desk(requests_per_minute=1)
    account = desk.account()
    desk.limiter.take(account, 2000.0)
    with pytest.raises(RateLimited) as refused:
        desk.limiter.take(account, 2059.5)
    assert refused.value.retry_after == 1
    desk.limiter.take(account, 2060.0)
    assert desk.limiter.stats(account, 2060.0).minute == 1
    assert dict(desk.limiter.fields(account, 2060.0))[b"x-ratelimit-remaining"] == b"0"
    assert dict(desk.limiter.fields(account, 2060.5))[b"x-ratelimit-remaining"] == b"0"


@pytest.mark.parametrize("who", [ME, FEW])
def test_a_time_that_was_read_before_the_account_was_opened_finds_all_of_it(who):
    desk = Desk(requests_per_minute=1, plans={"few": Plan(requests_per_minute=1)})
    now = desk.mono
    desk.wait(0.001)
    account = desk.account(who)
    desk.limiter.take(account, now)
    assert desk.limiter.fields(account, now)[1] == (b"x-ratelimit-remaining", b"0")
    assert desk.refusal(account).retry_after == 60


@pytest.mark.parametrize("plan", ["requests_per_minute", "requests_per_hour", "tokens_per_day"])
def test_a_quota_of_none_is_a_refusal_that_no_waiting_changes(plan):
    desk = Desk(**{plan: 0})
    account = desk.account()
    for call in (lambda: desk.limiter.take(account), lambda: desk.limiter.reserve(account, 1)):
        with pytest.raises(Forbidden) as refused:
            call()
        assert refused.value.retry_after is None
    desk.wait(DAY_S)
    with pytest.raises(Forbidden):
        desk.limiter.take(account)
    assert desk.rejected == [("plan", "default/me")] * 3


def test_nothing_is_limited_or_told_until_it_is_switched_on():
    desk = Desk(enabled=False, requests_per_minute=1, runs_per_principal=1, tokens_per_day=1)
    account = desk.account()
    assert (desk.ask(account, 5), desk.limiter.fields(account)) == (5, ())
    first, second = [desk.limiter.grant_run(account, 1000) for _ in range(2)]
    desk.limiter.enabled = True
    assert desk.ask(account, 5) == 1
    with pytest.raises(Overloaded):
        desk.limiter.grant_run(account, 1)
    first.end(1)
    second.end(0)
    assert desk.refusal(account).members == {"violated-policies": ["minute", "day"]}


# --- plans -------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_it_has_and_the_limits_say_the_rest():
    desk = Desk(requests_per_minute=7, runs_per_principal=3)
    own = desk.account(Principal("me", plan="half")).numbers
    assert (own.requests_per_minute, own.runs, own.tokens_per_day) == (30, 3, 1_000_000)


def test_a_plan_that_nobody_configured_is_the_default_one(caplog):
    desk = Desk()
    assert desk.account(Principal("me", plan="gone")).numbers == desk.account(YOU).numbers
    assert "'gone' of default/me is not configured" in caplog.text


def test_a_key_of_another_plan_has_its_numbers_and_what_was_used_stays_used():
    desk = Desk(requests_per_minute=60)
    account = desk.account(ME)
    desk.ask(account, 20)
    richer = desk.account(Principal("me", plan="half"))
    assert richer is account
    assert desk.limiter.stats(account).minute == 20
    assert desk.ask(account, 60) == 10
    barred = desk.account(Principal("me", plan="none"))
    with pytest.raises(Forbidden):
        desk.limiter.take(barred)
    assert desk.ask(desk.account(ME), 60) in {29, 30, 31}


def test_a_rotated_key_is_the_same_caller():
    desk = Desk(requests_per_minute=3)
    desk.ask(desk.account(ME), 2)
    rotated = Principal("me", key_id="new")
    assert desk.ask(desk.account(rotated), 5) == 1
    assert desk.account(rotated).principal is rotated


# --- what is kept ------------------------------------------------------------------------------------------------


def test_an_account_with_nothing_used_is_forgotten_and_one_with_tokens_of_today_is_not():
    desk = Desk()
    idle, busy, anonymous = desk.account(ME), desk.account(YOU), desk.stranger("10.0.0.1")
    for account in (idle, busy, anonymous):
        desk.ask(account)
    busy.use(5, busy.day)
    desk.limiter.sweep(desk.mono)
    assert (desk.account(ME), desk.account(YOU), desk.stranger("10.0.0.1")) == (idle, busy, anonymous)
    desk.wait(3600)
    desk.limiter.sweep(desk.mono)
    assert desk.account(ME) is not idle
    assert desk.account(YOU) is busy
    assert desk.stranger("10.0.0.1") is not anonymous
    desk.wait(DAY_S)
    desk.limiter.sweep(desk.mono)
    assert desk.account(YOU) is not busy


@pytest.mark.parametrize("kind", ["run", "stream", "connection"])
def test_an_account_that_holds_something_is_not_forgotten(kind):
    desk = Desk()
    account = desk.account()
    with getattr(desk.limiter, f"hold_{kind}")(account):
        desk.wait(2 * DAY_S)
        desk.limiter.sweep(desk.mono)
        assert desk.account() is account
    desk.limiter.sweep(desk.mono)
    assert desk.account() is not account


@pytest.mark.slow
def test_a_hundred_thousand_addresses_are_as_many_accounts_as_the_bound_and_share_one_beyond():
    desk = Desk(requests_per_minute=1, requests_per_second=10**6, burst=10**6)
    mine = desk.stranger("192.0.2.1")
    desk.ask(mine)
    newcomers = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(100_000)]
    accounts = []
    for address in newcomers:
        accounts.append(desk.stranger(address))
        desk.ask(accounts[-1])
    assert len(desk.limiter._strangers) == ANONYMOUS_ACCOUNTS
    assert {account.key for account in accounts[ANONYMOUS_ACCOUNTS:]} == {"others"}
    assert desk.ask(desk.stranger("10.200.0.1")) == 0
    assert desk.stranger("192.0.2.1") is mine
    desk.wait(3600)
    assert desk.stranger("10.9.9.9").key == "10.9.9.9"
    assert len(desk.limiter._strangers) == 1


def test_principals_beyond_the_bound_share_one_account_of_the_common_limits():
    desk = Desk()
    desk.limiter._known._limit = 1
    mine = desk.account(ME)
    desk.ask(mine)
    shared = desk.account(FEW)
    assert (shared.key, shared.numbers, shared.principal) == ("others", mine.numbers, ANONYMOUS)
    assert desk.account(YOU) is shared
    assert desk.account(ME) is mine


def test_an_ipv6_customer_is_one_caller_whatever_addresses_they_take():
    desk = Desk()
    assert desk.stranger("2001:db8:1:2::1") is desk.stranger("2001:db8:1:2:ffff::9")
    assert desk.stranger("2001:db8:1:2::1") is not desk.stranger("2001:db8:1:3::1")
    assert desk.stranger("::ffff:10.0.0.1") is desk.stranger("10.0.0.1")
    assert desk.stranger(None).key == "unix"


def test_a_known_caller_is_one_wherever_they_come_from():
    desk = Desk()
    assert desk.account(ME, "10.0.0.1") is desk.account(ME, "10.0.0.2")
    assert desk.account(ME).key == "default/me"


def test_a_principal_named_like_the_anonymous_one_is_known_all_the_same():
    desk = Desk()
    named = Principal("anonymous")
    assert desk.account(named, "10.0.0.1") is desk.account(named, "10.0.0.2")
    assert desk.account(named).key == "default/anonymous"


# --- tokens ------------------------------------------------------------------------------------------------------


def test_a_run_sets_tokens_aside_and_settles_what_it_used_once():
    desk = Desk()
    account = desk.account(FEW)
    reservation = desk.limiter.reserve(account, 60)
    assert desk.limiter.stats(account).reserved == 60
    for _ in range(2):
        reservation.settle(25)
    standing = desk.limiter.stats(account)
    assert (standing.tokens_today, standing.reserved) == (25, 0)


def test_a_reservation_takes_no_more_than_is_left_and_nothing_when_nothing_is():
    desk = Desk()
    account = desk.account(FEW)
    first = desk.limiter.reserve(account, 60)
    second = desk.limiter.reserve(account, 60)
    assert account.reserved == 100
    with pytest.raises(RateLimited) as refused:
        desk.limiter.reserve(account, 1)
    assert (refused.value.message, refused.value.retry_after) == ("daily token quota exceeded", RESERVED_S)
    assert desk.ask(account) == 1, "what is set aside keeps nobody from asking for something else"
    first.settle()
    second.settle(10)
    desk.limiter.reserve(account, 1)


def test_used_up_tokens_refuse_requests_until_the_utc_midnight():
    desk = Desk()
    account = desk.account(FEW)
    desk.limiter.reserve(account, 60).settle(100)
    for call in (lambda: desk.limiter.take(account), lambda: desk.limiter.reserve(account, 1)):
        with pytest.raises(RateLimited, match="daily token quota exceeded") as refused:
            call()
        assert refused.value.retry_after == DAY_S / 2
    desk.wait(DAY_S / 2 - 0.5)
    assert desk.refusal(account).retry_after == 1
    desk.wait(0.5)
    assert desk.ask(account) == 1
    assert desk.limiter.stats(account).tokens_today == 0


def test_a_run_over_midnight_counts_on_the_day_on_which_it_ends():
    desk = Desk()
    account = desk.account(FEW)
    desk.limiter.reserve(account, 10).settle(7)
    over = desk.limiter.reserve(account, 40)
    desk.wait(DAY_S)
    assert (desk.limiter.stats(account).tokens_today, desk.limiter.stats(account).reserved) == (0, 40)
    over.settle(33)
    assert (desk.limiter.stats(account).tokens_today, desk.limiter.stats(account).reserved) == (33, 0)


def test_what_was_used_before_the_start_counts():
    desk = Desk()
    desk.limiter.remember_used("few", "default", 60)
    desk.limiter.remember_used("few", "default", 40)
    desk.limiter.remember_used("anonymous", "default", 10**9)
    account = desk.account(FEW)
    assert (desk.limiter.stats(account).tokens_today, account.numbers) == (100, desk.limiter._plans["few"])
    assert desk.refusal(account).message == "daily token quota exceeded"
    assert desk.ask(desk.stranger("10.0.0.1")) == 1


def test_any_number_of_tokens_is_counted():
    desk = Desk()
    account = desk.account()
    desk.limiter.reserve(account, 1).settle(2**64)
    assert desk.limiter.stats(account).tokens_today == 2**64


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 80), st.integers(0, 120), st.booleans()), max_size=30))
def test_reservations_never_exceed_the_day_and_leave_nothing_behind(runs):
    desk = Desk()
    account, open_ones, used = desk.account(FEW), [], 0
    for estimate, actual, ends_now in runs:
        try:
            open_ones.append((desk.limiter.reserve(account, estimate), actual))
        except RateLimited:
            assert used + account.reserved >= 100
        else:
            assert used + account.reserved <= 100
        if ends_now and open_ones:
            reservation, price = open_ones.pop(0)
            reservation.settle(price)
            used += price
    for reservation, _ in open_ones:
        reservation.settle()
    assert (account.reserved, desk.limiter.stats(account).tokens_today) == (0, used)


# --- what is held ------------------------------------------------------------------------------------------------

CAPS = [("run", "runs"), ("stream", "streams"), ("connection", "connections")]


@pytest.mark.parametrize(("one", "many"), CAPS)
def test_no_more_are_held_than_the_cap_and_each_is_given_back_once(one, many):
    desk = Desk()
    account = desk.account(FEW)
    hold = getattr(desk.limiter, f"hold_{one}")
    with hold(account) as first, hold(account):
        with pytest.raises(Overloaded, match=many) as refused:
            hold(account)
        assert refused.value.retry_after == 1
        first.release()
        with hold(account):
            pass
    assert getattr(account, many) == 0
    assert desk.rejected == [(many, "default/few")]


@pytest.mark.parametrize(("one", "many"), CAPS)
def test_what_fails_gives_its_place_back(one, many):
    desk = Desk()
    account = desk.account(FEW)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), getattr(desk.limiter, f"hold_{one}")(account):
            1 / 0  # noqa: B018  it is what fails
    assert getattr(account, many) == 0


def test_a_run_that_gets_no_tokens_takes_no_place():
    desk = Desk()
    account = desk.account(FEW)
    account.use(100, account.day)
    with pytest.raises(RateLimited):
        desk.limiter.grant_run(account, 1)
    assert account.runs == 0
    grant = desk.limiter.grant_run(desk.account(YOU), 10)
    for _ in range(2):
        grant.end(4)
    standing = desk.limiter.stats(desk.account(YOU))
    assert (standing.tokens_today, standing.reserved, desk.account(YOU).runs) == (4, 0, 0)


# --- clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_wall_clock_that_jumps_changes_no_rate(jump):
    steady, jumping = Desk(requests_per_minute=5), Desk(requests_per_minute=5)
    outcomes = {steady: [], jumping: []}
    for desk, found in outcomes.items():
        account = desk.account()
        for step in range(40):
            desk.mono += 3.7
            if step == 20 and desk is jumping:
                desk.wall += timedelta(seconds=jump)
            try:
                desk.limiter.take(account)
                found.append(None)
            except GatewayError as error:
                found.append((error.message, error.retry_after, error.members))
    assert outcomes[steady] == outcomes[jumping]


def test_a_wall_clock_that_is_set_back_over_midnight_gives_no_tokens_twice():
    desk = Desk()
    account = desk.account(FEW)
    desk.wall = MIDNIGHT + timedelta(minutes=10)
    desk.limiter.reserve(account, 1).settle(100)
    desk.wall -= timedelta(hours=1)
    assert desk.refusal(account).retry_after == DAY_S + 50 * 60
    desk.wall = MIDNIGHT + timedelta(days=1)
    assert desk.ask(account) == 1


def test_a_limiter_needs_nobody_who_listens():
    limiter = Limiter(Limits(requests_per_minute=1), PLANS, clock=lambda: 1.0, now=lambda: NOON, enabled=True)
    account = limiter.account(ANONYMOUS, None)
    limiter.take(account)
    with pytest.raises(RateLimited):
        limiter.take(account)

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.day_budgets import DayBudgets
from argentor_asgi.config import Limits, Plan
from argentor_asgi.errors import BudgetExceeded, Forbidden
from argentor_asgi.sessions.records import Scope, Used

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME, YOU, TEAM = Scope("me"), Scope("you"), Scope("me", "acme")
LIMITS = Limits(cost_per_day=1.0, run_seconds_per_day=60, tool_calls_per_day=5)
PLANS = {"big": Plan(cost_per_day=2.0), "none": Plan(run_seconds_per_day=0)}


class Days(DayBudgets):
    """Day budgets whose clock stands at `at`."""

    def __init__(self, limits: Limits = LIMITS, principals: int = 100) -> None:
        self.at = NOON
        super().__init__(limits, PLANS, now=lambda: self.at, principals=principals)


def test_a_day_that_is_used_up_admits_no_run_until_midnight_utc() -> None:
    days = Days()
    days.admit(ME, None).charge(Used(cost_micros=999_999))
    days.admit(ME, None).charge(Used(cost_micros=1))
    with pytest.raises(BudgetExceeded, match=r"Today's budget of 1 in costs is used up\.") as caught:
        days.admit(ME, None)
    assert caught.value.retry_after == 12 * 3600
    days.at += timedelta(hours=12) - timedelta(microseconds=1)
    with pytest.raises(BudgetExceeded) as caught:
        days.admit(ME, None)
    assert caught.value.retry_after == 1
    days.at += timedelta(microseconds=1)
    days.admit(ME, None).require()
    assert days.used(ME) == Used()


def test_a_run_that_goes_on_is_held_to_the_day_as_well() -> None:
    days = Days()
    first, second = days.admit(ME, None), days.admit(ME, None)
    first.charge(Used(work_ms=60_000))
    for budget in (first, second):
        with pytest.raises(BudgetExceeded, match="60 seconds"):
            budget.require()


def test_calls_of_skills_are_counted_when_they_are_made_and_a_run_without_any_is_admitted() -> None:
    days = Days()
    first, second = days.admit(ME, None), days.admit(ME, None)
    first.take_calls(3)
    with pytest.raises(BudgetExceeded, match="5 skill calls has 2 left, not 3") as caught:
        second.take_calls(3)
    assert caught.value.retry_after == 12 * 3600
    second.take_calls(2)
    third = days.admit(ME, None)
    third.take_calls(0)
    with pytest.raises(BudgetExceeded):
        third.take_calls(1)
    assert days.used(ME).tool_calls == 5


def test_principals_of_another_name_or_tenant_have_days_of_their_own() -> None:
    days = Days()
    days.charge(ME, Used(cost_micros=5_000_000))
    for scope in (YOU, TEAM):
        days.admit(scope, None).require()
    with pytest.raises(BudgetExceeded):
        days.admit(ME, None)


def test_a_plan_has_its_own_numbers_and_one_that_is_unknown_the_common_ones() -> None:
    days = Days()
    days.charge(ME, Used(cost_micros=1_500_000))
    days.admit(ME, "big").require()
    for plan in (None, "unknown"):
        with pytest.raises(BudgetExceeded):
            days.admit(ME, plan)


def test_a_plan_of_nothing_admits_nobody_and_names_no_time() -> None:
    with pytest.raises(Forbidden) as caught:
        Days().admit(ME, "none")
    assert caught.value.retry_after is None


def test_a_run_that_goes_on_after_a_restart_is_not_asked_again() -> None:
    days = Days()
    days.charge(ME, Used(cost_micros=1_000_000))
    with pytest.raises(BudgetExceeded):
        days.of(ME, None).require()


def test_a_clock_that_is_set_back_begins_no_day_again() -> None:
    days = Days()
    days.charge(ME, Used(cost_micros=1_000_000))
    days.at -= timedelta(days=1)
    with pytest.raises(BudgetExceeded) as caught:
        days.admit(ME, None)
    assert caught.value.retry_after == 36 * 3600
    days.at += timedelta(days=2)
    days.admit(ME, None).require()


def test_nothing_configured_refuses_nothing() -> None:
    days = Days(Limits())
    days.charge(ME, Used(10**12, 10**12, 10**12, 10**12))
    days.admit(ME, None).take_calls(10**6)


def test_past_the_bound_of_principals_the_others_share_one_day() -> None:
    days = Days(principals=2)
    for name in ("a", "b", "c", "d"):
        days.charge(Scope(name), Used(cost_micros=600_000))
    assert len(days._used) == 3
    for name in ("a", "b"):
        days.admit(Scope(name), None).require()
    for name in ("c", "d", "new"):
        with pytest.raises(BudgetExceeded):
            days.admit(Scope(name), None)
    days.at += timedelta(days=1)
    days.admit(Scope("c"), None).charge(Used(cost_micros=1))
    assert len(days._used) == 1


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([ME, YOU]), st.integers(0, 4), st.booleans()), max_size=30
)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 6))
def test_a_day_never_has_more_calls_than_allowed_whoever_makes_them(
    steps: list[tuple[int, Scope, int, bool]], allowed: int
) -> None:
    days = Days(Limits(tool_calls_per_day=allowed))
    runs = {(n, scope): days.admit(scope, None) for n in range(4) for scope in (ME, YOU)}
    made = {ME: 0, YOU: 0}
    for n, scope, count, is_next_day in steps:
        if is_next_day:
            days.at += timedelta(days=1)
            made = {ME: 0, YOU: 0}
        fits = count == 0 or made[scope] + count <= allowed
        try:
            runs[n, scope].take_calls(count)
        except BudgetExceeded:
            assert not fits
        else:
            assert fits
            made[scope] += count
        assert days.used(scope).tool_calls == made[scope] <= allowed

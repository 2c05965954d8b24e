import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.allowances import UNBOUNDED, Allowance, calls_short, of_day, of_run, used_up
from argentor_asgi.config import Agent, Limits, Plan
from argentor_asgi.sessions.records import Used

BOUNDS = st.none() | st.integers(0, 5)
COUNTS = st.integers(0, 6)
ALLOWED = st.builds(Allowance, BOUNDS, BOUNDS, BOUNDS, BOUNDS)
USED = st.builds(Used, COUNTS, COUNTS, COUNTS, COUNTS)


def test_what_is_not_configured_bounds_nothing() -> None:
    assert of_run(Agent()) == of_day(Limits(), None) == of_day(Limits(), Plan()) == UNBOUNDED


def test_a_run_may_use_what_the_agent_is_configured_for() -> None:
    agent = Agent(run_tokens=10, run_cost=0.29, run_tool_calls=0)
    assert of_run(agent) == Allowance(tokens=10, cost_micros=290_000, tool_calls=0)


def test_a_plan_says_what_a_day_may_use_and_the_limits_what_it_leaves_out() -> None:
    limits = Limits(cost_per_day=1.5, run_seconds_per_day=60, tool_calls_per_day=5)
    assert of_day(limits, None) == Allowance(cost_micros=1_500_000, work_ms=60_000, tool_calls=5)
    assert of_day(limits, Plan(cost_per_day=0, tool_calls_per_day=7)) == Allowance(
        cost_micros=0, work_ms=60_000, tool_calls=7
    )
    assert of_day(limits, Plan(run_seconds_per_day=0)).work_ms == 0


def test_the_smallest_money_is_not_nothing() -> None:
    assert of_run(Agent(run_cost=1e-9)).cost_micros == 1
    assert of_run(Agent(run_cost=0)).cost_micros == 0


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (Used(tokens=1000), "1000 tokens"),
        (Used(tokens=999), None),
        (Used(cost_micros=50_000), "0.05 in costs"),
        (Used(cost_micros=49_999, work_ms=59_999, tool_calls=99), None),
        (Used(work_ms=60_000), "60 seconds"),
    ],
)
def test_what_is_used_up_is_named_with_its_number(used: Used, words: str | None) -> None:
    assert used_up(used, Allowance(1000, 50_000, 60_000, 5)) == words


@pytest.mark.parametrize(("micros", "words"), [(0, "0"), (10_000_000, "10"), (1, "0.000001"), (1_250_000, "1.25")])
def test_money_is_written_without_more_digits_than_it_has(micros: int, words: str) -> None:
    assert used_up(Used(cost_micros=micros), Allowance(cost_micros=micros)) == f"{words} in costs"


def test_calls_that_are_too_many_are_told_with_those_that_are_left() -> None:
    allowed = Allowance(tool_calls=5)
    assert calls_short(Used(tool_calls=3), allowed, 2) is None
    assert calls_short(Used(tool_calls=3), allowed, 3) == "5 skill calls has 2 left, not 3"
    assert calls_short(Used(tool_calls=9), allowed, 1) == "5 skill calls has 0 left, not 1"


@given(USED, ALLOWED)
def test_a_bound_is_used_up_exactly_when_nothing_of_it_is_left(used: Used, allowed: Allowance) -> None:
    pairs = ((used.tokens, allowed.tokens), (used.cost_micros, allowed.cost_micros), (used.work_ms, allowed.work_ms))
    assert (used_up(used, allowed) is not None) == any(bound is not None and have >= bound for have, bound in pairs)


@given(USED, ALLOWED, COUNTS)
def test_calls_are_enough_exactly_when_their_sum_is_allowed(used: Used, allowed: Allowance, count: int) -> None:
    fits = count == 0 or allowed.tool_calls is None or used.tool_calls + count <= allowed.tool_calls
    assert (calls_short(used, allowed, count) is None) == fits

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.allowances import UNBOUNDED, Allowance
from argentor_asgi.agent.budgets import Budgets, RunBudget
from argentor_asgi.agent.day_budgets import DayBudget, DayBudgets
from argentor_asgi.agent.prices import Prices
from argentor_asgi.config import Limits, Price
from argentor_asgi.errors import BudgetExceeded
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.sessions.records import Run, Scope, Used

PRICES = Prices([Price("small", 0.15, 0.6), Price("large", 3, 15)])
NOW = SystemClock().now()
ME = Scope("me")


def days(**limits: float) -> DayBudgets:
    return DayBudgets(Limits(**limits), {}, now=lambda: NOW)


def a_budget(day: DayBudget | None = None, **allowed: int) -> RunBudget:
    return RunBudget(Allowance(**allowed), prices=PRICES, day=day)


def exceeded(budget: RunBudget) -> str:
    with pytest.raises(BudgetExceeded) as caught:
        budget.take_turn()
    return caught.value.message


def test_a_run_without_bounds_goes_on_and_is_counted() -> None:
    budget = RunBudget(prices=PRICES)
    for _ in range(3):
        budget.take_turn()
        budget.used("small", Usage(1_000_000, 1_000_000))
        budget.take_calls(2)
        budget.worked(1.25)
    assert (budget._used.tokens, budget.cost_micros, budget._used.tool_calls, budget._used.work_ms) == (
        6_000_000,
        2_250_000,
        6,
        3750,
    )
    assert budget.max_tokens(4096) == 4096


def test_a_run_that_used_its_tokens_gets_no_further_turn_and_is_told_of_how_many() -> None:
    budget = a_budget(tokens=1000)
    budget.take_turn()
    budget.used("small", Usage(600, 399))
    budget.take_turn()
    budget.used("small", Usage(1, 0))
    assert exceeded(budget) == "The run used its budget of 1000 tokens."


def test_a_run_that_used_its_money_is_told_of_how_much() -> None:
    budget = a_budget(cost_micros=50_000)
    budget.used("large", Usage(10_000, 1333))
    budget.take_turn()
    budget.used("large", Usage(2, 0))
    assert exceeded(budget) == "The run used its budget of 0.05 in costs."


def test_an_answer_may_have_what_is_left_and_always_something() -> None:
    budget = a_budget(tokens=1000)
    assert [budget.max_tokens(wanted) for wanted in (10, 1000, 4096)] == [10, 1000, 1000]
    budget.used("small", Usage(900, 90))
    assert budget.max_tokens(4096) == 10
    budget.used("small", Usage(900, 90))
    assert budget.max_tokens(4096) == 1


def test_calls_are_taken_all_or_none() -> None:
    budget = a_budget(tool_calls=3)
    budget.take_calls(2)
    with pytest.raises(BudgetExceeded, match=r"The run's budget of 3 skill calls has 1 left, not 2\."):
        budget.take_calls(2)
    budget.take_calls(1)
    budget.take_calls(0)
    assert budget._used.tool_calls == 3
    budget.take_turn()


def test_calls_that_the_day_refuses_are_not_counted_on_the_run_nor_the_other_way_round() -> None:
    day = days(tool_calls_per_day=3)
    budget = a_budget(day.admit(ME, None), tool_calls=4)
    for count in (4, 5):
        with pytest.raises(BudgetExceeded):
            budget.take_calls(count)
    assert (budget._used.tool_calls, day.used(ME)) == (0, Used())


@pytest.mark.parametrize("order", [("small", "unknown"), ("unknown", "small"), ("unknown", "unknown")])
def test_a_model_without_a_price_leaves_no_number_however_the_others_are_priced(order: tuple[str, str]) -> None:
    budget = a_budget()
    assert budget.cost_micros == 0
    for model in order:
        budget.used(model, Usage(5, 5))
    assert (budget.cost_micros, budget._used.tokens) == (None, 20)


def test_what_is_known_of_a_cost_still_bounds_the_run() -> None:
    budget = a_budget(cost_micros=10)
    budget.used("unknown", Usage(1_000_000, 0))
    budget.take_turn()
    budget.used("large", Usage(10, 0))
    assert exceeded(budget) == "The run used its budget of 0.00001 in costs."


def test_every_charge_counts_on_the_day_at_once() -> None:
    day = days(cost_per_day=0.0001, run_seconds_per_day=60)
    first, second = (a_budget(day.admit(ME, None)) for _ in range(2))
    first.used("large", Usage(20, 0))
    first.worked(3)
    assert day.used(ME) == Used(cost_micros=60, work_ms=3000)
    second.used("large", Usage(20, 0))
    for budget in (first, second):
        assert exceeded(budget) == "Today's budget of 0.0001 in costs is used up."


def test_a_run_that_goes_on_has_used_what_it_had_and_charges_the_day_once() -> None:
    stored = Run(
        "r", "s", "me", "default", "waiting_approval", "small", "in", NOW, NOW,
        turns=1, usage=Usage(70, 30), cost_micros=7, tool_calls=2, work_ms=50,
    )  # fmt: skip
    day = days(cost_per_day=1.0)
    budget = RunBudget(Allowance(tokens=100), prices=PRICES, day=day.of(ME, None), before=stored)
    assert (budget._used.tokens, budget.cost_micros, budget._used.tool_calls, budget._used.work_ms) == (100, 7, 2, 50)
    assert (exceeded(budget), day.used(ME)) == ("The run used its budget of 100 tokens.", Used())
    budget.worked(0.03)
    assert (budget._used.work_ms, day.used(ME)) == (80, Used(work_ms=30))


def test_budgets_are_made_for_runs_that_begin_and_for_those_that_go_on() -> None:
    budgets = Budgets(Allowance(tokens=100, tool_calls=3), PRICES, days(cost_per_day=0.00001))
    first = budgets.admit(ME, None)
    first.used("large", Usage(50, 0))
    assert exceeded(first) == "Today's budget of 0.00001 in costs is used up."
    with pytest.raises(BudgetExceeded):
        budgets.admit(ME, None)
    stored = Run(
        "r", "s", "me", "default", "waiting_approval", "small", "in", NOW, NOW,
        turns=1, usage=Usage(1, 1), cost_micros=7, tool_calls=2,
    )  # fmt: skip
    again = budgets.resumed(stored)
    again.take_calls(1)
    assert (again._used.tool_calls, again.cost_micros, again.max_tokens(4096)) == (3, 7, 98)
    assert exceeded(again) == "Today's budget of 0.00001 in costs is used up."
    assert budgets.days.used(ME) == Used(cost_micros=150, tool_calls=1)


def test_a_run_whose_cost_was_not_known_before_does_not_know_it_after() -> None:
    stored = Run("r", "s", "me", "default", "waiting_approval", "x", "in", NOW, NOW, turns=1, usage=Usage(1, 1))
    budget = RunBudget(UNBOUNDED, prices=PRICES, before=stored)
    budget.used("small", Usage(1, 1))
    assert budget.cost_micros is None


def test_time_that_went_backwards_gives_nothing_back() -> None:
    budget = a_budget()
    budget.worked(1.0)
    budget.worked(-5.0)
    assert budget._used.work_ms == 1000


MODELS = st.sampled_from(["small", "large", "unknown"])
USAGES = st.builds(Usage, st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999))


@settings(max_examples=60)
@given(st.lists(st.tuples(MODELS, USAGES), max_size=8))
def test_a_cost_is_the_exact_sum_of_its_calls_or_none(calls: list[tuple[str, Usage]]) -> None:
    day = days(cost_per_day=1.0)
    budget = RunBudget(prices=PRICES, day=day.of(ME, None))
    for model, usage in calls:
        budget.used(model, usage)
    costs = [PRICES.cost_micros(model, usage) for model, usage in calls]
    known = [cost for cost in costs if cost is not None]
    assert budget.cost_micros == (sum(known) if len(known) == len(costs) else None)
    assert day.used(ME).cost_micros == sum(known)


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=30),
    run=st.integers(0, 8),
    day=st.integers(0, 12),
)
def test_never_more_calls_than_allowed_whatever_the_interleaving(
    steps: list[tuple[int, int]], run: int, day: int
) -> None:
    shared = days(tool_calls_per_day=day)
    runs = [a_budget(shared.of(ME, None), tool_calls=run) for _ in range(3)]
    for at, count in steps:
        try:
            runs[at].take_calls(count)
        except BudgetExceeded:
            assert runs[at]._used.tool_calls + count > run or shared.used(ME).tool_calls + count > day
        assert all(each._used.tool_calls <= run for each in runs)
        assert sum(each._used.tool_calls for each in runs) == shared.used(ME).tool_calls <= day


@settings(max_examples=60)
@given(st.integers(0, 500), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 200)), max_size=20))
def test_tokens_pass_their_bound_by_no_more_than_the_input_of_the_last_call(
    allowed: int, calls: list[tuple[int, int]]
) -> None:
    budget = a_budget(tokens=allowed)
    for said, answered in calls:
        try:
            budget.take_turn()
        except BudgetExceeded:
            assert budget._used.tokens >= allowed
            break
        budget.used("small", Usage(said, min(answered, budget.max_tokens(4096))))
        assert budget._used.tokens <= allowed + said

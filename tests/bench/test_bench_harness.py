import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness import (
    MOST_CALLS,
    Goal,
    Record,
    Report,
    Series,
    as_json,
    as_text,
    calls_for,
    differences,
    figure,
    grid,
    machine,
    median_ratio,
    order,
    percentile,
    quietest_ratio,
    ratio,
    ratios,
    spread,
    table,
)

positive = st.floats(min_value=1e-6, max_value=1e6)
pairs = st.lists(st.tuples(positive, positive), min_size=1, max_size=20)

SERIES = (
    Series("asyncio", "bare", "cpu_us", (2.0, 4.0, 2.0)),
    Series("asyncio", "argentor", "cpu_us", (4.0, 4.0, 6.0)),
    Series("asyncio", "argentor", "runs_s", (1.0, 1.0, 1.0)),
)


def test_a_spread_is_the_median_between_the_lowest_and_the_highest():
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)


@settings(max_examples=40)
@given(st.lists(positive, min_size=1))
def test_a_median_is_never_outside_its_range(values):
    found = spread(values)
    assert found.low <= found.median <= found.high


@settings(max_examples=40)
@given(pairs)
def test_a_ratio_is_made_inside_its_round(rounds):
    values, base = zip(*rounds, strict=True)
    assert ratios(values, base) == [value / under for value, under in rounds]


@settings(max_examples=40)
@given(pairs, st.floats(min_value=0.1, max_value=10))
def test_a_slowdown_that_meets_both_alike_does_not_move_their_ratio(rounds, slower):
    values, base = zip(*rounds, strict=True)
    moved = ratios([value * slower for value in values], [under * slower for under in base])
    assert all(math.isclose(one, other) for one, other in zip(moved, ratios(values, base), strict=True))


def test_ratios_of_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


@settings(max_examples=40)
@given(pairs)
def test_a_difference_is_made_inside_its_round(rounds):
    values, base = zip(*rounds, strict=True)
    assert differences(values, base) == [value - under for value, under in rounds]


@settings(max_examples=40)
@given(st.lists(positive, min_size=1), st.floats(min_value=0, max_value=1))
def test_a_percentile_is_a_value_that_its_share_does_not_exceed(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_percentiles_of_a_hundred_values_are_the_values():
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]


@settings(max_examples=40)
@given(st.lists(st.text(max_size=3), unique=True, max_size=8), st.integers(min_value=0, max_value=100))
def test_every_round_takes_every_target_once(names, number):
    assert sorted(order(names, number)) == sorted(names)


def test_each_target_is_first_in_its_turn():
    assert [order("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_a_share_of_time_holds_from_one_call_to_the_most():
    assert [calls_for(1.0, 0.125), calls_for(0.1, 1.0)] == [8, 1]
    assert [calls_for(1.0, 1e-9), calls_for(1.0, 0.0)] == [MOST_CALLS, MOST_CALLS]


def test_a_record_keeps_the_rounds_of_each_metric_in_order():
    record = Record()
    record.add("asyncio", "bare", cpu_us=1.0, wall_us=2.0)
    record.add("asyncio", "bare", cpu_us=3.0, wall_us=4.0)
    assert record.series() == [
        Series("asyncio", "bare", "cpu_us", (1.0, 3.0)),
        Series("asyncio", "bare", "wall_us", (2.0, 4.0)),
    ]


def test_the_result_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians():
    found = ratio(SERIES, "asyncio", "argentor", "cpu_us")
    assert found is not None
    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)
    assert median_ratio(SERIES, "asyncio", "argentor", "cpu_us") == 2.0


def test_what_was_not_measured_has_no_ratio():
    assert ratio(SERIES, "uvloop", "argentor", "cpu_us") is None
    assert median_ratio(SERIES, "asyncio", "argentor", "runs_s") is None


def test_a_base_of_zero_has_no_ratio():
    series = [Series("x", "bare", "kib", (0.0,)), Series("x", "argentor", "kib", (1.0,))]
    assert ratio(series, "x", "argentor", "kib") is None
    assert quietest_ratio(series, "x", "argentor", "kib") is None


def test_the_quietest_ratio_is_that_of_the_lowest_rounds():
    assert quietest_ratio(SERIES, "asyncio", "argentor", "cpu_us") == 2.0
    assert quietest_ratio(SERIES, "asyncio", "nobody", "cpu_us") is None


@pytest.mark.parametrize(
    ("value", "bound", "side", "verdict"),
    [
        (2.5, 2.5, "below", "met"),
        (2.6, 2.5, "below", "MISSED"),
        (0.95, 0.95, "above", "met"),
        (0.94, 0.95, "above", "MISSED"),
        (None, 1.0, "below", "not measured"),
    ],
)
def test_a_goal_is_met_up_to_its_bound(value, bound, side, verdict):
    assert Goal("bar", value, bound, side).verdict == verdict


def test_a_figure_has_the_digits_that_mean_something():
    assert [figure(value) for value in (1234.5, 123.45, 1.234, 0.0)] == ["1,234", "123.5", "1.23", "0.00"]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text("ab", max_size=5), st.text("12", max_size=5)), min_size=1, max_size=5))
def test_a_grid_has_a_line_for_each_row(rows):
    assert len(grid(rows).split("\n")) == len(rows)


def test_a_table_shows_medians_and_ratios_and_a_dash_for_what_is_missing():
    assert table(SERIES, "asyncio", plain=("runs_s",)).split("\n") == [
        "asyncio   cpu_us  x bare       range  runs_s",
        "bare        2.00   1.000  1.00..1.00       -",
        "argentor    4.00   2.000  1.00..3.00    1.00",
    ]


def test_a_table_without_a_bare_target_has_no_ratios():
    assert table([Series("import", "asyncio", "ms", (1.0,))], "import").split("\n") == [
        "import     ms",
        "asyncio  1.00",
    ]


REPORT = Report(
    bench="inproc",
    settings={"rounds": 3},
    series=SERIES,
    absent=["blacksheep"],
    notes=["gc on"],
    goals=[Goal("stack / bare", 2.0, 2.5), Goal("peers", None, 1.0)],
)


def test_a_report_says_who_is_absent_which_bars_hold_and_that_times_belong_to_the_machine():
    text = as_text(REPORT)
    assert "absent: blacksheep" in text
    assert "goal: stack / bare: 2.00 (bar <= 2.50): met" in text
    assert "goal: peers: - (bar <= 1.00): not measured" in text
    assert "note: gc on" in text
    assert "RATIOS ARE THE RESULT" in text


def test_the_json_of_a_report_has_every_round_its_ratio_and_the_machine():
    body = json.loads(as_json(REPORT))
    assert body["series"][1]["rounds"] == [4.0, 4.0, 6.0]
    assert body["series"][1]["ratio_to_bare"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert body["goals"][0]["verdict"] == "met"
    assert body["absent"] == ["blacksheep"]
    assert body["machine"]["cores"] >= 1


def test_the_machine_is_described_down_to_the_versions_of_the_libraries():
    facts = machine()
    assert facts["python"].startswith("CPython")
    assert facts["libraries"]["hypercorn"].startswith("0.")

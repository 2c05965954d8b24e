"""`argentor_asgi.ops.metric_families`: histograms and label caps, as plain values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.ops.metric_families import FAMILIES, LABEL_CHARS, LABEL_VALUES, OTHER, Exemplar, Histogram, Labels

SECONDS = st.floats(min_value=0, max_value=1000)


@settings(max_examples=40)
@given(st.lists(SECONDS, max_size=30))
def test_a_histogram_agrees_with_counting_by_hand(durations):
    bounds = (0.1, 1, 10)
    histogram = Histogram(bounds)
    for seconds in durations:
        histogram.observe(seconds)
    assert histogram.cumulative() == [
        *((str(float(bound)), sum(seconds <= bound for seconds in durations)) for bound in bounds),
        ("+Inf", len(durations)),
    ]
    assert histogram.seconds == pytest.approx(sum(durations))


@given(SECONDS, SECONDS)
def test_an_exemplar_is_in_the_bucket_of_its_duration_and_the_latest_stays(first, second):
    histogram = Histogram((0.1, 1, 10))
    for seconds in (first, second):
        histogram.observe(seconds)
        histogram.show(Exemplar("t", seconds, 0.0))
    assert all(histogram.counts[bucket] for bucket in histogram.exemplars)
    assert second in {shown.seconds for shown in histogram.exemplars.values()}


def test_a_copy_is_of_its_moment():
    histogram = Histogram((1.0,))
    before = histogram.copy()
    histogram.observe(0.5)
    histogram.show(Exemplar("t", 0.5, 0.0))
    assert (before.counts, before.seconds, before.exemplars) == ([0, 0], 0.0, {})


@settings(max_examples=40)
@given(st.lists(st.text(max_size=LABEL_CHARS * 2), max_size=40))
def test_a_label_keeps_its_first_values_and_the_rest_are_other(values):
    labels, cap = Labels(), LABEL_VALUES["kind"]
    given_back = [labels.bounded("kind", value) for value in values]
    assert len(set(given_back) - {OTHER}) <= cap
    assert all(len(each) <= LABEL_CHARS and each.encode() is not None for each in given_back)
    assert [labels.bounded("kind", value) for value in values[:cap]] == given_back[:cap]


def test_values_that_read_the_same_are_one():
    labels, long = Labels(), "x" * LABEL_CHARS
    assert labels.bounded("kind", long) == labels.bounded("kind", long + "y") == labels.bounded("kind", long + "z")
    assert labels.bounded("kind", "\ud800") == "?"


def test_a_counter_s_name_says_so_and_a_duration_s_unit_too():
    for name, family in FAMILIES.items():
        assert name.endswith("_total") == (family.type == "counter")
        assert family.type != "histogram" or name.endswith("_seconds")

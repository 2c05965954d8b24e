"""`argentor_asgi.ops.hooks`: what a hook must be, and how the time of a stop is shared out."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.ops.hooks import CANCEL_S, KEPT_S, PHASES, Budget, DrainHook, milliseconds, told

SECONDS = st.floats(0, 7200)


async def run():
    pass


class Running:
    async def __call__(self):
        pass

    async def method(self):
        pass


@pytest.mark.parametrize("good", [run, partial(run), Running(), Running().method])
def test_whatever_is_awaited_when_called_is_a_hook(good):
    assert DrainHook("drain", "good", good).run is good


@pytest.mark.parametrize("bad", [lambda: None, print, None])
def test_what_would_block_the_loop_is_not(bad):
    with pytest.raises(TypeError, match="'bad' must be an async function"):
        DrainHook("drain", "bad", bad)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"phase": "late"}, "no such phase: 'late'; one of pre_drain"), ({"timeout_s": 0}, "more than 0 s")],
)
def test_a_hook_that_could_never_run_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        DrainHook(**{"phase": "drain", "name": "wrong", "run": run} | wrong)


def test_the_defaults_give_each_phase_what_it_is_promised():
    budget = Budget(0.0, 15.0, 30.0)
    assert [budget.deadline(phase, now) for phase, now in zip(PHASES, (0, 0, 15, 25), strict=True)] == [5, 16, 25, 29]
    assert (budget.kept_s, budget.cancel_s) == (KEPT_S, CANCEL_S)


def test_a_drain_of_no_time_still_has_some_for_ending_what_goes_on():
    assert Budget(0.0, 0.0, 30.0).deadline("drain", 0.0) == KEPT_S


@given(began=SECONDS, drain_s=SECONDS, total_s=st.floats(0.001, 7200), waits=st.lists(SECONDS, min_size=4, max_size=4))
def test_whatever_phases_take_of_their_time_each_later_one_has_some_and_the_end_is_kept(began, drain_s, total_s, waits):
    budget, now = Budget(began, drain_s, total_s), began
    for phase, takes in zip(PHASES, waits, strict=True):
        deadline = budget.deadline(phase, now)
        assert now < deadline <= budget.latest(phase) < budget.end
        now = min(now + takes, deadline + budget.cancel_s)
    assert now < budget.end


def test_a_failure_tells_its_words_only_where_they_are_made_for_clients():
    assert told(OSError("/etc/shadow")) == "OSError: the hook failed; the log has the reason"
    assert told(StorageUnavailable()) == f"StorageUnavailable: {StorageUnavailable.message}"


@given(st.floats(-10, 1e6))
def test_a_duration_is_whole_and_never_negative(seconds):
    assert milliseconds(seconds) == max(0, round(seconds * 1000))

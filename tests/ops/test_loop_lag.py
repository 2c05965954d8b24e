"""`argentor_asgi.ops.loop_lag`: lateness as a clock tells it, and lines that are few."""

import asyncio
from itertools import pairwise

import pytest
from asgi_driver import soon
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.loop_lag import WARN_EVERY_S, WARN_S, LoopLag, is_worth_a_line


class LateClock:
    """A clock on which each sleep takes the next of `late` seconds more than it should; then `over` is set."""

    def __init__(self, late, every_s):
        self.over = asyncio.Event()
        self._late = list(late)
        self._every_s = every_s
        self._at = 1000.0
        self._asleep = False

    def monotonic(self):
        if self._asleep:
            self._at += self._every_s + (self._late.pop(0) if self._late else 0.0)
            if not self._late:
                self.over.set()
        self._asleep = not self._asleep
        return self._at


async def measured(late, every_s=0.0):
    found, clock = [], LateClock(late, every_s)
    async with LoopLag(found.append, clock=clock, every_s=every_s):
        await soon(clock.over.wait())
        await asyncio.sleep(0)
    return found[: len(late)]


async def test_each_call_tells_how_late_it_came():
    assert await measured([0.0, 0.5, 0.002]) == pytest.approx([0.0, 0.5, 0.002])


async def test_a_call_that_comes_early_is_not_late():
    assert await measured([-0.001, -0.5]) == [0.0, 0.0]


async def test_a_loop_that_was_held_is_logged_once_in_a_while(caplog):
    await measured([0.05, 0.2, 0.3, 0.3, WARN_EVERY_S, 0.2])
    assert [record.getMessage() for record in caplog.records] == [
        "the event loop was held for 200 ms",
        "the event loop was held for 10000 ms",
    ]


async def test_the_task_ends_with_its_owner_and_the_real_clock_is_never_before_its_time():
    found, told = [], asyncio.Event()

    def observe(late_s):
        found.append(late_s)
        told.set()

    async with LoopLag(observe, clock=SystemClock(), every_s=0.001):
        await soon(told.wait())
        assert "loop lag" in {task.get_name() for task in asyncio.all_tasks()}
    assert "loop lag" not in {task.get_name() for task in asyncio.all_tasks()}
    assert min(found) >= 0


async def test_a_body_that_fails_ends_the_task_as_well():
    with pytest.raises(ValueError, match="mine"):
        async with LoopLag(lambda _: None, clock=SystemClock()):
            raise ValueError("mine")
    assert "loop lag" not in {task.get_name() for task in asyncio.all_tasks()}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 2)), max_size=50))
def test_lines_are_never_closer_than_their_interval_and_only_of_what_was_late(steps):
    now, warned, lines = 0.0, None, []
    for passed, late_s in steps:
        now += passed
        if is_worth_a_line(late_s, now, warned):
            assert late_s > WARN_S
            warned = now
            lines.append(now)
    assert all(after - before >= WARN_EVERY_S for before, after in pairwise(lines))

import asyncio
from collections.abc import Callable

import pytest
from asgi_driver import soon, until
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.deadline import TICK_S, Sweeper, Watched, overdue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(deadline: float) -> Watched:
    made = Watched()
    made.deadline = deadline
    return made


@given(st.lists(st.floats(0, 10)), st.floats(0, 10))
def test_overdue_are_those_whose_deadline_has_come(deadlines: list[float], now: float):
    late = overdue([watched(deadline) for deadline in deadlines], now)
    assert [one.deadline for one in late] == [deadline for deadline in deadlines if deadline <= now]


async def running(sweeper: Sweeper, seconds: float, ended: Callable[[bool], None]) -> None:
    """Wait for ever under a deadline, and say whether the cancellation was the sweeper's alone."""
    mine = Watched()
    sweeper.watch(mine, seconds)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ended(mine.settle())
        if not asyncio.current_task().cancelling():
            return
        raise
    finally:
        sweeper.watching.discard(mine)


async def test_a_task_is_cancelled_at_its_deadline_and_not_before():
    clock, said = Clock(), []
    sweeper = Sweeper(clock, 60)
    task = asyncio.create_task(running(sweeper, 10, said.append))
    await until(lambda: sweeper.watching)
    clock.now = 109.999
    sweeper.sweep()
    await asyncio.sleep(0)
    assert not said
    clock.now = 110.0
    sweeper.sweep()
    await soon(task)
    assert said == [True]
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_is_not_mistaken_for_the_sweepers():
    said: list[bool] = []
    task = asyncio.create_task(running(Sweeper(Clock(), 60), 10, said.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == [False]


async def test_when_both_cancel_at_once_the_outside_wins():
    clock, said = Clock(), []
    sweeper = Sweeper(clock, 60)
    task = asyncio.create_task(running(sweeper, 10, said.append))
    await until(lambda: sweeper.watching)
    clock.now = 200.0
    sweeper.sweep()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == [False]


async def test_a_task_that_is_being_cancelled_is_left_to_who_does_it():
    clock = Clock()
    sweeper, cleaning, cleaned = Sweeper(clock, 60), asyncio.Event(), asyncio.Event()

    async def cleans_up() -> None:
        mine = Watched()
        sweeper.watch(mine, 10)
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await cleaned.wait()

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    await soon(cleaning.wait())
    clock.now = 200.0
    sweeper.sweep()
    cleaned.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
    sweeper.close()


async def test_the_timer_runs_only_while_something_is_watched():
    clock = Clock()
    sweeper = Sweeper(clock, 60)
    assert sweeper.awake_until < clock.now
    mine = Watched()
    sweeper.watch(mine, 10)
    assert sweeper.awake_until == clock.now + TICK_S
    clock.now += TICK_S
    sweeper.sweep()
    assert sweeper.awake_until == clock.now + TICK_S
    sweeper.watching.discard(mine)
    sweeper.sweep()
    assert sweeper.awake_until < clock.now


async def test_a_timer_that_died_with_its_loop_is_replaced():
    clock = Clock()
    sweeper = Sweeper(clock, 60)
    mine = Watched()
    await asyncio.to_thread(asyncio.run, in_another_loop(sweeper, Watched()))
    clock.now += TICK_S
    sweeper.watch(mine, 0.0)
    assert sweeper.awake_until == clock.now + TICK_S
    sweeper.close()


async def in_another_loop(sweeper: Sweeper, one: Watched) -> None:
    sweeper.watch(one, 1.0)


async def test_a_short_deadline_makes_the_timer_finer():
    clock = Clock()
    sweeper = Sweeper(clock, 0.4)
    sweeper.watch(Watched(), 1.0)
    assert sweeper.awake_until == pytest.approx(clock.now + 0.1)
    sweeper.close()


def test_settling_what_never_fired_is_nothing():
    assert not Watched().settle()

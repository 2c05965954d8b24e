"""`argentor_asgi.gateway.stopwatch`: the time of a run's work, and a limit that waits with it."""

import asyncio

import pytest
from audit_place import StillClock
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.gateway.stopwatch import Stopwatch


def paused(watch, times=1):
    for _ in range(times):
        watch.pause()
        watch.go_on()


async def limited(watch, seconds, work):
    """Do the work below a limit of so many seconds, and return the limit's end on the loop's clock."""
    async with asyncio.timeout(seconds) as limit:
        watch.start(limit)
        await work(limit)
    return limit.when()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=10), st.integers(0, 10**6))
def test_only_the_time_of_work_is_counted_behind_what_was_counted_before(spans, before_ms):
    clock = StillClock()
    watch = Stopwatch(clock, before_ms)
    clock.pass_by(5)
    assert watch.spent_ms == before_ms

    async def work(limit):
        for work_s, wait_s in spans:
            clock.pass_by(work_s)
            watch.pause()
            clock.pass_by(wait_s)
            watch.go_on()
        assert limit.when() is None

    asyncio.run(limited(watch, None, work))
    assert watch.spent_ms == before_ms + 1000 * sum(work_s for work_s, _ in spans)


async def test_the_limit_is_off_while_it_stands_still_and_has_as_much_left_afterwards():
    watch = Stopwatch(StillClock())

    async def work(limit):
        watch.pause()
        assert limit.when() is None
        watch.go_on()

    ends_at = await limited(watch, 100, work)
    assert ends_at == pytest.approx(asyncio.get_running_loop().time() + 100, abs=5)


async def test_a_limit_strikes_after_as_much_work_as_was_left():
    watch = Stopwatch(StillClock())

    async def work(_limit):
        paused(watch, 3)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await limited(watch, 0.01, work)


async def test_a_limit_that_has_struck_stays_so():
    watch = Stopwatch(StillClock())

    async def work(_limit):
        try:
            await asyncio.Event().wait()
        finally:
            paused(watch)

    with pytest.raises(TimeoutError):
        await limited(watch, 0, work)


def test_without_a_limit_it_only_counts():
    clock = StillClock()
    watch = Stopwatch(clock, 7)
    paused(watch)
    clock.pass_by(1)
    assert (watch.spent_ms, watch.spent_s) == (1007, 1.007)

"""`argentor_asgi.ops.drain`: level-triggered, in phases, bounded whatever hangs, and told truly in its report."""

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from still_clock import StillClock

from argentor_asgi.errors import Draining
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.hooks import KEPT_S, PHASES, SKIPPED
from argentor_asgi.protocol.schema import encode


def made(drain_s=5.0, **others):
    return Drain(clock=SystemClock(), drain_s=drain_s, **others)


async def within(awaitable, seconds=5.0):
    return await asyncio.wait_for(awaitable, seconds)


async def drained(drain):
    drain.begin("test")
    return await within(drain.report())


async def nothing():
    pass


async def hangs():
    await asyncio.Event().wait()


async def fails():
    raise RuntimeError("it has a secret: hunter2")


async def test_a_late_waiter_does_not_wait():
    drain = made()
    await drained(drain)
    for level in (drain.begun, drain.refused, drain.finished):
        await within(level.wait())
    assert (drain.draining, drain.refusing) == (True, True)


async def test_it_begins_once_and_a_later_begin_joins(caplog):
    caplog.set_level(logging.INFO, "argentor.drain")
    drain, calls = made(), []

    async def hook():
        calls.append(1)

    drain.hook("drain", "hook", hook)
    for reason in ("first", "second"):
        drain.begin(reason)
    reports = await within(asyncio.gather(drain.report(), drain.report()))
    drain.begin("late")
    assert reports[0] is reports[1] is await within(drain.report())
    assert (calls, reports[0].reason) == ([1], "first")
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == [
        "draining for up to 5 s: first",
        "drained",
    ]


async def test_phases_run_in_their_order_and_hooks_one_at_a_time_in_that_of_registration():
    drain, heard = made(), []

    def hook(name):
        async def run():
            heard.append(f"{name} begins")
            await asyncio.sleep(0)
            heard.append(f"{name} ends")

        return run

    names = [f"{phase} {number}" for phase in PHASES for number in (1, 2)]
    for name in sorted(names, key=lambda name: (-PHASES.index(name.split()[0]), name)):
        drain.hook(name.split()[0], name, hook(name))
    report = await drained(drain)
    assert heard == [f"{name} {what}" for name in names for what in ("begins", "ends")]
    assert [(found.name, found.phase) for found in report.hook_results] == [(name, name.split()[0]) for name in names]
    assert (report.hooks_succeeded, report.hooks_failed, report.completed_in_time) == (8, 0, True)


async def test_the_report_has_the_fields_that_clients_look_for():
    drain = made()
    drain.hook("drain", "bad", fails)
    drain.hook("final", "good", nothing)
    report = await drained(drain)
    took_ms = [found.duration_ms for found in report.hook_results]
    assert encode(report) == encode(
        {
            "reason": "test",
            "total_duration_ms": report.total_duration_ms,
            "hooks_succeeded": 1,
            "hooks_failed": 1,
            "completed_in_time": True,
            "hook_results": [
                {
                    "name": "bad",
                    "phase": "drain",
                    "success": False,
                    "error": "RuntimeError: the hook failed; the log has the reason",
                    "duration_ms": took_ms[0],
                },
                {"name": "good", "phase": "final", "success": True, "error": None, "duration_ms": took_ms[1]},
            ],
        }
    )


async def test_a_hook_that_raises_keeps_no_other_from_running_and_its_words_are_in_the_log_alone(caplog):
    drain, ran = made(), asyncio.Event()

    async def good():
        ran.set()

    drain.hook("pre_drain", "bad", fails)
    drain.hook("pre_drain", "good", good)
    report = await drained(drain)
    assert ran.is_set()
    assert "hunter2" not in repr(report)
    assert "drain hook bad failed" in caplog.text


async def test_a_hook_that_hangs_is_cancelled_when_its_time_is_over_and_the_next_one_runs(caplog):
    drain, cancelled = made(), asyncio.Event()

    async def hanging():
        try:
            await hangs()
        finally:
            cancelled.set()

    drain.hook("drain", "hangs", hanging, timeout_s=0.02)
    drain.hook("drain", "next", nothing)
    report = await drained(drain)
    assert cancelled.is_set()
    assert [found.error for found in report.hook_results] == ["TimeoutError: it did not end in 0.02 s", None]
    assert not report.completed_in_time
    assert "drain hook hangs did not end in 0.02 s" in caplog.text


async def test_a_hook_that_refuses_to_be_cancelled_is_left_behind():
    drain, release = made(0.01, total_s=0.1), asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    drain.hook("drain", "stubborn", stubborn)
    drain.hook("cleanup", "next", nothing)
    report = await drained(drain)
    assert [found.success for found in report.hook_results] == [False, True]
    assert len(drain._left) == 1
    release.set()
    await within(asyncio.wait(drain._left))
    assert drain._left == set()


async def test_hooks_that_a_phase_has_no_time_for_are_listed_and_the_next_phase_has_its_own():
    drain = made(0.01, total_s=0.2)
    for name in ("hangs", "late", "later"):
        drain.hook("drain", name, hangs)
    drain.hook("cleanup", "cleanup", nothing)
    report = await drained(drain)
    assert [found.error for found in report.hook_results[1:]] == [SKIPPED, SKIPPED, None]
    assert (report.hooks_failed, report.completed_in_time) == (3, False)


async def test_a_hook_that_cancels_itself_fails_alone():
    drain = made()

    async def gives_up():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    drain.hook("drain", "gives up", gives_up)
    drain.hook("drain", "next", nothing)
    report = await drained(drain)
    assert [found.error for found in report.hook_results] == ["CancelledError: the hook cancelled itself", None]


@given(
    st.lists(
        st.tuples(st.sampled_from(PHASES), st.sampled_from(["ends", "fails", "hangs", "cancels itself"])), max_size=6
    ),
)
@settings(max_examples=10, deadline=None)
def test_a_drain_ends_in_its_whole_time_whatever_its_hooks_do_and_lists_each(kinds):
    async def act(kind):
        if kind == "fails":
            raise OSError
        if kind == "hangs":
            await hangs()
        if kind == "cancels itself":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    async def reported():
        drain = made(0.005, total_s=0.02)
        for number, (phase, kind) in enumerate(kinds):

            async def hook(kind=kind):
                await act(kind)

            drain.hook(phase, f"{number}", hook)
        return await drained(drain)

    logging.getLogger("argentor.drain").disabled = True
    try:
        report = asyncio.run(reported())
    finally:
        logging.getLogger("argentor.drain").disabled = False
    assert len(report.hook_results) == len(kinds) == report.hooks_succeeded + report.hooks_failed


async def test_a_hook_that_comes_too_late_is_refused():
    drain = made()
    drain.begin("test")
    for phase in PHASES:
        with pytest.raises(Draining):
            drain.hook(phase, "late", nothing)
    await within(drain.finished.wait())


def test_two_hooks_of_one_phase_cannot_have_one_name():
    drain = made()
    drain.hook("drain", "same", nothing)
    drain.hook("final", "same", nothing)
    with pytest.raises(ValueError, match="'same'"):
        drain.hook("drain", "same", nothing)


async def test_without_a_delay_and_without_pre_drain_hooks_it_refuses_at_once():
    drain = made()
    drain.begin("test")
    assert drain.refusing
    assert drain.refused.is_set()
    await within(drain.finished.wait())


async def test_work_is_admitted_until_the_pre_drain_hooks_are_over():
    drain, seen = made(), []

    async def looks():
        seen.append((drain.draining, drain.refusing))

    drain.hook("pre_drain", "before", looks)
    drain.hook("drain", "after", looks)
    drain.begin("test")
    assert not drain.refusing
    await within(drain.finished.wait())
    assert seen == [(True, False), (True, True)]


async def test_work_is_admitted_until_the_ready_delay_is_over():
    drain = made(ready_delay_s=0.02)
    drain.begin("test")
    await asyncio.sleep(0)
    assert (drain.draining, drain.refusing, drain.finished.is_set()) == (True, False, False)
    await within(drain.refused.wait())
    await within(drain.finished.wait())


async def test_a_begin_at_once_cuts_the_delay_of_the_drain_that_it_joins():
    drain = made(ready_delay_s=20.0)
    drain.begin("test")
    await asyncio.sleep(0)
    assert not drain.refusing
    drain.begin("the server is gone", at_once=True)
    assert (await within(drain.report())).reason == "test"


async def test_the_delay_leaves_the_later_phases_their_time():
    drain = made(total_s=0.1, ready_delay_s=20.0)
    drain.hook("drain", "work", nothing)
    report = await drained(drain)
    assert (report.hooks_succeeded, report.completed_in_time) == (1, True)


async def test_the_remaining_times_count_down_from_the_begin_to_zero():
    hands, go = StillClock(), asyncio.Event()
    drain = Drain(clock=hands, drain_s=10, total_s=30)
    drain.hook("drain", "held", go.wait)
    hands.at = 55
    assert (drain.remaining_s(), drain.left_s()) == (10, 30)
    drain.begin("test")
    for _ in range(2):
        await asyncio.sleep(0)
    hands.at = 58
    assert (drain.remaining_s(), drain.left_s()) == (7 + KEPT_S, 27)
    hands.at = 100
    assert (drain.remaining_s(), drain.left_s()) == (0, 0)
    go.set()
    assert not (await within(drain.report())).completed_in_time


async def test_its_status_tells_what_goes_on_and_what_is_over():
    drain, go = made(), asyncio.Event()
    drain.hook("drain", "one", nothing)
    drain.hook("cleanup", "two", go.wait)
    assert (drain.status().status, drain.status().report) == ("serving", None)
    drain.begin("test")
    assert drain.status().status == "draining"
    async with asyncio.timeout(5):
        while drain.status().phase != "cleanup":  # noqa: ASYNC110  there is no event to wait for: a phase has none
            await asyncio.sleep(0)
    seen = drain.status()
    assert [found.name for found in seen.report.hook_results] == ["one"]
    assert 0 < seen.remaining_s <= drain.total_s
    go.set()
    report = await within(drain.report())
    assert (drain.status().status, drain.status().phase, drain.status().report) == ("finished", None, report)


async def test_leaving_the_lifespan_drains_without_the_delay():
    drain, ran = made(ready_delay_s=20.0), asyncio.Event()

    async def hook():
        ran.set()

    drain.hook("drain", "hook", hook)
    async with asyncio.timeout(5), drain.install():
        assert not drain.draining
    assert ran.is_set()
    assert drain.finished.is_set()


async def test_a_drain_that_is_cancelled_is_finished_and_takes_its_hook_with_it():
    drain, began, cancelled = made(), asyncio.Event(), asyncio.Event()

    async def held():
        began.set()
        try:
            await hangs()
        finally:
            cancelled.set()

    drain.hook("drain", "held", held)
    drain.begin("test")
    await within(began.wait())
    drain._work.cancel()
    await within(drain.finished.wait())
    await within(cancelled.wait())

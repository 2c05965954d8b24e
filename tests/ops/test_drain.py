"""`argentor_asgi.ops.drain`: level-triggered, bounded whatever hangs, and in front of every kind of signal handler."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.errors import ConfigError, Draining
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain, running_loop, server_stop


def made(drain_s=5.0):
    return Drain(clock=SystemClock(), drain_s=drain_s)


async def within(awaitable, seconds=5.0):
    return await asyncio.wait_for(awaitable, seconds)


async def test_a_late_waiter_does_not_wait():
    drain = made()
    drain.begin("test")
    await within(drain.begun.wait())
    await within(drain.finished.wait())
    await within(drain.finished.wait())
    assert drain.draining


async def test_it_begins_once_however_often_it_is_told_to(caplog):
    caplog.set_level(logging.INFO, "argentor.drain")
    drain, calls = made(), []

    async def hook():
        calls.append(1)

    drain.on_drain("hook", hook)
    for _ in range(3):
        drain.begin("test")
    await within(drain.finished.wait())
    drain.begin("late")
    assert calls == [1]
    assert [record.getMessage() for record in caplog.records] == ["draining for up to 5 s: test", "drained"]


async def test_hooks_run_beside_each_other_and_end_before_it_is_finished():
    drain, first, second = made(), asyncio.Event(), asyncio.Event()

    async def one():
        first.set()
        await second.wait()

    async def two():
        second.set()
        await first.wait()

    drain.on_drain("one", one)
    drain.on_drain("two", two)
    drain.begin("test")
    assert not drain.finished.is_set()
    await within(drain.finished.wait())
    assert first.is_set()
    assert second.is_set()


async def test_a_hook_that_fails_keeps_no_other_from_running(caplog):
    drain, ran = made(), asyncio.Event()

    async def bad():
        raise RuntimeError("broken hook")

    async def good():
        ran.set()

    drain.on_drain("bad", bad)
    drain.on_drain("good", good)
    drain.begin("test")
    await within(drain.finished.wait())
    assert ran.is_set()
    assert "drain hook bad failed" in caplog.text


async def test_a_hook_that_hangs_is_cancelled_at_the_deadline(caplog):
    drain, cancelled = made(0.02), asyncio.Event()

    async def hangs():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    drain.on_drain("hangs", hangs)
    drain.begin("test")
    await within(drain.finished.wait())
    assert cancelled.is_set()
    assert "drain hook hangs did not end in 0.02 s" in caplog.text


@pytest.mark.slow
async def test_a_hook_that_refuses_to_be_cancelled_does_not_hold_the_drain():
    drain, release = made(0.01), asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    drain.on_drain("stubborn", stubborn)
    drain.begin("test")
    await within(drain.finished.wait())
    release.set()


@given(
    st.lists(st.sampled_from(["ends", "fails", "hangs", "cancels itself", "ends another"]), max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_a_drain_ends_by_its_deadline_whatever_its_hooks_do(kinds):
    async def act(kind):
        if kind == "fails":
            raise OSError
        if kind == "hangs":
            await asyncio.Event().wait()
        if kind == "cancels itself":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    async def drained():
        drain = made(0.01)
        for number, kind in enumerate(kinds):
            drain.on_drain(f"{number}", lambda kind=kind: act(kind))
        drain.begin("test")
        await within(drain.finished.wait())

    logging.getLogger("argentor.drain").disabled = True
    try:
        asyncio.run(drained())
    finally:
        logging.getLogger("argentor.drain").disabled = False


async def test_a_hook_that_comes_too_late_is_refused():
    drain = made()
    drain.begin("test")
    with pytest.raises(Draining):
        drain.on_drain("late", asyncio.Event().wait)
    await within(drain.finished.wait())


def test_two_hooks_cannot_have_one_name():
    drain = made()
    drain.on_drain("same", asyncio.Event().wait)
    with pytest.raises(ValueError, match="'same'"):
        drain.on_drain("same", asyncio.Event().wait)


async def test_the_remaining_time_counts_down_from_the_begin_to_zero():
    class Hands:
        at = 50.0

        def monotonic(self):
            return self.at

    hands = Hands()
    drain = Drain(clock=hands, drain_s=10)
    assert drain.remaining_s() == 10
    hands.at = 55
    assert drain.remaining_s() == 10
    drain.begin("test")
    hands.at = 58
    assert drain.remaining_s() == 7
    hands.at = 100
    assert drain.remaining_s() == 0
    await within(drain.finished.wait())


async def test_leaving_the_lifespan_drains():
    drain, ran = made(), asyncio.Event()

    async def hook():
        ran.set()

    drain.on_drain("hook", hook)
    async with drain.install():
        assert not drain.draining
    assert ran.is_set()
    assert drain.finished.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_begins_the_drain_and_reaches_the_server_too(number):
    drain, heard = made(), []
    before = signal.signal(number, lambda *signalled: heard.append(signalled[0]))
    try:
        async with drain.install():
            os.kill(os.getpid(), number)
            await within(drain.begun.wait())
            assert heard == [number]
            os.kill(os.getpid(), number)
            assert heard == [number, number]
    finally:
        signal.signal(number, before)


async def test_the_handlers_are_given_back():
    def ours(*_):
        pass

    before = signal.signal(signal.SIGTERM, ours)
    try:
        async with made().install():
            assert signal.getsignal(signal.SIGTERM) is not ours
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_somebody_set_later_is_left_alone():
    def later(*_):
        pass

    before = signal.getsignal(signal.SIGTERM)
    try:
        async with made().install():
            signal.signal(signal.SIGTERM, later)
        assert signal.getsignal(signal.SIGTERM) is later
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        async with made().install():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_off_the_main_thread_it_takes_no_signal():
    before, seen = signal.getsignal(signal.SIGTERM), []

    async def installed():
        async with made().install():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = Thread(target=asyncio.run, args=(installed(),))
    thread.start()
    thread.join(10)
    assert seen == [before]


def test_without_an_asyncio_loop_the_start_is_refused_with_the_way_out():
    """As under trio: a coroutine that is driven by something else than asyncio."""
    for ask in (running_loop, lambda: made().install().__aenter__().send(None)):
        with pytest.raises(ConfigError, match="without '-k trio'"):
            ask()


def test_only_a_hypercorn_worker_has_a_master_to_watch():
    assert server_stop() is None


WORKER = """
import asyncio, multiprocessing, signal, sys, threading
sys.path.insert(0, {tests!r})
from argentor_asgi.ops import drain as module
from argentor_asgi.ops.clock import SystemClock

drain = module.Drain(clock=SystemClock(), drain_s=5)
held = asyncio.Event()
drain.on_drain("held", held.wait)

async def main():
    {prepare}
    async with drain.install():
        signal.raise_signal(signal.SIGTERM)
        await drain.begun.wait()
        print("begun", flush=True)
        {then}
        held.set()
        await drain.finished.wait()
        print("finished", flush=True)
        await asyncio.sleep({stay})
    print("left", flush=True)

asyncio.run(main())
"""


def worker(prepare="pass", then="pass", stay="60"):
    """Run a process in which SIGTERM means death before the drain is installed; return its exit code and output."""
    code = WORKER.format(tests=str(Path(__file__).parents[1]), prepare=prepare, then=then, stay=stay)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  our own interpreter
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout.split()


MASTER = "import threading; multiprocessing.current_process()._kwargs = {'shutdown_event': threading.Event()}"
MASTER_STOPS = "multiprocessing.current_process()._kwargs['shutdown_event'].set()"


@pytest.mark.slow
def test_where_sigterm_meant_death_the_process_dies_of_it_once_it_has_drained():
    assert worker() == (-signal.SIGTERM, ["begun", "finished"])


@pytest.mark.slow
def test_a_process_that_its_server_stops_in_time_does_not_die_of_the_signal():
    assert worker(stay="0") == (0, ["begun", "finished", "left"])


@pytest.mark.slow
def test_the_second_sigterm_kills_at_once_where_it_meant_death():
    assert worker(then="signal.raise_signal(signal.SIGTERM)") == (-signal.SIGTERM, ["begun"])


@pytest.mark.slow
def test_a_worker_whose_master_stops_it_survives_the_masters_own_sigterm():
    then = f"{MASTER_STOPS}; signal.raise_signal(signal.SIGTERM)"
    assert worker(MASTER, then, stay="1.5") == (0, ["begun", "finished", "left"])


async def test_the_masters_event_begins_the_drain():
    class Master:
        told = False

        def is_set(self):
            return self.told

    drain, master = made(), Master()
    watching = asyncio.create_task(drain._watch(master))
    master.told = True
    await within(drain.begun.wait())
    await within(watching)

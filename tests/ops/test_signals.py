"""`argentor_asgi.ops.signals`: in front of every kind of signal handler, and never in a server's way."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.signals import _Chain, be_patient, running_loop, server_settings, server_stop


def made(drain_s=5.0):
    return Drain(clock=SystemClock(), drain_s=drain_s)


async def within(awaitable, seconds=5.0):
    return await asyncio.wait_for(awaitable, seconds)


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

drain = module.Drain(clock=SystemClock(), drain_s=5, total_s={total})
held = asyncio.Event()
drain.hook("drain", "held", held.wait)

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


def worker(prepare="pass", then="pass", stay="60", total="60"):
    """Run a process in which SIGTERM means death before the drain is installed; return its exit code and output."""
    code = WORKER.format(tests=str(Path(__file__).parents[1]), prepare=prepare, then=then, stay=stay, total=total)
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


@pytest.mark.slow
@pytest.mark.parametrize("before", ["lambda *_: None", "signal.SIG_DFL"])
def test_a_process_that_its_server_does_not_end_dies_when_the_whole_time_is_over(before):
    prepare = f"{MASTER}; {MASTER_STOPS}; signal.signal(signal.SIGTERM, {before})"
    assert worker(prepare, total="1") == (-signal.SIGTERM, ["begun", "finished"])


async def test_the_masters_event_begins_the_drain():
    class Master:
        told = False

        def is_set(self):
            return self.told

    drain, master = made(), Master()
    watching = asyncio.create_task(_Chain(drain, asyncio.get_running_loop(), master).watch(master))
    master.told = True
    await within(drain.begun.wait())
    await within(watching)


class Settings:
    graceful_timeout = 3.0


class Lifespan:
    """What hypercorn's lifespan task looks like from within."""

    def __init__(self, config):
        self.config = config

    async def handle_lifespan(self, app):
        await app()


@pytest.mark.parametrize(("total_s", "waits_s"), [(30.0, 30.0), (1.0, 3.0)])
async def test_hypercorn_is_made_to_wait_as_long_as_the_whole_stop_may_take(total_s, waits_s):
    settings, drain = Settings(), Drain(clock=SystemClock(), drain_s=0, total_s=total_s)

    async def app():
        async with drain.install():
            assert settings.graceful_timeout == waits_s

    await asyncio.create_task(Lifespan(settings).handle_lifespan(app))


def test_a_grace_that_somebody_chose_stays():
    settings = Settings()
    settings.graceful_timeout = 2.0
    be_patient(settings, 30.0)
    assert settings.graceful_timeout == 2.0


@pytest.mark.parametrize("settings", [None, object(), type("Odd", (), {"graceful_timeout": None})()])
def test_another_servers_settings_are_left_alone(settings):
    before = getattr(settings, "graceful_timeout", None)
    be_patient(settings, 30.0)
    assert getattr(settings, "graceful_timeout", None) == before


async def test_only_hypercorn_has_settings_to_be_found():
    assert server_settings() is None


def test_hypercorns_default_is_where_it_is_looked_for():
    """Fails when a new hypercorn keeps it elsewhere: then its 3 s cut what a longer drain waits for."""
    hypercorn = pytest.importorskip("hypercorn.config").Config()
    be_patient(hypercorn, 30.0)
    assert hypercorn.graceful_timeout == 30.0

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from argentor_asgi.errors import ConfigError
from argentor_asgi.sessions.lock import FileLock, lock_database

HOLDER = """
import asyncio, sys, time
from pathlib import Path
from argentor_asgi.sessions.lock import lock_database
lock = asyncio.run(lock_database(Path(sys.argv[1]), 0.0))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "a.db"


def hold(database):
    """Start a process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, database], stdout=subprocess.PIPE)  # noqa: S603  ours
    assert process.stdout.readline() == b"held\n"
    return process


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


async def test_a_lock_is_held_once_and_free_after_its_release(database):
    lock = await lock_database(database, 0.0)
    with pytest.raises(ConfigError):
        await lock_database(database, 0.0)
    lock.release()
    lock.release()
    (await lock_database(database, 0.0)).release()


async def test_the_refusal_names_the_file_the_holder_and_the_way_out(database):
    lock = await lock_database(database, 0.0)
    with pytest.raises(ConfigError) as caught:
        await lock_database(database, 0.0)
    for word in (str(database), f"process {os.getpid()}", "storage.url=redis://", "stop the other"):
        assert word in str(caught.value)
    lock.release()


async def test_a_waiter_gets_the_lock_when_it_is_freed_and_the_loop_runs_meanwhile(database):
    lock = await lock_database(database, 0.0)
    waiting = asyncio.ensure_future(lock_database(database, 30.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    lock.release()
    (await waiting).release()


async def test_a_cancelled_waiter_leaves_the_lock_alone(database):
    lock = await lock_database(database, 0.0)
    waiting = asyncio.ensure_future(lock_database(database, 30.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lock.release()
    (await lock_database(database, 0.0)).release()


async def test_the_lock_file_is_private_and_stays(database):
    (await lock_database(database, 0.0)).release()
    assert database.with_name("a.db.lock").stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none/a\.db cannot be locked: No such file"):
        await lock_database(tmp_path / "none" / "a.db", 0.0)


async def test_a_lock_file_that_cannot_be_written_is_named_and_let_go(database):
    database.with_name("a.db.lock").symlink_to("/dev/full")
    before = open_files()
    with pytest.raises(ConfigError, match="cannot be locked"):
        await lock_database(database, 0.0)
    assert open_files() == before


def test_the_holder_of_no_lock_is_unknown(tmp_path):
    assert FileLock(tmp_path / "none.lock").holder() == "?"
    (tmp_path / "empty.lock").touch()
    assert FileLock(tmp_path / "empty.lock").holder() == "?"


@pytest.mark.slow
async def test_another_process_keeps_us_out_until_it_is_killed(database):
    process = hold(database)
    try:
        with pytest.raises(ConfigError, match=f"in use by process {process.pid}"):
            await lock_database(database, 0.1)
        waiting = asyncio.ensure_future(lock_database(database, 30.0))
        os.kill(process.pid, signal.SIGKILL)
        (await waiting).release()
    finally:
        end(process)

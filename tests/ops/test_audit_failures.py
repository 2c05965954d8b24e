import os
import subprocess
import sys
import tempfile
import threading
from textwrap import dedent

import pytest
from audit_place import actions, lines, seen

from argentor_asgi.errors import ConfigError, StorageUnavailable
from argentor_asgi.ops.audit_read import ACTIVE, HEAD, LOCK
from argentor_asgi.ops.audit_verify import verify

pytestmark = pytest.mark.slow


# --- what goes wrong ---


async def test_a_directory_that_goes_is_made_again_and_the_loss_is_told(audit, tmp_path):
    directory = tmp_path / "audit"
    audit.record("run_start", outcome="success")
    await audit.flush()
    for name in (ACTIVE, HEAD, LOCK):
        (directory / name).unlink()
    directory.rmdir()
    audit.record("run_end", outcome="success")
    await audit.check()
    assert actions(directory) == ["audit_recovered", "run_end"]
    assert lines(directory)[0]["details"] == {"last_seq": 0, "cut_bytes": 0, "lost": 2, "flaw": ""}
    assert lines(directory)[1]["seq"] == 4


async def test_a_place_that_cannot_be_written_is_told_and_written_when_it_can_be(audit, tmp_path):
    directory = tmp_path / "audit"
    directory.rename(tmp_path / "away")
    directory.touch()
    audit.record("run_start", outcome="success")
    with pytest.raises(StorageUnavailable):
        await audit.check()
    with pytest.raises(StorageUnavailable):
        await audit.flush()
    assert audit.errors >= 2
    assert audit.depth == 1
    directory.unlink()
    (tmp_path / "away").rename(directory)
    await audit.check()
    assert [row.action for row in await seen(audit)] == ["run_start"]
    assert verify(directory).first_break is None


async def test_a_write_that_failed_is_tried_again_by_itself(audit, tmp_path):
    directory = tmp_path / "audit"
    directory.rename(tmp_path / "away")
    directory.touch()
    audit.record("run_start", outcome="success")
    await audit._writing
    assert (audit.errors, audit.depth) == (1, 1)
    directory.unlink()
    (tmp_path / "away").rename(directory)
    assert audit._retry_timer is not None
    audit._retry()
    await audit._writing
    assert (audit.errors, audit.depth, audit._retry_timer) == (1, 0, None)
    assert actions(directory) == ["audit_opened", "run_start"]


async def test_an_end_without_a_place_gives_up_and_counts_what_is_lost(make, tmp_path):
    directory = tmp_path / "audit"
    async with make() as audit:
        directory.rename(tmp_path / "away")
        directory.touch()
        audit.record("run_start", outcome="success")
    assert audit.dropped == 2  # the closing one too
    assert audit.depth == 0
    with pytest.raises(StorageUnavailable):
        await audit.check()


async def test_a_check_leaves_nothing_behind(audit, tmp_path):
    await audit.check()
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == [HEAD, ACTIVE, LOCK]


@pytest.fixture
def a_pipe():
    reading, writing = os.pipe()
    yield writing
    os.close(reading)
    os.close(writing)


async def test_a_device_that_refuses_is_told_at_a_flush_and_at_the_end(make, a_pipe, caplog):
    async with make() as audit:
        os.dup2(a_pipe, audit._files._head_fd)  # a pipe cannot be forced to a device
        audit.record("run_start", outcome="success")
        with pytest.raises(StorageUnavailable):
            await audit.flush()
    assert (audit.errors, audit.dropped) == (1, 0)
    assert "could not be closed in order" in caplog.text
    async with make() as audit:
        await audit.check()


async def test_a_disk_that_hangs_keeps_nobody(make, caplog):
    gate = threading.Event()
    async with make(write_wait_s=0.05) as audit:
        audit._worker.submit(gate.wait)
        audit.record("run_start", outcome="success")
        with pytest.raises(StorageUnavailable):
            await audit.check()
        with pytest.raises(StorageUnavailable):
            await audit.flush()
        writing = audit._writing
    assert "could not be written" in caplog.text
    assert "could not be closed in order" in caplog.text
    assert audit.dropped == 2
    assert writing.cancelled()
    gate.set()


async def test_files_that_cannot_be_read_are_told(audit, tmp_path):
    (tmp_path / "audit" / ACTIVE).unlink()
    (tmp_path / "audit" / ACTIVE).mkdir()
    with pytest.raises(StorageUnavailable):
        await audit.logs(limit=1)
    (tmp_path / "audit" / ACTIVE).rmdir()
    assert (await audit.logs(limit=1)).rows == []


async def test_a_machine_without_a_temporary_directory_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no temporary directory"):
        await make(None).__aenter__()


async def test_a_head_that_cannot_be_written_is_refused(make, tmp_path):
    head = tmp_path / "audit" / HEAD
    head.mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        await make().__aenter__()
    head.rmdir()
    head.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be written"):
        await make().__aenter__()
    assert not (tmp_path / "elsewhere").exists()
    head.unlink()
    async with make() as audit:
        await audit.check()


FULL = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from argentor_asgi.errors import ConfigError, StorageUnavailable
    from argentor_asgi.ops.audit import Audit
    from argentor_asgi.ops.audit_verify import verify
    from argentor_asgi.ops.clock import SystemClock

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def main(place):
        async with Audit(place, clock=SystemClock(), file_bytes=10**6, retention_days=1) as audit:
            limit(20_000)
            for number in range(100):
                audit.record("run_start", outcome="success", details={"number": number})
            try:
                await audit.check()
            except StorageUnavailable:
                print("refused", audit.errors > 0, audit.depth, audit.dropped)
            print(verify(place).exit_code)
            limit(resource.RLIM_INFINITY)
            await audit.check()
            print(audit.depth, audit.dropped)
        print(verify(place).exit_code, verify(place).entries)

    asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_full_disk_is_told_loses_nothing_and_leaves_no_torn_line(tmp_path):
    command = [sys.executable, "-c", dedent(FULL), str(tmp_path / "audit")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  our own script
    assert (done.stdout.splitlines(), done.returncode) == (["refused True 100 0", "0", "0 0", "0 102"], 0), done.stderr


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from argentor_asgi.ops.audit import Audit
    from argentor_asgi.ops.clock import SystemClock

    async def main(place):
        async with Audit(place, clock=SystemClock(), file_bytes=20_000, retention_days=1) as audit:
            for number in range(2000):
                audit.record("run_start", outcome="success")
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await audit.flush()
            for number in range(1500):
                audit.record("run_end", outcome="success")
            while audit.depth > 700:
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.slow
async def test_a_process_that_is_killed_loses_nothing_that_was_flushed(make, tmp_path):
    # agent.md 1.10 D20
    command = [sys.executable, "-c", dedent(KILLED), str(tmp_path / "audit")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: ASYNC221, S603  nothing else runs, and it is our own script
    assert done.returncode == -9, done.stderr
    async with make():
        pass
    report = verify(tmp_path / "audit")
    assert report.first_break is None
    assert actions(tmp_path / "audit").count("run_start") == 2000

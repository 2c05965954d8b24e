"""`argentor_asgi.ops.access`: what a line says, and that no stream, however sick, holds the loop or the memory."""

import asyncio
import contextlib
import errno
import fcntl
import io
import json
import logging
import os
import pty
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import eventually

from argentor_asgi.ops.access import LINES, LOGGER, PATH_BYTES, WRITE_BYTES, AccessLog
from argentor_asgi.ops.log import JsonFormatter

pytestmark = pytest.mark.slow

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"


def line(log, path=b"/api/v1/sessions/7", **changed):
    told = {
        "kind": "request",
        "method": "GET",
        "path": path,
        "route": "/api/v1/sessions/{session_id}",
        "status": 200,
        "ended": time.perf_counter(),
        "seconds": 0.0123456,
        "request_id": b"00000000000000aa",
        "trace_id": TRACE,
        "principal": "me",
        "address": "192.0.2.1",
    } | changed
    log.write(*told.values())


@contextlib.contextmanager
def piped(kind="json", **settings):
    """Yield a log into a pipe, and a function that returns the lines once the log is closed."""
    reads, writes = os.pipe()
    log = AccessLog(kind, fd=writes, **settings)

    async def lines():
        await log.close()
        os.close(writes)
        with os.fdopen(os.dup(reads), "rb") as file:
            return file.read().decode().splitlines()

    try:
        yield log, lines
    finally:
        os.close(reads)


async def test_a_line_says_what_was_asked_and_answered():
    with piped() as (log, lines):
        before = time.time()
        line(log)
        (text,) = await lines()
    found = json.loads(text)
    told = time.strptime(found["time"], "%Y-%m-%dT%H:%M:%S." + found["time"][-4:-1] + "Z")
    assert abs(before - (time.mktime(told) - time.timezone)) < 5
    assert found == {
        "time": found["time"],
        "level": "info",
        "logger": LOGGER,
        "message": "request",
        "method": "GET",
        "path": "/api/v1/sessions/7",
        "route": "/api/v1/sessions/{session_id}",
        "status": 200,
        "duration_ms": 12.346,
        "request_id": "00000000000000aa",
        "trace_id": TRACE.decode(),
        "principal": "me",
        "address": "192.0.2.1",
    }


async def test_the_first_fields_are_those_of_every_other_line_of_the_gateway():
    other = json.loads(JsonFormatter().format(logging.makeLogRecord({"msg": "request", "levelname": "INFO"})))
    with piped() as (log, lines):
        line(log)
        (text,) = await lines()
    assert list(json.loads(text))[:4] == list(other)
    assert len(json.loads(text)["time"]) == len(other["time"])


async def test_what_is_not_known_is_left_out_and_a_socket_has_a_code():
    with piped() as (log, lines):
        line(log, kind="websocket", status=1001, trace_id=None, principal=None, address=None)
        line(log, kind="stream", status=499)
        socket, stream = map(json.loads, await lines())
    assert (socket["message"], socket["code"]) == ("websocket", 1001)
    assert not {"status", "trace_id", "principal", "address"} & set(socket)
    assert (stream["message"], stream["status"]) == ("stream", 499)


async def test_lines_for_people_say_the_same():
    with piped("console") as (log, lines):
        line(log, principal="m\x1b[31me")
        (text,) = await lines()
    moment, rest = text.split(" ", 1)
    assert moment.endswith("Z")
    assert rest == (
        f"info    {LOGGER}: request method=GET path=/api/v1/sessions/7 route=/api/v1/sessions/{{session_id}} status=200"
        f" duration_ms=12.346 request_id=00000000000000aa trace_id={TRACE.decode()} principal=m\\x1b[31me"
        " address=192.0.2.1"
    )


async def test_auto_is_for_people_on_a_terminal():
    reads, writes = pty.openpty()
    log = AccessLog("auto", fd=writes)
    line(log)
    await log.close()
    assert os.read(reads, 65536).decode().split()[1:4] == ["info", f"{LOGGER}:", "request"]
    os.close(reads)
    os.close(writes)


async def test_no_query_is_written_and_a_path_is_bounded():
    with piped() as (log, lines):
        line(log, path=b"/x?api_key=SECRET")
        line(log, path=b"/" + b"\xff" * 100_000)
        first, second = await lines()
    assert "SECRET" not in first
    assert json.loads(first)["path"] == "/x"
    assert len(json.loads(second)["path"]) == 1 + (PATH_BYTES - 1) * len("\\xff")
    assert len(second) < WRITE_BYTES


@settings(max_examples=15)
@given(paths=st.lists(st.binary(max_size=40), min_size=1, max_size=20), method=st.text(max_size=10))
def test_any_bytes_are_one_line_that_moves_no_cursor(paths, method):
    for kind in ("json", "console"):
        found = asyncio.run(_written(kind, paths, method))
        assert len(found) == len(paths)
        assert all(text.isprintable() for text in found)
        if kind == "json":
            assert all(json.loads(text)["path"].isprintable() for text in found)


async def _written(kind, paths, method):
    with piped(kind) as (log, lines):
        for path in paths:
            line(log, path=path, method=method)
        return await lines()


async def test_every_line_comes_whole_and_in_order_however_many_there_are():
    reads, writes = os.pipe()
    log, found = AccessLog("json", fd=writes), []

    def read():
        with os.fdopen(reads, "rb") as file:
            found.extend(json.loads(text)["status"] for text in file)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(5000):
        line(log, status=number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await log.close()
    os.close(writes)
    reader.join()
    assert found == list(range(5000))
    assert log.dropped == 0


async def test_a_stream_that_nobody_reads_costs_lines_and_holds_nobody():
    reads, writes = os.pipe()
    log = AccessLog("json", fd=writes, lines=100)
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, WRITE_BYTES)
    for _ in range(1000):
        line(log)
    assert log.dropped >= 900 - 100
    await log.close(0.01)
    drained = threading.Thread(target=_drain, args=(reads, found := []))
    drained.start()
    await eventually(lambda: log._thread is None)
    os.close(writes)
    drained.join()
    told = [json.loads(text) for text in b"".join(found).splitlines()]
    assert told[-1]["message"] == f"{log.dropped} lines were dropped so far"
    assert (told[-1]["level"], told[-1]["lines"]) == ("warning", log.dropped)
    assert len(told) == 1000 - log.dropped + 1


def _drain(reads, found):
    with os.fdopen(reads, "rb") as file:
        while data := file.read1():
            found.append(data)


async def test_a_full_stream_that_does_not_block_is_asked_again():
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, WRITE_BYTES)
    log = AccessLog("json", fd=writes)
    for number in range(100):
        line(log, status=number)
    closing = asyncio.create_task(log.close())
    drained = threading.Thread(target=_drain, args=(reads, found := []))
    drained.start()
    await closing
    os.close(writes)
    drained.join()
    assert [json.loads(text)["status"] for text in b"".join(found).splitlines()] == list(range(100))


async def test_a_reader_that_is_gone_costs_lines_only():
    reads, writes = os.pipe()
    os.close(reads)
    log = AccessLog("json", fd=writes)
    line(log)
    await log.close()
    assert log.dropped == 1
    os.close(writes)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")  # noqa: PTH110  at import
async def test_a_full_disk_costs_lines_only_and_the_next_ones_are_written_when_it_has_room():
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        os.write(full, b"x")
    log = AccessLog("json", fd=full)
    line(log)
    await log.close()
    assert log.dropped == 1
    reads, writes = os.pipe()
    os.dup2(writes, full)
    os.close(writes)
    line(log)
    await log.close()
    os.close(full)
    with os.fdopen(reads, "rb") as file:
        assert [json.loads(text)["message"] for text in file] == ["request"]


async def test_a_line_after_the_end_begins_another_thread():
    with piped() as (log, lines):
        await log.close()
        line(log)
        await log.close()
        assert log._thread is None
        line(log)
        assert len(await lines()) == 2


async def test_the_thread_begins_with_the_first_line_and_ends_with_the_log():
    before = threading.active_count()
    with piped() as (log, lines):
        assert threading.active_count() == before
        line(log)
        assert [each.name for each in threading.enumerate()].count("access-log") == 1
        line(log)
        await lines()
    assert "access-log" not in [each.name for each in threading.enumerate()]


async def test_a_line_that_cannot_be_made_does_not_end_the_others(caplog):
    with piped() as (log, lines):
        line(log, request_id=None)
        line(log, request_id=None)
        line(log)
        written, dropped = map(json.loads, await lines())
    assert (written["message"], dropped["lines"]) == ("request", 2)
    assert caplog.text.count("an access line could not be written") == 1


async def test_each_batch_wakes_the_same_thread():
    reads, writes = os.pipe()
    log = AccessLog("json", fd=writes)
    for number in range(2):
        line(log, status=number)
        thread = log._thread
        assert json.loads(await asyncio.to_thread(os.read, reads, WRITE_BYTES))["status"] == number
        assert log._thread is thread
    await log.close()
    os.close(reads)
    os.close(writes)


async def test_nothing_is_written_where_nothing_came():
    with piped() as (log, lines):
        line(log)
        await log.close()
        log._flush()
        assert len(await lines()) == 1


def test_stderr_is_where_lines_go_even_where_python_s_is_something_else():
    assert AccessLog("json", lines=LINES)._fd == sys.stderr.fileno()
    with contextlib.redirect_stderr(io.StringIO()):
        assert AccessLog("json")._fd == 2

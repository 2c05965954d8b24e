"""An app that obeys `Drain` lets every server exit on SIGTERM, with a stream, a socket and an idle connection open."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import psutil
import pytest
from processes import TESTS, eventually, goodbyes, server
from websockets.asyncio.client import connect

pytestmark = pytest.mark.slow

STOP_S = 3
"""What a stop may take; measured: 0.2 s and less on every server, Python 3.11 and 3.13."""
SERVERS = [
    ("hypercorn-asyncio", 0),
    ("hypercorn-asyncio", 1),
    ("hypercorn-asyncio", 2),
    ("hypercorn-uvloop", 0),
    ("hypercorn-uvloop", 1),
    ("uvicorn", None),
    ("granian", None),
    ("serve", None),
]
EXIT_CODES = {"uvicorn": -signal.SIGTERM}
"""uvicorn raises the signal again when it has stopped."""


def started(kind, tmp_path, workers=None, **options):
    app = "drain_demo:gateway" if kind == "serve" else "drain_demo:app"
    return server(kind, app, cwd=tmp_path, workers=workers, **options)


@asynccontextmanager
async def stream(port):
    """Open the endless stream and yield its reader behind the first event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"event: open\n"), 5)
    try:
        yield reader
    finally:
        writer.close()


@asynccontextmanager
async def idle(port):
    """Keep a connection open that has had its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"ok"), 5)
    try:
        yield
    finally:
        writer.close()


async def exit_code(running, seconds=STOP_S):
    return await asyncio.to_thread(running.wait_s, seconds)


@pytest.mark.parametrize("signalled", ["terminate", "terminate_group"])
@pytest.mark.parametrize(("kind", "workers"), SERVERS)
async def test_sigterm_ends_streams_and_sockets_properly_and_then_the_server(kind, workers, signalled, tmp_path):
    async with started(kind, tmp_path, workers) as running, stream(running.port) as reader, idle(running.port):
        async with connect(f"ws://127.0.0.1:{running.port}/ws", compression=None) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            getattr(running, signalled)()
            tail, code = await asyncio.gather(asyncio.wait_for(reader.read(), STOP_S), exit_code(running))
            await asyncio.wait_for(socket.wait_closed(), STOP_S)
        assert code == EXIT_CODES.get(kind, 0)
        assert b"event: shutdown" in tail
        assert tail.endswith(b"0\r\n\r\n")
        assert socket.close_code in goodbyes(kind)
        assert (tmp_path / "stopped").exists()


async def test_sigterm_to_a_hypercorn_worker_alone_ends_its_streams_before_it_dies(tmp_path):
    async with started("hypercorn-asyncio", tmp_path, 1) as running, stream(running.port) as reader:
        [worker] = running.worker_pids()
        os.kill(worker, signal.SIGTERM)
        tail = await asyncio.wait_for(reader.read(), STOP_S)
        await asyncio.to_thread(psutil.wait_procs, [psutil.Process(running.pid)], STOP_S)
        assert tail.endswith(b"0\r\n\r\n")
        assert not psutil.pid_exists(worker)


async def test_an_interrupt_at_the_keyboard_stops_the_launcher_cleanly(tmp_path):
    async with started("serve", tmp_path) as running, stream(running.port) as reader:
        running.terminate_group(signal.SIGINT)
        tail, code = await asyncio.gather(asyncio.wait_for(reader.read(), STOP_S), exit_code(running))
        assert (code, tail.endswith(b"0\r\n\r\n")) == (0, True)
        assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_stops_the_launcher_at_once(number, tmp_path):
    env = {"DEMO_HANG": "1", "DEMO_DRAIN_S": "60"}
    async with started("serve", tmp_path, env=env) as running, stream(running.port):
        running.terminate(number)
        await eventually(lambda: "draining" in running.log)
        running.terminate(number)
        assert await exit_code(running) == 128 + number


@pytest.mark.parametrize("uvloop", [True, False])
async def test_the_launcher_stops_even_if_a_stream_does_not(uvloop, tmp_path):
    """What cuts it off depends on the loop: hypercorn's own grace (0), or on asyncio >= 3.12 the launcher (1)."""
    env = {"DEMO_HANG": "1", "DEMO_DRAIN_S": "0.1"}
    if not uvloop:
        (tmp_path / "uvloop.py").write_text("raise ImportError")
        env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{TESTS}"
    async with started("serve", tmp_path, env=env) as running, stream(running.port):
        running.terminate()
        cut = not uvloop and sys.version_info >= (3, 12)
        assert await exit_code(running, 12) == (1 if cut else 0)


async def test_the_launcher_goes_on_answering_until_it_has_drained(tmp_path):
    env = {"DEMO_HANG": "1", "DEMO_DRAIN_S": "60"}
    async with started("serve", tmp_path, env=env) as running:
        running.terminate()
        await eventually(lambda: "draining" in running.log)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), STOP_S)).endswith(b"draining")
        writer.close()
        running.terminate()


async def test_the_launcher_is_gone_within_the_total_time_whatever_hangs(tmp_path):
    env = {"DEMO_HANG": "1", "DEMO_DRAIN_S": "60", "DEMO_TOTAL_S": "2"}
    async with started("serve", tmp_path, env=env) as running, stream(running.port):
        running.terminate()
        assert await exit_code(running, 2 + STOP_S) in {0, 1}


async def test_the_launcher_serves_on_for_a_while_after_it_is_not_ready(tmp_path):
    """Where nothing is configured, balancers have 1.5 s to notice; an interrupt from a person does not wait."""
    env = {"ARGENTOR_STORAGE_URL": "memory://"}
    async with server("serve", cwd=tmp_path, env=env) as running:
        assert await status(running.port, "/health/ready") == 200
        running.terminate()
        await eventually(lambda: "draining" in running.log)
        assert await status(running.port, "/health/ready") == 503
        assert await status(running.port, "/api/v1/sessions") == 200
        assert await exit_code(running, 2 * STOP_S) == 0


async def test_the_delay_is_what_is_configured(tmp_path):
    env = {
        "ARGENTOR_STORAGE_URL": "memory://",
        "ARGENTOR_SHUTDOWN_READY_DELAY_S": "60",
        "ARGENTOR_SHUTDOWN_TOTAL_S": "90",
    }
    async with server("serve", cwd=tmp_path, env=env) as running:
        running.terminate()
        await eventually(lambda: "draining" in running.log)
        assert await status(running.port, "/api/v1/sessions") == 200
        running.terminate(signal.SIGINT)
        assert await exit_code(running) == 128 + signal.SIGINT


async def status(port, path):
    """Ask once, on a connection of its own; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readline(), STOP_S)
    writer.close()
    return int(head.split()[1])

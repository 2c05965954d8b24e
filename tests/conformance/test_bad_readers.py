"""Clients that stop reading, stop sending, or vanish, over real sockets: they cost a cursor, and only themselves.

A run streams 40,000 pieces while two clients read nothing and two begin late. The run ends as if nobody were there;
whoever reads late has every event once; whoever never reads is ended by the write deadline; the server's memory stays
within `GROWTH_BYTES` of where it was.
"""

import asyncio
import http.client
import json
import socket
import struct
import time
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest
from hostile import CHAT, MIB, Ask, check_problem_body, exchange, rss_bytes
from processes import server
from recording import PATIENCE_S, client, heard_frame, talking
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.slow

KINDS = ["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian"]
STREAM = "/api/v1/chat/stream"
PIECES, SIZE = 40_000, 25
GROWTH_BYTES = 64 * MIB
"""How much more memory a server may hold at any moment of the flood: a run's log, its text in a few forms, four
readers' batches, and what the kernel does not take."""
DEADLINE_S = 10.0
"""How long one write may block."""
GREEDY_FRAMES = 200_000
REQUEST_TIMEOUT_S = 1.0
RESET = struct.pack("ii", 1, 0)
"""The SO_LINGER by which a close resets the connection."""


def serving(kind, cwd, *, timeout_s=60.0, tracebacks=False):
    workers = 0 if kind.startswith("hypercorn") else None
    env = {"ARGENTOR_LIMITS_REQUEST_TIMEOUT_S": str(timeout_s)}
    return server(kind, "flood_app:app", cwd=cwd, workers=workers, env=env, tracebacks=tracebacks)


async def inside(port: int) -> dict:
    async with client(port) as http:
        return (await http.get("/inside")).json()


async def until_inside(port: int, within_s: float, **wanted) -> None:
    """Wait until the gateway says so of itself."""
    until = time.monotonic() + within_s
    while not wanted.items() <= (now := await inside(port)).items():
        assert time.monotonic() < until, (now, wanted)
        await asyncio.sleep(0.05)


def narrow(port: int) -> socket.socket:
    """Return a connected socket for which the kernel keeps little."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    made.settimeout(PATIENCE_S + DEADLINE_S)
    made.connect(("127.0.0.1", port))
    return made


class Stream:
    """A request on a narrow socket, and its answer, whose body is still to be read; for threads."""

    def __init__(self, port: int, method: str, path: str, body: dict | None = None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.connection.sock = self.raw = narrow(port)
        self.connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        self.response = self.connection.getresponse()

    def run_id(self) -> str:
        """Read the first lines; return the run's id in them."""
        assert self.response.readline().startswith(b"retry: ")
        return self.response.readline().decode().removeprefix("id: ").rpartition(":")[0]

    def rest(self) -> bytes:
        """Return what was on its way to a client that begins to read when it is too late."""
        data = bytearray()
        self.raw.settimeout(1.0)
        with suppress(http.client.IncompleteRead, ConnectionResetError, TimeoutError):
            while piece := self.response.read1():
                data += piece
        return bytes(data)

    def lose(self, how: str) -> None:
        """Close the connection, cut it with a reset, or send a FIN and keep it."""
        if how == "half-close":
            self.raw.shutdown(socket.SHUT_WR)
            return
        if how == "cut":
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@asynccontextmanager
async def resumed(port: int, run_id: str):
    """Open a WebSocket on a narrow socket and ask for all of a run."""
    async with connect(f"ws://127.0.0.1:{port}/ws", sock=narrow(port), compression=None, max_queue=1) as found:
        await heard_frame(found)
        await found.send(json.dumps({"type": "resume", "run_id": run_id}))
        yield found
        found.transport.abort()


class Peak:
    """Watches a server's memory while the block runs."""

    def __init__(self, pid: int):
        self._pid, self._calm = pid, rss_bytes(pid)
        self.growth_bytes = 0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_error):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _watch(self):
        while True:
            self.growth_bytes = max(self.growth_bytes, rss_bytes(self._pid) - self._calm)
            await asyncio.sleep(0.05)


async def test_who_does_not_read_costs_a_cursor_and_who_reads_late_has_everything(tmp_path):
    """Flood all servers at once, since the write deadline is the same for them all."""
    # agent.md 1.10 D9
    for kind in KINDS:
        (tmp_path / kind).mkdir()
    await asyncio.gather(*(flooded(kind, tmp_path / kind) for kind in KINDS))


async def flooded(kind, cwd) -> None:
    """Let one server's run flood its readers, and check what becomes of each."""
    # hypercorn says in its own words that it was waiting for a socket which the app had given up.
    async with serving(kind, cwd, tracebacks=True) as running:
        port = running.port
        calm = (await inside(port))["tasks"]
        async with Peak(running.pid) as peak, greedy(port):
            late = await asyncio.to_thread(Stream, port, "POST", STREAM, {"input": f"flood {PIECES} {SIZE}"})
            run_id = await asyncio.to_thread(late.run_id)
            dead = await asyncio.to_thread(Stream, port, "GET", f"/api/v1/runs/{run_id}/stream")
            async with resumed(port, run_id) as late_ws, resumed(port, run_id) as dead_ws:
                await others_are_served(port)
                await until_inside(port, PATIENCE_S * 3, runs=0)
                check_stream(await asyncio.to_thread(late.response.read), run_id)
                await check_frames(late_ws)
                late_ws.transport.abort()
                await until_inside(port, DEADLINE_S + PATIENCE_S, connections=0, tasks=calm)
                assert b"event: done" not in await asyncio.to_thread(dead.rest)
                assert await is_cut(dead_ws)
            late.close()
            dead.close()
        assert peak.growth_bytes < GROWTH_BYTES, f"{kind}: {peak.growth_bytes / MIB:.0f} MiB"
        async with client(port) as http:
            assert (await http.get(f"/api/v1/runs/{run_id}")).json()["status"] == "done"
        await others_are_served(port)
        assert "argentor_asgi/" not in running.log


@asynccontextmanager
async def greedy(port: int):
    """Ask and ask on a socket, and never read what is answered, while the block runs."""
    async with connect(f"ws://127.0.0.1:{port}/ws", sock=narrow(port), compression=None, ping_interval=None) as found:
        found.transport.pause_reading()
        asking = asyncio.create_task(asks(found))
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            found.transport.abort()


async def asks(found) -> None:
    """Send frames that are all answered, until the socket takes no more."""
    frame = json.dumps({"type": "?" * 60})
    for _ in range(GREEDY_FRAMES):
        await found.send(frame)


async def others_are_served(port: int) -> None:
    async with talking(port) as talk:
        assert (await talk.ask("hello")).closing["content"] == "you said hello"
    answer = await asyncio.to_thread(exchange, port, Ask("POST", CHAT, 200, body=b'{"message": "hello"}'))
    assert json.loads(answer.body)["response"] == "you said hello"


def check_stream(body: bytes, run_id: str) -> None:
    """Check that the rest of a stream has every event once, in order, and its end."""
    ids = [line for line in body.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [f"id: {run_id}:{seq}".encode() for seq in range(2, PIECES + 4)]
    numbers = [int(line.split(b'"text":"')[1].split(b" ")[0]) for line in body.split(b"\n") if b'"type":"text"' in line]
    assert numbers == list(range(PIECES))
    assert body.rpartition(b"event: ")[2].startswith(b"done\n")


async def check_frames(found) -> None:
    """Check that a socket has every event once, in order, and the frame that closes the run."""
    async with asyncio.timeout(PATIENCE_S * 3):
        for seq in range(1, PIECES + 4):
            assert f'"seq":{seq},' in await unpinged(found)
    assert json.loads(await unpinged(found))["type"] == "response"


async def unpinged(found) -> str:
    """Return the next frame that is not one of the gateway's pings."""
    while (frame := await found.recv()).startswith('{"type":"ping"'):
        pass
    return frame


async def is_cut(found) -> bool:
    """Say whether a socket ends without the frame that closes the run."""
    with suppress(ConnectionClosed, TimeoutError):
        async with asyncio.timeout(2.0):
            while json.loads(await found.recv()).get("type") != "response":
                pass
            return False
    return True


@pytest.fixture(scope="module", params=KINDS)
def running(request, tmp_path_factory):
    with serving(request.param, tmp_path_factory.mktemp(request.param), timeout_s=REQUEST_TIMEOUT_S) as found:
        yield found


@pytest.mark.parametrize("how", ["close", "cut", "half-close"])
@pytest.mark.parametrize(("on_disconnect", "status"), [("continue", "done"), ("cancel", "cancelled")])
async def test_a_stream_lost_in_the_middle_of_a_run_leaves_nothing_behind(running, how, on_disconnect, status):
    gate, port = str(uuid4()), running.port
    calm = (await inside(port))["tasks"]
    body = {"input": f"model {gate}", "on_disconnect": on_disconnect}
    stream = await asyncio.to_thread(Stream, port, "POST", STREAM, body)
    run_id = await asyncio.to_thread(stream.run_id)
    async with client(port) as http:
        await http.get(f"/gates/{gate}")
        stream.lose(how)
        if on_disconnect == "continue":
            await http.post(f"/gates/{gate}")
        await until_inside(port, PATIENCE_S, runs=0, tasks=calm)
        assert (await http.get(f"/api/v1/runs/{run_id}")).json()["status"] == status
    stream.close()


async def test_a_body_that_drips_ends_at_the_requests_deadline_or_with_its_client(running):
    port = running.port
    calm = (await inside(port))["tasks"]
    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    stalled, abandoned, cut = (narrow(port) for _ in range(3))
    for each in (stalled, abandoned, cut):
        each.sendall(head.encode() + b'{"message"')
    abandoned.close()
    cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    cut.close()
    await others_are_served(port)
    answer = http.client.HTTPResponse(stalled)
    await asyncio.to_thread(answer.begin)
    assert answer.status == 504
    assert check_problem_body(answer.read().decode())["code"] == "request_timeout"
    answer.close()
    stalled.close()
    await until_inside(port, PATIENCE_S, runs=0, connections=0, tasks=calm)

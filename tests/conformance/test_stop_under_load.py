"""A server that is stopped under load cuts nobody off: answers that began are whole, every stream and run has its end.

The load: sockets that idle, sockets and streams whose runs end in time or have to be cancelled, and clients that ask as
fast as they can. A request that gets no answer at all may be sent again, so that is no harm; half an answer is.
"""

import asyncio
import json
import signal
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing, suppress

import pytest
from processes import OUR_GOODBYE, goodbyes, server
from recording import CLOSING, PATIENCE_S, client, heard_frame, sents, talking
from websockets.exceptions import ConnectionClosed

from argentor_asgi.protocol.events import TERMINAL

pytestmark = pytest.mark.slow

SOCKETS, BUSY_SOCKETS, STREAMS, CLIENTS = 200, 50, 50, 64
DRAIN_S, EXIT_S = 1.5, 4.5
"""How long runs may go on, and within what the process is gone: 1 s for ending the rest, and 2 s after the last run."""
IN_TIME, TOO_LONG = "takes 1", "takes 60"
THINKS_S = 0.02
"""What a client waits between an answer and its next request: its work is done in the same process as the others'."""
WARM = 500
"""How many answers the clients have had before the server is told to stop."""
ENV = {
    "ARGENTOR_SHUTDOWN_DRAIN_S": str(DRAIN_S),
    "ARGENTOR_LIMITS_CONNECTIONS_PER_PRINCIPAL": "1000",
    "ARGENTOR_LIMITS_STREAMS_PER_PRINCIPAL": "1000",
    "ARGENTOR_LIMITS_RUNS_PER_PRINCIPAL": "1000",
}
EXIT_CODES = {"uvicorn": -signal.SIGTERM}
"""uvicorn raises the signal again when it has stopped."""
HASTY = {"uvicorn", "granian"}
"""The servers that close every socket themselves as soon as they are told to stop."""
SIGTERM, SIGINT, ASKED = "SIGTERM", "SIGINT", "POST /api/v1/admin/drain"
STOPS = [
    ("hypercorn-asyncio", 0, SIGTERM),
    ("hypercorn-asyncio", 1, SIGTERM),
    ("hypercorn-uvloop", 0, SIGTERM),
    ("hypercorn-uvloop", 1, SIGTERM),
    ("uvicorn", None, SIGTERM),
    ("granian", None, SIGTERM),
    ("serve", None, SIGTERM),
    ("serve", None, SIGINT),
    ("serve", None, ASKED),
]
CHAT = json.dumps({"message": "hi"}).encode()
REQUESTS = {
    "asks": b"GET /api/v1/skills HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "chats": b"POST /api/v1/agent/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT),
}


class Cut(Exception):
    """An answer began and did not end."""


@pytest.mark.parametrize(("kind", "workers", "how"), STOPS)
async def test_a_stop_under_load_cuts_nobody_off(kind, workers, how, tmp_path):
    app = "slow_app:made" if kind == "serve" else "slow_app:app"
    async with server(kind, app, cwd=tmp_path, env=ENV, workers=workers) as running, AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(talking(running.port)) for _ in range(SOCKETS)]
        load = Load()
        hammers = [asyncio.create_task(hammer(running.port, asked, load)) for asked in [*REQUESTS] * (CLIENTS // 2)]
        await load.warm.wait()
        begun = asyncio.Barrier(STREAMS + BUSY_SOCKETS + 1)
        clients = [
            *(asyncio.create_task(streams(running.port, wanted(number), begun)) for number in range(STREAMS)),
            *(asyncio.create_task(talks_on(talk, wanted(at), begun)) for at, talk in enumerate(talks[:BUSY_SOCKETS])),
        ]
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
        await tell(running, how)
        code = await asyncio.to_thread(running.wait_s, EXIT_S)
        load.over.set()
        async with asyncio.timeout(EXIT_S):
            lasts = await asyncio.gather(*clients)
            await asyncio.gather(*hammers)
            farewells = await asyncio.gather(*(ended(talk) for talk in talks))
    assert code == EXIT_CODES.get(kind, 0)
    assert Counter(lasts[:STREAMS]) == {"done": STREAMS / 2, "cancelled": STREAMS / 2}
    if kind not in HASTY:
        assert [(said["type"], said["code"]) for said in farewells] == [("bye", OUR_GOODBYE)] * SOCKETS
        assert Counter(lasts[STREAMS:]) == {"done": BUSY_SOCKETS / 2, "cancelled": BUSY_SOCKETS / 2}
    assert {talk.socket.close_code for talk in talks} <= goodbyes(kind)
    assert set(load.seen) - {"nothing", 503} == {200}
    assert await asyncio.to_thread(unended, tmp_path / "argentor.db") == []


def wanted(number):
    """Return what a client says: every other one wants more than the drain has time for."""
    return TOO_LONG if number % 2 else IN_TIME


async def tell(running, how):
    """Tell the server to stop."""
    if how != ASKED:
        running.terminate(signal.Signals[how])
        return
    async with client(running.port) as http:
        answer = await http.post("/api/v1/admin/drain", json={"reason": "a test"})
        assert (answer.status_code, answer.json()["status"]) == (202, "draining")


async def streams(port, said, begun):
    """Read one stream to the end of its body; return what its last event is called. Raises `Cut`."""
    body = json.dumps({"input": said}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /api/v1/chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        assert b" 200 " in (await reader.readuntil(b"\r\n\r\n")).splitlines()[0]
        pieces = [await chunk(reader)]
        await begun.wait()
        while piece := await chunk(reader):
            pieces.append(piece)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Cut from error
    finally:
        writer.close()
    last = [sent for sent in sents(b"".join(pieces)) if sent.event != "heartbeat"][-1]
    assert last.event in TERMINAL
    return last.event


async def chunk(reader):
    """Read one chunk of a body; empty is the last one (RFC 9112 section 7.1)."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def talks_on(talk, said, begun):
    """Have a run and hear the frame that closes it; return how it ended, None where the server cut the socket."""
    await talk.say(content=said)
    await heard_frame(talk.socket)
    await begun.wait()
    with suppress(ConnectionClosed):
        while (frame := json.loads(await talk.socket.recv(decode=True))).get("type") not in CLOSING:
            pass
        return "done" if frame["type"] == "response" else frame["code"]
    return None


async def ended(talk):
    """Read whatever a socket still has, up to its close; return the last frame, None where there was none."""
    last = None
    with suppress(ConnectionClosed):
        while True:
            last = json.loads(await talk.socket.recv(decode=True))
    return last


class Load:
    """What many clients have seen together: answers by status, connections without one (`nothing`), and cut answers."""

    def __init__(self):
        self.seen = Counter()
        self.warm = asyncio.Event()
        self.over = asyncio.Event()

    def saw(self, what):
        self.seen[what] += 1
        if self.seen[200] >= WARM:
            self.warm.set()


async def hammer(port, asked, load):
    """Ask again and again, on one connection as long as it lives, until nobody listens."""
    while not load.over.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        try:
            while (status := await answered(reader, writer, REQUESTS[asked])) is not None:
                load.saw(status)
                await asyncio.sleep(THINKS_S)
            load.saw("nothing")
        except Cut:
            load.saw("cut")
        finally:
            writer.close()


async def answered(reader, writer, request):
    """Send a request and read its whole answer; return its status, None when no byte of one came. Raises `Cut`."""
    try:
        writer.write(request)
        first = await reader.read(1)
    except OSError:
        return None
    if not first:
        return None
    try:
        status, *fields = (first + await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        size = next(int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:"))
        await reader.readexactly(size)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Cut from error
    return int(status.split()[1])


def unended(path):
    """Return the runs in the database that are live, or that have no terminal event or more than one."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT id, status FROM runs").fetchall()
        marks = ",".join("?" * len(TERMINAL))
        ends = Counter(
            run_id
            for (run_id,) in database.execute(f"SELECT run_id FROM events WHERE type IN ({marks})", tuple(TERMINAL))  # noqa: S608  only question marks
        )
    assert len(rows) >= STREAMS + BUSY_SOCKETS
    return [row for row in rows if row[1] not in {"done", "failed", "cancelled"} or ends[row[0]] != 1]

"""`argentor_asgi.asgi.unread`: answers beside a body that nobody reads."""

import asyncio
from typing import Any

import pytest
from asgi_driver import app_of, pairs, scope_of, soon, until

from argentor_asgi.asgi.deadline import Sweeper
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import Response
from argentor_asgi.asgi.route import route
from argentor_asgi.asgi.types import Message
from argentor_asgi.asgi.unread import LINGER_BYTES, LINGER_S, SILENCE_S, Unread

PIECE = b"x" * (1024 * 1024)
CLOSE = (b"connection", b"close")


@route("POST", "/deaf", needs=None)
async def deaf() -> dict[str, str]:
    return {"a": "b"}


@route("POST", "/echo", needs=None)
async def echo(request: Request) -> Response:
    return Response(200, await request.body())


class Queueing:
    """A server as hypercorn is: pieces go through a queue of a bounded length, and so does the news of the end."""

    def __init__(self, pieces: int, *, ends: bool = True, size: int = 4) -> None:
        self.sent: list[Message] = []
        self.taken = 0
        self.closed = False
        self._queue: asyncio.Queue[Message] = asyncio.Queue(size)
        self._pieces = pieces
        self._ends = ends

    async def put(self) -> None:
        """Be the reader of the connection."""
        for number in range(self._pieces):
            if self.closed:
                return
            more = not (self._ends and number == self._pieces - 1)
            await self._queue.put({"type": "http.request", "body": PIECE, "more_body": more})

    async def receive(self) -> Message:
        message = await self._queue.get()
        self.taken += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.closed = True
            await self._queue.put({"type": "http.disconnect"})

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self.sent[0]["headers"]

    @property
    def is_whole(self) -> bool:
        """Whether a client that reads by the length has it all."""
        length = int(dict(self.headers)[b"content-length"])
        return sum(len(each["body"]) for each in self.sent[1:]) == length


def posted(target: str = "/deaf", *headers: tuple[str, str], version: str = "1.1") -> Any:
    return scope_of("http", target, pairs(headers), method="POST", http_version=version, scheme="https")


CHUNKED = ("transfer-encoding", "chunked")


async def exchanged(server: Queueing, scope: Any) -> None:
    reader = asyncio.create_task(server.put())
    await asyncio.sleep(0)
    await soon(app_of(deaf, echo)(scope, server.receive, server.send))
    await soon(reader)


@pytest.mark.parametrize("target", ["/deaf", "/nowhere", "/echo", "/a%00"])
async def test_an_answer_comes_out_though_the_queue_of_its_body_is_full(target: str):
    server = Queueing(12)
    await exchanged(server, posted(target, CHUNKED))
    assert server.closed
    assert server.is_whole
    assert server.taken == 12 * len(PIECE)
    assert server.headers.count(CLOSE) == 1


@pytest.mark.parametrize("count", [1, 4])
async def test_a_connection_is_kept_when_all_of_the_body_was_there(count: int):
    server = Queueing(count)
    await exchanged(server, posted("/deaf", CHUNKED))
    assert CLOSE not in server.headers
    assert [each["type"] for each in server.sent] == ["http.response.start", "http.response.body"]


async def test_a_request_without_a_body_is_not_asked_for_one():
    server = Queueing(0)
    await exchanged(server, posted("/deaf", ("content-length", "0")))
    assert len(server.sent) == 2
    assert CLOSE not in server.headers


async def test_where_streams_share_a_connection_it_is_not_closed():
    server = Queueing(12)
    await exchanged(server, posted("/deaf", version="2"))
    assert server.is_whole
    assert server.taken == 12 * len(PIECE)
    assert CLOSE not in server.headers


async def test_a_client_that_asks_first_is_not_told_to_go_on():
    server = Queueing(1)
    asked: list[int] = []

    async def receive() -> Message:
        asked.append(len(server.sent))
        return await server.receive()

    reader = asyncio.create_task(server.put())
    scope = posted("/deaf", ("content-length", "5"), ("expect", "100-continue"))
    await soon(app_of(deaf)(scope, receive, server.send))
    await soon(reader)
    assert asked
    assert min(asked) >= 1
    assert server.is_whole


@pytest.mark.parametrize("more", [0, 1])
async def test_no_more_is_waited_for_than_the_bound(more: int):
    """The end of the answer waits for the last piece within the bound, and not for one behind it."""
    count = LINGER_BYTES // len(PIECE) - 1 + more
    server, sweeper = Queueing(count, ends=False), Sweeper(lambda: 0.0, 60.0)
    reader = asyncio.create_task(server.put())
    scope = posted("/deaf", CHUNKED)
    made = Unread(server.receive, sweeper).answer(scope, {CHUNKED[0].encode(): b"chunked"}, server.send, 200, [], b"")
    answering = asyncio.create_task(made)
    await soon(reader)
    await until(lambda: server.taken == count * len(PIECE))
    for _ in range(5):
        await asyncio.sleep(0)
    assert answering.done() is bool(more)
    answering.cancel()
    await asyncio.wait({answering})
    assert not sweeper.watching
    sweeper.close()


@pytest.mark.parametrize(
    ("looks", "more", "ended"),
    [
        ([SILENCE_S - 0.01], False, False),
        ([SILENCE_S], False, True),
        ([SILENCE_S], True, False),
        ([0.5, 1.0, 1.5, LINGER_S - 0.01], True, False),
        ([0.5, 1.0, 1.5, LINGER_S], True, True),
    ],
)
async def test_no_longer_is_waited_than_the_bounds(looks: list[float], more: bool, ended: bool):
    now = 0.0
    server, sweeper = Queueing(1, ends=False), Sweeper(lambda: now, 60.0)
    reader = asyncio.create_task(server.put())
    scope, fields = posted("/deaf", CHUNKED), {b"transfer-encoding": b"chunked"}
    answering = asyncio.create_task(Unread(server.receive, sweeper).answer(scope, fields, server.send, 200, [], b""))
    await until(lambda: sweeper.watching)
    for look in looks:
        now = look
        if more:
            await server._queue.put({"type": "http.request", "body": b"x", "more_body": True})
        for _ in range(5):
            await asyncio.sleep(0)
        sweeper.sweep()
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.closed is ended
    answering.cancel()
    await asyncio.wait({answering})
    await reader
    assert len(asyncio.all_tasks()) == 1
    sweeper.close()


async def test_a_server_that_never_waits_is_not_read_for_ever():
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": PIECE, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    await soon(app_of(deaf)(posted("/deaf", CHUNKED), receive, send))
    assert sent[-1] == {"type": "http.response.body", "body": b""}


async def test_a_client_that_leaves_ends_the_waiting():
    server = Queueing(0)
    asyncio.get_running_loop().call_soon(server._queue.put_nowait, {"type": "http.disconnect"})
    await exchanged(server, posted("/deaf", ("content-length", "5")))
    assert server.closed

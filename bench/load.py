"""A small HTTP/1.1 client for load: keep-alive connections that ask again as soon as they are answered.

It knows only what the servers here answer: a status line, a `Content-Length`, that many bytes. Anything else is an
error and ends the measurement, so no wrong answer is ever counted as a fast one.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field

from bench.calls import Headers

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
REQUEST = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nuser-agent: bench/1\r\naccept: */*\r\n\r\n"

PROBE_S = 30.0
"""How long a probe waits for its answer; nobody should."""

CLOSING = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nconnection: close\r\n\r\n"


class BadAnswer(Exception):
    """The server answered what this client does not count."""


@dataclass(slots=True)
class Tally:
    """What one stretch of load brought: seconds per answer, over `elapsed_s`; `last_body` is for checking."""

    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    last_body: bytes = b""


def cut(data: bytes) -> tuple[bytes, bool, int] | None:
    """Cut one answer off the front: its body, whether the server closes after it, its length; None: not all there.

    Raises `BadAnswer` for a status that is not 200, and for an answer without `Content-Length`.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end]
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise BadAnswer(repr(data[:300]))
    whole = end + 4 + int(length[1])
    if len(data) < whole:
        return None
    return data[end + 4 : whole], _CLOSE.search(head) is not None, whole


class _Caller(asyncio.Protocol):
    """One connection that asks until `deadline`, then ends; `ended` says how."""

    def __init__(self, tally: Tally, deadline: float, request: bytes) -> None:
        self.tally = tally
        self.request = request
        self.deadline = deadline
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._data = b""
        self._asked = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._ask(time.perf_counter())

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            answer = cut(self._data)
        except BadAnswer as error:
            self._end(error)
            return
        if answer is None:
            return
        body, closes, length = answer
        now = time.perf_counter()
        self.tally.latencies_s.append(now - self._asked)
        self.tally.last_body = body
        self._data = self._data[length:]
        if closes or now >= self.deadline:
            self._end(None)
        else:
            self._ask(now)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or BadAnswer("the server closed the connection"))

    def _ask(self, now: float) -> None:
        assert self._transport is not None
        self._asked = now
        self._transport.write(self.request)

    def _end(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(True)
        else:
            self.ended.set_exception(error)
        if self._transport is not None:
            self._transport.abort()


def request_of(path: str, headers: Headers) -> bytes:
    """Return a GET as bytes."""
    return b"\r\n".join([b"GET %s HTTP/1.1" % path.encode(), *(b"%s: %s" % header for header in headers)]) + b"\r\n\r\n"


async def load(port: int, concurrency: int, seconds: float, request: bytes = REQUEST) -> Tally:
    """Ask over `concurrency` connections for `seconds`, and return the tally; raises `BadAnswer`, `TimeoutError`."""
    tally = Tally()
    began = time.perf_counter()
    async with asyncio.timeout(seconds + 10), asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(_caller(port, tally, began + seconds, request))
    tally.elapsed_s = time.perf_counter() - began
    return tally


async def _caller(port: int, tally: Tally, deadline: float, request: bytes) -> None:
    """Keep one connection asking; a server that closes after so many requests is met again on a new connection."""
    loop = asyncio.get_running_loop()
    while time.perf_counter() < deadline:
        _, caller = await loop.create_connection(lambda: _Caller(tally, deadline, request), "127.0.0.1", port)
        await caller.ended


async def probes(port: int, seconds: float, every_s: float, request: bytes = CLOSING) -> Tally:
    """Ask now and then for `seconds`, on a new connection each time; a latency includes the connecting."""
    tally = Tally()
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        tally.latencies_s.append(await _probe(port, request))
        await asyncio.sleep(max(0.0, every_s - (time.perf_counter() - now)))
    tally.elapsed_s = time.perf_counter() - began
    return tally


async def _probe(port: int, request: bytes) -> float:
    tally = Tally()
    began = time.perf_counter()
    _, caller = await asyncio.get_running_loop().create_connection(
        lambda: _Caller(tally, 0.0, request), "127.0.0.1", port
    )
    await asyncio.wait_for(caller.ended, PROBE_S)
    return time.perf_counter() - began

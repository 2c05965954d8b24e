"""A scripted HTTP/1.1 server on a free loopback port, which sends whatever bytes a test wants and notes what it hears.

    async def talk(asked: Asked, line: Line) -> None:
        await line.stream(content_type="text/event-stream")
        await line.chunk(b"data: 1\n\n")
        await line.stall()                             # until the client has gone

    async with raw_server(talk) as raw:
        ...                                            # the client asks f"{raw.url}/v1/chat"
        (asked,) = raw.asked                           # method, target, headers, body as they came
        gone_at = await raw.lines[0].gone()            # loop time at which this client's close was seen

Several handlers are a script: the first request gets the first, the second the second, and the last of them all others.
A connection is kept for the next request unless its handler ended it. What a handler raises fails the test at the end
of the block; that its client has gone is no failure. Every wait ends after `PATIENCE_S`.
"""

import asyncio
import json
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

PATIENCE_S = 10.0
"""How long a client may leave a test waiting."""
BODY_BYTES = 64 * 1024 * 1024
"""The longest request body that is kept."""

PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True)
class Asked:
    """One request. `headers`: lower-case names, repeated ones joined by a comma. `connection`: which, from 0."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    def json(self):
        return json.loads(self.body)


Handler = Callable[[Asked, "Line"], Awaitable[None]]


class Line:
    """The server's end of one connection. `closed`: the loop time at which the client was seen to close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closed: "asyncio.Future[float]"):
        self._reader, self._writer = reader, writer
        self.closed = closed

    # --- pieces of an answer -----------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send exactly these bytes, at once."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, headers: Mapping[str, str] | None = None, **more: str) -> None:
        """Send a status line and header fields; `content_type="..."` is another way to write one."""
        fields = {**(headers or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        phrase = PHRASES.get(status, "Odd")
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def stream(self, status: int = 200, headers: Mapping[str, str] | None = None, **more: str) -> None:
        """Send the head of a chunked answer."""
        await self.head(status, {"transfer-encoding": "chunked", **(headers or {})}, **more)

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked answer (RFC 9112 section 7.1)."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def chunks(self, data: bytes, size: int = 1) -> None:
        """Send this as chunks of `size` bytes, in network writes of their own; 1 splits every character that can be."""
        for start in range(0, len(data), size):
            await self.chunk(data[start : start + size])
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Send the last chunk of a chunked answer."""
        await self.send(b"0\r\n\r\n")

    async def drip(self, data: bytes, size: int = 1) -> None:
        """Send bytes as they are, `size` in each network write."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(0)

    # --- whole answers -----------------------------------------------------------------------------------------

    async def answer(self, body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, **more: str):
        """Send a whole answer with its length, in one write."""
        fields = {"content-length": str(len(body)), **(headers or {})}
        await self.head(status, fields, **more)
        await self.send(body)

    async def answer_json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole JSON answer."""
        await self.answer(json.dumps(value).encode(), status, {"content-type": "application/json", **(headers or {})})

    async def events(self, *events: bytes | str | dict, end: bool = True) -> None:
        """Send a chunked SSE answer: bytes as they are, a text or an object as the data of an event of its own."""
        await self.stream(content_type="text/event-stream")
        for event in events:
            await self.chunk(event if isinstance(event, bytes) else sse(event))
        if end:
            await self.end()

    # --- faults ------------------------------------------------------------------------------------------------

    async def stall(self, until: asyncio.Event | None = None) -> None:
        """Send nothing until this event is set, or until the client has gone."""
        until = until or asyncio.Event()
        waiting = asyncio.ensure_future(until.wait())
        try:
            await asyncio.wait({waiting, self.closed}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def cut(self) -> None:
        """Close the connection politely (FIN) where the answer stands."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Reset the connection (RST) where the answer stands."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def gone(self) -> float:
        """Wait until the client has closed the connection; return the loop time at which that was seen."""
        return await asyncio.wait_for(asyncio.shield(self.closed), PATIENCE_S)

    # --- what the client sends ---------------------------------------------------------------------------------

    async def _next(self, connection: int) -> Asked | None:
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = _fields(head)
            return Asked(*head.split(" ", 2)[:2], headers, await self._body(headers), connection)
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return body


@dataclass
class RawServer:
    """A server that runs. `asked` and `lines` are in the order in which they came."""

    scheme: str
    handlers: tuple[Handler, ...]
    port: int = 0
    host: str = "127.0.0.1"
    asked: list[Asked] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    async def heard(self, count: int = 1) -> Asked:
        """Wait until so many requests have come; return the last of them."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.asked) >= count or self.errors)
        assert len(self.asked) >= count, self.errors
        return self.asked[count - 1]

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closed: asyncio.Future) -> None:
        self.lines.append(Line(reader, writer, closed))
        task = asyncio.ensure_future(self._serve(self.lines[-1], len(self.lines) - 1))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: Line, connection: int) -> None:
        with suppress(OSError):
            while asked := await line._next(connection):
                async with self._news:
                    self.asked.append(asked)
                    self._news.notify_all()
                try:
                    await self.handlers[min(len(self.asked), len(self.handlers)) - 1](asked, line)
                except OSError:
                    raise
                except Exception as error:  # noqa: BLE001  told at the end of the block, where the test sees it
                    self.errors.append(error)
                    async with self._news:
                        self._news.notify_all()
                    break
        line._writer.close()

    async def stop(self) -> None:
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in self.lines:
            line._writer.transport.abort()


class _Watching(asyncio.StreamReaderProtocol):
    """asyncio's own stream, which also notes when its other end is closed."""

    def __init__(self, server: RawServer):
        self._closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        reader = asyncio.StreamReader(limit=BODY_BYTES)
        super().__init__(reader, lambda reader, writer: server.connected(reader, writer, self._closed))

    def eof_received(self):
        self._note()
        return super().eof_received()

    def connection_lost(self, exc):
        self._note()
        super().connection_lost(exc)

    def _note(self) -> None:
        if not self._closed.done():
            self._closed.set_result(asyncio.get_running_loop().time())


@asynccontextmanager
async def raw_server(
    *handlers: Handler, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RawServer]:
    """Run a server with this script of handlers, one a request; with TLS where it has a context."""
    raw = RawServer("https" if tls else "http", handlers, host=host)
    listening = await asyncio.get_running_loop().create_server(lambda: _Watching(raw), host, port, ssl=tls)
    raw.port = listening.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        listening.close()
        await raw.stop()
    if raw.errors:
        raise ExceptionGroup("handlers of the raw server", raw.errors)


def sse(event: str | dict) -> bytes:
    """Return one SSE event with this data; an object as JSON."""
    text = event if isinstance(event, str) else json.dumps(event)
    return f"data: {text}\n\n".encode()


def _fields(head: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in head.split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.lower(), value.strip()
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def certified(directory: Path, names: str = "DNS:localhost") -> tuple[ssl.SSLContext, Path]:
    """Make a certificate for these names; return a server's TLS context with it, and the file that a client trusts."""
    subprocess.run(  # noqa: S603  our own arguments
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=raw", "-addext", f"subjectAltName={names}"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context, directory / "cert.pem"

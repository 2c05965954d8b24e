"""A small WebSocket client for load (RFC 6455): text frames out and in, no extension, cheap beside the server.

It keeps what a measurement needs: a handshake, whole text messages, an answer to pings. What it does not know ends the
measurement with `BadFrame`, so no wrong answer is counted.
"""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bench.calls import Headers

WAIT_S = 10.0
"""How long one frame, or one handshake, may take."""

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_FIN: Final = 0x80
_MASKED: Final = 0x80


class BadFrame(Exception):
    """The server sent what this client does not count."""


def handshake(path: str, headers: Headers) -> bytes:
    """Return the request that opens a socket; the sample key of RFC 6455, 1.3 will do, for nobody caches here."""
    lines = [b"GET %s HTTP/1.1" % path.encode(), b"upgrade: websocket", b"connection: Upgrade"]
    lines += [b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one final frame of a client.

    Its mask is four zero bytes, which leave the payload as it is: the server unmasks all the same (RFC 6455, 5.3).
    """
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, _MASKED | 127, size)
    return head + bytes(4) + payload


def cut(data: bytes) -> tuple[int, bytes, int] | None:
    """Cut one frame of a server off the front: opcode, payload, its whole length; None: it is not all there.

    Raises `BadFrame` for a masked frame, a fragment, and one that uses an extension.
    """
    if len(data) < 2:
        return None
    if data[0] & 0xF0 != _FIN or data[1] & _MASKED:
        raise BadFrame(repr(data[:40]))
    size, start = data[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start or len(data) < start + size:
        return None
    return data[0] & 0x0F, data[start : start + size], start + size


class Socket(asyncio.Protocol):
    """One client socket. `next` gives its text messages in order; it raises `BadFrame` once the server is gone."""

    def __init__(self) -> None:
        self._data = b""
        self._open = False
        self._texts: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            if self._open or self._shake():
                self._frames()
        except BadFrame as error:
            self._error = error
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = self._error or exc or BadFrame("the server closed the connection")
        self._wake()

    def start(self, path: str, headers: Headers) -> None:
        """Send the opening handshake."""
        self._write(handshake(path, headers))

    def send(self, text: bytes) -> None:
        """Send one text message."""
        self._write(frame(TEXT, text))

    async def next(self) -> bytes:
        """Return the next text message; raises `BadFrame`, or `TimeoutError` after `WAIT_S`."""
        while not self._texts:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait_for(self._waiter, WAIT_S)
        return self._texts.popleft()

    def close(self) -> None:
        """Say 1000 and go, without waiting for the answer."""
        self._write(frame(CLOSE, struct.pack("!H", 1000)))
        if self._transport is not None:
            self._transport.close()

    def _shake(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not self._data.startswith(b"HTTP/1.1 101"):
            raise BadFrame(repr(self._data[:300]))
        self._data = self._data[end + 4 :]
        self._open = True
        return True

    def _frames(self) -> None:
        while (found := cut(self._data)) is not None:
            opcode, payload, length = found
            self._data = self._data[length:]
            if opcode == TEXT:
                self._texts.append(payload)
            elif opcode == PING:
                self._write(frame(PONG, payload))
            elif opcode == CLOSE:
                raise BadFrame(f"the server closed: {payload!r}")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


@asynccontextmanager
async def socket(port: int, headers: Headers) -> AsyncIterator[Socket]:
    """Hold one open socket on `/ws`, whose first message, the welcome, has been taken."""
    _, opened = await asyncio.get_running_loop().create_connection(Socket, "127.0.0.1", port)
    try:
        opened.start("/ws", headers)
        welcome = await opened.next()
        if b'"connected"' not in welcome:
            raise BadFrame(repr(welcome[:300]))
        yield opened
    finally:
        opened.close()

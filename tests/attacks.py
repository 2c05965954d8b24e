"""What a hostile client does on a raw socket: frames that no library makes, and a watch on what they cost the server.

reader, writer = await shake(port, "/ws")
writer.write(frame(BINARY, length=2**62))
assert close_code(await rest(reader)) == 1009
"""

import asyncio
import struct
from contextlib import suppress
from typing import Self

from hostile import rss_bytes

PATIENCE_S = 10.0
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
SAMPLE_S = 0.02


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, length: int | None = None) -> bytes:
    """Return a masked frame; `length`: what it announces, if not what it has (RFC 6455 section 5.2)."""
    size = len(payload) if length is None else length
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 2**16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


def handshake(path: str = "/", *lines: bytes, version: bytes = b"13") -> bytes:
    """Return the head that asks for a WebSocket, with these lines in it."""
    return (
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" % path.encode()
        + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: %b\r\n" % version
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
    )


async def accepted(reader: asyncio.StreamReader) -> bytes:
    """Return the head that accepts the WebSocket."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert head.startswith(b"HTTP/1.1 101"), head
    return head


async def shake(port: int, path: str, *lines: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(handshake(path, *lines))
    await accepted(reader)
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return all that still comes, up to the end of the connection, however it ends."""
    data = b""
    with suppress(ConnectionError):
        while piece := await asyncio.wait_for(reader.read(2**16), PATIENCE_S):
            data += piece
    return data


def close_code(data: bytes) -> int:
    """Return the code of the close frame at the end of what a server sent."""
    at = data.rindex(bytes([0x80 | CLOSE]))
    code: int = struct.unpack("!H", data[at + 2 : at + 4])[0]
    return code


class Peak:
    """Watches a server's memory while the block runs: `growth_bytes` is the most above what it was before."""

    def __init__(self, pid: int):
        self._pid = pid
        self._calm = rss_bytes(pid)
        self.growth_bytes = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.look()

    def look(self) -> None:
        """Look now."""
        self.growth_bytes = max(self.growth_bytes, rss_bytes(self._pid) - self._calm)

    async def _watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_S)


class Others:
    """Plain requests one after the other while the block runs; `answers` counts those that were answered with 200."""

    def __init__(self, port: int, path: str = "/health"):
        self._port = port
        self._request = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
        self.answers = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if self._task.done():
            self._task.result()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        assert kind or self.answers

    async def _ask(self) -> None:
        while True:
            await self.once()
            self.answers += 1
            await asyncio.sleep(SAMPLE_S)

    async def once(self) -> None:
        """Ask once; an answer that is late fails."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(self._request)
                answer = await reader.read()
            finally:
                writer.transport.abort()
        assert answer.startswith(b"HTTP/1.1 200"), answer

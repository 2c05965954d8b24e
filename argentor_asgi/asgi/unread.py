"""An answer to a request whose body nobody read: sent while the body is read on and thrown away.

A server that queues a body's pieces for the app reads no further once its queue is full; hypercorn then cannot even
tell the app that the answer is out, so that connection and task would stay for ever. And a connection that is closed
while bytes of the client are on their way is reset, and the reset may overtake the answer (RFC 9112 section 9.6). So
the end of the answer waits for that of the body, within the bounds below; its client has all of it before.
"""

import asyncio

from argentor_asgi.asgi.deadline import Sweeper, Watched
from argentor_asgi.asgi.head import CLOSE, Fields, is_http1
from argentor_asgi.asgi.types import Receive, Scope, Send

LINGER_S = 2.0
"""How long the rest of a body may still come once its answer is out."""
SILENCE_S = 0.5
"""How long nothing of it may come, lest a client that sends no more waits for the end of its connection."""
LINGER_BYTES = 32 * 1024 * 1024
"""How much of it may come."""


class Unread(Watched):
    """A body that nobody reads, on its way in beside its answer."""

    def __init__(self, receive: Receive, sweeper: Sweeper) -> None:
        """Begin with nothing of it."""
        self._receive = receive
        self._sweeper = sweeper
        self._taken_bytes = self._seen_bytes = 0
        self._ends = float("inf")
        self._enough = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    def due(self, now: float) -> None:
        """Let the answer end if it has waited long enough, or since the last look for nothing."""
        if now >= self._ends or self._taken_bytes == self._seen_bytes:
            self._enough.set()
        self._seen_bytes = self._taken_bytes
        self.deadline = min(now + SILENCE_S, self._ends)

    async def answer(  # noqa: PLR0917  called in one place, by the app
        self, scope: Scope, fields: Fields, send: Send, status: int, out: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send the answer; with a body whose end is not there yet, the connection ends in HTTP/1.

        Raises what `send` raises. Cancellation, and every other end, ends the reading too.
        """
        try:
            # A client that waits to be told to go on would be told so by a `receive` before the answer begins.
            has_all = b"expect" not in fields and await self._is_there()
            if not has_all and is_http1(scope) and CLOSE not in out:
                out.append(CLOSE)
            await send({"type": "http.response.start", "status": status, "headers": out})
            if not has_all:
                self._reader = self._reader or asyncio.create_task(self._discard())
                await send({"type": "http.response.body", "body": body, "more_body": True})
                self._ends, self._seen_bytes = self._sweeper.clock() + LINGER_S, self._taken_bytes
                self._sweeper.watch(self, SILENCE_S)
                await self._enough.wait()
                body = b""
            await send({"type": "http.response.body", "body": body})
        finally:
            self._sweeper.leave(self)
            await self._stop()

    async def _is_there(self) -> bool:
        """Take what has come already, and say whether that was all."""
        self._reader = asyncio.create_task(self._discard())
        await asyncio.sleep(0)
        return self._reader.done()

    async def _discard(self) -> None:
        """Read until the body or its client ends; beyond the bound too, since the server needs it to end the answer."""
        more = True
        try:
            while more:
                message = await self._receive()
                more = message.get("more_body", False)
                self._taken_bytes += len(message.get("body", b""))
                if self._taken_bytes >= LINGER_BYTES:
                    self._enough.set()
                    await asyncio.sleep(0)
        finally:
            self._enough.set()

    async def _stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})

"""Sending an `EventStream`: pieces out, one reader that watches the client, heartbeats, and one way to end.

A client's leaving shows as `http.disconnect`, as an `OSError` from `send`, or not at all; then only a send that blocks
past its deadline tells. Each of these ends the stream without a word. A failure of the pieces' source ends the body
cleanly, since the status is out: what the client must know is an event in the stream.
"""

import asyncio
import logging

from argentor_asgi.asgi.deadline import Observer, Sweeper, Unobserved, Watched
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import EventStream, stream_fields
from argentor_asgi.asgi.types import Message, Send

CLIENT_LEFT = 499
"""What a stream is counted under whose client left, or did not read, before its end."""


class _Gone(Exception):
    """The client is gone, or as good as."""


class Streaming(Watched):
    """One stream on its way to its client.

    Its deadline is the write deadline while a send is under way, else the next heartbeat, or the end of its age.
    """

    def __init__(  # noqa: PLR0917  called in one place, by the app, in the order of the types
        self,
        request: Request,
        stream: EventStream,
        send: Send,
        sweeper: Sweeper,
        write_timeout_s: float,
        observer: Observer | None = None,
    ) -> None:
        """Take over the stream, and with it the duty to close it."""
        self._request = request
        self._stream = stream
        self._send = send
        self._sweeper = sweeper
        self._write_timeout_s = write_timeout_s
        self._observer = observer or Unobserved()
        self._quiet_s = float("inf") if stream.heartbeat is None else stream.heartbeat_s
        self._began = sweeper.clock()
        self._ends = self._began + stream.age_s
        self._sending = False
        self._aged = False
        self._beat: asyncio.Task[None] | None = None

    async def run(self, log: logging.Logger) -> int:
        """Send the stream to its end; returns quietly when the client goes first: its status, or `CLIENT_LEFT`.

        Cancellation from outside ends it too, and goes on to the caller. The chunks are closed in every case.
        """
        status = CLIENT_LEFT
        self._observer.stream_opened()
        self._sweeper.watch(self, self._write_timeout_s)
        reader = asyncio.create_task(self._read())
        try:
            await self._pump(log)
            status = self._stream.status
        except _Gone:
            pass
        except asyncio.CancelledError:
            if not self.settle():
                raise
        finally:
            self._sweeper.leave(self)
            self._observer.stream_closed(self._sweeper.clock() - self._began, status)
            await self._close(reader)
        return status

    def due(self, now: float) -> None:
        """End a stream whose send blocks, or that is old; send the heartbeat of a silent one."""
        if self._sending:
            if not self.fired:
                self._observer.consumer_cut("sse_write")
            self.cancel()
        elif now >= self._ends:
            self._aged = not self.fired
            self.cancel()
        elif self._stream.heartbeat is not None:
            self._sending = True
            self.deadline = now + self._write_timeout_s
            beat = self._stream.heartbeat
            self._beat = asyncio.create_task(self._send_beat(beat() if callable(beat) else beat))

    async def _pump(self, log: logging.Logger) -> None:
        fields = stream_fields(self._stream, self._request)
        await self._write({"type": "http.response.start", "status": self._stream.status, "headers": fields})
        if self._request.method != "HEAD":
            await self._send_chunks(log)
            if self._aged:
                last = self._stream.last
                body = last() if callable(last) else last
                await self._write({"type": "http.response.body", "body": body, "more_body": True})
        await self._write({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_chunks(self, log: logging.Logger) -> None:
        """Send what the source makes until it ends, fails, or the stream is old, which its source need not notice."""
        try:
            async for chunk in self._stream.chunks:
                await self._write({"type": "http.response.body", "body": chunk, "more_body": True})
                if self._sweeper.clock() >= self._ends:
                    self._aged = True
                    return
        except _Gone:
            raise
        except asyncio.CancelledError:
            if not (self._aged and self.settle()):
                raise
        except Exception:
            log.exception("request %s failed in its stream", self._request.id)

    async def _write(self, message: Message) -> None:
        """Send one event, after a heartbeat that is under way; waiting here is the client's backpressure."""
        if self._beat is not None:
            await asyncio.wait({self._beat})
            self._beat = None
        if self.fired:
            raise _Gone
        now = self._sweeper.clock()
        self.deadline, self._sending = now + self._write_timeout_s, True
        try:
            await self._send(message)
        except OSError:
            raise _Gone from None
        self.deadline, self._sending = min(now + self._quiet_s, self._ends), False

    async def _send_beat(self, heartbeat: bytes) -> None:
        try:
            await self._send({"type": "http.response.body", "body": heartbeat, "more_body": True})
        except Exception:  # noqa: BLE001  whatever it is, the stream cannot go on, and the next send would say it again
            self.cancel()
        self.deadline, self._sending = min(self._sweeper.clock() + self._quiet_s, self._ends), False

    async def _read(self) -> None:
        """Wait for the client to leave, and await nothing else; end the stream then.

        A server that answers the end of the body over and over never reports a disconnect; asking it again would spin.
        """
        ends = 0
        while ends <= 1:
            message = await self._request.next_event()
            if message["type"] == "http.disconnect":
                self.cancel()
                return
            ends += not message.get("more_body", False)

    async def _close(self, reader: asyncio.Task[None]) -> None:
        """End the reader and a heartbeat under way, then the source of the chunks."""
        helpers = {reader} if self._beat is None else {reader, self._beat}
        for task in helpers:
            task.cancel()
        try:
            await asyncio.wait(helpers)
        finally:
            close = getattr(self._stream.chunks, "aclose", None)
            if close is not None:
                await close()

"""What hypercorn's WebSocket lacks against a hostile client: bounds before buffering, close frames, an end.

Without it (hypercorn 0.18): endless fragments grow the process without bound, a deflate bomb of 200 KB costs 300 MB, a
refused handshake or a frame sent before the accept holds the connection for ever, 64 KiB of pings block the loop for
0.3 s, and the app hears 1006 whatever the client closed with. `guards` installs it.
"""

import asyncio
from typing import Any, Final

from hypercorn.protocol.events import Event, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, Handshake, WebsocketBuffer, WSStream
from wsproto.connection import Connection, ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.events import Event as Frame
from wsproto.frame_protocol import CloseReason

FRAMES_PER_TURN: Final = 64
"""How many frames one client may have handled before the others have their turn; 64 take about 1 ms."""
IDLE_FRAMES: Final = 128
"""How many frames that carry next to nothing (pings, pongs, tiny fragments) a client may send at once."""
IDLE_FRAMES_PER_S: Final = 20.0
"""How many of them in the long run; a client that keeps its connection alive sends one in some seconds."""
FRAGMENT_BYTES: Final = 16
"""A fragment of fewer carries next to nothing: 300,000 of them would make one message, and 6 s of work."""
LINGER_S: Final = 0.5
"""How long what a client still sends is thrown away after our close frame, so that a reset does not overtake it."""


class BoundedBuffer(WebsocketBuffer):
    """A message in the making, which is never longer than it may be."""

    def extend(self, event: Message[Any]) -> None:
        """Add a piece; one that does not fit empties the buffer and raises `FrameTooLargeError`."""
        if self.length + len(event.data) > self.max_length:
            self.clear()
            raise FrameTooLargeError
        super().extend(event)


class PlainHandshake(Handshake):
    """A handshake without extensions, which takes bytes outside ASCII for invalid instead of failing.

    permessage-deflate costs 90 KiB a connection, and lets a client make us allocate 1,000 times what it sends.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        """Read the headers; what cannot be read leaves a handshake that hypercorn answers with 400."""
        try:
            super().__init__(headers, http_version)
        except UnicodeDecodeError:
            self.version = None
        self.extensions = None


class GuardedWebSocket(WSStream):
    """hypercorn's WebSocket with bounds; what ends it, ends the connection too, and the app hears why."""

    def __init__(self, *arguments: Any, linger_s: float = LINGER_S) -> None:  # noqa: ANN401  hypercorn's, passed on
        """Take over hypercorn's arguments."""
        super().__init__(*arguments)
        self._linger_s = linger_s
        self.buffer = BoundedBuffer(self.config.websocket_max_message_size)
        self._over = False
        self._allowance = float(IDLE_FRAMES)
        self._counted_at = 0.0

    async def handle(self, event: Event) -> None:
        """Take what the connection received; a handshake that hypercorn refused is over, instead of held."""
        await super().handle(event)
        if self.closed and not self._over and not isinstance(event, StreamClosed):
            await self._end(CloseReason.ABNORMAL_CLOSURE, "")
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _handle_events(self) -> None:
        """Handle each frame that has come, and refuse one that is announced too long before it comes."""
        for number, frame in enumerate(self.connection.events(), 1):
            if number % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)
            if self.closed:
                return
            await self._hear(frame)
        if not self.closed and announced_bytes(self.connection) + self.buffer.length > self.buffer.max_length:
            await self._cut_too_big()

    async def _hear(self, frame: Frame) -> None:
        if isinstance(frame, Message):
            await self._take(frame)
        elif isinstance(frame, CloseConnection):
            await self._hear_close(frame)
        else:
            if isinstance(frame, Ping):
                await self._send_wsproto_event(frame.response())
            await self._count_idle()

    async def _take(self, piece: Message[Any]) -> None:
        """Add a piece of a message, and give the app the whole."""
        try:
            self.buffer.extend(piece)
        except FrameTooLargeError:
            await self._cut_too_big()
            return
        if not piece.message_finished:
            if piece.frame_finished and len(piece.data) < FRAGMENT_BYTES:
                await self._count_idle()
        elif self.app_put is not None:
            message = self.buffer.to_message()
            self.buffer.clear()
            await self.app_put(message)

    async def _hear_close(self, close: CloseConnection) -> None:
        """Answer a close frame, or what was none with ours (RFC 6455 section 7.1.7), and end."""
        if self.connection.state is ConnectionState.OPEN:
            await self._cut(close.code, close.reason or "")
            return
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(close.response())
            await self._end(close.code, close.reason or "")
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _count_idle(self) -> None:
        """Count a frame that carries next to nothing, and cut a client that sends little else."""
        now = asyncio.get_running_loop().time()
        earned = (now - self._counted_at) * IDLE_FRAMES_PER_S
        self._allowance = min(IDLE_FRAMES, self._allowance + earned) - 1
        self._counted_at = now
        if self._allowance < 0:
            await self._cut(CloseReason.POLICY_VIOLATION, "too many control frames")

    async def _cut_too_big(self) -> None:
        await self._cut(CloseReason.MESSAGE_TOO_BIG, f"a message may have {self.buffer.max_length} bytes")

    async def _cut(self, code: int, reason: str) -> None:
        """Close from this side, and after `LINGER_S` the connection, whatever the client does."""
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        self.buffer.clear()
        await self._end(code, reason)
        self.task_group.spawn(self._linger)

    async def _linger(self) -> None:
        await asyncio.sleep(self._linger_s)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _end(self, code: int, reason: str) -> None:
        """Tell the app that it is over, and take nothing more from either side."""
        if not self.closed or not self._over:
            self.closed = self._over = True
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": int(code), "reason": reason})


def announced_bytes(connection: Connection) -> int:
    """Return how many bytes of the frame that has begun are still to come: 0 between two frames."""
    decoder = connection._proto._frame_decoder  # noqa: SLF001  wsproto tells nobody; `guards.UPSTREAM` has its version
    return 0 if decoder.header is None else decoder.header.payload_len - decoder.payload_consumed

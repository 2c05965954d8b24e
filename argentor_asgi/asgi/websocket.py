"""A WebSocket as ASGI hands it over, with the order of its events enforced by one table.

The table says what each call means in each state; a call that is in no cell is a bug and raises `IllegalOrder`. What a
client does, at any moment, is never a bug: once the socket is over, `send` raises `Disconnected` and `close` does
nothing, whichever side ended it.
"""

import asyncio
from typing import Literal

from argentor_asgi.asgi.deadline import Observer, Sweeper, Unobserved, Watched
from argentor_asgi.asgi.head import Fields
from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.response import header_fields, problem
from argentor_asgi.asgi.route import Socket
from argentor_asgi.asgi.types import Message, Receive, Scope, Send
from argentor_asgi.errors import GatewayError

State = Literal["connecting", "open", "closed", "gone"]
"""`closed`: by this side, the client may still be sending; `gone`: nothing more can come or go."""

Call = Literal["accept", "refuse", "receive", "send", "close"]

LEGAL: dict[tuple[State, Call], State] = {
    ("connecting", "accept"): "open",
    ("connecting", "refuse"): "gone",
    ("connecting", "close"): "gone",
    ("open", "receive"): "open",
    ("open", "send"): "open",
    ("open", "close"): "closed",
    ("closed", "receive"): "closed",
    ("closed", "send"): "closed",
    ("closed", "close"): "closed",
    ("gone", "receive"): "gone",
    ("gone", "send"): "gone",
    ("gone", "close"): "gone",
}
"""The calls that are legal in each state, and the state after them; a disconnect leads to `gone` from everywhere."""

NORMAL, ABNORMAL, POLICY, INTERNAL = 1000, 1006, 1008, 1011
"""Close codes (RFC 6455 section 7.4.1)."""
REASON_BYTES = 123
"""How long a close reason may be (RFC 6455 section 5.5)."""
REFUSAL = "websocket.http.response"
"""The extension by which a handshake is refused with a real HTTP answer."""
_UTF8_BYTES = 4
_BAD_REQUEST, _SERVER_ERROR = 400, 500


class Disconnected(Exception):
    """The socket is over. `code` and `reason` as far as the server knows them; 1006 says nothing about whose fault."""

    def __init__(self, code: int, reason: str = "") -> None:
        """Keep why."""
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class IllegalOrder(Exception):
    """The gateway called a socket in an order that WebSocket does not have; a bug, never a client's fault."""


class MessageTooLarge(Exception):
    """A message was larger than its reader takes; the reader closes with 1009."""


class WebSocket(Incoming):
    """A client that asked for a WebSocket, and the socket once it is accepted.

    One task receives; any task may send or close. `row`: what counts it, set by the app once it is routed.
    """

    state: State = "connecting"
    accepted: bool = False
    row: Socket | None = None
    subprotocol: str | None = None
    _ending: tuple[int, str] = (ABNORMAL, "")

    def __init__(  # noqa: PLR0917  called in one place, by the app, in the order of the types
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        fields: Fields,
        id_bytes: bytes,
        sweeper: Sweeper,
        write_timeout_s: float,
        observer: Observer | None = None,
    ) -> None:
        """Keep what the server said; a send that blocks for `write_timeout_s` ends the socket, and `observer` hears."""
        super().__init__(scope, receive, fields, id_bytes)
        self._send = send
        self._sweeper = sweeper
        self._write_timeout_s = write_timeout_s
        self._observer = observer or Unobserved()

    @property
    def code(self) -> int:
        """The close code that ended the socket, as far as it is known; the HTTP status of a refused handshake."""
        return self._ending[0]

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, in its order of preference."""
        return list(self.scope.get("subprotocols") or ())

    async def accept(self, subprotocol: str | None = None) -> None:
        """Open the socket. Raises `Disconnected` when the client has left, `IllegalOrder` when it is open or over."""
        self._step("accept")
        await self._hear_connect()
        fields = [(b"x-request-id", self.id_bytes), *self.answer_headers]
        await self._write({"type": "websocket.accept", "subprotocol": subprotocol, "headers": fields})
        self.accepted = True
        self.subprotocol = subprotocol
        if self.row is not None:
            self.row.opened += 1

    async def refuse(self, error: GatewayError) -> None:
        """Refuse the handshake: with the problem as an HTTP answer where the server can, else with its plain 403."""
        self._step("refuse")
        await self._hear_connect()
        self._ending = (error.status, error.code)
        if REFUSAL not in (self.scope.get("extensions") or {}):
            await self._write({"type": "websocket.close", "code": NORMAL, "reason": ""})
            return
        answer = problem(error, self.id)
        fields = header_fields(answer, self.id_bytes, self.answer_headers)
        await self._write({"type": f"{REFUSAL}.start", "status": answer.status, "headers": fields})
        await self._write({"type": f"{REFUSAL}.body", "body": answer.body, "more_body": False})

    async def receive(self, limit_bytes: int | None = None) -> str | bytes:
        """Wait for the next message.

        Raises `Disconnected` when the socket is over, `MessageTooLarge` for one of more than `limit_bytes` bytes.
        """
        self._step("receive")
        if self.state == "gone":
            raise Disconnected(*self._ending)
        message = await self.next_event()
        if message["type"] != "websocket.receive":
            raise self._lost(message.get("code") or ABNORMAL, message.get("reason") or "")
        text = message.get("text")
        data: str | bytes = message["bytes"] if text is None else text
        if limit_bytes is not None and exceeds(data, limit_bytes):
            raise MessageTooLarge
        return data

    async def send(self, text: str | bytes) -> None:
        """Send one text message; `bytes` are its UTF-8. Raises `Disconnected` when the socket is over."""
        self._step("send")
        if self.state != "open":
            raise Disconnected(*self._ending)
        await self._write({"type": "websocket.send", "text": text if isinstance(text, str) else text.decode()})

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close the socket, or refuse the handshake without words. `reason` is cut at `REASON_BYTES`."""
        was = self.state
        self._step("close")
        if was in {"closed", "gone"}:
            return
        if was == "connecting":
            await self._hear_connect()
        self._ending = (code, reason)
        short = reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")
        await self._write({"type": "websocket.close", "code": code, "reason": short})

    async def fail(self, error: GatewayError) -> None:
        """End the socket for `error`, in whatever state it is."""
        if self.state == "connecting":
            await self.refuse(error)
        else:
            await self.close(POLICY if _BAD_REQUEST <= error.status < _SERVER_ERROR else INTERNAL, error.code)

    def _step(self, call: Call) -> None:
        after = LEGAL.get((self.state, call))
        if after is None:
            raise IllegalOrder(f"{call} while the socket is {self.state}")
        self.state = after

    async def _hear_connect(self) -> None:
        """Take the `websocket.connect` that precedes any answer to a handshake."""
        message = await self.next_event()
        if message["type"] != "websocket.connect":
            raise self._lost(message.get("code") or ABNORMAL, message.get("reason") or "")

    def _lost(self, code: int, reason: str) -> Disconnected:
        if self.state != "closed":
            self._ending = (code, reason)
        self.state = "gone"
        return Disconnected(*self._ending)

    async def _write(self, message: Message) -> None:
        """Send one event within the write deadline. Raises `Disconnected` when the client is gone or stalls."""
        watched = Watched()
        self._sweeper.watch(watched, self._write_timeout_s)
        try:
            await self._send(message)
        except OSError:
            raise self._lost(ABNORMAL, "the client is gone") from None
        except asyncio.CancelledError:
            if watched.settle():
                self._observer.consumer_cut("ws_write")
                raise self._lost(ABNORMAL, "the client does not read") from None
            raise
        finally:
            self._sweeper.leave(watched)


def exceeds(data: str | bytes, limit_bytes: int) -> bool:
    """Say whether a message is longer than `limit_bytes`, in UTF-8, counting only where the length is no proof."""
    if isinstance(data, bytes) or len(data) > limit_bytes:
        return len(data) > limit_bytes
    return len(data) * _UTF8_BYTES > limit_bytes and len(data.encode("utf-8", "surrogatepass")) > limit_bytes

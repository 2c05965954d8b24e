"""What came in: the part that requests and sockets share, and the request with its body.

Nothing is decoded before it is asked for. Both are plain classes with class-level defaults instead of slots:
# PERF: a default that is not assigned costs nothing, and CPython >= 3.11 keeps their attributes inline all the same.
"""

import asyncio
import re
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from secrets import randbelow
from time import perf_counter
from typing import TypeVar
from urllib.parse import parse_qsl

from argentor_asgi.asgi.deadline import TICK_S, Sweeper, Watched
from argentor_asgi.asgi.head import CLOSE, Fields, is_http1
from argentor_asgi.asgi.steps import resumed
from argentor_asgi.asgi.types import Headers, Message, Receive, Scope
from argentor_asgi.errors import BadRequest, BodyTimeout, BodyTooLarge, UnsupportedMediaType
from argentor_asgi.protocol.schema import decode_input
from argentor_asgi.protocol.trace import Trace, child_header

QUERY_FIELDS = 100
"""How many parameters a query may have."""

T = TypeVar("T")
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch
_DIGITS = re.compile(rb"[0-9]{1,18}").fullmatch
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL).fullmatch


class ClientDisconnected(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def request_ids() -> Iterator[bytes]:
    """Yield ids that are unique to this process: eight random hex digits, then eight of a counter.

    The digits are drawn at the first id, so that processes forked after start-up do not share them.
    # PERF: a table of the last two digits makes an id one concatenation, half the price of formatting it.
    """
    # Never all zeros, which is no id of a span (W3C Trace Context section 3.2.2.4).
    prefix = b"%08x" % (1 + randbelow(2**32 - 1))
    tails = [b"%02x" % number for number in range(256)]
    for block in count():
        head = b"%b%06x" % (prefix, block)
        for tail in tails:
            yield head + tail


def sane_id(fields: Fields, own: bytes) -> bytes:
    """Return the caller's `X-Request-ID` if it may stand in logs and headers, else our `own`."""
    given = fields.get(b"x-request-id")
    return own if given is None or not _SANE_ID(given) else given


@dataclass(frozen=True, slots=True)
class BodyRules:
    """How slowly a body may come: its first byte within `first_s`, and all of it within `total_s`.

    From its first byte on it may take `grace_s`, and a second more for each `floor_bytes_per_s` of it that are there.
    """

    first_s: float = 10.0
    floor_bytes_per_s: float = 1024.0
    grace_s: float = 5.0
    total_s: float = 60.0

    def until(self, began: float, first: float | None, received_bytes: int) -> float:
        """Return when a body is too late that has got no further; all times in seconds on one clock.

        `began`: when it was asked for; `first`: when its first byte came, None before that.
        """
        if first is None:
            return began + min(self.first_s, self.total_s)
        return min(began + self.total_s, first + self.grace_s + received_bytes / self.floor_bytes_per_s)


class Arrival(Watched):
    """A body on its way in. It is looked at when the sweeper finds it due, not when a piece of it comes."""

    def __init__(self, rules: BodyRules, began: float, data: bytearray) -> None:
        """Begin at `began`; `data` is what has come so far."""
        self.first: float | None = None
        self._rules = rules
        self._began = began
        self._data = data

    def due(self, now: float) -> None:
        """Give up if the body is too late, else look again when it would be."""
        self.deadline = self.until()
        if self.deadline <= now:
            self.cancel()

    def until(self) -> float:
        """Return when it is too late if nothing more comes."""
        return self._rules.until(self._began, self.first, len(self._data))


class Incoming:
    """A request or a socket as its client sent it.

    `principal` is set by a guard, as are `account`, whom its limits count for, and `trace`. `captures` are the decoded
    values of the template's captures, in order. `answer_headers` go out with whatever answer this gets, also with an
    error; a guard appends to the tuple. `next_event` is the server's `receive`. `span_id` is that of the request in
    its trace, `outer` the trace that its caller named.
    """

    principal: object = None
    account: object = None
    trace_id: bytes = b""
    span_id: bytes = b""
    outer: Trace | None = None
    captures: tuple[str, ...] = ()
    answer_headers: Headers = ()
    _query: Mapping[str, Sequence[str]] | None = None

    def __init__(  # noqa: PLR0917  called in one place, by the app, by position for its speed
        self,
        scope: Scope,
        receive: Receive,
        fields: Fields,
        id_bytes: bytes,
        body_bytes: int = 0,
        sweeper: Sweeper | None = None,
    ) -> None:
        """Keep what the server said.

        `fields`: the header as `head` returned it. A body of more than `body_bytes` is refused. `sweeper`: what its
        deadlines are met by.
        """
        self.scope = scope
        self.fields = fields
        self.id_bytes = id_bytes
        self.next_event = receive
        self.body_bytes = body_bytes
        self.sweeper = sweeper

    @property
    def id(self) -> str:
        """The request id, as in the log and in `x-request-id`."""
        return self.id_bytes.decode()

    @property
    def traceparent(self) -> str:
        """The header by which what this request causes is told its trace (W3C Trace Context section 3.2)."""
        return child_header(self.outer or Trace(self.trace_id), self.span_id)

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The header fields as they came, lower-case names, repeated ones apart."""
        return self.scope["headers"]  # type: ignore[no-any-return]  # ASGI: pairs of byte strings

    @property
    def path(self) -> str:
        """The decoded path, with the prefix that the gateway is mounted under."""
        return self.scope["path"]  # type: ignore[no-any-return]  # ASGI: a text

    @property
    def client(self) -> str | None:
        """The address of the TCP peer, or None when the server does not know it (Unix sockets)."""
        peer = self.scope.get("client")
        return str(peer[0]) if peer else None

    @property
    def query(self) -> Mapping[str, Sequence[str]]:
        """The query's parameters, each with its values in order. Raises `BadRequest` when it cannot be decoded."""
        if self._query is None:
            self._query = parsed_query(self.scope.get("query_string", b""))
        return self._query

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name, repeated ones joined; None when it is absent."""
        value = self.fields.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")


class Request(Incoming):
    """An HTTP request. `rules`: how slowly its body may come. `is_unread`: whether any of it may still come."""

    rules: BodyRules = BodyRules()
    is_unread: bool = True
    _body: bytes | None = None

    @property
    def method(self) -> str:
        """The method as it came: HEAD stays HEAD, though the route says GET."""
        return self.scope["method"]  # type: ignore[no-any-return]  # ASGI: a text

    async def body(self) -> bytes:
        """Read the whole body, once.

        Raises `BodyTooLarge`, before reading when its length says so; `BodyTimeout` when it is slower than `rules`;
        `BadRequest` for a length that is no number; `ClientDisconnected`. With a refused body the connection ends.
        """
        if self._body is None:
            self._refuse_announced()
            self._body = await self._read()
        return self._body

    async def read(self, kind: type[T], *, optional: bool = False) -> T | None:
        """Read the body as JSON into `kind`; None for an empty one when it is `optional`.

        Raises what `body` does, `UnsupportedMediaType`, `MalformedJson`, and `InvalidInput` with a JSON Pointer.
        """
        if optional and not await self.body():
            return None
        if not _JSON(self.header("content-type") or ""):
            raise UnsupportedMediaType
        return decode_input(await self.body(), kind)

    def _refuse_announced(self) -> None:
        length = self.fields.get(b"content-length")
        if length is None:
            return
        if not _DIGITS(length):
            raise BadRequest("Content-Length is not one whole number.")
        if int(length) > self.body_bytes:
            raise self._too_large()

    async def _read(self) -> bytes:
        data = bytearray()
        while self.is_unread:
            # PERF: begun by hand: a body that is there at once needs no deadline, which costs as much as reading it.
            steps = self._event().__await__()
            try:
                waiting = next(steps)
            except StopIteration as ended:
                self._take(ended.value, data)
            else:
                await self._wait(resumed(steps, waiting), data)
        return bytes(data)

    async def _event(self) -> Message:
        """Wait for the server's next event; a coroutine, since what a server returns may be something less."""
        return await self.next_event()

    async def _wait(self, event: Awaitable[Message], data: bytearray) -> None:
        """Take the rest of a body that is not there yet, under its deadlines."""
        sweeper = self._clockwork()
        arrival = Arrival(self.rules, sweeper.clock(), data)
        sweeper.watch(arrival, self.rules.first_s)
        try:
            while True:
                if data and arrival.first is None:
                    arrival.first = sweeper.clock()
                    arrival.deadline = arrival.until()
                self._take(await event, data)
                if not self.is_unread:
                    return
                event = self.next_event()
        except asyncio.CancelledError:
            if not arrival.settle():
                raise
            raise BodyTimeout(headers=self._closing()) from None
        finally:
            sweeper.leave(arrival)

    def _take(self, message: Message, data: bytearray) -> None:
        """Add a piece to what is there."""
        if message["type"] != "http.request":
            raise ClientDisconnected
        data += message.get("body", b"")
        self.is_unread = message.get("more_body", False)
        if len(data) > self.body_bytes:
            raise self._too_large()

    def _clockwork(self) -> Sweeper:
        if self.sweeper is None:
            self.sweeper = Sweeper(perf_counter, TICK_S)
        return self.sweeper

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self.body_bytes} bytes.", headers=self._closing())

    def _closing(self) -> Headers:
        return (CLOSE,) if is_http1(self.scope) else ()


def parsed_query(query: bytes) -> Mapping[str, Sequence[str]]:
    """Return the parameters of a query string, each with its values. Raises `BadRequest`."""
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS)
    except ValueError:
        raise BadRequest("The query is not UTF-8, or has too many parameters.") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values

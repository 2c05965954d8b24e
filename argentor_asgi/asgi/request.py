"""What came in: the part that requests and sockets share, and the request with its body.

Nothing is decoded before it is asked for. Both are plain classes with class-level defaults instead of slots:
# PERF: a default that is not assigned costs nothing, and CPython >= 3.11 keeps their attributes inline all the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from secrets import token_hex
from typing import TypeVar
from urllib.parse import parse_qsl

from argentor_asgi.asgi.types import Headers, Receive, Scope
from argentor_asgi.errors import BadRequest, BodyTooLarge, UnsupportedMediaType
from argentor_asgi.protocol.schema import decode

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
    prefix = token_hex(4).encode()
    tails = [b"%02x" % number for number in range(256)]
    for block in count():
        head = b"%b%06x" % (prefix, block)
        for tail in tails:
            yield head + tail


def request_id(headers: Iterable[tuple[bytes, bytes]], ids: Iterator[bytes]) -> bytes:
    """Return a sane `X-Request-ID` among `headers`, else the next of `ids`."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID(value):
            return value
    return next(ids)


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return header fields by name, repeated ones joined: cookies by "; " (RFC 6265), others by ", " (RFC 9110 5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        before = fields.get(name)
        glue = b"; " if name == b"cookie" else b", "
        fields[name] = value if before is None else before + glue + value
    return fields


class Incoming:
    """A request or a socket as its client sent it.

    `principal` is set by a guard. `captures` are the decoded values of the template's captures, in order.
    `answer_headers` go out with whatever answer this gets, also with an error; a guard appends to the tuple.
    `next_event` is the server's `receive`.
    """

    principal: object = None
    captures: tuple[str, ...] = ()
    answer_headers: Headers = ()
    _query: Mapping[str, Sequence[str]] | None = None

    def __init__(self, scope: Scope, receive: Receive, ids: Iterator[bytes], body_bytes: int = 0) -> None:
        """Keep what the server said.

        `ids` serves those that come without a sane `X-Request-ID`; a body of more than `body_bytes` is refused.
        """
        headers = scope["headers"]
        fields: dict[bytes, bytes] = dict(headers)
        if len(fields) != len(headers):
            fields = joined(headers)
        given = fields.get(b"x-request-id")
        self.scope = scope
        self.fields = fields
        self.id_bytes = next(ids) if given is None or not _SANE_ID(given) else given
        self.next_event = receive
        self.body_bytes = body_bytes

    @property
    def id(self) -> str:
        """The request id, as in the log and in `x-request-id`."""
        return self.id_bytes.decode()

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
    """An HTTP request."""

    _body: bytes | None = None

    @property
    def method(self) -> str:
        """The method as it came: HEAD stays HEAD, though the route says GET."""
        return self.scope["method"]  # type: ignore[no-any-return]  # ASGI: a text

    async def body(self) -> bytes:
        """Read the whole body, once.

        Raises `BodyTooLarge`, before reading when its length says so; `BadRequest` for a length that is no number;
        `ClientDisconnected`. The request's deadline covers the reading.
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
        return decode(await self.body(), kind)

    def _refuse_announced(self) -> None:
        length = self.fields.get(b"content-length")
        if length is None:
            return
        if not _DIGITS(length):
            raise BadRequest("Content-Length is not one whole number.")
        if int(length) > self.body_bytes:
            raise self._too_large()

    async def _read(self) -> bytes:
        data, more = bytearray(), True
        while more:
            message = await self.next_event()
            if message["type"] != "http.request":
                raise ClientDisconnected
            data += message.get("body", b"")
            if len(data) > self.body_bytes:
                raise self._too_large()
            more = message.get("more_body", False)
        return bytes(data)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self.body_bytes} bytes.")


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

"""What goes out: a whole answer, a problem, or a stream of events."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeAlias, TypeVar

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.types import Headers
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, encode

JSON = "application/json"
PROBLEM = "application/problem+json"
HEARTBEAT_S = 15.0
"""After how many silent seconds a stream sends its heartbeat."""
BODILESS = frozenset({204, 304})
"""The statuses whose answers have neither a body nor a Content-Length (RFC 9110 sections 6.4.1 and 8.6)."""

T = TypeVar("T")
SHORT_BYTES = 1024
"""Up to which size an answer's Content-Length is ready-made."""

_LENGTHS = [(b"content-length", b"%d" % size) for size in range(SHORT_BYTES)]
_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}
_KNOWN_TYPES = {name: (b"content-type", name.encode()) for name in (JSON, PROBLEM)}
_STREAM_HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


Answered: TypeAlias = tuple[int, list[tuple[bytes, bytes]] | None, bytes, "EventStream | None"]
"""What is sent: a status, the header fields and the body; or without fields a stream, or nothing at all."""


@dataclass(slots=True)
class Response:
    """A whole answer. `content_type` None sends no such field; `headers`: more of them, lower-case names."""

    status: int
    body: bytes = b""
    content_type: str | None = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(slots=True)
class Reply(Generic[T]):
    """A JSON answer whose status or headers are not those of its route; `status` None is the route's."""

    value: T
    status: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(slots=True)
class EventStream:
    """An answer that comes in pieces: 200, `text/event-stream`, until `chunks` ends.

    `chunks` is closed in every ending, also when the client leaves. `heartbeat`: the bytes to send after `heartbeat_s`
    silent seconds, or what makes them then, None for none; late by up to one tick of the sweeper. After `age_s` the
    stream ends with `last`, or what makes it then, between two chunks, so that its client reconnects: no server notices
    every dead peer.
    """

    chunks: AsyncIterator[bytes]
    headers: Sequence[tuple[bytes, bytes]] = ()
    heartbeat: bytes | Callable[[], bytes] | None = None
    heartbeat_s: float = HEARTBEAT_S
    age_s: float = float("inf")
    last: bytes | Callable[[], bytes] = b""

    @property
    def status(self) -> int:
        """A stream that is opened is a success; what fails later is an event in it."""
        return 200


def header_fields(response: Response, id_bytes: bytes, more: Headers = ()) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a whole answer: the request id, its length, its type, its own, and `more`."""
    kind = response.content_type
    if kind is not None:
        fields = [
            (b"x-request-id", id_bytes),
            length_field(response.body),
            _KNOWN_TYPES.get(kind) or (b"content-type", kind.encode("latin-1")),
        ]
    elif response.status in BODILESS:
        fields = [(b"x-request-id", id_bytes)]
    else:
        fields = [(b"x-request-id", id_bytes), length_field(response.body)]
    if response.headers or more:
        fields += response.headers
        fields += more
    return fields


def length_field(body: bytes) -> tuple[bytes, bytes]:
    """Return the Content-Length of a body."""
    # PERF: a table for short answers; formatting a number and pairing it costs four look-ups.
    size = len(body)
    return _LENGTHS[size] if size < SHORT_BYTES else (b"content-length", b"%d" % size)


def whole(response: Response, id_bytes: bytes, more: Headers) -> Answered:
    """Return a whole answer as it is sent."""
    return response.status, header_fields(response, id_bytes, more), response.body, None


def stream_fields(stream: EventStream, incoming: Incoming) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a stream: no length, no caching, no buffering in a proxy."""
    return [*_STREAM_HEADERS, (b"x-request-id", incoming.id_bytes), *stream.headers, *incoming.answer_headers]


def problem(error: GatewayError, request_id: str) -> Response:
    """Return the answer to a refusal: RFC 9457, with the gateway's `code` and the original's `error` beside it."""
    return Response(error.status, encode(_members(error, request_id)), PROBLEM, _problem_headers(error))


def _members(error: GatewayError, request_id: str) -> JsonObject:
    members: JsonObject = {
        "type": f"urn:argentor:error:{error.code}",
        "title": _title(error.status),
        "status": error.status,
        "code": error.code,
        "error": error.error or error.code,
        "message": error.message,
        "request_id": request_id,
    }
    if error.details:
        members["details"] = [{"pointer": detail.pointer, "message": detail.message} for detail in error.details]
    if error.retry_after is not None:
        members["retry_after"] = error.retry_after
    return {**error.members, **members}


def _title(status: int) -> str:
    """Return the reason phrase, as RFC 9110 has it whatever the Python: two were renamed, and Python 3.13 followed."""
    try:
        return _RENAMED.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _problem_headers(error: GatewayError) -> Headers:
    """Return the error's own fields, `Retry-After`, and the challenge that RFC 9110 section 15.5.2 asks of a 401."""
    fields = list(error.headers)
    if error.retry_after is not None:
        fields.append((b"retry-after", b"%d" % error.retry_after))
    if error.status == HTTPStatus.UNAUTHORIZED and all(name != b"www-authenticate" for name, _ in fields):
        fields.append((b"www-authenticate", b"Bearer"))
    return tuple(fields)

"""What every connection of one app shares, and who is told of how each ended."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from argentor_asgi.asgi.deadline import Observer, Sweeper
from argentor_asgi.asgi.head import Fields
from argentor_asgi.asgi.lifespan import Lifespan
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.route import Route
from argentor_asgi.asgi.types import Scope
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.protocol.trace import Trace

WRITE_TIMEOUT_S = 10.0
"""How long one send may block on a client that does not read."""


class Ids(NamedTuple):
    """The ids of one request: its own, its span's, and the trace that its caller named, None where it begins here."""

    request: bytes
    trace: bytes
    span: bytes
    outer: Trace | None


class Witness(Observer, Protocol):
    """Who is told of everything that ends, on the loop, once each; must neither wait nor raise."""

    @property
    def hears_answers(self) -> bool:
        """Whether `answered` is of any use; asked once, at start."""
        ...

    def answered(  # noqa: PLR0917  PERF: by position, since it is called for each request
        self, row: Route, scope: Scope, request: Request | None, status: int, seconds: float, ids: Ids
    ) -> None:
        """Hear that a request has its answer, a stream to its end, or that its client left before (499).

        `request`: None where the row asked nothing of it.
        """
        ...

    def closed(self, socket: WebSocket, seconds: float) -> None:
        """Hear that a WebSocket is over, or that its handshake was refused: then it is not `accepted`."""
        ...


class Closing(Protocol):
    """What says whether the process is about to go."""

    @property
    def draining(self) -> bool:
        """Whether connections are not to be kept for another request."""
        ...


@dataclass(frozen=True, slots=True)
class Shell:
    """What every connection of one app shares. `trace_prefix`: the first half of the traces that begin here."""

    lifespan: Lifespan
    sweeper: Sweeper
    ids: Iterator[bytes]
    head: Callable[[Scope], tuple[Fields, bool]]
    trace_prefix: bytes
    log: logging.Logger
    body_bytes: int
    request_timeout_s: float
    write_timeout_s: float
    witness: Witness | None
    closing: Closing | None

"""Who hears of everything that ends at the gateway's door, and tells metrics, the access log and the trace of it."""

from collections.abc import Callable
from time import perf_counter
from typing import Final

from argentor_asgi.asgi.deadline import Cut
from argentor_asgi.asgi.request import Incoming, Request
from argentor_asgi.asgi.route import Route
from argentor_asgi.asgi.shell import Ids
from argentor_asgi.asgi.types import Scope
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import Spans, request_ended
from argentor_asgi.protocol.trace import Trace

STREAM: Final = "text/event-stream"


class Reporter:
    """The app's witness (`asgi.shell.Witness`); all of it on the loop, none of it waits."""

    def __init__(
        self,
        metrics: Metrics,
        access: AccessLog | None,
        spans: Spans,
        address_of: Callable[[Incoming], str | None],
    ) -> None:
        """Write a line each where there is an access log. `address_of`: a client's address, behind trusted proxies."""
        self._metrics = metrics
        self._access = access
        self._spans = spans
        self._address_of = address_of

    @property
    def hears_answers(self) -> bool:
        """Whether single answers are told to anybody; their numbers are counted by the rows."""
        return self._access is not None or self._spans.is_on

    def answered(  # noqa: PLR0917  as the protocol has it
        self, row: Route, scope: Scope, request: Request | None, status: int, seconds: float, ids: Ids
    ) -> None:
        """Write the request's line, and tell its span."""
        if self._access is not None:
            if request is None:
                peer = scope.get("client")
                principal, address = None, peer[0] if peer else None
            else:
                principal, address = getattr(request.principal, "id", None), self._address_of(request)
            path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
            self._access.write(
                "stream" if row.produces == STREAM else "request",
                scope["method"],
                path,
                row.template,
                status,
                perf_counter(),
                seconds,
                ids.request,
                ids.trace,
                principal,
                address,
            )
        if self._spans.is_on:
            self._tell(row, scope, status, seconds, ids)

    def _tell(self, row: Route, scope: Scope, status: int, seconds: float, ids: Ids) -> None:
        request_ended(
            self._spans,
            ids.outer or Trace(ids.trace),
            ids.span,
            method=row.method,
            route=row.template,
            path=scope["path"],
            status=status,
            seconds=seconds,
        )
        # Its row has counted a stream by when it began, which is not told here.
        if row.produces != STREAM:
            self._metrics.request_sampled(row, seconds, ids.trace.decode())

    def closed(self, socket: WebSocket, seconds: float) -> None:
        """Count an accepted socket's life, and write its line; a refused handshake has its HTTP status for a code."""
        if socket.accepted:
            self._metrics.socket_closed(seconds)
        if self._access is not None:
            scope = socket.scope
            self._access.write(
                "websocket",
                "GET",
                scope.get("raw_path") or scope["path"].encode("utf-8", "replace"),
                "unmatched" if socket.row is None else socket.row.template,
                socket.code,
                perf_counter(),
                seconds,
                socket.id_bytes,
                socket.trace_id,
                getattr(socket.principal, "id", None),
                self._address_of(socket),
            )

    def stream_opened(self) -> None:
        """Count it."""
        self._metrics.stream_opened()

    def stream_closed(self, seconds: float, status: int) -> None:
        """Count its life; how it ended is in its line."""
        del status
        self._metrics.stream_closed(seconds)

    def consumer_cut(self, kind: Cut) -> None:
        """Count a client that did not read."""
        self._metrics.consumer_cut(kind)

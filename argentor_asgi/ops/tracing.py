"""Spans to an OpenTelemetry collector by OTLP over HTTP; the only door to that library. Needs `argentor-asgi[otel]`.

Importing this module raises `ConfigError` where the extra is missing. The library batches and sends in a thread of its
own; the loop only appends to its bounded queue. A collector that is slow or gone costs spans, never a request.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from secrets import randbits
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.spans import Attributes, Kind, Span
from argentor_asgi.protocol.trace import parse

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as error:
    raise ConfigError("otel.endpoint is set, which needs an extra: pip install 'argentor-asgi[otel]'") from error

if TYPE_CHECKING:
    from argentor_asgi.ops.clock import Clock

QUEUE_SPANS: Final = 4096
"""How many spans may wait or be on their way; one more is dropped and counted."""
BATCH_SPANS: Final = 512
EVERY_S: Final = 2.0
"""How long a span waits at most for others to go with it."""
EXPORT_TIMEOUT_S: Final = 5.0
"""How long one batch may take, with its retries."""
FLUSH_S: Final = 3.0
TRACES_PATH: Final = "/v1/traces"

_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
log = logging.getLogger("argentor.tracing")


class Tracing:
    """Satisfies `Spans`. `dropped`: spans that found the queue full or did not reach the collector."""

    def __init__(self, *, endpoint: str, service_name: str, version: str, clock: "Clock") -> None:
        """Send to the collector at `endpoint` (http or https); raises `ConfigError` for one that is none.

        The standard `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES` of the environment hold.
        """
        self.is_on = True
        self._clock = clock
        self._resource = Resource.create({"service.name": service_name, "service.version": version})
        self._scope = InstrumentationScope("argentor_asgi", version)
        self._exporter = _Counting(OTLPSpanExporter(endpoint=traces_url(endpoint), timeout=EXPORT_TIMEOUT_S))
        self._accepted = self._refused = 0
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE_SPANS,
            schedule_delay_millis=EVERY_S * 1000,
            max_export_batch_size=BATCH_SPANS,
        )

    @property
    def dropped(self) -> int:
        """How many spans nobody will see."""
        return self._refused + self._exporter.failed

    def begin(self, parent: str | None) -> Span | None:
        """Return a new span below `parent`, or in a trace of its own where that is no `traceparent`."""
        if not self.is_on:
            return None
        outer = parse(parent.encode()) if parent else None
        # The lowest bit is set because an id of zeros is none.
        span_id = f"{randbits(64) | 1:016x}"
        if outer is None:
            return Span(f"{randbits(128) | 1:032x}", span_id, "", self._clock.monotonic())
        return Span(outer.trace_id.decode(), span_id, outer.parent_id.decode(), self._clock.monotonic())

    def seconds(self, span: Span) -> float:
        """Return how long the span has gone on."""
        return self._clock.monotonic() - span.began

    def end(
        self, span: Span, name: str, kind: Kind, attributes: Attributes, *, seconds: float, error: str | None = None
    ) -> None:
        """Queue a span that is over now; drop and count it where the queue is full."""
        # Asked here: the library would log each one that it drops.
        if not self.is_on or self._accepted - self._exporter.done >= QUEUE_SPANS:
            self._refused += 1
            return
        self._accepted += 1
        ended_ns = int(self._clock.now().timestamp() * 1e9)
        made = ReadableSpan(
            name=name,
            context=_context(span.trace_id, span.span_id, is_remote=False),
            parent=_context(span.trace_id, span.parent_id, is_remote=kind == "server") if span.parent_id else None,
            resource=self._resource,
            attributes=dict(attributes) if error is None else {**attributes, "error.type": error},
            kind=_KINDS[kind],
            status=Status(StatusCode.UNSET if error is None else StatusCode.ERROR),
            start_time=ended_ns - int(seconds * 1e9),
            end_time=ended_ns,
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(made)

    async def close(self, timeout_s: float = FLUSH_S) -> None:
        """Send what waits, for `timeout_s` at most; spans that end from now on are dropped. Cancelled, it gives up."""
        self.is_on = False
        flushed, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # the library leaves it untyped
            with suppress(RuntimeError):  # the loop may have closed meanwhile
                loop.call_soon_threadsafe(flushed.set)

        # A daemon, and not the loop's executor: nobody waits for a collector that hangs.
        Thread(target=flush, name="tracing-flush", daemon=True).start()
        try:
            async with asyncio.timeout(timeout_s):
                await flushed.wait()
        except TimeoutError:
            log.warning("the collector took more than %g s for the last spans; they are given up", timeout_s)
        finally:
            self._exporter.shutdown()


def traces_url(endpoint: str) -> str:
    """Return where spans go, given the collector's base URL or the full one.

    Raises `ConfigError` for what is no http or https URL, and for one with a secret in it.
    """
    try:
        parts = urlsplit(endpoint)
        is_known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_known = False
    if not is_known:
        raise ConfigError("otel.endpoint is no http:// or https:// URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("otel.endpoint takes no user, query or fragment; a key goes into OTEL_EXPORTER_OTLP_HEADERS")
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(TRACES_PATH) else path + TRACES_PATH))


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, _SAMPLED)


class _Counting(SpanExporter):
    """Counts what the exporter in it has done with, so that the queue's length is known. One thread exports."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._is_shut = False
        self.done = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self.done += len(spans)
            self.failed += len(spans) if result is SpanExportResult.FAILURE else 0
        return result

    def shutdown(self) -> None:
        """End retries that are under way; a second call does nothing."""
        if not self._is_shut:
            self._is_shut = True
            self._inner.shutdown()

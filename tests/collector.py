"""An OpenTelemetry collector on a free port: takes OTLP over HTTP, decodes it, and keeps the spans."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Told:
    """A span as the collector heard it."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, object]
    is_error: bool
    seconds: float


@dataclass
class Collector:
    """What was told. `raw`: every body as it came; `is_stuck`: it takes requests and answers none until `let_go`."""

    url: str = ""
    status: int = 200
    is_stuck: bool = False
    let_go: Event = field(default_factory=Event)
    reached: Event = field(default_factory=Event)
    paths: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    resource: dict[str, object] = field(default_factory=dict)
    spans: list[Told] = field(default_factory=list)

    def named(self, name: str) -> Told:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def take(self, path: str, body: bytes) -> None:
        self.paths.append(path)
        self.raw.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = _attributes(group.resource.attributes)
            self.spans += [_told(span) for scope in group.scope_spans for span in scope.spans]


def _told(span) -> Told:
    return Told(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _attributes(pairs) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value) -> object:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting(**settings: object) -> Iterator[Collector]:
    """Run a collector; `status`: what it answers with, `is_stuck`: it does not before it is told to."""
    collector = Collector(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.reached.set()
            if collector.is_stuck:
                collector.let_go.wait(10)
            collector.take(self.path, body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.let_go.set()
            server.shutdown()
            thread.join()

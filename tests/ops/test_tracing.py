"""`argentor_asgi.ops.tracing`, told to a collector over a real socket."""

import asyncio
import subprocess
import sys

import pytest
from collector import collecting
from processes import eventually

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.spans import PATH_CHARS, header, request_ended
from argentor_asgi.ops.tracing import QUEUE_SPANS, Tracing, traces_url
from argentor_asgi.protocol.trace import Trace, parse, prefix

pytestmark = pytest.mark.slow

SERVER, CLIENT, INTERNAL = 2, 3, 1
OUTER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def tracing_to(collector):
    return Tracing(endpoint=collector.url, service_name="gate", version="9.9", clock=SystemClock())


def answered(spans, trace, span_id=b"00000000000000aa", status=200, path="/api/v1/sessions/1"):
    row = {"method": "GET", "route": "/api/v1/sessions/{session_id}"}
    request_ended(spans, trace, span_id, **row, path=path, status=status, seconds=0.25)


async def test_a_request_is_a_server_span_below_the_caller_s():
    with collecting() as collector:
        spans = tracing_to(collector)
        answered(spans, parse(OUTER.encode()))
        await spans.close()
    span = collector.named("GET /api/v1/sessions/{session_id}")
    assert (span.trace_id, span.span_id, span.parent_id) == (OUTER[3:35], "00000000000000aa", OUTER[36:52])
    assert span.kind == SERVER
    assert span.seconds == pytest.approx(0.25)
    assert not span.is_error
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/v1/sessions/{session_id}",
        "http.response.status_code": 200,
        "url.path": "/api/v1/sessions/1",
    }
    assert collector.paths == ["/v1/traces"]
    assert (collector.resource["service.name"], collector.resource["service.version"]) == ("gate", "9.9")
    assert spans.dropped == 0


async def test_a_request_without_a_caller_s_trace_is_the_first_of_its_own_and_a_failure_says_so():
    with collecting() as collector:
        spans = tracing_to(collector)
        answered(spans, Trace(prefix(b"12345678") + b"00000000000000aa"), status=503, path="/" + "x" * 10_000)
        await spans.close()
    (span,) = collector.spans
    assert span.parent_id == ""
    assert span.trace_id == b"12345678".hex() + "00000000000000aa"
    assert span.is_error
    assert span.attributes["error.type"] == "503"
    assert len(span.attributes["url.path"]) == PATH_CHARS


async def test_a_span_is_told_on_before_it_is_over():
    with collecting() as collector:
        spans = tracing_to(collector)
        outer = spans.begin(None)
        inner = spans.begin(header(outer, None))
        spans.end(inner, "inner", "client", {}, seconds=spans.seconds(inner))
        spans.end(outer, "outer", "internal", {"names": ("a", "b"), "count": 2}, seconds=1.0, error="gone")
        await spans.close()
    inner, outer = collector.named("inner"), collector.named("outer")
    assert (inner.trace_id, inner.parent_id, inner.kind) == (outer.trace_id, outer.span_id, CLIENT)
    assert (outer.parent_id, outer.kind) == ("", INTERNAL)
    assert outer.attributes == {"names": ["a", "b"], "count": 2, "error.type": "gone"}
    assert parse(f"00-{outer.trace_id}-{outer.span_id}-01".encode())


@pytest.mark.parametrize("parent", [None, "", "nonsense", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"])
async def test_what_is_no_parent_begins_a_trace(parent):
    with collecting() as collector:
        spans = tracing_to(collector)
        first, second = spans.begin(parent), spans.begin(parent)
        await spans.close()
    assert first.parent_id == second.parent_id == ""
    assert first.trace_id != second.trace_id
    assert first.span_id != second.span_id


@pytest.mark.parametrize("status", [400, 503])
async def test_spans_that_a_collector_refuses_are_counted_and_closing_does_not_wait_for_it(status):
    with collecting(status=status) as collector:
        spans = tracing_to(collector)
        answered(spans, Trace(b"a" * 32))
        await spans.close(0.2)
        assert collector.reached.wait(5)
        await eventually(lambda: spans.dropped == 1)


async def test_no_collector_at_all_costs_spans_and_nothing_else():
    spans = Tracing(endpoint="http://127.0.0.1:1", service_name="gate", version="9", clock=SystemClock())
    answered(spans, Trace(b"a" * 32))
    await spans.close(0.2)
    await eventually(lambda: spans.dropped == 1)


async def test_a_collector_that_hangs_is_not_waited_for():
    with collecting(is_stuck=True) as collector:
        spans = tracing_to(collector)
        answered(spans, Trace(b"a" * 32))
        closing = asyncio.create_task(spans.close(0.05))
        assert await asyncio.to_thread(collector.reached.wait, 5)
        await closing
        assert spans.begin(None) is None
        collector.let_go.set()


async def test_the_queue_is_bounded_and_what_finds_it_full_is_counted():
    with collecting(is_stuck=True) as collector:
        spans = tracing_to(collector)
        for _ in range(QUEUE_SPANS + 10):
            answered(spans, Trace(b"a" * 32))
        assert spans.dropped == 10
        collector.let_go.set()
        await spans.close()
        assert len(collector.spans) == QUEUE_SPANS
        answered(spans, Trace(b"a" * 32))
        assert spans.dropped == 11


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example/", "https://otel.example/v1/traces"),
        ("https://otel.example/base", "https://otel.example/base/v1/traces"),
        ("https://otel.example/v1/traces", "https://otel.example/v1/traces"),
    ],
)
def test_spans_go_to_the_path_of_the_protocol(endpoint, url):
    assert traces_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "localhost:4318",
        "grpc://localhost:4317",
        "http://",
        "http://[::1",
        "http://host:0",
        "http://host:99999",
        "http://me:SECRET@host",
        "http://host/?key=SECRET",
        "http://host/#SECRET",
    ],
)
def test_what_is_no_endpoint_is_refused_without_its_secret(endpoint):
    with pytest.raises(ConfigError, match=r"otel\.endpoint") as raised:
        traces_url(endpoint)
    assert "SECRET" not in str(raised.value)


@pytest.mark.slow
def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from argentor_asgi.errors import ConfigError\n"
        "try:\n    import argentor_asgi.ops.tracing\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603  our own text
    assert "argentor-asgi[otel]" in done.stdout

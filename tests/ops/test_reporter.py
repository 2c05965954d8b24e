"""`argentor_asgi.ops.reporter`: an app's requests, streams and sockets in its access log, its metrics and its trace."""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from asgi_driver import LOG, begin, http, nothing_to_start, websocket
from collector import Collector, collecting

from argentor_asgi.asgi.app import build
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import EventStream
from argentor_asgi.asgi.route import route, rows_of, socket, unmatched
from argentor_asgi.asgi.types import App
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import Forbidden
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.reporter import Reporter
from argentor_asgi.ops.spans import NO_SPANS
from argentor_asgi.ops.tracing import Tracing
from argentor_asgi.security.clients import Networks, client_address
from argentor_asgi.security.identity import Principal

OUTER_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
OUTER = f"00-{OUTER_ID}-00f067aa0ba902b7-01"
PROXIES = Networks(["127.0.0.1"])


def guard(row, endpoint):
    """Let everybody in as `me`."""

    def guarded(incoming):
        incoming.principal = Principal("me")
        return endpoint(incoming)

    return guarded if row.needs else endpoint


@route("GET", "/things/{thing}", needs="things:read")
async def thing(thing: str) -> dict[str, str]:
    """Return a thing."""
    return {"thing": thing}


@route("GET", "/plain", needs=None)
async def plain() -> dict[str, bool]:
    """Ask nothing of the request."""
    return {"ok": True}


@route("GET", "/bug", needs=None)
async def bug() -> None:
    """Fail."""
    raise RuntimeError


@route("POST", "/read", needs=None)
async def read(request: Request) -> None:
    """Wait for a body."""
    await request.body()


@route("GET", "/stream", needs="things:read", produces="text/event-stream")
async def stream(request: Request) -> EventStream:
    """Stream until the client leaves, or for one chunk."""

    async def chunks():
        yield b"data: 1\n\n"
        if request.scope["query_string"] == b"for=ever":
            await asyncio.get_running_loop().create_future()

    return EventStream(chunks())


@socket("/ws", needs="things:read")
async def talk(websocket: WebSocket) -> None:
    """Say one message back, then go."""
    await websocket.accept()
    await websocket.send(await websocket.receive())
    await websocket.close(4000, "enough")


@socket("/closed", needs=None)
async def refuse(websocket: WebSocket) -> None:
    """Refuse everybody."""
    del websocket
    raise Forbidden


@dataclass
class Told:
    """An app, and what was told of it. `lines` and `spans`: once it is left."""

    app: App
    metrics: Metrics
    reporter: Reporter
    lines: list[dict] = field(default_factory=list)
    spans: Collector | None = None

    async def get(self, target, **more):
        return await http(self.app, "GET", target, **more)

    async def samples(self, word):
        """Return the lines of a scrape with this word in their names."""
        text, _ = await self.metrics.render("application/openmetrics-text; version=1.0.0")
        return [line for line in text.decode().splitlines() if line.startswith(f"{word}") and not line.startswith("#")]

    async def value(self, series):
        (line,) = [line for line in await self.samples(series) if line.split(" ")[0] == series]
        return float(line.split(" ")[1])


@asynccontextmanager
async def telling(*, access=True, spans=False):
    reads, writes = os.pipe()
    with collecting() as collector, os.fdopen(reads, "rb") as lines:
        log = AccessLog("json", fd=writes) if access else None
        kept = (
            Tracing(endpoint=collector.url, service_name="g", version="1", clock=SystemClock()) if spans else NO_SPANS
        )
        metrics = Metrics(clock=SystemClock())
        reporter = Reporter(metrics, log, kept, _address_of)
        handlers = (thing, plain, bug, read, stream, talk, refuse)
        rows = [row for handler in handlers for row in rows_of(handler)]
        rest = unmatched()
        metrics.watch([*rows, rest])
        app = build(
            rows,
            provide={},
            lifespan=nothing_to_start,
            body_bytes=1000,
            request_timeout_s=60.0,
            log=LOG,
            guards=(guard,),
            socket_guards=(guard,),
            rest=rest,
            witness=reporter,
        )
        told = Told(app, metrics, reporter, spans=collector)
        try:
            yield told
        finally:
            if log is not None:
                await log.close()
            if spans:
                await kept.close()
            os.close(writes)
            told.lines += [json.loads(line) for line in lines.read().splitlines()]


def _address_of(incoming):
    return client_address(incoming.client, None, incoming.fields.get(b"x-forwarded-for"), PROXIES)


def fixed(line):
    """Return what a line says, without its time and ids."""
    return {
        name: value for name, value in line.items() if name not in {"time", "duration_ms", "request_id", "trace_id"}
    }


def expected(**more):
    return {"level": "info", "logger": "argentor.access", "message": "request", "method": "GET", "status": 200, **more}


async def test_a_request_is_one_line_with_who_asked_for_what_and_from_where():
    async with telling() as told:
        answer = await told.get("/things/7?secret=x", headers={"x-forwarded-for": "203.0.113.9", "x-request-id": "r-1"})
    (line,) = told.lines
    assert fixed(line) == expected(path="/things/7", route="/things/{thing}", principal="me", address="203.0.113.9")
    assert line["request_id"] == answer.header("x-request-id") == "r-1"
    assert line["trace_id"] == answer.header("x-trace-id")
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize(
    ("method", "target", "route", "status"),
    [
        ("GET", "/plain", "/plain", 200),
        ("GET", "/nowhere/at%20all", "unmatched", 404),
        ("BREW", "/plain", "unmatched", 405),
        ("GET", "/bug", "/bug", 500),
    ],
)
async def test_whatever_is_answered_has_its_line_with_the_peer_where_nobody_was_asked(method, target, route, status):
    async with telling() as told:
        await http(told.app, method, target)
        await http(told.app, method, target, client=None, raw_path=None)
    found = [fixed(line) for line in told.lines]
    same = expected(method=method, path=target, route=route, status=status)
    assert found[0] == same | {"address": "127.0.0.1"}
    assert found[1] == same | {"path": target.replace("%20", " ")}


async def test_a_client_that_leaves_before_its_answer_is_499():
    async with telling() as told:
        exchange = begin(told.app, "POST", "/read", body=[b"a", b""], headers={"content-length": "5"})
        exchange.leave()
        await exchange.end()
    assert [(line["route"], line["status"]) for line in told.lines] == [("/read", 499)]


@pytest.mark.parametrize(("target", "status"), [("/stream", 200), ("/stream?for=ever", 499)])
async def test_a_stream_has_its_line_at_its_end_and_is_counted_while_it_lives(target, status):
    async with telling() as told:
        exchange = begin(told.app, "GET", target)
        await exchange.seen(lambda answer: answer.chunks)
        if status == 499:
            assert await told.value("argentor_streams_active") == 1
        exchange.leave()
        await exchange.end()
        assert await told.value("argentor_streams_active") == 0
        assert await told.value("argentor_stream_duration_seconds_count") == 1
    (line,) = told.lines
    assert fixed(line) == expected(
        message="stream", path="/stream", route="/stream", status=status, principal="me", address="127.0.0.1"
    )


async def test_a_socket_has_its_line_with_the_code_that_ended_it():
    async with telling() as told:
        async with websocket(told.app, "/ws?ticket=SECRET", headers={"x-forwarded-for": "203.0.113.9"}) as peer:
            assert told.lines == []
            peer.put("hi")
            assert await peer.get() == "hi"
        assert await told.value("argentor_websocket_duration_seconds_count") == 1
    (line,) = told.lines
    same = expected(message="websocket", path="/ws", route="/ws", principal="me", address="203.0.113.9", code=4000)
    del same["status"]
    assert fixed(line) == same
    assert len(line["trace_id"]) == 32
    assert "SECRET" not in json.dumps(line)


@pytest.mark.parametrize(("target", "route", "code"), [("/closed", "/closed", 403), ("/nowhere", "unmatched", 404)])
async def test_a_refused_handshake_has_its_status_and_counts_as_no_socket(target, route, code):
    async with telling() as told:
        async with websocket(told.app, target, client=None) as peer:
            assert peer.refusal.status == code
        assert await told.value("argentor_websocket_duration_seconds_count") == 0
    (line,) = told.lines
    assert (line["route"], line["code"], "principal" in line, "address" in line) == (route, code, False, False)


async def test_a_socket_whose_client_vanished_is_1006():
    async with telling() as told, websocket(told.app, "/ws"):
        pass
    assert [line["code"] for line in told.lines] == [1006]


async def test_a_client_that_does_not_read_is_counted_by_where():
    async with telling(access=False) as told:
        told.reporter.consumer_cut("sse_write")
        told.reporter.consumer_cut("sse_write")
        assert await told.value('argentor_slow_consumers_total{kind="sse_write"}') == 2


# --- spans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/things/7?secret=x", "/plain?secret=x"])
async def test_a_request_is_a_span_below_its_callers(target):
    async with telling(spans=True) as told:
        answer = await told.get(target, headers={"traceparent": OUTER})
        exemplars = [line for line in await told.samples("http_server_request_duration") if "trace_id" in line]
    (span,) = told.spans.spans
    assert (span.trace_id, span.parent_id) == (OUTER_ID, "00f067aa0ba902b7")
    assert answer.header("x-trace-id") == OUTER_ID
    assert span.attributes["url.path"] == target.partition("?")[0]
    assert b"secret" not in b"".join(told.spans.raw)
    assert [f'trace_id="{OUTER_ID}"' in line for line in exemplars] == [True]
    assert told.lines[0]["trace_id"] == OUTER_ID


async def test_a_request_without_a_callers_trace_begins_one_that_its_answer_names():
    async with telling(spans=True) as told:
        answers = [await told.get(target, headers={"traceparent": "nonsense"}) for target in ("/things/7", "/bug")]
    spans = told.spans.spans
    assert [span.name for span in spans] == ["GET /things/{thing}", "GET /bug"]
    assert [span.trace_id for span in spans] == [answer.header("x-trace-id") for answer in answers]
    assert [(span.parent_id, span.is_error) for span in spans] == [("", False), ("", True)]


async def test_what_no_route_answers_is_a_span_that_nobody_can_name():
    async with telling(spans=True, access=False) as told:
        await http(told.app, "BREW", "/nowhere")
    (span,) = told.spans.spans
    assert (span.name, span.attributes["http.response.status_code"]) == ("OTHER unmatched", 404)
    assert told.lines == []


async def test_a_stream_is_a_span_of_its_whole_life_and_no_sample_of_how_soon_it_began():
    async with telling(spans=True) as told:
        await told.get("/stream")
        assert not any("trace_id" in line for line in await told.samples("http_server_request_duration"))
    assert [span.name for span in told.spans.spans] == ["GET /stream"]


# --- nobody hears --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("access", "spans"), [(True, False), (False, True), (True, True), (False, False)])
async def test_single_answers_are_heard_where_there_is_a_log_or_a_trace(access, spans):
    async with telling(access=access, spans=spans) as told:
        assert told.reporter.hears_answers == (access or spans)
        await told.get("/plain")
        async with websocket(told.app, "/closed"):
            pass
        assert await told.value('argentor_http_requests_total{method="GET",path="/plain",status="200"}') == 1
    assert len(told.lines) == 2 * access
    assert len(told.spans.spans) == spans

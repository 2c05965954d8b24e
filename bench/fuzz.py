"""What random requests bring about: `python -m bench fuzz` makes a million, in process, from a seed.

Requests are made of pieces that are nearly right: real paths with odd characters in them, real bodies with odd values,
headers twice, too long, or of another kind. The bar: not one 500, nothing raised, no answer without its end, no status
that the gateway does not have.
"""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from bench import ours
from bench.calls import App, Exchange, Headers, http_scope, lifespan
from bench.harness import Goal, Plan, Record, Report

SEED = 1
CHUNK = 100
HANG_S = 30.0
USUAL = 0.6
"""The share of requests with one of the two methods that most routes have."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", "X-Y_Z")
PATHS = (
    *("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/ws", "/", "*", ""),
    *("/api/v1/sessions", "/api/v1/sessions/{id}", "/api/v1/runs", "/api/v1/runs/{id}", "/api/v1/runs/{id}/stream"),
    *("/api/v1/runs/{id}/cancel", "/api/v1/agent/chat", "/api/v1/agent/status", "/api/v1/chat/stream"),
    *("/api/v1/skills", "/api/v1/skills/{id}", "/api/v1/connections", "/api/v1/metrics", "/api/v1/keys"),
    *("/api/v1/keys/{id}", "/api/v1/ws-ticket", "/api/v1/audit/logs", "/api/v1/audit/stats", "/no/such"),
)
ODD = (
    "%00",
    "%ff",
    "%2e%2e",
    "..",
    "//",
    "/",
    "%",
    "%2",
    "%zz",
    ";a=b",
    "é",
    "\x7f",
    "%F0%9F%98%80",
    "a" * 9000,
    ":",
    "\\",
)
IDS = ("00000000-0000-4000-8000-000000000000", "x", "0", "-1", "%20", "9" * 40, "calculator", "None")
NAMES = (
    *("content-type", "accept", "x-request-id", "traceparent", "tracestate", "idempotency-key", "last-event-id"),
    *("authorization", "x-api-key", "origin", "cookie", "forwarded", "x-forwarded-for", "transfer-encoding"),
    *("expect", "upgrade", "range", "if-none-match", "x-odd"),
)
VALUES = (
    *(
        "",
        " ",
        "application/json",
        "text/event-stream",
        "application/openmetrics-text",
        "*/*",
        "100-continue",
        "chunked",
    ),
    *("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "Bearer x"),
    *("Bearer", "a" * 300, "a" * 20_000, "\x80\xff", '"quoted"', "null", "http://evil.example", "127.0.0.1, 10.0.0.1"),
    *("for=127.0.0.1", "bytes=0-", "00000000-0000-4000-8000-000000000000:1", "\t", "session=; ;=", "websocket", "gzip"),
)
TEXTS = ("hi", "", " ", "\x00", "\x1b[31m", "what is 6*7?", "é" * 100, "/tool nope {}", "a" * 5000, "\ud800")
FIELDS = ("message", "input", "session_id", "on_busy", "name", "scopes", "run_id", "limit", "cursor", "odd")
QUERIES = (
    "",
    "",
    "",
    "?limit=1",
    "?limit=-1",
    "?limit=x",
    "?cursor=%00",
    "?after=99999999999999999999",
    "?api_key=x",
    "?a=%ff&&=",
)


@dataclass(frozen=True, slots=True)
class Odd:
    """One request: `target` is as on the wire, in Latin-1."""

    method: str
    target: str
    headers: Headers
    body: bytes


def request(rng: random.Random) -> Odd:
    """Make one request; the same state of `rng` makes the same."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in _headers(rng)]
    if rng.random() < 0.6:
        headers += ours.KEYED_JSON
    else:
        headers.append((b"host", rng.choice((b"127.0.0.1:8000", b"localhost", b"", b"a b", b"evil.example", b"a@b/c"))))
    body = _body(rng) if rng.random() < 0.6 else b""
    method = rng.choice(("GET", "POST")) if rng.random() < USUAL else rng.choice(METHODS)
    return Odd(method, _target(rng), tuple(headers), body)


def _headers(rng: random.Random) -> list[tuple[str, str]]:
    return [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.choice((0, 0, 1, 1, 2, 5, 120)))]


def _target(rng: random.Random) -> str:
    path = rng.choice(PATHS).replace("{id}", rng.choice(IDS))
    if rng.random() < 0.3:
        at = rng.randint(0, len(path))
        path = path[:at] + rng.choice(ODD) + path[at:]
    return path + rng.choice(QUERIES)


def _body(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.15:
        return rng.randbytes(rng.choice((1, 10, 1000)))
    if kind < 0.3:
        return rng.choice(
            (b"{", b"[" * 2000, b"null", b"1e400", b"NaN", b'"\\ud800"', b"\xef\xbb\xbf{}", b"{}{}", b" ")
        )
    made = json.dumps({rng.choice(FIELDS): _value(rng, 3) for _ in range(rng.randint(0, 4))}).encode()
    return made if kind < 0.9 else made[: rng.randint(0, len(made))]


def _value(rng: random.Random, depth: int) -> object:
    kinds = ("text", "number", "list", "table") if depth else ("text", "number")
    match rng.choice(kinds):
        case "text":
            return rng.choice((*TEXTS, *IDS))
        case "number":
            return rng.choice((0, -1, 2**53, 2**64, 10**400, 0.5, True, None))
        case "list":
            return [_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
        case _:
            return {rng.choice(FIELDS): _value(rng, depth - 1)}


def raw(odd: Odd) -> bytes:
    """Return the request as bytes, framed by its length unless its headers frame it otherwise."""
    lines = [f"{odd.method} {odd.target} HTTP/1.1".encode("latin-1", "replace")]
    lines += [name + b": " + value for name, value in odd.headers]
    if not any(name == b"transfer-encoding" for name, _ in odd.headers):
        lines.append(b"content-length: %d" % len(odd.body))
    return b"\r\n".join([*lines, b"", odd.body])


async def answered(app: App, state: dict[str, Any], odd: Odd, number: int) -> Exchange:
    """Make the request in process, from an address of its own; raises what the app raises, or `TimeoutError`."""
    path, _, query = odd.target.partition("?")
    headers = (*odd.headers, (b"content-length", b"%d" % len(odd.body)))
    scope = http_scope(odd.method.upper(), "/", headers, state)
    raw_path = path.encode("latin-1", "replace")
    scope |= {"path": unquote(path, errors="replace"), "raw_path": raw_path, "query_string": query.encode("latin-1")}
    scope["client"] = (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 50_000)
    exchange = Exchange(odd.body)
    async with asyncio.timeout(HANG_S):
        await app(scope, exchange.receive, exchange.send)
    return exchange


def known_statuses() -> frozenset[int]:
    """Return every status that the gateway has: of its successes, and of its refusals."""
    from argentor_asgi import errors  # noqa: PLC0415  it may be absent

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GatewayError)]
    return frozenset({200, 201, 202, 204, *(kind.status for kind in kinds if hasattr(kind, "status"))}) - {500}


def run(plan: Plan) -> Report:
    """Make `plan.count` requests, in `plan.seconds` at most."""
    logging.getLogger("argentor").setLevel(logging.CRITICAL)
    record = Record()
    found: Counter[str] = Counter()
    if ours.present():
        found = asyncio.run(_fuzzed(plan))
        record.add("requests", ours.NAME, **{status: float(count) for status, count in sorted(found.items())})
    wrong = [f"{words}: {found[words]}" for words in found if words.startswith(("raised", "unknown", "500", "endless"))]
    made = float(sum(found.values()))
    return Report(
        bench="fuzz",
        settings={"requests": plan.count, "seed": SEED},
        series=record.series(),
        absent=ours.absent(),
        notes=["in process; answers by their status", *wrong],
        goals=[
            Goal("requests made", made if found else None, float(plan.count), "above"),
            Goal("500, raised, endless or unknown", float(len(wrong)) if found else None, 0.0),
        ],
    )


async def _fuzzed(plan: Plan) -> "Counter[str]":
    from argentor_asgi import create_app  # noqa: PLC0415  it may be absent

    rng = random.Random(SEED)  # noqa: S311  the same requests each time
    found: Counter[str] = Counter()
    statuses = known_statuses()
    config = ours.config()
    app = create_app(replace(config, audit=replace(config.audit, enabled=False)))
    deadline = time.monotonic() + plan.seconds
    async with lifespan(app) as state:
        for number in range(plan.count):
            found[await _outcome(app, state, request(rng), number, statuses)] += 1
            if number % CHUNK == 0:
                await asyncio.sleep(0)
                if time.monotonic() > deadline:
                    break
    return found


async def _outcome(app: App, state: dict[str, Any], odd: Odd, number: int, statuses: frozenset[int]) -> str:
    try:
        exchange = await answered(app, state, odd, number)
    except Exception as error:  # noqa: BLE001  whatever it raises is what this looks for
        return f"raised {type(error).__name__} by {odd.method} {odd.target[:60]!r}"
    if not exchange.done:
        return f"endless by {odd.method} {odd.target[:60]!r}"
    if exchange.status not in statuses:
        return f"{'500' if exchange.status == 500 else 'unknown'} {exchange.status} by {odd.method} {odd.target[:60]!r}"
    return str(exchange.status)

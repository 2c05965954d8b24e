"""Whatever callers make up, a hundred thousand times another, leaves the metric series and the memory as they were."""

import asyncio
import gc
import http.client
import re
import sys
from collections.abc import Callable, Iterator

import pytest
from hostile import MIB, levels_off
from processes import server

from argentor_asgi.compose import create_app
from bench import ours
from bench.calls import HEADERS, Exchange, Headers, http_scope, lifespan

pytestmark = pytest.mark.slow

REQUESTS, ROUNDS = 100_000, 8
GROWTH_BLOCKS = 2000
"""How many more objects may live after the last round than before it: one for each kind's request would be 2,500."""
FEW = 20
"""How many series may come late: when a route first answers with another status, it gets one."""
MADE_UP = re.compile(rb"no/such|agtr_|0000-4000|M\d|r-\d")
OVER_SOCKETS = 600
"""How many requests of each kind a round over sockets makes."""
SOCKET_GROWTH_BYTES = 4 * MIB
STATUSES = {200, 400, 401, 404, 405, 429}

Made = tuple[str, str, Headers]


def odd_paths(number: int) -> Made:
    return "GET", f"/api/v1/{number:x}/no/such/{number}", ours.KEYED


def odd_sessions(number: int) -> Made:
    return "GET", f"/api/v1/sessions/{number:08x}-0000-4000-8000-000000000000", ours.KEYED


def odd_keys(number: int) -> Made:
    return "GET", ours.WHOLE_PATH, (*HEADERS, (b"authorization", b"Bearer agtr_abcdefghijkl_%032d" % number))


def odd_traces(number: int) -> Made:
    trace = (b"traceparent", b"00-%032x-%016x-01" % (number + 1, number + 1))
    return "GET", ours.WHOLE_PATH, (*ours.KEYED, trace, (b"x-request-id", b"r-%d" % number))


def odd_methods(number: int) -> Made:
    return f"M{number}", ours.WHOLE_PATH, ours.KEYED


KINDS: tuple[Callable[[int], Made], ...] = (odd_paths, odd_sessions, odd_keys, odd_traces, odd_methods)


def address(number: int) -> tuple[str, int]:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 50_000


async def ask(app, state, made: Made, number: int) -> Exchange:
    method, path, headers = made
    scope = http_scope(method, path, headers, state)
    scope["client"] = address(number)
    exchange = Exchange(b"")
    await app(scope, exchange.receive, exchange.send)
    assert exchange.status in STATUSES, (made, exchange.chunks[:300])
    return exchange


def series(text: bytes) -> set[bytes]:
    """Return the names and labels of every sample."""
    return {line.rpartition(b" ")[0] for line in text.splitlines() if not line.startswith(b"#")}


def grew_by_known_names_alone(before: set[bytes], after: set[bytes]) -> None:
    """Check that what came later is an answer or a reason that had not been given before, and names nothing made up."""
    new = after - before
    assert len(new) < FEW, new
    assert not [line for line in after if MADE_UP.search(line)]


async def one_round(app, state, numbers: range) -> None:
    for number in numbers:
        await ask(app, state, KINDS[number % len(KINDS)](number), number)
        if number % 100 == 0:
            await asyncio.sleep(0)


async def test_a_hundred_thousand_odd_requests_leave_nothing_behind():
    app = create_app(ours.config(), routes=[ours.whole()])
    sizes: list[int] = []
    seen: list[set[bytes]] = []
    async with lifespan(app) as state:
        for number in range(ROUNDS):
            await one_round(app, state, range(number * REQUESTS // ROUNDS, (number + 1) * REQUESTS // ROUNDS))
            seen.append(series((await ask(app, state, ("GET", "/metrics", ours.KEYED), 0)).chunks))
            gc.collect()
            sizes.append(sys.getallocatedblocks())
    grew_by_known_names_alone(seen[1], seen[-1])  # the first look was counted after it
    assert sizes[-1] - sizes[-2] < GROWTH_BLOCKS, sizes


def test_thousands_of_odd_requests_over_sockets_leave_nothing_behind(tmp_path):
    numbers = iter(range(10**9))
    with server("hypercorn-uvloop", cwd=tmp_path, workers=0, env=ours.environment()) as running:
        by_socket(running.port, numbers)
        before = [scraped(running.port) for _ in range(2)][-1]
        grown = levels_off(running.pid, lambda: by_socket(running.port, numbers), SOCKET_GROWTH_BYTES)
        assert grown[-1] < SOCKET_GROWTH_BYTES, grown
        grew_by_known_names_alone(before, scraped(running.port))


def by_socket(port: int, numbers: Iterator[int]) -> None:
    """Make odd requests on one connection, which the server may end now and then."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number in (next(numbers) for _ in range(OVER_SOCKETS * len(KINDS))):
        method, path, headers = KINDS[number % len(KINDS)](number)
        connection.request(method, path, headers={name.decode(): value.decode() for name, value in headers})
        response = connection.getresponse()
        response.read()
        assert response.status in STATUSES, (method, path, response.status)
    connection.close()


def scraped(port: int) -> set[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics", headers={name.decode(): value.decode() for name, value in ours.KEYED})
    found = series(connection.getresponse().read())
    connection.close()
    return found

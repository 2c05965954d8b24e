"""What a request costs inside the application alone: no server, no socket, only the ASGI calls.

A call is a fresh scope, a fresh pair of receive and send, and the application; `driver` is the same with an application
that does nothing, so its row is the part of every other row that is the bench's own. The ratio keeps that part on both
sides: a server does that work too. Time is taken twice: on the clock, and as CPU time of the whole process, which a
busy neighbour disturbs less. The collector runs as in service, after what start-up made was collected and frozen.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bench import bare, ours, peers
from bench.calls import HEADERS, App, Exchange, Headers, http_scope, lifespan
from bench.harness import (
    BARE,
    Goal,
    Plan,
    Record,
    Report,
    Series,
    calls_for,
    find,
    median_ratio,
    order,
    quietest_ratio,
    ratio,
)

CHUNK = 50
"""Calls between two turns of the event loop: background work of an application gets its turns."""

WHOLE = f"{ours.NAME} whole"
"""The row of a guarded route that answers what `/health` does: auth, limits, request id, trace context, metrics."""

STACK_BAR = 2.5
"""The whole stack in process, as a multiple of the bare callable (design 6.8)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One row: an application, and the request that it is given. `app` names the instance that rows share."""

    name: str
    app: str
    method: str = "GET"
    path: str = "/health"
    headers: Headers = HEADERS
    body: bytes = b""
    status: int = 200
    holds: bytes = b'"argentor"'


def targets(plan: Plan) -> tuple[list[Target], dict[str, Callable[[], App]]]:
    """Return the rows, and how to make the applications behind them; what is absent has no row."""
    makers: dict[str, Callable[[], App]] = {BARE: lambda: bare.app}
    makers |= {name: peers.PEERS[name] for name in peers.present(plan)}
    rows = [Target(name, name) for name in makers]
    if ours.present():
        makers |= {ours.NAME: ours.keyed, ours.LOGGED: ours.logged, ours.MANY: ours.with_many_routes}
        rows += [
            Target(ours.NAME, ours.NAME),
            Target(WHOLE, ours.NAME, path=ours.WHOLE_PATH, headers=ours.KEYED),
            Target(f"{WHOLE} {ours.TRACED}", ours.NAME, path=ours.WHOLE_PATH, headers=ours.KEYED_TRACED),
            Target(f"{WHOLE} {ours.LOGGED}", ours.LOGGED, path=ours.WHOLE_PATH, headers=ours.KEYED),
            Target(f"{ours.NAME} {ours.MANY}", ours.MANY),
            Target(f"{ours.NAME} guarded", ours.NAME, path="/api/v1/agent/status", headers=ours.KEYED, holds=b"ready"),
            Target(f"{ours.NAME} 404", ours.NAME, path="/no/such", headers=ours.KEYED, status=404, holds=b"not_found"),
            Target(
                f"{ours.NAME} chat", ours.NAME, "POST", ours.CHAT_PATH, ours.KEYED_JSON, ours.CHAT_BODY, holds=b"42"
            ),
        ]
    return rows, makers


@dataclass(frozen=True, slots=True)
class _Live:
    target: Target
    app: App
    state: dict[str, Any]


def run(plan: Plan) -> Report:
    """Measure every target on asyncio and, if it is there, on uvloop; all of it takes about `plan.seconds`."""
    record = Record()
    loops = ours.loops()
    rows, makers = targets(plan)
    share = plan.seconds / (len(loops) * plan.rounds * (len(rows) + 1))
    with _quiet():
        for name, factory in loops.items():
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(_measure(record, name, rows, makers, rounds=plan.rounds, share=share))
    series = record.series()
    return Report(
        bench="inproc",
        settings={"rounds": plan.rounds, "seconds": plan.seconds, "gc": "on, after collect and freeze"},
        series=series,
        absent=[*peers.absent(plan), *peers.missing("uvloop"), *ours.absent()],
        notes=[
            "driver: the bench's own part of every row",
            "cpu_us: CPU time of the process, all its threads",
            f"{WHOLE}: with a key, its limits, request id, trace context and metrics; {ours.LOGGED}: to /dev/null",
        ],
        goals=goals(series, list(loops)),
    )


def goals(series: Sequence[Series], loops: Sequence[str]) -> list[Goal]:
    """Return the bars of the hot path, for each loop: against the bare callable, and against the cheapest peer."""
    made = []
    for loop in loops:
        for words, row in (("whole stack", WHOLE), ("GET /health", ours.NAME)):
            made.append(Goal(f"{loop}: {words} / bare", median_ratio(series, loop, row, "cpu_us"), STACK_BAR))
            quietest = quietest_ratio(series, loop, row, "cpu_us")
            made.append(Goal(f"{loop}: {words} / bare, in their quietest rounds", quietest, STACK_BAR))
        best = _cheapest(series, loop)
        against = None if best is None else median_ratio(series, loop, WHOLE, "cpu_us", best)
        made.append(Goal(f"{loop}: whole stack / cheapest peer ({best or 'none'})", against, 1.0))
    return made


def _cheapest(series: Sequence[Series], loop: str) -> str | None:
    costs = {name: ratio(series, loop, name, "cpu_us") for name in peers.PEERS if find(series, loop, name, "cpu_us")}
    known = {name: cost.median for name, cost in costs.items() if cost is not None}
    return min(known, key=lambda name: known[name], default=None)


async def _measure(
    record: Record,
    group: str,
    rows: Sequence[Target],
    makers: Mapping[str, Callable[[], App]],
    *,
    rounds: int,
    share: float,
) -> None:
    async with AsyncExitStack() as stack:
        live = {row.name: one async for row, one in _started(stack, rows, makers)}
        counts = {name: await _calibrate(one, share) for name, one in live.items()}
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        for number in range(rounds):
            for name in order(list(live), number):
                wall_us, cpu_us = await _batch(live[name], counts[name])
                record.add(group, name, cpu_us=cpu_us, wall_us=wall_us)


async def _started(
    stack: AsyncExitStack, rows: Sequence[Target], makers: Mapping[str, Callable[[], App]]
) -> AsyncIterator[tuple[Target, _Live]]:
    """Start each application once, stopped by `stack`, and yield each row with the one behind it; the driver first."""
    driver = Target("driver", "driver", status=0, holds=b"")
    yield driver, _Live(driver, bare.nothing, {})
    apps = {name: make() for name, make in makers.items()}
    states = {name: await stack.enter_async_context(lifespan(app)) for name, app in apps.items()}
    for row in rows:
        yield row, _Live(row, apps[row.app], states[row.app])


async def _calibrate(live: _Live, share: float) -> int:
    """Check the answer, warm the caches, and return how many calls fill one share of the time."""
    await _batch(live, 1)
    await _batch(live, CHUNK)
    wall_us, _ = await _batch(live, CHUNK)
    return calls_for(share, wall_us / 1e6)


def check(row: Target, status: int, body: bytes) -> None:
    """Raise `RuntimeError` unless this is the answer that the row expects."""
    if status != row.status or row.holds not in body:
        raise RuntimeError(f"{row.name} answered {status} {body[:300]!r}")


async def _batch(live: _Live, count: int) -> tuple[float, float]:
    """Make `count` calls; return microseconds of clock and of CPU per call. The last answer is checked."""
    row, app, state = live.target, live.app, live.state
    method, path, headers, body = row.method, row.path, row.headers, row.body
    exchange = Exchange(body)
    left = count
    wall, cpu = time.perf_counter(), time.process_time()
    while left > 0:
        for _ in range(min(left, CHUNK)):
            exchange = Exchange(body)
            await app(http_scope(method, path, headers, state), exchange.receive, exchange.send)
        left -= CHUNK
        await asyncio.sleep(0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    check(row, exchange.status, exchange.chunks)
    return wall / count * 1e6, cpu / count * 1e6


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what applications write to their terminal, such as access lines, to nowhere while they are measured."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(fd) for fd in (1, 2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(sink, fd)
    os.close(sink)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, was in zip((1, 2), kept, strict=True):
            os.dup2(was, fd)
            os.close(was)

"""What a WebSocket costs: opening one, a ping and its pong on one and on a hundred, a whole run, and its memory idle.

The gateway answers `{"type":"ping"}` from its socket loop; the bare callable answers every text with the same pong, and
greets with a frame of the same kind. Both run under the same servers, in their own processes. Memory is what the
server's RSS grew by for `IDLE` sockets that said nothing, in a server started for that alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from importlib.util import find_spec

from bench import children, ours, peers, wsload
from bench.bare import PONG
from bench.calls import HEADERS, Headers
from bench.children import Child, Served
from bench.harness import BARE, Plan, Record, Report, order, percentile

OPENERS = 8
MANY = 100
IDLE = 500
WARM = 20
RUNS_PER_SOCKET = 10
"""Runs that one conversation gets: its history makes each dearer than the last."""

MEMORY_ROUNDS = 3
PING = b'{"type":"ping"}'
MESSAGE = b'{"type":"message","content":"%s"}' % ours.QUESTION.encode()

Latencies = list[float]
Scenario = Callable[[Child, Headers, float, Latencies], Awaitable[None]]


def run(plan: Plan) -> Report:
    """Measure every scenario under each installed server: about `plan.seconds`, and the idle sockets besides."""
    record = Record()
    commands = servers()
    apps = [Served(BARE, "bench.bare:app", {}), *([ours.served()] if ours.present() else [])]
    share = plan.seconds / (len(commands) * plan.rounds * (len(apps) * len(PINGS) + len(RUNS)))
    server_cores, client_cores = children.split_cores()
    with children.pinned(client_cores):
        for name, command in commands.items():
            with ExitStack() as stack:
                live = {app.name: stack.enter_context(children.serving(app, command, server_cores)) for app in apps}
                asyncio.run(_measure(record, name, live, plan.rounds, share))
            for app in apps * min(plan.rounds, MEMORY_ROUNDS):
                with children.serving(app, command, server_cores) as child:
                    asyncio.run(_memory(record, name, app.name, child))
    return Report(
        bench="ws",
        settings={"rounds": plan.rounds, "seconds": plan.seconds, "idle sockets": IDLE},
        series=record.series(),
        absent=[*peers.missing("uvloop", "uvicorn"), *ours.absent()],
        plain=("p50_ms", "p99_ms"),
        notes=["no permessage-deflate", "cpu_us: the server's CPU time per operation"],
    )


def servers() -> Mapping[str, Sequence[str]]:
    """Return the command of each server that is installed, on each loop for hypercorn and on the faster for uvicorn."""
    loops = list(ours.loops())
    found = {f"hypercorn {loop}": children.hypercorn(loop) for loop in loops}
    if find_spec("uvicorn") is not None:
        found[f"uvicorn {loops[-1]}"] = children.uvicorn(loops[-1])
    return found


# --- the scenarios: each appends the seconds of every operation that it completes --------------------------------


async def connects(child: Child, headers: Headers, seconds: float, took: Latencies) -> None:
    """Open, hear the welcome, close; `OPENERS` at a time."""

    async def opener(deadline: float) -> None:
        while (began := time.perf_counter()) < deadline:
            async with wsload.socket(child.port, headers):
                took.append(time.perf_counter() - began)

    deadline = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(OPENERS):
            group.create_task(opener(deadline))


async def pings(child: Child, headers: Headers, seconds: float, took: Latencies) -> None:
    """Ping and await the pong, on one socket."""
    await _pings(child, headers, seconds, took, 1)


async def pings_of_many(child: Child, headers: Headers, seconds: float, took: Latencies) -> None:
    """Ping and await the pong, on `MANY` sockets at once."""
    await _pings(child, headers, seconds, took, MANY)


async def runs(child: Child, headers: Headers, seconds: float, took: Latencies) -> None:
    """Ask, and await the response frame, through the agent and a real call of its calculator."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        async with wsload.socket(child.port, headers) as socket:
            for _ in range(RUNS_PER_SOCKET):
                began = time.perf_counter()
                socket.send(MESSAGE)
                await _response(socket)
                took.append(time.perf_counter() - began)


PINGS: Mapping[str, Scenario] = {"connects": connects, "1 socket": pings, f"{MANY} sockets": pings_of_many}
"""What the bare callable can do too."""

RUNS: Mapping[str, Scenario] = {"whole runs": runs}
"""What only the gateway does."""


async def _pings(child: Child, headers: Headers, seconds: float, took: Latencies, count: int) -> None:
    async def pinger(socket: wsload.Socket, deadline: float) -> None:
        while (began := time.perf_counter()) < deadline:
            socket.send(PING)
            answer = await socket.next()
            if answer != PONG.encode():
                raise wsload.BadFrame(repr(answer[:300]))
            took.append(time.perf_counter() - began)

    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(wsload.socket(child.port, headers)) for _ in range(count)]
        took.clear()
        deadline = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            for socket in sockets:
                group.create_task(pinger(socket, deadline))


async def _response(socket: wsload.Socket) -> None:
    while b'"type":"response"' not in (text := await socket.next()):
        if b'"type":"error"' in text:
            raise wsload.BadFrame(repr(text[:300]))
    if b"42" not in text:
        raise wsload.BadFrame(repr(text[:300]))


# --- the rounds --------------------------------------------------------------------------------------------------


async def _measure(record: Record, server: str, live: Mapping[str, Child], rounds: int, share: float) -> None:
    for number in range(rounds):
        for what, scenario in PINGS.items():
            for name in order(list(live), number):
                await _once(record, f"{server}: {what}", name, live[name], scenario, share=share)
        for what, scenario in RUNS.items():
            if ours.NAME in live:
                await _once(record, f"{server}: {what}", ours.NAME, live[ours.NAME], scenario, share=share)


async def _once(record: Record, group: str, name: str, child: Child, scenario: Scenario, *, share: float) -> None:
    took: Latencies = []
    cpu, began = child.cpu_s(), time.perf_counter()
    await scenario(child, _headers(name), share, took)
    elapsed, cpu = time.perf_counter() - began, child.cpu_s() - cpu
    record.add(
        group,
        name,
        per_s=len(took) / elapsed,
        cpu_us=cpu / len(took) * 1e6,
        p50_ms=percentile(took, 0.50) * 1e3,
        p99_ms=percentile(took, 0.99) * 1e3,
    )


async def _memory(record: Record, server: str, name: str, child: Child) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(WARM):
            await stack.enter_async_context(wsload.socket(child.port, _headers(name)))
        before = child.rss_kib()
        for _ in range(IDLE):
            await stack.enter_async_context(wsload.socket(child.port, _headers(name)))
        record.add(f"{server}: idle sockets", name, kib_each=(child.rss_kib() - before) / IDLE)


def _headers(name: str) -> Headers:
    return ours.KEYED if name == ours.NAME else HEADERS

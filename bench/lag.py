"""How late the event loop is while the gateway is pressed: by requests, by sockets, by runs, and by abuse.

The loop is sampled inside the server (`bench.watched`): how much later than asked it wakes a sleeper. The bare callable
is sampled under the same load, since most of the lateness is the server's below and the machine's.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from statistics import median

from bench import children, load, ours, watched, ws
from bench.calls import HEADERS, Headers
from bench.children import Child, Served
from bench.harness import BARE, Goal, Plan, Record, Report, Series, find, order
from bench.load import BadAnswer

P99_BAR_MS = 20.0
MAX_BAR_MS = 100.0
CALLERS = 64
HOSTILES = 4
ANSWER_S = 5.0
WARM_S = 0.3
MIB = 1024 * 1024


async def requests(child: Child, headers: Headers, seconds: float) -> None:
    """Ask on `CALLERS` connections."""
    await load.load(child.port, CALLERS, seconds, load.request_of("/health", headers))


async def pings(child: Child, headers: Headers, seconds: float) -> None:
    """Ping on a hundred sockets."""
    await ws.pings_of_many(child, headers, seconds, [])


async def runs(child: Child, headers: Headers, seconds: float) -> None:
    """Have the agent work, on a few sockets."""
    async with asyncio.TaskGroup() as group:
        for _ in range(HOSTILES):
            group.create_task(ws.runs(child, headers, seconds, []))


async def hostile(child: Child, headers: Headers, seconds: float) -> None:
    """Send what no sane client sends, on `HOSTILES` connections at a time."""
    asked = hostiles(headers)
    deadline = asyncio.get_running_loop().time() + seconds

    async def attacker(start: int) -> None:
        at = start
        while asyncio.get_running_loop().time() < deadline:
            await _abused(child.port, asked[at % len(asked)])
            at += 1

    async with asyncio.TaskGroup() as group:
        for number in range(HOSTILES):
            group.create_task(attacker(number))


def hostiles(headers: Headers) -> list[bytes]:
    """Return requests at every bound, and beyond."""
    many = json.dumps({"message": "hi", **{f"k{number}": number for number in range(100_000)}}).encode()
    bodies = [
        b"[" * MIB,
        b'{"a":' * 300_000,
        many,
        b"\xff" * MIB,
        b"1" * MIB,
        b'"' + b"\\u0000" * 300_000 + b'"',
        b"{}",
    ]
    heads = [
        load.request_of("/" + "a" * 8000, headers),
        load.request_of("/%00/../%2e%2e//", headers),
        load.request_of("/health?" + "&".join(f"a{number}=1" for number in range(1000)), headers),
        load.request_of("/health", (*headers, *((b"x-%d" % number, b"y" * 100) for number in range(90)))),
        load.request_of("/health", (*headers, (b"cookie", b"a=b; " * 3000))),
        b"\x16\x03\x01" * 1000,
    ]
    return heads + [_post(body, headers) for body in bodies]


def _post(body: bytes, headers: Headers) -> bytes:
    lines = [b"POST %s HTTP/1.1" % ours.CHAT_PATH.encode(), *(b"%s: %s" % each for each in headers)]
    lines += [b"content-type: application/json", b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def _abused(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError, TimeoutError):
        writer.write(data)
        async with asyncio.timeout(ANSWER_S):
            await reader.read(65_536)
    writer.close()


Press = Callable[[Child, Headers, float], Awaitable[None]]
BOTH: Mapping[str, Press] = {"64 callers": requests, "100 sockets": pings, "abuse": hostile}
"""What the bare callable can bear too."""
MINE: Mapping[str, Press] = {"whole runs": runs}


def run(plan: Plan) -> Report:
    """Press in turn, about `plan.seconds` in all."""
    record = Record()
    apps = [Served(BARE, "bench.watched:base", {})]
    apps += [Served(ours.NAME, "bench.pressed:app", ours.environment())] if ours.present() else []
    loops = list(ours.loops())
    share = plan.seconds / (len(loops) * plan.rounds * (len(BOTH) * len(apps) + len(MINE)))
    servers, clients = children.split_cores()
    for loop in loops:
        with ExitStack() as stack, children.pinned(clients):
            command = children.hypercorn(loop)
            live = {app.name: stack.enter_context(children.serving(app, command, servers)) for app in apps}
            asyncio.run(_measure(record, loop, live, plan.rounds, share))
    series = record.series()
    return Report(
        bench="lag",
        settings={"rounds": plan.rounds, "seconds": plan.seconds, "server": "hypercorn --workers 0"},
        series=series,
        absent=[*ours.absent()],
        notes=["how much later than asked the loop woke a sleeper, sampled every 2 ms"],
        goals=[goal for loop in loops for goal in goals(series, loop)],
    )


async def _measure(record: Record, loop: str, live: Mapping[str, Child], rounds: int, share: float) -> None:
    if ours.NAME in live:
        await runs(live[ours.NAME], ours.KEYED, WARM_S)  # what the first run imports is paid once
    for number in range(rounds):
        for what, press in (BOTH | MINE).items():
            for name in order(list(live), number):
                if what in BOTH or name == ours.NAME:
                    await _once(record, f"hypercorn {loop}: {what}", name, live[name], press=press, share=share)


async def _once(record: Record, group: str, name: str, child: Child, *, press: Press, share: float) -> None:
    await inside(child.port)
    await press(child, ours.KEYED if name == ours.NAME else HEADERS, share)
    found = await inside(child.port)
    record.add(group, name, p50_ms=found["p50_ms"], p99_ms=found["p99_ms"], max_ms=found["max_ms"])


async def inside(port: int) -> Mapping[str, float]:
    """Return what the server says of itself; its samples begin anew."""
    tally = load.Tally()
    while not tally.last_body:
        with suppress(BadAnswer):
            tally = await load.load(port, 1, 0.0001, load.request_of(watched.PATH, HEADERS))
    found: Mapping[str, float] = json.loads(tally.last_body)
    return found


def goals(series: Sequence[Series], loop: str) -> list[Goal]:
    """Return the bars of the gateway under each load."""
    made = []
    for what in (*BOTH, *MINE):
        group = f"hypercorn {loop}: {what}"
        for metric, bar in (("p99_ms", P99_BAR_MS), ("max_ms", MAX_BAR_MS)):
            one = find(series, group, ours.NAME, metric)
            made.append(Goal(f"{group}, {metric}", None if one is None else median(one.rounds), bar))
    return made

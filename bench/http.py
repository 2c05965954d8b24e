"""What a request costs over a real hypercorn: requests a second and latencies, one caller and sixty-four.

Each application runs under hypercorn in its own process with the same settings; server and client have a core each
where there are two. All servers are up together and asked in turn, so a noisy second meets all of them alike. `cpu_us`
is the server's CPU time per answer, which a busy neighbour disturbs less than requests/s.
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

from bench import children, load, ours, peers
from bench.bare import BODY
from bench.children import Child, Served
from bench.harness import BARE, Goal, Plan, Record, Report, Series, median_ratio, order, percentile

CONCURRENCY = (1, 64)
THROUGHPUT_BAR = 0.95
"""Requests/s over hypercorn, as a share of the bare callable's (design 6.8)."""

WARM_S = 0.1


def applications(plan: Plan) -> list[Served]:
    """Return the applications that are measured, the bare one first."""
    known = [Served(BARE, "bench.bare:app", {})]
    known += [ours.served()] if ours.present() else []
    return known + [Served(name, "bench.peers:app", {peers.CHOSEN: name}) for name in peers.present(plan)]


def run(plan: Plan) -> Report:
    """Measure every application on each loop that is installed, at each concurrency: about `plan.seconds` of load."""
    record = Record()
    loops = list(ours.loops())
    apps = applications(plan)
    share = plan.seconds / (len(loops) * len(CONCURRENCY) * len(apps) * plan.rounds)
    servers, client = children.split_cores()
    for loop in loops:
        with ExitStack() as stack, children.pinned(client):
            command = children.hypercorn(loop)
            live = {app.name: stack.enter_context(children.serving(app, command, servers)) for app in apps}
            asyncio.run(_measure(record, loop, live, plan.rounds, share))
    series = record.series()
    return Report(
        bench="http",
        settings={"rounds": plan.rounds, "seconds": plan.seconds, "server": "hypercorn --workers 0"},
        series=series,
        absent=[*peers.absent(plan), *peers.missing("uvloop"), *ours.absent()],
        plain=("p50_ms", "p99_ms"),
        notes=["server and client share one core" if servers == client else "server and client have a core each"],
        goals=[goal for loop in loops for goal in goals(series, loop)],
    )


def goals(series: Sequence[Series], loop: str) -> list[Goal]:
    """Return the bar of throughput at each concurrency: as counted, and as CPU time alone would allow it."""
    made = []
    for group in (_group(loop, concurrency) for concurrency in CONCURRENCY):
        counted = median_ratio(series, group, ours.NAME, "requests_s")
        allowed = median_ratio(series, group, BARE, "cpu_us", ours.NAME)
        made.append(Goal(f"{group}: requests/s, argentor / bare", counted, THROUGHPUT_BAR, "above"))
        made.append(Goal(f"{group}: answers per CPU second, argentor / bare", allowed, THROUGHPUT_BAR, "above"))
    return made


def _group(loop: str, concurrency: int) -> str:
    return f"hypercorn {loop} c={concurrency}"


async def _measure(record: Record, loop: str, live: dict[str, Child], rounds: int, share: float) -> None:
    for child in live.values():
        await load.load(child.port, max(CONCURRENCY), WARM_S)
    for number in range(rounds):
        for concurrency in CONCURRENCY:
            for name in order(list(live), number):
                await _once(record, _group(loop, concurrency), name, live[name], concurrency=concurrency, share=share)


async def _once(record: Record, group: str, name: str, child: Child, *, concurrency: int, share: float) -> None:
    before = child.cpu_s()
    tally = await load.load(child.port, concurrency, share)
    cpu_s = child.cpu_s() - before
    _check(name, tally.last_body)
    count = len(tally.latencies_s)
    record.add(
        group,
        name,
        requests_s=count / tally.elapsed_s,
        cpu_us=cpu_s / count * 1e6,
        p50_ms=percentile(tally.latencies_s, 0.50) * 1e3,
        p99_ms=percentile(tally.latencies_s, 0.99) * 1e3,
    )


def _check(name: str, body: bytes) -> None:
    if body.replace(b": ", b":").replace(b", ", b",") != BODY:
        raise RuntimeError(f"{name} answered {body[:200]!r}")

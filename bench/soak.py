"""What is left behind after many requests and many sockets: memory, tasks, file descriptors.

A tenth of the work warms the server up, then the rest is done in slices, and after each the server is looked at. The
figure is how much RSS the last look found above the first; the bare callable had the same work.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from statistics import median

from bench import children, load, ours, ws
from bench.calls import HEADERS, Headers
from bench.children import Child, Served
from bench.harness import BARE, Goal, Plan, Record, Report, Series, find
from bench.lag import inside

SLICES = 9
CALLERS = 16
CYCLES_PER_REQUEST = 0.2
STRETCH_S = 0.5
GROWTH_BAR_PERCENT = 5.0
SPARE = 1.0
"""How many tasks and descriptors more than at the start may be there: a connection of the one who looks."""
SETTLE_S = 6.0
"""How long connections have to close; hypercorn keeps idle ones for 5 s."""
LOOKS = 5


def run(plan: Plan) -> Report:
    """Do `plan.count` requests and a fifth as many socket cycles; what does not fit into `plan.seconds` is left out."""
    record = Record()
    servers, clients = children.split_cores()
    apps = [Served(BARE, "bench.watched:base", {})]
    apps += [Served(ours.NAME, "bench.pressed:app", ours.environment())] if ours.present() else []
    with children.pinned(clients):
        for app in apps:
            with children.serving(app, children.hypercorn(list(ours.loops())[-1]), servers) as child:
                record.add("soak", app.name, **asyncio.run(_soaked(child, app.name, plan, plan.seconds / len(apps))))
    series = record.series()
    return Report(
        bench="soak",
        settings={
            "requests": plan.count,
            "socket cycles": int(plan.count * CYCLES_PER_REQUEST),
            "seconds": plan.seconds,
        },
        series=series,
        absent=ours.absent(),
        notes=["growth: from the end of the first tenth to the end"],
        plain=("growth_percent", "tasks_more", "fds_more"),
        goals=goals(series),
    )


async def _soaked(child: Child, name: str, plan: Plan, seconds: float) -> Mapping[str, float]:
    headers = ours.KEYED if name == ours.NAME else HEADERS
    deadline = time.monotonic() + seconds
    slice_of = plan.count / (SLICES + 1)
    done = await _work(child, headers, slice_of, deadline)
    settle_s = min(SETTLE_S, seconds)
    tasks, fds = await _open(child, settle_s)
    first = child.rss_kib()
    for _ in range(SLICES):
        requests, cycles = await _work(child, headers, slice_of, deadline)
        done = (done[0] + requests, done[1] + cycles)
    more_tasks, more_fds = await _settled(child, tasks, fds, settle_s)
    last = child.rss_kib()
    return {
        "requests": float(done[0]),
        "cycles": float(done[1]),
        "rss_mib": last / 1024,
        "growth_percent": (last - first) / first * 100,
        "tasks_more": more_tasks,
        "fds_more": more_fds,
    }


async def _work(child: Child, headers: Headers, count: float, deadline: float) -> tuple[int, int]:
    requests, cycles = 0, 0
    request = load.request_of("/health" if headers is HEADERS else "/api/v1/agent/status", headers)
    while requests < count and time.monotonic() < deadline:
        requests += len((await load.load(child.port, CALLERS, STRETCH_S, request)).latencies_s)
    while cycles < count * CYCLES_PER_REQUEST and time.monotonic() < deadline:
        took: list[float] = []
        await ws.connects(child, headers, STRETCH_S, took)
        cycles += len(took)
    return requests, cycles


async def _open(child: Child, settle_s: float) -> tuple[float, float]:
    """Return the tasks and the descriptors, having given the connections before the time to close."""
    await asyncio.sleep(settle_s)
    tasks = (await inside(child.port))["tasks"]
    return tasks, float(child.fds())


async def _settled(child: Child, tasks: float, fds: float, settle_s: float) -> tuple[float, float]:
    """Return how many tasks and descriptors there are more than before; they have a few times to close."""
    for _ in range(LOOKS):
        now_tasks, now_fds = await _open(child, settle_s)
        if max(now_tasks - tasks, now_fds - fds) <= SPARE:
            break
    return now_tasks - tasks, now_fds - fds


def goals(series: Sequence[Series]) -> list[Goal]:
    """Return the bars: memory, tasks, descriptors."""
    bars = {"growth_percent": GROWTH_BAR_PERCENT, "tasks_more": SPARE, "fds_more": SPARE}
    made = []
    for metric, bar in bars.items():
        one = find(series, "soak", ours.NAME, metric)
        made.append(Goal(f"argentor: {metric}", None if one is None else median(one.rounds), bar))
    return made

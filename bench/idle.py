"""What many idle WebSockets cost one process: memory each, CPU while nothing is said, and how late the heartbeats are.

The gateway and the bare callable, which accepts, greets and waits, run under the same servers with the same settings:
plain hypercorn, and the gateway's own launcher. The clients are raw sockets in other processes; they read, and answer
heartbeats. Memory is what RSS grew by; CPU is that of the server's process while it is watched, heartbeats and their
answers included. A heartbeat's lateness is what a socket waited for it beyond `limits.heartbeat_s`.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from bench import children, ours
from bench.calls import HEADERS
from bench.children import Child, Served
from bench.crowd import all_files, crowd, shares, tell, told
from bench.harness import BARE, Goal, Plan, Record, Report, Series, find, order
from bench.holders import Heard, holder

PROCESSES = 4
SETTLE_S = 2.0
EACH_BAR_KIB = 40.0
CPU_BAR_PERCENT = 2.0
LATE_BAR_S = 10.0
"""The bars of an idle crowd: memory each, CPU, and how late a heartbeat may be."""


def run(plan: Plan) -> Report:
    """Hold `plan.count` sockets on each server and application; watch them for `plan.seconds`, each time."""
    all_files()
    record = Record()
    servers, clients = children.split_cores()
    apps = {app.name: app for app in applications()}
    commands = {"launcher": children.launcher(), "hypercorn asyncio": children.hypercorn("asyncio")}
    with children.pinned(clients):
        for number in range(plan.rounds):
            for server, command in commands.items():
                for name in order(list(apps), number):
                    with children.serving(apps[name], command, servers) as child:
                        record.add(server, name, **measured(child, name, plan))
    series = record.series()
    return Report(
        bench="idle",
        settings={"rounds": plan.rounds, "connections": plan.count, "watched s": plan.seconds, "heartbeat s": beat_s()},
        series=series,
        absent=ours.absent(),
        notes=["accepts_s: with the clients' handshakes, which share a core", "late_s: 0 where nothing beats"],
        plain=("late_s", "beats_each", "lost"),
        goals=[goal for server in commands for goal in goals(series, server)],
    )


def applications() -> list[Served]:
    """Return the bare callable and, if it is there, the gateway."""
    return [Served(BARE, "bench.bare:app", {}), *([ours.served()] if ours.present() else [])]


def measured(child: Child, name: str, plan: Plan) -> Mapping[str, float]:
    """Hold the crowd on one server, and return what it cost."""
    headers = ours.KEYED if name == ours.NAME else HEADERS
    before = child.rss_kib()
    began = time.monotonic()
    with crowd([holder(count, headers) for count in shares(plan.count, PROCESSES)], child.port) as pipes:
        told(pipes)
        opened_s = time.monotonic() - began
        time.sleep(min(SETTLE_S, plan.seconds))
        cpu, began = child.cpu_s(), time.monotonic()
        time.sleep(plan.seconds)
        cpu, watched_s = child.cpu_s() - cpu, time.monotonic() - began
        after = child.rss_kib()
        tell(pipes, "end")
        heard: list[Heard] = told(pipes)
    beats = [socket for part in heard for socket in part.beats]
    return {
        "kib_each": (after - before) / plan.count,
        "accepts_s": plan.count / opened_s,
        "cpu_percent": cpu / watched_s * 100,
        "beats_each": sum(len(each) for each in beats) / plan.count,
        "late_s": lateness(beats, beat_s()) if name == ours.NAME else 0.0,
        "lost": float(sum(part.lost for part in heard)),
    }


def beat_s() -> float:
    """Return how often the gateway sends a heartbeat to an idle socket."""
    return ours.config().limits.heartbeat_s if ours.present() else 0.0


def lateness(beats: Sequence[Sequence[float]], every_s: float) -> float:
    """Return how long beyond `every_s` a socket waited for its next heartbeat at most; 0 if none was heard twice."""
    waits = [later - sooner for each in beats for sooner, later in pairwise(each)]
    return max(0.0, max(waits, default=0.0) - every_s)


def goals(series: Sequence[Series], server: str) -> list[Goal]:
    """Return the bars for one server."""

    def middle(metric: str) -> float | None:
        one = find(series, server, ours.NAME, metric)
        return None if one is None else median(one.rounds)

    return [
        Goal(f"{server}: KiB per idle socket", middle("kib_each"), EACH_BAR_KIB),
        Goal(f"{server}: CPU % while idle", middle("cpu_percent"), CPU_BAR_PERCENT),
        Goal(f"{server}: s that a heartbeat is late at most", middle("late_s"), LATE_BAR_S),
        Goal(f"{server}: idle sockets lost", middle("lost"), 0.0),
    ]

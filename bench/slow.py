"""What becomes of those who send slowly, and of everybody else meanwhile.

Half of the processes send heads and half send bodies, a byte a second on each of `count` connections. Each connection
must be cut in time; a client that asks properly, on a connection of its own each time, must not notice.
"""

import asyncio
from collections.abc import Mapping

from bench import children, load, ours
from bench.attackers import Cut, slow_body, slow_header
from bench.children import Child
from bench.crowd import all_files, crowd, shares, told
from bench.harness import Goal, Plan, Record, Report, percentile

PROCESSES = 2
EVERY_S = 0.02
HEAD_BAR_S = 6.0
BODY_BAR_S = 60.0
P99_BAR_MS = 100.0
KINDS = ("slow headers", "slow bodies")


def run(plan: Plan) -> Report:
    """Attack each server for `plan.seconds`, with `plan.count` connections of each kind."""
    all_files()
    record = Record()
    goals: list[Goal] = []
    commands = {"launcher": children.launcher(), "hypercorn asyncio": children.hypercorn("asyncio")}
    servers, clients = children.split_cores()
    with children.pinned(clients):
        for server, command in commands.items() if ours.present() else ():
            with children.serving(ours.served(), command, servers) as child:
                cut, p99_ms = asyncio.run(attacked(child, plan))
                goals += _recorded(record, server, cut, p99_ms, plan)
    return Report(
        bench="slow",
        settings={"connections of each kind": plan.count, "attack s": plan.seconds},
        series=record.series(),
        absent=ours.absent(),
        notes=["cut_p50_s, cut_max_s: from the head, or its beginning, until the connection was cut"],
        goals=goals,
    )


async def attacked(child: Child, plan: Plan) -> tuple[Mapping[str, list[Cut]], Mapping[str, float]]:
    """Return what became of both kinds of attackers, and the p50 and p99 of proper requests, in ms."""
    parts = shares(plan.count, PROCESSES)
    heads = [slow_header(count, plan.seconds) for count in parts]
    bodies = [slow_body(count, plan.seconds, ours.CHAT_PATH, ours.KEYED_JSON) for count in parts]
    with crowd([*heads, *bodies], child.port) as pipes:
        waiting = asyncio.create_task(asyncio.to_thread(told, pipes))
        tally = load.Tally()
        while not waiting.done():
            tally.latencies_s += (await load.probes(child.port, 1.0, EVERY_S)).latencies_s
        found: list[Cut] = await waiting
    p99 = {"p50_ms": percentile(tally.latencies_s, 0.5) * 1e3, "p99_ms": percentile(tally.latencies_s, 0.99) * 1e3}
    return {KINDS[0]: found[: len(heads)], KINDS[1]: found[len(heads) :]}, p99


def _recorded(
    record: Record, server: str, cut: Mapping[str, list[Cut]], others: Mapping[str, float], plan: Plan
) -> list[Goal]:
    goals = []
    for kind, bar_s in zip(KINDS, (HEAD_BAR_S, BODY_BAR_S), strict=True):
        after = [seconds for part in cut[kind] for seconds in part.after_s]
        left = float(sum(part.left for part in cut[kind]))
        middle, last = (percentile(after, 0.5), max(after)) if after else (plan.seconds, plan.seconds)
        record.add(server, kind, cut_p50_s=middle, cut_max_s=last, never_cut=left)
        goals.append(Goal(f"{server}: {kind}, the last one cut, s", last, bar_s))
        goals.append(Goal(f"{server}: {kind}, never cut", left, 0.0))
    record.add(server, "others' requests", **others)
    goals.append(Goal(f"{server}: p99 of others' requests, ms", others["p99_ms"], P99_BAR_MS))
    return goals

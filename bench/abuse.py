"""What one abusive WebSocket costs: memory, the time until it is closed, and what everybody else notices meanwhile.

Under the gateway's own launcher, whose guards this is about, and under plain hypercorn, which has none.
"""

import asyncio
from collections.abc import Mapping, Sequence
from statistics import median

from bench import children, load, ours
from bench.abusers import ABUSES, Ended, abuser
from bench.children import Child
from bench.crowd import crowd, told
from bench.harness import Goal, Plan, Record, Report, Series, find, percentile

EVERY_S = 0.02
LOOK_S = 0.1
RSS_BAR_MIB = 32.0
CLOSED_BAR_S = 5.0
UNREAD_BAR_S = 15.0
"""The bar for who sends what is right and does not read the answers: there only the write deadline can know."""
P99_BAR_MS = 100.0
GUARDED = "launcher"


def run(plan: Plan) -> Report:
    """Do each abuse to each server for a share of `plan.seconds`, each on a server of its own."""
    record = Record()
    commands = {GUARDED: children.launcher(), "hypercorn asyncio": children.hypercorn("asyncio")}
    share = plan.seconds / (len(commands) * len(ABUSES) * plan.rounds)
    servers, clients = children.split_cores()
    with children.pinned(clients):
        for server, command in commands.items() if ours.present() else ():
            for kind in list(ABUSES) * plan.rounds:
                with children.serving(ours.served(), command, servers) as child:
                    record.add(server, kind, **asyncio.run(abused(child, kind, share)))
    series = record.series()
    return Report(
        bench="abuse",
        settings={"rounds": plan.rounds, "seconds each": share},
        series=series,
        absent=ours.absent(),
        notes=["closed_s: the whole time where it never was", "rss_mib: the most that RSS was above its start"],
        goals=[goal for kind in ABUSES for goal in goals(series, kind)],
    )


async def abused(child: Child, kind: str, seconds: float) -> Mapping[str, float]:
    """Return what the abuse cost one server."""
    before = peak = child.rss_kib()
    with crowd([abuser(kind, ours.KEYED, seconds)], child.port) as pipes:
        waiting = asyncio.create_task(asyncio.to_thread(told, pipes))
        tally = load.Tally()
        while not waiting.done():
            tally.latencies_s += (await load.probes(child.port, LOOK_S, EVERY_S)).latencies_s
            peak = max(peak, child.rss_kib())
        ended: Ended = (await waiting)[0]
    return {
        "rss_mib": (peak - before) / 1024,
        "sent_mib": ended.sent_bytes / 1024 / 1024,
        "closed_s": seconds if ended.closed_s is None else ended.closed_s,
        "p99_ms": percentile(tally.latencies_s, 0.99) * 1e3,
    }


def goals(series: Sequence[Series], kind: str) -> list[Goal]:
    """Return the bars of the guarded server for one abuse."""
    bars = {
        "rss_mib": RSS_BAR_MIB,
        "closed_s": UNREAD_BAR_S if kind == "question flood" else CLOSED_BAR_S,
        "p99_ms": P99_BAR_MS,
    }
    made = []
    for metric, bar in bars.items():
        one = find(series, GUARDED, kind, metric)
        made.append(Goal(f"{GUARDED}: {kind}, {metric}", None if one is None else median(one.rounds), bar))
    return made

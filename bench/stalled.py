"""What becomes of those who do not read, and of everybody else meanwhile.

`count` readers follow one run, which says 200 pieces a second, and read nothing. Each must be cut by the write
deadline, and its file descriptor with it; the server's memory must not grow by what they have not read, and a client
that asks properly must not notice.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from statistics import median

from bench import children, load, ours
from bench.attackers import staller
from bench.children import Child, Served
from bench.crowd import all_files, crowd, shares, tell, told
from bench.harness import Goal, Plan, Record, Report, Series, find, percentile

PROCESSES = 2
SERVER = "launcher"
"""Under plain hypercorn the kernel takes 4 MB for each reader, which is more than a run may say."""
RATE = 200
SIZE = 100
EVERY_S = 0.02
LOOK_S = 0.2
SPARE = 8
"""How many descriptors more than before may be those of the probes under way."""
RSS_BAR_MIB = 64.0
FREED_BAR_S = 20.0
"""The write deadline, 10 s, and 5 s for the descriptor; before that, what it takes to fill the socket of 128 KiB."""
P99_BAR_MS = 20.0
STREAM = "/api/v1/chat/stream"


def run(plan: Plan) -> Report:
    """Stall `plan.count` readers for `plan.seconds` at most, in each round."""
    all_files()
    record = Record()
    servers, clients = children.split_cores()
    with children.pinned(clients):
        for _ in range(plan.rounds if ours.present() else 0):
            served = Served(ours.NAME, "bench.pressed:made", ours.environment())
            with children.serving(served, children.launcher(), servers) as child:
                record.add(SERVER, ours.NAME, **asyncio.run(stalled(child, plan)))
    series = record.series()
    return Report(
        bench="stalled",
        settings={"readers": plan.count, "pieces/s": RATE, "piece bytes": SIZE, "seconds": plan.seconds},
        series=series,
        absent=ours.absent(),
        notes=["freed: from the asking until the server has given the descriptors of half, of all readers back"],
        goals=goals(series),
    )


def goals(series: Sequence[Series]) -> list[Goal]:
    """Return the bars."""

    def middle(metric: str) -> float | None:
        one = find(series, SERVER, ours.NAME, metric)
        return None if one is None else median(one.rounds)

    return [
        Goal("s until all descriptors are free", middle("freed_max_s"), FREED_BAR_S),
        Goal("readers never cut", middle("never_freed"), 0.0),
        Goal("RSS growth, MiB", middle("rss_mib"), RSS_BAR_MIB),
        Goal("p99 of others' requests, ms", middle("p99_ms"), P99_BAR_MS),
    ]


async def stalled(child: Child, plan: Plan) -> Mapping[str, float]:
    """Return what the readers cost one server."""
    run_id = await begun(child.port, f"flood {RATE} {SIZE} {plan.seconds}")
    request = load.request_of(f"/api/v1/runs/{run_id}/stream", ours.KEYED)
    calm, before = child.fds(), child.rss_kib()
    with crowd([staller(count, request) for count in shares(plan.count, PROCESSES)], child.port) as pipes:
        await asyncio.to_thread(told, pipes)
        watching = asyncio.create_task(_freed(child, calm, plan))
        tally = load.Tally()
        while not watching.done():
            tally.latencies_s += (await load.probes(child.port, LOOK_S, EVERY_S)).latencies_s
        freed_s, left, peak = await watching
        tell(pipes, "end")
    return {
        "freed_p50_s": freed_s[0],
        "freed_max_s": freed_s[1],
        "never_freed": left,
        "rss_mib": (peak - before) / 1024,
        "p50_ms": percentile(tally.latencies_s, 0.5) * 1e3,
        "p99_ms": percentile(tally.latencies_s, 0.99) * 1e3,
    }


async def begun(port: int, said: str) -> str:
    """Start the run of these words, and return its id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"input": said}).encode()
    lines = [b"POST %s HTTP/1.1" % STREAM.encode(), *(b"%s: %s" % each for each in ours.KEYED_JSON)]
    writer.write(b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body]))
    found = await asyncio.wait_for(reader.readuntil(b"\nid: "), children.START_S)
    if not found.startswith(b"HTTP/1.1 200"):
        raise load.BadAnswer(repr(found[:300]))
    line = await asyncio.wait_for(reader.readline(), children.START_S)
    writer.close()
    return line.decode().strip().rpartition(":")[0]


async def _freed(child: Child, calm: int, plan: Plan) -> tuple[tuple[float, float], float, int]:
    """Return when half and all of the readers' descriptors were free, how many were not in time, and the peak RSS."""
    began = time.monotonic()
    half, peak, most, left = plan.seconds, 0, 0, 0
    while (now := time.monotonic() - began) < plan.seconds:
        peak = max(peak, child.rss_kib())
        left = child.fds() - calm
        most = max(most, left)
        if most >= plan.count and left <= plan.count / 2:
            half = min(half, now)
            if left <= SPARE:
                return (half, now), 0.0, peak
        await asyncio.sleep(LOOK_S)
    return (half, plan.seconds), float(left), peak

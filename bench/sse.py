"""What an event of a streamed run costs with a hosted model, and how late the loop is while many runs stream.

A model server in a process of its own streams OpenAI's chunks at a steady rate. The bare callable passes each on as it
is; the gateway reads it, numbers and keeps it, and sends it in its own form. `cpu_us` is the server's CPU time for each
piece that the model said, the run that it belongs to included; `lacking` are the streams that had not all of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench import children, lag, ours, passing, sseload
from bench.calls import HEADERS
from bench.children import Child, Served
from bench.harness import BARE, Goal, Plan, Record, Report, Series, find, order
from bench.sseload import Wanted

GUARDED = "+guardrails"
PIECES = 5
"""How many pieces an answer has at least."""
P99_BAR_MS = 50.0
WARM = Wanted(PIECES, 0.0)
MODELS = ["bench.modelled", "{fd}"]


@dataclass(frozen=True, slots=True)
class Shape:
    """So many streams at once, each of `rate` pieces a second, or of as many pieces all at once."""

    many: int
    rate: float
    is_paced: bool = True

    def wanted(self, seconds: float) -> Wanted:
        """Return what each stream is to bring in this time."""
        return Wanted(max(PIECES, int(self.rate * seconds)), self.rate if self.is_paced else 0.0)


RUNS = "many runs"
AT_ONCE = "many runs, all at once"
"""The shapes with which the loop is held to its lateness."""


def shapes(runs: int) -> Mapping[str, Shape]:
    """Return what is measured, with so many runs at once where there are many."""
    return {
        "1 stream": Shape(1, 500.0),
        "50 streams": Shape(50, 40.0),
        RUNS: Shape(runs, 10.0),
        AT_ONCE: Shape(runs, 40.0, is_paced=False),
    }


def run(plan: Plan) -> Report:
    """Stream in turn, about `plan.seconds` in all."""
    record = Record()
    servers, clients = children.split_cores()
    loops = list(ours.loops())
    with children.pinned(clients), children.serving(Served("models", "", {}), MODELS, clients) as models:
        served = apps(models.port)
        chosen = shapes(plan.count)
        share = plan.seconds / (len(loops) * plan.rounds * len(served) * len(chosen))
        for loop in loops:
            with ExitStack() as stack:
                command = children.hypercorn(loop)
                live = {app.name: stack.enter_context(children.serving(app, command, servers)) for app in served}
                asyncio.run(_measure(record, loop, live, chosen, plan.rounds, share))
    series = record.series()
    return Report(
        bench="sse",
        settings={
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "many runs": plan.count,
            "server": "hypercorn --workers 0",
        },
        series=series,
        absent=ours.absent(),
        plain=("lag_p50_ms", "lag_p99_ms", "lag_max_ms", "lacking"),
        notes=[
            f"{name}: {shape.many} of {shape.wanted(share).count} pieces, "
            + (f"{shape.rate:.0f} a second each" if shape.is_paced else "as fast as they are taken")
            for name, shape in chosen.items()
        ],
        goals=[goal for loop in loops for goal in goals(series, loop)],
    )


def apps(models_port: int) -> list[Served]:
    """Return what is measured, the bare callable first."""
    found = [Served(BARE, "bench.passing:app", {passing.MODELS: str(models_port)})]
    if ours.present():
        for name, guarded in ((ours.NAME, "false"), (f"{ours.NAME} {GUARDED}", "true")):
            env = {**ours.environment(), **hosted(models_port), "ARGENTOR_GUARDRAILS_ENABLED": guarded}
            found.append(Served(name, "bench.asking:app", env))
    return found


def hosted(models_port: int) -> dict[str, str]:
    """Return the settings of a gateway that asks this model server."""
    return {
        "ARGENTOR_LLM_PROVIDER": "openai",
        "ARGENTOR_LLM_MODEL": passing.MODEL,
        "ARGENTOR_LLM_API_KEY": "sk-bench",
        "ARGENTOR_LLM_BASE_URL": f"http://127.0.0.1:{models_port}",
    }


async def _measure(  # noqa: PLR0917  called in one place, in the order of the loops
    record: Record, loop: str, live: Mapping[str, Child], chosen: Mapping[str, Shape], rounds: int, share: float
) -> None:
    for name, child in live.items():
        await _streams(name, child, 4, WARM)
    for number in range(rounds):
        for title, shape in chosen.items():
            for name in order(list(live), number):
                await _once(record, f"hypercorn {loop}: {title}", name, live[name], shape=shape, share=share)


async def _once(record: Record, group: str, name: str, child: Child, *, shape: Shape, share: float) -> None:
    wanted = shape.wanted(share)
    await lag.inside(child.port)
    before = child.cpu_s()
    found = await _streams(name, child, shape.many, wanted)
    cpu_s = child.cpu_s() - before
    late = await lag.inside(child.port)
    record.add(
        group,
        name,
        cpu_us=cpu_s / (shape.many * wanted.count) * 1e6,
        lag_p50_ms=late["p50_ms"],
        lag_p99_ms=late["p99_ms"],
        lag_max_ms=late["max_ms"],
        lacking=found.lacking,
    )


async def _streams(name: str, child: Child, many: int, wanted: Wanted) -> sseload.Streams:
    headers = HEADERS if name == BARE else ours.KEYED_JSON
    names = [f"{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(many)]
    return await sseload.streams(child.port, passing.PATH, headers, wanted, names)


def goals(series: Sequence[Series], loop: str) -> list[Goal]:
    """Return the bars of the gateway with many runs: nothing lost, and the loop on time."""
    made = []
    for name in (ours.NAME, f"{ours.NAME} {GUARDED}"):
        for shape in (RUNS, AT_ONCE):
            group = f"hypercorn {loop}: {shape}"
            lost = find(series, group, name, "lacking")
            late = find(series, group, name, "lag_p99_ms")
            made.append(Goal(f"{group}, {name}: incomplete streams", None if lost is None else max(lost.rounds), 0.0))
            middle = None if late is None else median(late.rounds)
            made.append(Goal(f"{group}, {name}: p99 of the loop, ms", middle, P99_BAR_MS))
    return made

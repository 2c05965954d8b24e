"""What every bench shares: the order of interleaved rounds, medians and ratios with their spread, goals, the report.

The machine is never quiet, so a number alone says little. Every target is measured once per round, the rounds start at
another target each (A B C, B C A, C A B ...), a ratio is made inside one round, and the median of these ratios is the
result; its lowest and highest round stand beside it.
"""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Literal

BARE = "bare"
"""The target that every ratio is a ratio to."""

MOST_CALLS = 1_000_000
"""How many calls one round of one target makes at most."""

CAUTION = (
    "RATIOS ARE THE RESULT. Absolute numbers belong to this machine, this Python and this moment:\n"
    "never compare them with another machine's. A ratio is the median over interleaved rounds (lowest..highest)."
)
_LIBRARIES = ("argentor-asgi", "hypercorn", "uvicorn", "uvloop", "orjson", "msgspec")
_PEERS = ("starlette", "fastapi", "litestar", "falcon", "blacksheep")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: `rounds` >= 1, about `seconds` > 0 in all, whether beside the peers, and `count` >= 1.

    `count`: of what a bench counts instead of timing it, such as connections; 0 where it counts nothing.
    """

    rounds: int
    seconds: float
    peers: bool = True
    count: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, with the lowest and the highest of them."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of `values`, of which there is at least one."""
    return Spread(median(values), min(values), max(values))


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return value / base round by round; both have one value per round, and no base is 0."""
    return [value / under for value, under in zip(values, base, strict=True)]


def differences(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return value - base round by round; both have one value per round."""
    return [value - under for value, under in zip(values, base, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0.0 to 1.0) of `values` do not exceed: nearest rank; `values` is not empty."""
    ranked = sorted(values)
    rank = -int(-share * len(ranked) // 1)
    return ranked[max(rank, 1) - 1]


def order(names: Sequence[str], round_number: int) -> list[str]:
    """Return the names as one round takes them: each round starts one further on, so that none is always first."""
    start = round_number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def calls_for(seconds: float, cost_s: float) -> int:
    """Return how many calls of `cost_s` fill `seconds`: 1 to `MOST_CALLS`."""
    return MOST_CALLS if cost_s <= 0 else max(1, min(MOST_CALLS, int(seconds / cost_s)))


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one target: a value per round. `group` is the setting that its ratios stay within."""

    group: str
    target: str
    metric: str
    rounds: tuple[float, ...]


@dataclass(slots=True)
class Record:
    """The values of a bench while it runs, by group, target and metric, in the order of first appearance."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, group: str, target: str, **metrics: float) -> None:
        """Add one round's values of one target."""
        for metric, value in metrics.items():
            self.values.setdefault((group, target, metric), []).append(value)

    def series(self) -> list[Series]:
        """Return what was recorded."""
        return [Series(*key, tuple(values)) for key, values in self.values.items()]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bar that the project set itself: `value` (None: not measured) is to stay below or above `bound`."""

    words: str
    value: float | None
    bound: float
    side: Literal["below", "above"] = "below"

    @property
    def verdict(self) -> str:
        """Say whether the bar holds: `met`, `MISSED`, or `not measured`."""
        if self.value is None:
            return "not measured"
        held = self.value <= self.bound if self.side == "below" else self.value >= self.bound
        return "met" if held else "MISSED"


@dataclass(frozen=True, slots=True)
class Report:
    """One bench's outcome: what was measured, under which settings, and what could not be.

    `plain`: metrics that are shown without their ratio.
    """

    bench: str
    settings: Mapping[str, object]
    series: Sequence[Series]
    absent: Sequence[str] = ()
    notes: Sequence[str] = ()
    goals: Sequence[Goal] = ()
    plain: Sequence[str] = ()


def find(series: Iterable[Series], group: str, target: str, metric: str) -> Series | None:
    """Return the series of this name, or None if it was not measured."""
    return next((one for one in series if (one.group, one.target, one.metric) == (group, target, metric)), None)


def ratio(series: Sequence[Series], group: str, target: str, metric: str, base: str = BARE) -> Spread | None:
    """Return a target's ratio to `base`, the spread of its rounds; None if either of them was not measured."""
    value, under = find(series, group, target, metric), find(series, group, base, metric)
    if value is None or under is None or not all(under.rounds):
        return None
    return spread(ratios(value.rounds, under.rounds))


def median_ratio(series: Sequence[Series], group: str, target: str, metric: str, base: str = BARE) -> float | None:
    """Return the median of `ratio`, or None if it could not be made."""
    found = ratio(series, group, target, metric, base)
    return None if found is None else found.median


def quietest_ratio(series: Sequence[Series], group: str, target: str, metric: str, base: str = BARE) -> float | None:
    """Return the ratio of the two lowest rounds, or None if it could not be made.

    A busy neighbour only ever adds, so the lowest rounds have least of it; but they are single ones.
    """
    value, under = find(series, group, target, metric), find(series, group, base, metric)
    if value is None or under is None or not min(under.rounds):
        return None
    return min(value.rounds) / min(under.rounds)


# --- what is shown -----------------------------------------------------------------------------------------------


def figure(value: float) -> str:
    """Return a number with three or four digits that mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text: the first column to the left, the others to the right; all rows are equally long."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        head, *rest = [
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join([head, *rest]).rstrip())
    return "\n".join(lines)


def table(series: Sequence[Series], group: str, plain: Sequence[str] = ()) -> str:
    """Return one group as a table: a row per target, and per metric its median and its ratio to the bare target.

    `plain` metrics have no ratio, and a group without a bare target has none.
    """
    own = [one for one in series if one.group == group]
    targets = list(dict.fromkeys(one.target for one in own))
    metrics = {one.metric: BARE in targets and one.metric not in plain for one in own}
    rows = [[group, *(cell for metric, against in metrics.items() for cell in _heads(metric, against=against))]]
    for target in targets:
        found = [(find(own, group, target, metric), against) for metric, against in metrics.items()]
        rows.append([target, *(cell for one, against in found for cell in _cells(own, one, against=against))])
    return grid(rows)


def _heads(metric: str, *, against: bool) -> list[str]:
    return [metric, "x bare", "range"] if against else [metric]


def _cells(series: Sequence[Series], one: Series | None, *, against: bool) -> list[str]:
    if one is None:
        return ["-"] * len(_heads("", against=against))
    shown = [figure(median(one.rounds))]
    if against:
        found = ratio(series, one.group, one.target, one.metric)
        shown += ["-", "-"] if found is None else [f"{found.median:.3f}", f"{found.low:.2f}..{found.high:.2f}"]
    return shown


def as_text(report: Report) -> str:
    """Return the report as a person reads it: caution, machine, one table per group, goals, and who is absent."""
    groups = dict.fromkeys(one.group for one in report.series)
    facts = ", ".join(f"{name} {value}" for name, value in machine().items() if name != "libraries")
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    blocks = [f"=== bench {report.bench} ===\n{CAUTION}", f"machine: {facts}\nsettings: {settings}"]
    blocks += [table(report.series, group, report.plain) for group in groups]
    blocks += ["\n".join(_goal_line(goal) for goal in report.goals)] if report.goals else []
    blocks += ["\n".join(f"note: {note}" for note in report.notes)] if report.notes else []
    blocks += ["\n".join(f"absent: {name}" for name in report.absent)] if report.absent else []
    return "\n\n".join(blocks)


def _goal_line(goal: Goal) -> str:
    value = "-" if goal.value is None else figure(goal.value)
    sign = "<=" if goal.side == "below" else ">="
    return f"goal: {goal.words}: {value} (bar {sign} {figure(goal.bound)}): {goal.verdict}"


def as_json(report: Report) -> str:
    """Return the report as JSON: every round's value, the summaries, the machine, the goals with their verdicts."""
    body = {
        "bench": report.bench,
        "machine": machine(),
        "settings": dict(report.settings),
        "series": [_series_json(report.series, one) for one in report.series],
        "goals": [{**asdict(goal), "verdict": goal.verdict} for goal in report.goals],
        "absent": list(report.absent),
        "notes": list(report.notes),
    }
    return json.dumps(body, indent=1, allow_nan=False)


def _series_json(series: Sequence[Series], one: Series) -> dict[str, object]:
    against = ratio(series, one.group, one.target, one.metric)
    return {**asdict(one), **asdict(spread(one.rounds)), "ratio_to_bare": None if against is None else asdict(against)}


# --- the machine -------------------------------------------------------------------------------------------------


def machine() -> dict[str, object]:
    """Return what the absolute numbers depend on: processor, cores, load, Python, and the versions of the libraries."""
    return {
        "cpu": _processor(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()} {sys.platform}",
        "libraries": {name: _version(name) for name in (*_LIBRARIES, *_PEERS)},
    }


def _processor(source: Path) -> str:
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"

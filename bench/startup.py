"""What it costs to begin: importing, and an idle server's memory after its first answer.

Imports are timed inside a fresh interpreter each, compiled beforehand. A server is started on a socket that is already
bound; `first_answer_ms` is from the start of its process to its first whole answer. RSS is VmRSS then, shared pages
and all.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from statistics import median

from bench import children, http, ours, peers
from bench.children import ROOT, Served
from bench.harness import BARE, Goal, Plan, Record, Report, Series, differences, find, order

IMPORT_BAR_MS = 80.0
RSS_BAR_MIB = 15.0
IMPORT_S = 30.0
IMPORTS = "import"
IDLE = "hypercorn asyncio, idle"
OURS = ("argentor_asgi", "argentor_asgi.compose")
_BESIDE = ("asyncio", "hypercorn.asyncio")
_TIMED = """
import time, json, importlib
began, cpu = time.perf_counter(), time.process_time()
{what}
print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))
"""


def run(plan: Plan) -> Report:
    """Measure imports and idle servers, until the plan's rounds are done or its seconds are over; at least once."""
    record = Record()
    modules = [*_BESIDE, *(OURS if ours.present() else OURS[:1])]
    modules += [peers.IMPORTS[name] for name in peers.present(plan)]
    for module in modules:
        imported(module)
    apps = {app.name: app for app in http.applications(plan)}
    deadline = time.perf_counter() + plan.seconds
    done = 0
    while done < plan.rounds and (not done or time.perf_counter() < deadline):
        for module in order(modules, done):
            took, cpu = imported(module)
            record.add(IMPORTS, module, import_ms=took * 1e3, cpu_ms=cpu * 1e3)
        _idle(record, apps, done)
        done += 1
    series = record.series()
    return Report(
        bench="startup",
        settings={"rounds": done, "seconds": plan.seconds},
        series=series,
        absent=[*peers.absent(plan), *ours.absent()],
        notes=["argentor_asgi is lazy: argentor_asgi.compose is what a server imports at its first event"],
        goals=goals(series),
    )


def imported(module: str) -> tuple[float, float]:
    """Import a module in a fresh interpreter; return the seconds, and the CPU seconds, that the import took."""
    process = subprocess.run(  # noqa: S603  our own interpreter, and a module named here
        [sys.executable, "-c", _TIMED.format(what=f"importlib.import_module({module!r})")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tempfile.gettempdir(),
        capture_output=True,
        timeout=IMPORT_S,
        check=True,
    )
    took, cpu = json.loads(process.stdout)
    return took, cpu


def _idle(record: Record, apps: Mapping[str, Served], number: int) -> None:
    cores, _ = children.split_cores()
    for name in order(list(apps), number):
        with children.serving(apps[name], children.hypercorn("asyncio"), cores) as child:
            record.add(IDLE, name, rss_mib=child.rss_kib() / 1024, first_answer_ms=child.first_answer_s * 1e3)


def goals(series: Sequence[Series]) -> list[Goal]:
    """Return the bars of import time and of memory above the bare callable."""
    made = []
    for module in OURS:
        one = find(series, IMPORTS, module, "import_ms")
        made.append(Goal(f"import {module}, ms", None if one is None else median(one.rounds), IMPORT_BAR_MS))
    mine, under = find(series, IDLE, ours.NAME, "rss_mib"), find(series, IDLE, BARE, "rss_mib")
    more = median(differences(mine.rounds, under.rounds)) if mine and under else None
    return [*made, Goal("idle RSS above the bare callable's, MiB", more, RSS_BAR_MIB)]

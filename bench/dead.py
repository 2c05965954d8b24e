"""When clients are noticed whose network is gone: no FIN, no reset, only silence.

Server and clients run in a network namespace that the bench makes for itself, which goes with it, and what is taken
down under them is its loopback. What is measured is when the server has given back the descriptors of half, and of all
clients. Needs root and Linux.
"""

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench import children, ours, stalled
from bench.children import ROOT, Child, Served
from bench.harness import Goal, Plan, Record, Report

NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2)."""
UNPLUGGED = ("ip", "link", "set", "lo", "down")
"""From then on nothing has a route; a filter that drops packets would not do, for TCP hears of a local drop."""
PLUGGED = ("ip", "link", "set", "lo", "up")
HOST = "127.0.0.1"
NOTICED_BAR_S = 60.0
LOOK_S = 0.25
TALK = "flood 2 20 600"
"""A run that says a little, now and then, so that a stream has something to send."""
KINDS = ("ws", "sse")


def run(plan: Plan) -> Report:
    """Cut off `plan.count` clients of each kind on each server, and wait `plan.seconds` at most."""
    record, goals = Record(), list[Goal]()
    may = ours.present() and os.geteuid() == 0 and shutil.which("ip") is not None and _own_network()
    commands = {"launcher": children.launcher(), "hypercorn asyncio": children.hypercorn("asyncio")}
    for server, command in commands.items() if may else ():
        for kind in KINDS:
            found = _cut_off(server, command, kind, plan)
            record.add(server, kind, **found)
            goals.append(Goal(f"{server}: {kind}, s until all are noticed", found["noticed_max_s"], NOTICED_BAR_S))
            goals.append(Goal(f"{server}: {kind}, never noticed", found["never_noticed"], 0.0))
    return Report(
        bench="dead",
        settings={"clients": plan.count, "seconds": plan.seconds},
        series=record.series(),
        absent=[*ours.absent(), *([] if may else ["a network of its own (needs root and `ip`)"])],
        goals=goals,
    )


def _cut_off(server: str, command: list[str], kind: str, plan: Plan) -> Mapping[str, float]:
    path = "bench.pressed:made" if server == "launcher" else "bench.pressed:app"
    served = Served(ours.NAME, path, ours.environment())
    with children.serving(served, command, children.split_cores()[0]) as child:
        target = "/ws"
        if kind == "sse":
            target = f"/api/v1/runs/{asyncio.run(stalled.begun(child.port, TALK))}/stream"
        time.sleep(1.0)
        calm = child.fds()
        with _clients(kind, child.port, plan.count, target):
            _run(*UNPLUGGED)
            try:
                return _noticed(child, calm, plan)
            finally:
                _run(*PLUGGED)


def _noticed(child: Child, calm: int, plan: Plan) -> Mapping[str, float]:
    began = time.monotonic()
    half = plan.seconds
    left = float(plan.count)
    while left > 0 and (now := time.monotonic() - began) < plan.seconds:
        left = max(0.0, float(child.fds() - calm))
        if left <= plan.count / 2:
            half = min(half, now)
        time.sleep(LOOK_S)
    return {"noticed_p50_s": half, "noticed_max_s": time.monotonic() - began, "never_noticed": left}


@contextmanager
def _clients(kind: str, port: int, count: int, target: str) -> Iterator[None]:
    """Hold clients, all of them open."""
    words = ["-m", "bench.deaf", kind, HOST, str(port), str(count), target]
    process = subprocess.Popen(  # noqa: S603  our own interpreter, and arguments made here
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tempfile.gettempdir(),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"open\n":
            raise RuntimeError("the clients did not open")
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _own_network() -> bool:
    """Move this process, and so its children, into a network of its own; say whether that could be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NETWORK) != 0:
        return False
    _run(*PLUGGED)
    return True


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603  words made here

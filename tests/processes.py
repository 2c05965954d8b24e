"""Real server processes for tests: started on a free port in a fresh directory, awaited, and ended by their id.

    with server("uvicorn", cwd=tmp_path) as running:
        http.client.HTTPConnection("127.0.0.1", running.port)
        running.terminate()                    # SIGTERM, as an operator would
        assert running.wait_s(3) == 0          # its exit code, within 3 s

`async with` does the same without blocking the loop.
"""

import asyncio
import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal, Self, get_args

import psutil

from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.grammar import check

Kind = Literal["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian", "serve"]
KINDS: tuple[str, ...] = get_args(Kind)
OUR_GOODBYE = 1012
"""What the gateway closes its sockets with when it stops: service restart (RFC 6455 section 7.4.1's registry)."""
GOODBYES: dict[str, frozenset[int]] = {"granian": frozenset({OUR_GOODBYE, 1006})}
"""granian cuts every socket itself when it is told to stop, and is now and then there before our close frame."""
START_S = 30.0
"""How long a server may take until it answers, on a busy machine."""
STOP_S = 10.0
"""How long a server has after SIGTERM before it is killed."""
ATTEMPTS = 3
"""How often another port is tried when somebody was faster."""
POLL_S = 0.02
TESTS = Path(__file__).parent
LAUNCH = """
import importlib, sys
from argentor_asgi.server.launcher import serve
module, _, name = sys.argv[1].partition(":")
sys.exit(serve(getattr(importlib.import_module(module), name), bind=sys.argv[2:]))
"""


async def eventually(holds: Callable[[], object]) -> None:
    """Wait until something has happened that this loop does not hear of: in another process, or in a thread."""
    async with asyncio.timeout(START_S):
        while not holds():  # noqa: ASYNC110  as said
            await asyncio.sleep(POLL_S)


def goodbyes(kind: str) -> frozenset[int]:
    """Return the codes that an idle socket may end with when a server of this kind is stopped."""
    return GOODBYES.get(kind, frozenset({OUR_GOODBYE}))


class server:  # noqa: N801  used as a function is: `with server(...) as running`
    """A server process: `port`, `process`, `pid`, `url`, and `log`, which is all that it has printed.

    `kind`: which server. `app`: `module:name`; for `serve` the name of an object with `app` and `drain`. `workers`:
    None for the kind's own default; hypercorn takes 0 (in one process) and more. `env` is laid over this process's
    environment less its `ARGENTOR_*`. `tracebacks`: whether the log may hold one. `arguments` go to the server.
    """

    def __init__(
        self,
        kind: Kind,
        app: str = "argentor_asgi:app",
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        workers: int | None = None,
        arguments: Sequence[str] = (),
        tracebacks: bool = False,
    ):
        self.kind, self.app, self.cwd, self.workers = kind, app, cwd, workers
        self.env, self.arguments, self.tracebacks = dict(env or {}), tuple(arguments), tracebacks
        self.port = 0
        self.process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.cwd / "server.log").read_text(errors="replace")

    def terminate(self, number: int = signal.SIGTERM) -> None:
        """Signal the server's first process, as a supervisor does."""
        self.process.send_signal(number)

    def terminate_group(self, number: int = signal.SIGTERM) -> None:
        """Signal it and all its workers, as systemd and a terminal do."""
        os.killpg(self.pid, number)

    def wait_s(self, seconds: float) -> int:
        """Return the exit code; raises `subprocess.TimeoutExpired` when it still runs after that time."""
        return self.process.wait(seconds)

    def worker_pids(self) -> list[int]:
        """Return the ids of its child processes that run the app."""
        children = psutil.Process(self.pid).children(recursive=True)
        return [child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def __enter__(self) -> Self:
        for _ in range(ATTEMPTS):
            if self._starts():
                return self
        raise AssertionError(f"{self.kind} found no free port\n{self.log}")

    def __exit__(self, kind, error, trace) -> None:
        self._end()
        if kind is None:
            check_stored(self.cwd / "argentor.db")
        if kind is None and not self.tracebacks:
            assert "Traceback (most recent call last)" not in self.log, self.log

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, kind, error, trace) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _starts(self) -> bool:
        """Start it and wait until it answers; False when somebody else took the port first."""
        self.port = free_port()
        self.process = self._popen()
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                if "in use" in self.log:
                    return False
                raise AssertionError(f"{self.kind} ended with {self.process.returncode}\n{self.log}")
            if answers(self.port):
                return True
            time.sleep(POLL_S)
        self._end()
        raise AssertionError(f"{self.kind} did not answer in {START_S} s\n{self.log}")

    def _popen(self) -> subprocess.Popen:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARGENTOR_")}
        env = {**inherited, "PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1", **self.env}
        with (self.cwd / "server.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603  our own interpreter, our own arguments
                [sys.executable, *self._command(), *self.arguments],
                cwd=self.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        bind, workers = f"127.0.0.1:{self.port}", str(1 if self.workers is None else self.workers)
        if self.kind == "serve" and self.app == "argentor_asgi:app":
            return ["-m", "argentor_asgi", "serve", "--bind", bind]
        if self.kind == "serve":
            return ["-c", LAUNCH, self.app, bind]
        if self.kind == "uvicorn":
            return ["-m", "uvicorn", "--port", str(self.port), "--workers", workers, self.app]
        if self.kind == "granian":
            return ["-m", "granian", "--interface", "asgi", "--port", str(self.port), "--workers", workers, self.app]
        loop = self.kind.removeprefix("hypercorn-")
        return ["-m", "hypercorn", "-k", loop, "-w", workers, "-b", bind, self.app]

    def _end(self) -> None:
        if self.process.poll() is None:
            self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.wait_s(STOP_S)
        with suppress(ProcessLookupError):  # its own session: whatever a dead master left behind goes too
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def check_stored(database: Path) -> None:
    """Check what every run said whose events are in this file from the first to the last; it may not be there."""
    if not database.exists():
        return
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT run_id, seq, type, data FROM events ORDER BY run_id, seq")
        for _, found in groupby(rows, key=itemgetter(0)):
            events = [LoggedEvent(seq, kind, data) for _, seq, kind, data in found]
            if events[0].seq == 1 and events[-1].is_terminal:
                check(events)


def free_port() -> int:
    """Return a loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    """Say whether something on this loopback port answers HTTP, whatever the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return True
    finally:
        connection.close()

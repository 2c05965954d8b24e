"""Servers in child processes: started on a socket that is already bound, watched in /proc, ended by their own pid."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_S = 20.0
"""How long a server may take to its first answer."""

STOP_S = 5.0
"""How long a server may take to stop when asked; then it is killed."""

_GET = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Served:
    """An application as a server is told to load it, and what its environment holds beside ours."""

    name: str
    path: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Child:
    """A server that has answered. `first_answer_s`: from its start to its first whole answer."""

    pid: int
    port: int
    first_answer_s: float

    def rss_kib(self) -> int:
        """Return its resident memory (VmRSS of proc(5)), in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    def cpu_s(self) -> float:
        """Return the CPU seconds that its threads have used: from schedstat, for the ticks of stat are too coarse."""
        spent = 0
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            spent += int((thread / "schedstat").read_text().split()[0])
        return spent / 1e9

    def fds(self) -> int:
        """Return how many file descriptors it has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


def hypercorn(loop: str) -> list[str]:
    """Return the command of hypercorn in one process on `loop`, `{fd}` and `{app}` to be filled in."""
    return ["hypercorn", "--workers", "0", "--worker-class", loop, "--bind", "fd://{fd}", "{app}"]


def launcher() -> list[str]:
    """Return the command of the gateway's own launcher, likewise; it takes uvloop where that is installed."""
    return ["bench.launched", "{app}", "{fd}"]


def uvicorn(loop: str) -> list[str]:
    """Return the command of uvicorn on `loop`, likewise, with the same things switched off."""
    quiet = ["--no-access-log", "--log-level", "warning", "--ws-per-message-deflate", "false"]
    return ["uvicorn", "--loop", loop, "--fd", "{fd}", *quiet, "{app}"]


@contextmanager
def serving(served: Served, command: Sequence[str], cores: frozenset[int]) -> Iterator[Child]:
    """Hold a server that has answered `GET /health`; on the way out it is stopped, and killed if it does not stop.

    It stays on `cores`. Raises `RuntimeError` with the end of its output if it ends, or has not answered in `START_S`.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as bound, tempfile.TemporaryFile() as errors:
        # Accepted sockets inherit it. Servers set it themselves, but uvicorn takes an inherited socket for a Unix one.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        arguments = [word.format(fd=bound.fileno(), app=served.path) for word in command]
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603  our own interpreter, and arguments made here
            [sys.executable, "-m", *arguments],
            pass_fds=[bound.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT), **served.environment},
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            os.sched_setaffinity(process.pid, cores)
            port = bound.getsockname()[1]
            _first_answer(process, port, began + START_S)
            yield Child(process.pid, port, time.perf_counter() - began)
        except Exception as error:
            errors.seek(0)
            said = errors.read()[-2000:].decode(errors="replace")
            error.add_note(f"{served.name}: {' '.join(arguments)}\n{said}")
            raise
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a child of ours: asked first, killed after `STOP_S`; it is gone on return."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _first_answer(process: "subprocess.Popen[bytes]", port: int, deadline: float) -> None:
    """Wait for a whole 200. The socket was bound before the server began, so one connection waits, and nobody polls."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(_GET)
        connection.settimeout(0.2)
        answer = b""
        while time.perf_counter() < deadline:
            try:
                more = connection.recv(65536)
            except TimeoutError:
                if process.poll() is not None:
                    raise RuntimeError("the server ended before it answered") from None
                continue
            answer += more
            if not more:
                break
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"no 200 from the server: {answer[:200]!r}")


def split_cores() -> tuple[frozenset[int], frozenset[int]]:
    """Return the cores for the servers and those for the client: apart if there are two, else the same one."""
    known = sorted(os.sched_getaffinity(0))
    return frozenset(known[-1:]), frozenset(known[:1])


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep this process on `cores`, and let it go afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

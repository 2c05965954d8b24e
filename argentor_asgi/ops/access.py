"""One line for each request, stream and socket at its end, written by a thread so that nobody waits for stderr.

The loop appends a tuple to a bounded buffer and goes on; `logging` costs more than the answer to a request. What finds
the buffer full, or cannot be written, is counted, and a later line says how many there were. No line has a query, a
header, a body or a secret.
"""

import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from typing import Final, Literal, TypeAlias

from argentor_asgi.ops.log import Format, is_console, one_line
from argentor_asgi.protocol.schema import encode

LINES: Final = 10_000
"""How many lines may wait to be written; one more is dropped."""
PATH_BYTES: Final = 512
"""How much of a path is written."""
WRITE_BYTES: Final = 4096
"""How much is written at once: more than a pipe takes whole (`PIPE_BUF`) could be torn by another writer's lines."""
GATHER_S: Final = 0.1
"""How long the thread lets lines gather before it writes them."""
RETRY_S: Final = 0.05
"""How long it waits before it asks a full, non-blocking stream again."""
CLOSE_S: Final = 2.0
LOGGER: Final = "argentor.access"

log = logging.getLogger("argentor")
Kind = Literal["request", "stream", "websocket"]


Entry: TypeAlias = tuple[Kind, str, bytes, str, int, float, float, bytes, bytes | None, str | None, str | None]
"""The arguments of `write`. PERF: a plain tuple is made in a sixth of the time of a class's object."""

Fields: TypeAlias = dict[str, str | int | float | None]


class AccessLog:
    """Takes lines on the loop, and writes them in its one thread, which begins with the first line and ends at `close`.

    A process that is forked before its first line has a thread of its own.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002  named as the setting is
        *,
        fd: int | None = None,
        lines: int = LINES,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Write to the open file `fd`, stderr by default; `clock`: the one that `ended` is read from, monotonic s."""
        self._fd = _stderr() if fd is None else fd
        self._is_console = is_console(format, self._fd)
        self._lines = lines
        self._clock = clock
        self._buffer: deque[Entry] = deque()
        self._refused = self._lost = self._told = 0
        self._is_awake = False
        self._wake = Event()
        self._closing = Event()
        self._thread: Thread | None = None
        self._second = (-1, "")

    @property
    def dropped(self) -> int:
        """How many lines nobody can read."""
        return self._refused + self._lost

    def write(  # noqa: PLR0917  PERF: keyword arguments cost more than the rest of it
        self,
        kind: Kind,
        method: str,
        path: bytes,
        route: str,
        status: int,
        ended: float,
        seconds: float,
        request_id: bytes,
        trace_id: bytes | None,
        principal: str | None,
        address: str | None,
    ) -> None:
        """Take one line, on the loop, without waiting (0.2 us).

        `path`: raw; a query in it is left out. `status`: for a socket its close code; 499 for a client that left.
        `ended`: on the log's clock. `principal`: its id. What is None is not written.
        """
        buffer = self._buffer
        if len(buffer) >= self._lines:
            self._refused += 1
            return
        path = path if len(path) <= PATH_BYTES else path[:PATH_BYTES]
        buffer.append((kind, method, path, route, status, ended, seconds, request_id, trace_id, principal, address))
        # PERF: the thread is woken once for all lines that come while it gathers them, not once a line.
        if not self._is_awake:
            self._rouse()

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits, for `timeout_s` at most, and end the thread; a later line begins another."""
        thread = self._thread
        if thread is not None:
            self._closing.set()
            self._wake.set()
            await asyncio.to_thread(thread.join, timeout_s)

    def _rouse(self) -> None:
        self._is_awake = True
        if self._thread is None:
            self._closing.clear()
            # A daemon, because a stderr that blocks for ever must not keep the process.
            self._thread = Thread(target=self._work, name="access-log", daemon=True)
            self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        is_over = False
        while not is_over:
            self._wake.wait()
            is_over = self._closing.wait(GATHER_S)
            self._wake.clear()
            # Before the buffer is emptied: a line that comes after that wakes the thread again.
            self._is_awake = False
            self._flush()
        self._thread = None
        # After that, so that a line which came too late for this thread is roused for by the next one.
        self._is_awake = False

    def _flush(self) -> None:
        """Write all that waits, some lines at a time, so that the loop has the interpreter in between."""
        chunk, count = bytearray(), 0
        buffer = self._buffer
        behind = time.time() - self._clock()
        while buffer:
            line = self._line(buffer.popleft(), behind)
            if chunk and len(chunk) + len(line) > WRITE_BYTES:
                self._put(chunk, count)
                chunk, count = bytearray(), 0
            chunk += line
            count += 1
        if chunk:
            self._put(chunk, count)
        if (dropped := self.dropped) > self._told:
            self._told = dropped
            words = f"{dropped} lines were dropped so far"
            moment = self._time(time.time())
            fields: Fields = {"time": moment, "level": "warning", "logger": LOGGER, "message": words, "lines": dropped}
            self._put(self._encoded(fields), 0)

    def _put(self, data: bytes | bytearray, lines: int) -> None:
        """Write `data`, which holds so many lines; what cannot be written is counted and let go."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                time.sleep(RETRY_S)
            except OSError:
                self._lost += lines
                return

    def _line(self, entry: Entry, behind: float) -> bytes:
        """Return the line; none for what is no entry, a bug that must not end the thread or fill the log."""
        try:
            return self._formatted(entry, behind)
        except Exception:
            if not self._lost:
                log.exception("an access line could not be written")
            self._lost += 1
            return b""

    def _formatted(self, entry: Entry, behind: float) -> bytes:
        kind, method, path, route, status, ended, seconds, request_id, trace_id, principal, address = entry
        fields: Fields = {
            "time": self._time(ended + behind),
            "level": "info",
            "logger": LOGGER,
            "message": kind,
            "method": one_line(method),
            "path": one_line(path.partition(b"?")[0].decode("ascii", "backslashreplace")),
            "route": route,
            "code" if kind == "websocket" else "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "request_id": request_id.decode("ascii", "backslashreplace"),
        }
        if trace_id is not None:
            fields["trace_id"] = trace_id.decode("ascii", "backslashreplace")
        if principal is not None:
            fields["principal"] = principal
        if address is not None:
            fields["address"] = address
        return self._encoded(fields)

    def _encoded(self, fields: Fields) -> bytes:
        """Return a line as `log.JsonFormatter` and `log.ConsoleFormatter` would; its first four fields are theirs."""
        if not self._is_console:
            return encode(fields) + b"\n"
        moment, level, logger, message, *values = fields.values()
        words = "".join(f" {name}={value}" for name, value in zip([*fields][4:], values, strict=True))
        return one_line(f"{moment} {level:7} {logger}: {message}{words}").encode("utf-8", "replace") + b"\n"

    def _time(self, at: float) -> str:
        # PERF: most lines are of the second of the line before.
        second = int(at)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((at - second) * 1000):03d}Z"


def _stderr() -> int:
    """Return the process's stderr, also where `sys.stderr` is something else."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2

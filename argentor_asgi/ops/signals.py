"""How the gateway hears that its server stops: signal handlers in front of the server's own, and hypercorn's event.

No server sends `lifespan.shutdown` before its connections are gone, so an open stream keeps all of them from exiting
(hypercorn's asyncio worker on Python >= 3.12 for ever). So the app hears of SIGTERM itself and ends its own streams and
sockets; then every server exits at once. What was measured, on Python 3.11 and 3.13:

| server | SIGTERM handler found at lifespan startup | so |
|---|---|---|
| hypercorn `-w 0` (asyncio, uvloop), granian worker | asyncio's no-op; the loop is woken by file descriptor | chain |
| hypercorn `-w N` worker | `SIG_DFL`; the master sets a multiprocessing event | poll it, survive the group's SIGTERM |
| uvicorn | `Server.handle_exit` | chain |

hypercorn's master also sends SIGTERM to the other workers as soon as the first one has ended, draining or not. From
the stop on hypercorn waits 3 s for its connections, then cuts them: unless somebody chose that, it is made to wait as
long as the whole stop may take (`be_patient`).
"""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from argentor_asgi.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 0.1
"""How often a hypercorn worker looks at its master's event, as hypercorn itself does."""
LAST_RESORT_S = 1.0
"""How long after the drain a process whose SIGTERM meant death waits for its server to stop it."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Handler = Callable[[int, FrameType | None], object]
logger = logging.getLogger("argentor.drain")


class Flag(Protocol):
    """What is polled: a `multiprocessing.Event`, as far as it is needed here."""

    def is_set(self) -> bool:
        """Say whether the server was told to stop."""
        ...


class Stoppable(Protocol):
    """What a signal begins: `Drain`, as far as it is needed here."""

    total_s: float
    finished: asyncio.Event

    def begin(self, reason: str) -> None:
        """Begin to stop; a later call changes nothing."""
        ...

    def left_s(self) -> float:
        """Return the seconds until the process should be gone."""
        ...


@asynccontextmanager
async def listening(drain: Stoppable) -> AsyncIterator[None]:
    """Begin the drain when the server is told to stop, as long as the context is open; then all is as it was.

    Raises `ConfigError` where there is no asyncio loop (trio).
    """
    loop = running_loop()
    be_patient(server_settings(), drain.total_s)
    stop = server_stop()
    chain = _Chain(drain, loop, stop)
    watcher = loop.create_task(chain.watch(stop), name="drain-watch") if stop else None
    try:
        with chain.installed():
            yield
    finally:
        if watcher:
            watcher.cancel()


class _Chain:
    """Our signal handler in front of those that the server had installed.

    First signal: drain, and the server's handler too. Where that is `SIG_DFL` the process lives on until it has
    drained, then dies as it would have, unless its server stops it within `LAST_RESORT_S`. Second signal: what the
    server does, at once; but not in a hypercorn worker that stops already: there the second comes from its master.
    A signal that is ignored, or handled in C, is left alone. A process that its server has not ended when the whole
    time is over dies of the signal.
    """

    def __init__(self, drain: Stoppable, loop: asyncio.AbstractEventLoop, stop: Flag | None) -> None:
        self._drain = drain
        self._loop = loop
        self._stop = stop
        self._before: dict[int, Handler | signal.Handlers] = {}
        self._heard = False
        self._dying: asyncio.Task[None] | None = None

    @contextmanager
    def installed(self) -> "Iterator[None]":
        """Take the signals, and give them back; off the main thread there is nothing to take."""
        if threading.current_thread() is threading.main_thread():
            self._take()
        try:
            yield
        finally:
            self._give_back()

    async def watch(self, stop: Flag) -> None:
        """Begin when hypercorn's master has set its event; there is no other way to hear of it in a worker."""
        while not stop.is_set():  # noqa: ASYNC110  another process sets it, and nothing wakes a loop for that
            await asyncio.sleep(POLL_S)
        self._begin(signal.SIGTERM, "hypercorn's master stops")

    def _take(self) -> None:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if callable(before) or before is signal.SIG_DFL:
                self._before[number] = before
                signal.signal(number, self._handle)

    def _give_back(self) -> None:
        if self._dying:
            self._dying.cancel()
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Run between two bytecodes of the main thread: do no more than tell the loop, then what the server does."""
        again, self._heard = self._heard, True
        with suppress(RuntimeError):  # the loop is closed: then only the server's handler is left
            self._loop.call_soon_threadsafe(self._begin, number, signal.Signals(number).name)
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif again and not self._server_stops():
            _die(number)

    def _begin(self, number: int, reason: str) -> None:
        self._drain.begin(reason)
        if number in self._before and not self._dying:
            self._dying = self._loop.create_task(self._last_resort(number), name="drain-last-resort")

    async def _last_resort(self, number: int) -> None:
        """Die when nobody else ends the process, which shows as the end of the lifespan."""
        await self._drain.finished.wait()
        if self._before[number] is signal.SIG_DFL and not self._server_stops():
            await asyncio.sleep(LAST_RESORT_S)
            if not self._server_stops():
                _die(number)
        await asyncio.sleep(self._drain.left_s())
        _die(number)

    def _server_stops(self) -> bool:
        return self._stop is not None and self._stop.is_set()


def server_stop() -> Flag | None:
    """Return the event by which hypercorn's master stops this worker; None in any other process.

    The name is hypercorn's private one (0.18: `hypercorn.run._populate`), so anything else reads as None.
    """
    import multiprocessing  # noqa: PLC0415  only under a server that forks; hypercorn has imported it already

    arguments = getattr(multiprocessing.current_process(), "_kwargs", None)
    found = arguments.get("shutdown_event") if isinstance(arguments, dict) else None
    return found if hasattr(found, "is_set") else None


def server_settings() -> object | None:
    """Return the settings of the hypercorn whose lifespan task this is; None under any other server.

    hypercorn shows them to nobody (0.18: `hypercorn.asyncio.lifespan.Lifespan.handle_lifespan` runs the app), so
    anything else reads as None.
    """
    task = asyncio.current_task()
    frame = getattr(task.get_coro() if task else None, "cr_frame", None)
    return getattr(frame.f_locals.get("self"), "config", None) if frame else None


def be_patient(settings: object | None, total_s: float) -> None:
    """Have hypercorn wait `total_s` for its connections, unless its time was chosen: by `--graceful-timeout`, in code.

    What was chosen stands on the object, the default on its class.
    """
    default = getattr(type(settings), "graceful_timeout", None)
    if isinstance(default, int | float) and "graceful_timeout" not in getattr(settings, "__dict__", ()):
        setattr(settings, "graceful_timeout", max(total_s, default))  # noqa: B010  no type knows the attribute


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the loop; raises `ConfigError` with the way out where there is none, as under trio.

    To be asked first in a lifespan: whatever else needs asyncio fails in words that help nobody.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError("the gateway runs on asyncio or uvloop only: start hypercorn without '-k trio'") from None


def _die(number: int) -> None:
    logger.warning("nobody stopped the process: %s takes its default action", signal.Signals(number).name)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)

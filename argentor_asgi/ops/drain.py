"""Stopping without cutting anybody off: how the gateway learns that it stops, and who does what then.

No server sends `lifespan.shutdown` before its connections are gone, so an open stream keeps all of them from exiting
(hypercorn's asyncio worker on Python >= 3.12 for ever). So the app hears of SIGTERM itself and ends its own streams and
sockets; then every server exits at once. What was measured, on Python 3.11 and 3.13:

| server | SIGTERM handler found at lifespan startup | so |
|---|---|---|
| hypercorn `-w 0` (asyncio, uvloop), granian worker | asyncio's no-op; the loop is woken by file descriptor | chain |
| hypercorn `-w N` worker | `SIG_DFL`; the master sets a multiprocessing event | poll it, survive the group's SIGTERM |
| uvicorn | `Server.handle_exit` | chain |

hypercorn's master also sends SIGTERM to the other workers as soon as the first one has ended, draining or not.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from argentor_asgi.errors import ConfigError, Draining

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from argentor_asgi.ops.clock import Clock

POLL_S = 0.1
"""How often a hypercorn worker looks at its master's event, as hypercorn itself does."""
CANCEL_S = 0.5
"""How long a hook that was cut off has to clean up."""
LAST_RESORT_S = 1.0
"""How long after the drain a process whose SIGTERM meant death waits for its server to stop it."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Hook = Callable[[], Awaitable[None]]
Handler = Callable[[int, FrameType | None], object]
logger = logging.getLogger("argentor.drain")


class Flag(Protocol):
    """What is polled: a `multiprocessing.Event`, as far as it is needed here."""

    def is_set(self) -> bool:
        """Say whether the server was told to stop."""
        ...


class Drain:
    """The one truth about whether this process stops; it only ever goes from serving to draining to finished.

    `begun` and `finished` are levels: who waits late does not wait. `draining` says the first, without
    waiting. `drain_s`: seconds that the hooks have, > 0.
    Not thread-safe: from a signal handler or a thread, `loop.call_soon_threadsafe(drain.begin, reason)`.
    """

    def __init__(self, *, clock: "Clock", drain_s: float) -> None:
        self.drain_s = drain_s
        self.draining = False
        self.begun = asyncio.Event()
        self.finished = asyncio.Event()
        self._clock = clock
        self._deadline = 0.0
        self._hooks: dict[str, Hook] = {}
        self._work: asyncio.Task[None] | None = None

    def remaining_s(self) -> float:
        """Return the seconds that the hooks still have: all of `drain_s` before the drain, never below 0."""
        return max(0.0, self._deadline - self._clock.monotonic()) if self.draining else self.drain_s

    def on_drain(self, name: str, hook: Hook) -> None:
        """Have `hook` awaited when the drain begins, beside the others; it is cancelled at the deadline.

        Raises `Draining` once the drain has begun, and `ValueError` for a name that is taken.
        """
        if self.draining:
            raise Draining
        if name in self._hooks:
            raise ValueError(f"a drain hook named {name!r} is there already")
        self._hooks[name] = hook

    def begin(self, reason: str) -> None:
        """Begin to drain; a later call changes nothing. Needs the running loop, returns at once."""
        if self.draining:
            return
        logger.info("draining for up to %g s: %s", self.drain_s, reason)
        self._deadline = self._clock.monotonic() + self.drain_s
        self.draining = True
        self.begun.set()
        self._work = asyncio.get_running_loop().create_task(self._run_hooks(), name="drain")

    async def _run_hooks(self) -> None:
        try:
            hooks = [asyncio.create_task(_guarded(*named), name=named[0]) for named in self._hooks.items()]
            await _ended(hooks, self.drain_s)
        finally:
            self.finished.set()
            logger.info("drained")

    @asynccontextmanager
    async def install(self) -> AsyncIterator[None]:
        """Listen for the server's stop as long as the context is open: from lifespan startup to lifespan shutdown.

        Leaving it drains, if nothing did before, and waits until that is finished: at most `drain_s` and `CANCEL_S`.
        Then the signal handlers are as they were. Raises `ConfigError` where there is no asyncio loop (trio).
        """
        loop = running_loop()
        stop = server_stop()
        watcher = loop.create_task(self._watch(stop), name="drain-watch") if stop else None
        try:
            with _Chain(self, loop, stop).installed():
                yield
                self.begin("the server ended the lifespan")
                await self.finished.wait()
        finally:
            if watcher:
                watcher.cancel()

    async def _watch(self, stop: Flag) -> None:
        """Begin when hypercorn's master has set its event; there is no other way to hear of it in a worker."""
        while not stop.is_set():  # noqa: ASYNC110  another process sets it, and nothing wakes a loop for that
            await asyncio.sleep(POLL_S)
        self.begin("hypercorn's master stops")


class _Chain:
    """Our signal handler in front of those that the server had installed.

    First signal: drain, and the server's handler too. Where that is `SIG_DFL` the process lives on until it has
    drained, then dies as it would have, unless its server stops it within `LAST_RESORT_S`. Second signal: what the
    server does, at once; but not in a hypercorn worker that stops already: there the second comes from its master.
    A signal that is ignored, or handled in C, is left alone.
    """

    def __init__(self, drain: Drain, loop: asyncio.AbstractEventLoop, stop: Flag | None) -> None:
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
            self._loop.call_soon_threadsafe(self._begin, number)
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif again and not self._server_stops():
            _die(number)

    def _begin(self, number: int) -> None:
        self._drain.begin(signal.Signals(number).name)
        if self._before[number] is signal.SIG_DFL and not self._dying:
            self._dying = self._loop.create_task(self._die_when_drained(number), name="drain-last-resort")

    async def _die_when_drained(self, number: int) -> None:
        await self._drain.finished.wait()
        await asyncio.sleep(LAST_RESORT_S)
        if not self._server_stops():
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


async def _guarded(name: str, hook: Hook) -> None:
    """Await one hook; what it raises is logged, and keeps no other hook from running."""
    try:
        await hook()
    except Exception:
        logger.exception("drain hook %s failed", name)


async def _ended(tasks: "Sequence[asyncio.Task[None]]", within_s: float) -> None:
    """Wait for the tasks, cancel those that are not done `within_s`, and leave those that refuse even that."""
    late = (await asyncio.wait(tasks, timeout=within_s))[1] if tasks else ()
    for task in late:
        logger.warning("drain hook %s did not end in %g s", task.get_name(), within_s)
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CANCEL_S)

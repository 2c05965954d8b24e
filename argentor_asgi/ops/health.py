"""Whether the process lives, and whether it should be sent work.

`/health` and `/health/live` touch nothing outside. `/health/ready` asks every probe, bounded in time; what a probe
raises is for the log, the caller hears `not_ready`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from argentor_asgi.ops.clock import Clock
    from argentor_asgi.ops.drain import Drain

Check = Literal["ok", "not_ready", "not_mounted"]
Probe = Callable[[], Awaitable[None]]
"""Proves that something works; raises whatever says that it does not."""
SERVICE = "argentor"
PARTS = ("rest_api", "control_plane")
logger = logging.getLogger("argentor.health")


@dataclass(frozen=True)  # PERF: no slots: orjson reads a `__dict__` four times as fast
class Liveness:
    """The body of `/health` and `/health/live`."""

    status: Literal["ok", "alive", "shutting_down"]
    service: str = SERVICE


SERVING = (200, Liveness("ok"))
ALIVE = (200, Liveness("alive"))
SHUTTING_DOWN = (503, Liveness("shutting_down"))


@dataclass(frozen=True)
class Readiness:
    """The body of `/health/ready`: four checks by the names of the original, then each probe by its own."""

    status: Literal["ready", "not_ready"]
    checks: Mapping[str, Check]
    service: str = SERVICE


class Health:
    """Answers the three probes; each answer is (HTTP status, body).

    `probes`: by the name under which the check is published; one named as a check of the original stands for it.
    `mounted`: which of `PARTS` this gateway has; one that it has not is `not_mounted` and does not count. `timeout_s`:
    what one probe may take. `fresh_s`: how long results are reused. However many ask, a probe runs once at a time.
    """

    def __init__(
        self,
        *,
        probes: Mapping[str, Probe],
        drain: "Drain",
        clock: "Clock",
        mounted: Mapping[str, bool],
        timeout_s: float = 2.0,
        fresh_s: float = 1.0,
    ) -> None:
        self._probes = dict(probes)
        self._drain = drain
        self._clock = clock
        self._mounted = dict(mounted)
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._results: dict[str, Check] = {}
        self._fresh_until = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    def health(self) -> tuple[int, Liveness]:
        """Say whether the process serves: 503 from the moment that the drain begins."""
        return SHUTTING_DOWN if self._drain.draining else SERVING

    def live(self) -> tuple[int, Liveness]:
        """Say that the process runs, draining or not: a 503 here would have it killed."""
        return ALIVE

    async def ready(self) -> tuple[int, Readiness]:
        """Say whether to send work here: 200 when every check that counts is `ok`, else 503.

        Takes at most `timeout_s`, raises nothing; a caller that is cancelled does not stop the probes of the others.
        """
        await self._refresh()
        checks: dict[str, Check] = {"not_shutting_down": "not_ready" if self._drain.draining else "ok"}
        checks |= {part: "ok" if self._mounted.get(part) else "not_mounted" for part in PARTS}
        checks |= {"connections": "ok", **self._results}
        ready = "not_ready" not in checks.values()
        return (200, Readiness("ready", checks)) if ready else (503, Readiness("not_ready", checks))

    async def _refresh(self) -> None:
        """Wait until the results are fresh: those at hand, those of a flight under way, or of a new one."""
        if self._flight is None:
            if self._clock.monotonic() < self._fresh_until:
                return
            self._flight = asyncio.create_task(self._ask_all(), name="readiness")
            self._flight.add_done_callback(self._landed)
        await asyncio.shield(self._flight)

    def _landed(self, _: "asyncio.Task[None]") -> None:
        self._flight = None

    async def _ask_all(self) -> None:
        names = list(self._probes)
        answers = await asyncio.gather(*map(self._ask, names))
        for name, error in zip(names, answers, strict=True):
            self._note(name, error)
        self._fresh_until = self._clock.monotonic() + self._fresh_s

    async def _ask(self, name: str) -> str | None:
        """Run one probe and return what is wrong, None for nothing.

        One that outlives its time and its cancellation is not started again until it has ended.
        """
        task = self._running.get(name)
        if task is not None and not task.done():
            return "still busy with an earlier probe"
        task = self._running[name] = asyncio.create_task(_run(self._probes[name]), name=f"probe {name}")
        await asyncio.wait([task], timeout=self._timeout_s)
        if not task.done():
            task.add_done_callback(_problem)
            task.cancel()
            return f"no answer in {self._timeout_s} s"
        return _problem(task)

    def _note(self, name: str, error: str | None) -> None:
        """Keep the result; the log hears of a change only."""
        result: Check = "ok" if error is None else "not_ready"
        before, self._results[name] = self._results.get(name, "ok"), result
        if result == before:
            return
        if error is None:
            logger.info("%s is ready again", name)
        else:
            logger.warning("%s is not ready: %s", name, error)


async def _run(probe: Probe) -> None:
    await probe()


def _problem(task: "asyncio.Task[None]") -> str | None:
    """Return what an ended probe raised, for the log; asking keeps asyncio from reporting it as unseen."""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return None if error is None else f"{type(error).__name__}: {error}"

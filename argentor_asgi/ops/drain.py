"""Stopping without cutting anybody off: serving, then draining, then finished, and who does what in between.

    begin        readiness is off, answers close their connection; hooks of `pre_drain`; the ready delay
    refusing     no new work; hooks of `drain` (work ends), `cleanup` (it is written), `final` (it is reported)
    finished     every server that is told to stop ends at once

How the process hears that it must stop is `ops.signals`, what a hook may do is `ops.hooks`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from argentor_asgi.errors import Draining
from argentor_asgi.ops.hooks import (
    PHASES,
    SKIPPED,
    Budget,
    DrainHook,
    HookResult,
    Phase,
    Report,
    Run,
    milliseconds,
    outcome,
    report,
    settled,
)
from argentor_asgi.ops.signals import listening

if TYPE_CHECKING:
    from argentor_asgi.ops.clock import Clock

logger = logging.getLogger("argentor.drain")


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """Where the stop is. `remaining_s`: until the process should be gone; `report`: so far, null while it serves."""

    status: Literal["serving", "draining", "finished"]
    phase: Phase | None
    remaining_s: float
    report: Report | None


class Drain:
    """The one truth about whether this process stops; it only ever goes from serving to draining to finished.

    `begun`, `refused` and `finished` are levels: who waits late does not wait. `draining` and `refusing` say the first
    two without waiting. `drain_s`: seconds that work has to end by itself. `total_s`: seconds from the beginning until
    the process should be gone, > 0. `ready_delay_s`: seconds to go on admitting after readiness is off; until the
    drain begins it may be set. Not thread-safe: from a signal handler or a thread,
    `loop.call_soon_threadsafe(drain.begin, reason)`.
    """

    def __init__(self, *, clock: "Clock", drain_s: float, total_s: float = 30.0, ready_delay_s: float = 0.0) -> None:
        self.drain_s = drain_s
        self.total_s = total_s
        self.ready_delay_s = ready_delay_s
        self.draining = False
        self.refusing = False
        self.begun = asyncio.Event()
        self.refused = asyncio.Event()
        self.finished = asyncio.Event()
        self._clock = clock
        self._reason = ""
        self._budget = Budget(0.0, drain_s, total_s)
        self._deadline = 0.0
        self._phase: Phase | None = None
        self._hooks: dict[Phase, dict[str, DrainHook]] = {phase: {} for phase in PHASES}
        self._results: list[HookResult] = []
        self._in_time = True
        self._report: Report | None = None
        self._at_once = asyncio.Event()
        self._left: set[asyncio.Task[str | None]] = set()
        self._work: asyncio.Task[None] | None = None

    def hook(self, phase: Phase, name: str, run: Run, *, timeout_s: float | None = None) -> None:
        """Have the coroutine function `run` awaited in its phase, behind those that were registered before.

        It is cancelled when `timeout_s`, the phase or the whole stop is over. Raises `Draining` once the drain has
        begun, `TypeError` for a function that is not async, and `ValueError` for a name that the phase has already.
        """
        self.add(DrainHook(phase, name, run, timeout_s))

    def add(self, hook: DrainHook) -> None:
        """Register a hook; raises as `hook` does."""
        if self.draining:
            raise Draining
        if hook.name in self._hooks[hook.phase]:
            raise ValueError(f"a {hook.phase} hook named {hook.name!r} is there already")
        self._hooks[hook.phase][hook.name] = hook

    def begin(self, reason: str, *, at_once: bool = False) -> None:
        """Begin to drain, without the ready delay if `at_once`; a later call joins, and can only shorten the delay.

        Needs the running loop, returns at once.
        """
        if at_once:
            self._at_once.set()
        if self.draining:
            return
        logger.info("draining for up to %g s: %s", self.drain_s, reason)
        self._reason = reason
        self._budget = Budget(self._clock.monotonic(), self.drain_s, self.total_s)
        self.draining = True
        self.begun.set()
        if not (self._hooks["pre_drain"] or self._delays()):
            self._refuse()
        self._work = asyncio.get_running_loop().create_task(self._run(), name="drain")

    def remaining_s(self) -> float:
        """Return the seconds that the phase under way still has, never below 0; `drain_s` where there is none."""
        return max(0.0, self._deadline - self._clock.monotonic()) if self._phase else self.drain_s

    def left_s(self) -> float:
        """Return the seconds until the process should be gone, never below 0: all of `total_s` before the drain."""
        return max(0.0, self._budget.end - self._clock.monotonic()) if self.draining else self.total_s

    def status(self) -> DrainStatus:
        """Return where the stop is now, with what its hooks have come to so far."""
        if not self.draining:
            return DrainStatus("serving", None, self.left_s(), None)
        state: Literal["draining", "finished"] = "finished" if self.finished.is_set() else "draining"
        return DrainStatus(state, self._phase, self.left_s(), self._report or self._reported())

    async def report(self) -> Report:
        """Wait for the end of the drain, whoever begins it, and return how it went."""
        await self.finished.wait()
        return self._report or self._reported()

    @asynccontextmanager
    async def install(self) -> AsyncIterator[None]:
        """Listen for the server's stop as long as the context is open: from lifespan startup to lifespan shutdown.

        Leaving it drains, if nothing did before, and waits until that is finished: at most `total_s`. Then the signal
        handlers are as they were. Raises `ConfigError` where there is no asyncio loop (trio).
        """
        async with listening(self):
            yield
            self.begin("the server ended the lifespan", at_once=True)
            await self.finished.wait()

    async def _run(self) -> None:
        try:
            await self._carry("pre_drain")
            await self._delay()
            self._refuse()
            for phase in PHASES[1:]:
                await self._carry(phase)
        finally:
            self._refuse()
            self._phase = None
            self._report = self._reported()
            self.finished.set()
            logger.info("drained in %d ms, %d hooks failed", self._report.total_duration_ms, self._report.hooks_failed)

    async def _carry(self, phase: Phase) -> None:
        """Run the hooks of one phase, one at a time, until its time is over; list those that had none."""
        self._phase, self._deadline = phase, self._budget.deadline(phase, self._clock.monotonic())
        for hook in self._hooks[phase].values():
            began = self._clock.monotonic()
            error = await self._outcome(hook, self._deadline - began)
            took_ms = milliseconds(self._clock.monotonic() - began)
            self._results.append(HookResult(hook.name, phase, error is None, error, took_ms))

    async def _outcome(self, hook: DrainHook, phase_s: float) -> str | None:
        """Run one hook within what its phase has left; return what went wrong."""
        if phase_s <= 0:
            self._in_time = False
            logger.warning("drain hook %s is skipped: out of time", hook.name)
            return SKIPPED
        within_s = phase_s if hook.timeout_s is None else min(phase_s, hook.timeout_s)
        task = asyncio.create_task(outcome(hook), name=hook.name)
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        error, was_late = await settled(task, within_s, self._budget.cancel_s)
        self._in_time = self._in_time and not was_late
        return error

    def _delays(self) -> bool:
        return self.ready_delay_s > 0 and not self._at_once.is_set()

    async def _delay(self) -> None:
        """Go on admitting while balancers notice, as far as the later phases can spare the time."""
        spare_s = self._budget.latest("pre_drain") - self._clock.monotonic()
        if self._delays() and spare_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self.ready_delay_s, spare_s)):
                    await self._at_once.wait()

    def _refuse(self) -> None:
        self.refusing = True
        self.refused.set()

    def _reported(self) -> Report:
        duration_s = self._clock.monotonic() - self._budget.began
        return report(self._reason, self._results, duration_s, in_time=self._in_time and duration_s <= self.total_s)

"""What runs when the gateway stops: hooks in phases, each within its time, and the report of how they went.

Hooks of one phase run one at a time, in the order of their registration. A hook that fails, hangs or refuses to be
cancelled costs its own result and no other's.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from argentor_asgi.errors import GatewayError

Phase = Literal["pre_drain", "drain", "cleanup", "final"]
PHASES: Final[Sequence[Phase]] = get_args(Phase)
"""In their order: before work is refused; work ends; what it left is written; what was measured is sent."""
LIMITS_S: Final[Mapping[Phase, float]] = {"pre_drain": 5.0, "cleanup": 10.0, "final": 5.0}
"""How long a phase may take; `drain` has what the configuration gives to work, and `KEPT_S` to end the rest."""
KEPT_S: Final = 1.0
"""What a phase leaves of the whole time to each one after it, to the server that closes last, and to ending work."""
KEPT_SHARE: Final = 0.1
"""The same as a share of a whole time that is short."""
CANCEL_S: Final = 0.5
"""How long a hook that was cut off has to clean up before it is left behind."""
SKIPPED: Final = "skipped: out of time"

Run = Callable[[], Awaitable[object]]
logger = logging.getLogger("argentor.drain")


@dataclass(frozen=True, slots=True)
class DrainHook:
    """What is to be done at the stop, and in which phase; `timeout_s` None: as long as the phase has.

    `run` is a coroutine function without arguments. It is cancelled when its time is over.
    """

    phase: Phase
    name: str
    run: Run
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        """Raise `TypeError` for a `run` that would block the loop, `ValueError` for what is no phase or no time."""
        called = getattr(self.run, "__call__", None)  # noqa: B004  the method itself is asked for, of an object
        if not (inspect.iscoroutinefunction(self.run) or inspect.iscoroutinefunction(called)):
            raise TypeError(f"drain hook {self.name!r} must be an async function")
        if self.phase not in PHASES:
            raise ValueError(f"drain hook {self.name!r} has no such phase: {self.phase!r}; one of {', '.join(PHASES)}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ValueError(f"drain hook {self.name!r} must have more than 0 s")


@dataclass(frozen=True, slots=True)
class HookResult:
    """How one hook went. `error`: the exception's class and a sentence without its words, which may hold secrets."""

    name: str
    phase: Phase
    success: bool
    error: str | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """How a stop went. `completed_in_time`: within the whole time, and no hook was cut off or skipped."""

    reason: str
    total_duration_ms: int
    hooks_succeeded: int
    hooks_failed: int
    completed_in_time: bool
    hook_results: list[HookResult]


@dataclass(frozen=True, slots=True)
class Budget:
    """The times of one stop, in s: when it began on a monotonic clock, its `drain` phase, and all of it."""

    began: float
    drain_s: float
    total_s: float

    @property
    def kept_s(self) -> float:
        """What every phase leaves to each step behind it."""
        return min(KEPT_S, self.total_s * KEPT_SHARE)

    @property
    def cancel_s(self) -> float:
        """What a hook that was cut off has to clean up: less than is kept, so that what follows has its time too."""
        return min(CANCEL_S, self.kept_s / 2)

    @property
    def end(self) -> float:
        """When the process should be gone."""
        return self.began + self.total_s

    def deadline(self, phase: Phase, now: float) -> float:
        """Return when a phase that begins `now` is over: at its own limit, or where the later ones need the rest.

        Beyond `drain_s` its phase has the time that is kept, since what did not end must be ended, not dropped.
        """
        limit_s = LIMITS_S.get(phase, self.drain_s + self.kept_s)
        return min(now + limit_s, self.latest(phase))

    def latest(self, phase: Phase) -> float:
        """Return when the phase is over at the latest, whenever it begins."""
        return self.end - self.kept_s * (len(PHASES) - PHASES.index(phase))


def report(reason: str, results: Sequence[HookResult], duration_s: float, *, in_time: bool) -> Report:
    """Count the results of a stop that took `duration_s` so far."""
    succeeded = sum(result.success for result in results)
    return Report(reason, milliseconds(duration_s), succeeded, len(results) - succeeded, in_time, list(results))


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, never below 0."""
    return max(0, round(seconds * 1000))


def told(error: BaseException) -> str:
    """Return what may be said of a failure: its class, and its words only where they are made for clients."""
    words = error.message if isinstance(error, GatewayError) else "the hook failed; the log has the reason"
    return f"{type(error).__name__}: {words}"


async def outcome(hook: DrainHook) -> str | None:
    """Run the hook; return what went wrong, None when nothing did. Only a cancellation gets through."""
    try:
        await hook.run()
    except Exception as error:
        logger.exception("drain hook %s failed", hook.name)
        return told(error)
    return None


async def settled(task: "asyncio.Task[str | None]", within_s: float, cancel_s: float) -> tuple[str | None, bool]:
    """Wait for a running hook; return what went wrong, and whether it was late.

    A late one is cancelled, and left behind after `cancel_s`. A caller that is cancelled takes the hook with it.
    """
    try:
        is_late = not (await asyncio.wait({task}, timeout=within_s))[0]
    finally:
        task.cancel()
    if not is_late:
        return ("CancelledError: the hook cancelled itself" if task.cancelled() else task.result()), False
    logger.warning("drain hook %s did not end in %.3g s", task.get_name(), within_s)
    await asyncio.wait({task}, timeout=cancel_s)
    return f"TimeoutError: it did not end in {within_s:.3g} s", True

"""How late the event loop calls back: the one number that says whether something holds it."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from argentor_asgi.ops.clock import Clock

EVERY_S: Final = 0.25
WARN_S: Final = 0.1
"""From which lateness on it is an event and not only a number."""
WARN_EVERY_S: Final = 10.0

log = logging.getLogger("argentor.loop")


def is_worth_a_line(late_s: float, now: float, warned: float | None) -> bool:
    """Say whether so late a call is logged at `now`, when the last line was at `warned` (monotonic s; None: never)."""
    return late_s > WARN_S and (warned is None or now - warned >= WARN_EVERY_S)


class LoopLag:
    """Measures while it is open, as an async context manager; owns one task, which ends with it.

    The lateness of one callback, as each `every_s`, tells what a request that came at that moment waited.
    """

    def __init__(self, observe: Callable[[float], None], *, clock: "Clock", every_s: float = EVERY_S) -> None:
        """Tell `observe` each lateness, in s and never below 0."""
        self._observe = observe
        self._clock = clock
        self._every_s = every_s
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Begin."""
        self._task = asyncio.create_task(self._measure(), name="loop lag")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End, at once."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _measure(self) -> None:
        warned: float | None = None
        while True:
            due = self._clock.monotonic() + self._every_s
            await asyncio.sleep(self._every_s)
            now = self._clock.monotonic()
            late_s = max(0.0, now - due)
            self._observe(late_s)
            if is_worth_a_line(late_s, now, warned):
                warned = now
                log.warning("the event loop was held for %.0f ms", late_s * 1000)

"""How long a run was worked on, and the limit on it: both stand still while it waits for a person."""

import asyncio

from argentor_asgi.ops.clock import Clock


class Stopwatch:
    """Counts the time from `start` on, without that between `pause` and `go_on`."""

    __slots__ = ("_before_s", "_clock", "_limit", "_rest_s", "_since", "_spent_s")

    def __init__(self, clock: Clock, spent_ms: int = 0) -> None:
        """Stand still; `spent_ms`: what was counted before the gateway was started."""
        self._clock = clock
        self._before_s = self._spent_s = spent_ms / 1000
        self._since: float | None = None
        self._limit: asyncio.Timeout | None = None
        self._rest_s: float | None = None

    @property
    def spent_s(self) -> float:
        """What was counted so far."""
        return self._spent_s + (0.0 if self._since is None else self._clock.monotonic() - self._since)

    @property
    def spent_ms(self) -> int:
        """The same in whole milliseconds."""
        return round(self.spent_s * 1000)

    @property
    def stretch_s(self) -> float:
        """What was counted by this watch, without what it began with."""
        return self.spent_s - self._before_s

    def start(self, limit: asyncio.Timeout) -> None:
        """Count from now on, below `limit`, which has been entered."""
        self._limit = limit
        self._since = self._clock.monotonic()

    def pause(self) -> None:
        """Stand still; a limit that has already struck stays so."""
        self._spent_s, self._since = self.spent_s, None
        limit = self._limit
        if limit is not None and (when := limit.when()) is not None and not limit.expired():
            self._rest_s = when - asyncio.get_running_loop().time()
            limit.reschedule(None)

    def go_on(self) -> None:
        """Count on, with as much left of the limit as at `pause`."""
        self._since = self._clock.monotonic()
        if self._limit is not None and self._rest_s is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._rest_s)
        self._rest_s = None

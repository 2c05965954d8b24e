"""Time as an argument: shells hold a `Clock`, functions are given `now`."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The two clocks that the gateway reads."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC: for what is stored and shown."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never steps: for deadlines and durations."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds of `time.monotonic`."""
        return time.monotonic()

"""How often is too often: the generic cell rate algorithm, as plain functions of numbers on a monotonic clock.

A rate admits `burst` calls at once and then one each `gap_s`. Its whole state is one number, `at`: when the next call
is admitted. Over any time of t seconds it admits at most `burst + t / gap_s`. Source: ITU-T I.371, annex A.

Gaps are whole multiples of `TICK_S`, so that adding them to a time is exact in a float, and a call that comes back at
exactly the promised moment is not refused over the last bit: that holds for clocks below 2**30 s, 34 years.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

TICK_S: Final = 2.0**-20
"""What gaps are rounded up to, about 1 us: no rate is above 1,048,576 calls a second."""
HALF_TICK_S: Final = TICK_S / 2
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit on calls. `window_s`: whole seconds in which `burst` calls are regained, for who reads it."""

    burst: int
    window_s: int
    gap_s: float
    slack_s: float


def rate(calls: int, window_s: int, burst: int | None = None) -> Rate:
    """Return the rate of `calls` in `window_s` seconds, `burst` of them at once, by default all.

    One of 0 calls has the numbers of one of 1: whoever holds it asks before, since no wait helps there.
    """
    at_once = max(1, calls if burst is None else burst)
    gap_s = ceil(window_s / max(1, calls) / TICK_S) * TICK_S
    return Rate(
        at_once, window_s if burst is None else ceil(at_once * gap_s), gap_s, (at_once - 1) * gap_s + HALF_TICK_S
    )


def fresh(now: float, limit: Rate) -> float:
    """Return the state of a rate that nobody has used."""
    return now - limit.slack_s


def after(at: float, now: float, limit: Rate) -> float:
    """Return the state after a call that is counted now, whether or not it would be admitted."""
    return max(at, now - limit.slack_s) + limit.gap_s


def is_fresh(at: float, now: float, limit: Rate) -> bool:
    """Say whether the state admits as much as one that nobody has used."""
    return at + limit.slack_s - HALF_TICK_S <= now


def left(at: float, now: float, limit: Rate) -> int:
    """Return how many calls are admitted now."""
    return min(limit.burst, 1 + int((now - at) / limit.gap_s)) if at <= now else 0


def spent(at: float, now: float, limit: Rate) -> float:
    """Return how many calls, and what part of one, are not regained yet."""
    return max(0.0, (at + limit.slack_s - HALF_TICK_S - now) / limit.gap_s)


def wait_s(at: float, now: float) -> int:
    """Return in how many whole seconds a call is admitted that is not now: rounded up, at least 1."""
    return max(1, ceil(at + HALF_TICK_S - now))


def rescaled(at: float, now: float, before: Rate, limit: Rate) -> float:
    """Return the state under `limit` of who had spent as many calls under `before`."""
    return now + spent(at, now, before) * limit.gap_s - limit.slack_s

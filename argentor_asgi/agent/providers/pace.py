"""Keeps model streams that have much to say at once from holding the event loop."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

STRETCH_S: Final = 0.005
"""How long streams work in one turn of the loop, before those that come then wait for another."""
LET_IN: Final = 8
"""How many of those who wait are let in each turn."""
PIECES: Final = 4
"""How many pieces of work a stream does when it is let in: what it does in one go is stored and sent in one go."""


class Pace:
    """What the streams of one event loop have in common: each has a `Place`.

    A piece that has come is there without waiting: 200 streams that each read what is there would let nobody else in
    for as long as all of that takes. Whoever waits is served in the order of coming; there is one for each stream.
    """

    __slots__ = ("_began", "_is_counting", "_now", "_waiting", "turn")

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody at work; `now` tells the time in s."""
        self.turn = 0
        self._now = now
        self._began = 0.0
        self._is_counting = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Go on at once, or in a later turn of the loop when this one has had its stretch; may be cancelled."""
        if not self._is_counting:
            self._count()
        elif self._waiting or self._now() - self._began >= STRETCH_S:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _count(self) -> None:
        """Begin a stretch, which the loop's next turn ends."""
        self._is_counting, self._began = True, self._now()
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.turn += 1
        self._is_counting = False
        for _ in range(min(LET_IN, len(self._waiting))):
            waiter = self._waiting.popleft()
            if not waiter.done():  # who was cancelled no longer waits
                waiter.set_result(None)
            self._is_counting = True
        if self._is_counting:
            self._count()


class Place:
    """One stream's place: it takes a `step` before each piece of its work."""

    __slots__ = ("_done", "_pace", "_turn")

    def __init__(self, pace: Pace) -> None:
        """Begin with no work done."""
        self._pace = pace
        self._turn = -1
        self._done = 0

    async def step(self) -> None:
        """Go on: at once for a few pieces in the same turn of the loop, else as all the others; may be cancelled."""
        if self._turn != self._pace.turn or self._done >= PIECES:
            await self._pace.enter()
            self._turn, self._done = self._pace.turn, 0
        self._done += 1

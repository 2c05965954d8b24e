"""Keeps model streams that have much to say at once from holding the event loop."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

STRETCH_S: Final = 0.005
"""How long all streams together work in one turn of the loop, before those that are left wait for the next."""


class Pace:
    """What the streams of one event loop have in common: each takes a `step` before each piece of its work.

    A piece that has come is there without waiting: 200 streams that each read what is there would let nobody else in
    for as long as all of that takes. Whoever waits is served in the order of waiting.
    """

    __slots__ = ("_began", "_is_counting", "_now")

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody at work; `now` tells the time in s."""
        self._now = now
        self._began = 0.0
        self._is_counting = False

    async def step(self) -> None:
        """Go on at once, or in a later turn of the loop when this one has had its stretch; may be cancelled."""
        while self._is_over():  # noqa: ASYNC110  the loop's next turn is all that is waited for
            await asyncio.sleep(0)

    def _is_over(self) -> bool:
        now = self._now()
        if self._is_counting:
            return now - self._began >= STRETCH_S
        self._is_counting, self._began = True, now
        asyncio.get_running_loop().call_soon(self._turn)
        return False

    def _turn(self) -> None:
        """Begin anew: the loop has come round."""
        self._is_counting = False

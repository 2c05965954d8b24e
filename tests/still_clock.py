"""A clock that stands still until a test moves it, or something waits on it."""

import asyncio
from datetime import UTC, datetime


class StillClock:
    """What waits on it is told at once, and moves it: `slept` says by how much."""

    def __init__(self, at=1000.0):
        self.at = at
        self.slept = []

    def monotonic(self):
        return self.at

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.at += seconds
        await asyncio.sleep(0)

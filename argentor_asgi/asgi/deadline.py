"""Deadlines by one coarse timer for all that is in flight, since a timer for each request costs more than the request.

A deadline may be met late by up to one tick, never early. The timer runs only while something is watched.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

TICK_S = 0.5
"""The longest time between two looks."""
TICKS_PER_DEADLINE = 4
"""How many looks fit into the shortest deadline, so that a short one is not met a multiple late."""


Cut = Literal["http_write", "sse_write", "ws_write", "ws_outbox"]
"""Where a client that did not read was given up: at a whole answer, a stream, a socket, or a socket's answers."""


class Observer(Protocol):
    """Who is told what becomes of streams and of clients that do not read. All of it is called on the loop."""

    def stream_opened(self) -> None:
        """Hear that an event stream begins."""
        ...

    def stream_closed(self, seconds: float, status: int) -> None:
        """Hear that it is over: how long it was open, and 200 when the gateway ended it or 499 when the client did."""
        ...

    def consumer_cut(self, kind: Cut) -> None:
        """Hear that a client was given up since it did not read."""
        ...


class Unobserved:
    """An observer that keeps nothing."""

    def stream_opened(self) -> None:
        """Do nothing."""

    def stream_closed(self, seconds: float, status: int) -> None:
        """Do nothing."""

    def consumer_cut(self, kind: Cut) -> None:
        """Do nothing."""


class Watched:
    """Something with a deadline, on the sweeper's clock, and the task that is cancelled when it passes.

    The cancellation is the sweeper's own: whoever runs the task asks `settle` whether a `CancelledError` was that.
    """

    deadline: float = float("inf")
    fired: bool = False
    task: asyncio.Task[object] | None = None

    def due(self, now: float) -> None:
        """React to the deadline; `now` is the sweeper's clock."""
        del now
        self.cancel()

    def cancel(self) -> None:
        """Cancel the task, once, unless someone else is already cancelling it and so owns its end."""
        if self.fired or self.task is None or self.task.cancelling():
            return
        self.fired = True
        self.task.cancel()

    def settle(self) -> bool:
        """Take back the own cancellation; say whether it was the only one."""
        if not self.fired or self.task is None:
            return False
        self.fired = False
        return self.task.uncancel() == 0


class Sweeper:
    """Looks at everything watched, once a tick.

    `clock`: monotonic seconds. What `watch` enters is left by `leave`.
    """

    def __init__(self, clock: Callable[[], float], shortest_s: float) -> None:
        """Make a sweeper that does not run yet; `shortest_s` is the shortest deadline that it will meet."""
        self.clock = clock
        self.watching: set[Watched] = set()
        self.awake_until = float("-inf")
        self._tick_s = min(TICK_S, shortest_s / TICKS_PER_DEADLINE)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, watched: Watched, seconds: float) -> None:
        """Enter `watched`, due in `seconds`, for the running task."""
        now = self.clock()
        watched.deadline = now + seconds
        watched.task = asyncio.current_task()
        self.watching.add(watched)
        if now >= self.awake_until:
            self.wake(now)

    def leave(self, watched: Watched) -> None:
        """Watch it no longer, and take back a cancellation that came too late to be met."""
        self.watching.discard(watched)
        watched.settle()

    def wake(self, now: float) -> None:
        """Start the timer on the running loop.

        `awake_until` is a time and not a flag, so that a timer which died with its loop is replaced.
        """
        self.close()
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self.sweep)
        self.awake_until = now + self._tick_s

    def sweep(self) -> None:
        """Tell everything that is due, and look again later if anything is left."""
        now = self.clock()
        for watched in overdue(self.watching, now):
            watched.due(now)
        if self.watching:
            self.wake(now)
        else:
            self.close()

    def close(self) -> None:
        """Stop the timer; watching something starts it again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.awake_until = float("-inf")


def overdue(watching: Iterable[Watched], now: float) -> list[Watched]:
    """Return those whose deadline has come."""
    return [watched for watched in watching if watched.deadline <= now]

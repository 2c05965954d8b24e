"""How the gateway's work ends when the process stops: runs, the streams that show them, and sockets, side by side.

They belong into one hook, since each needs the others: a socket and a stream owe their clients the last events of
their runs, so they end behind the runs, and within the same time.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from argentor_asgi.gateway.connections import Connections
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.ops.drain import Drain

ENDING_S: Final = 1.0
"""What runs leave of the time: for cancelling those that did not finish, and for telling their clients."""
ENDING_SHARE: Final = 0.5
"""The same as a share of a time that is short."""


class Streams:
    """How many event streams are open, and when none is."""

    def __init__(self) -> None:
        """Count from none."""
        self._open = 0
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        """Return how many are open."""
        return self._open

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Count one stream while the block runs."""
        self._open += 1
        self._none.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none.set()

    async def gone(self) -> None:
        """Wait until none is open."""
        await self._none.wait()


class Stopping:
    """The hook of the phase `drain`: afterwards no run is live, and no stream or socket is open that could end."""

    def __init__(self, *, runs: Runs, streams: Streams, connections: Connections, drain: Drain) -> None:
        """Keep what is to be ended; `drain` says how much time there is."""
        self._runs = runs
        self._streams = streams
        self._connections = connections
        self._drain = drain

    async def __call__(self) -> None:
        """Let runs finish, cancel those that do not, say goodbye to every socket, and wait for what is still sent.

        Idle sockets are closed at once, others when their runs have ended. Raises what one of the three raised, when
        all have ended. Cancelled, it leaves them as they are.
        """
        within_s = self._drain.remaining_s()
        ended = await asyncio.gather(
            self._runs.drain(run_time(within_s)),
            self._connections.drain(within_s),
            self._streams.gone(),
            return_exceptions=True,
        )
        for error in ended:
            if error is not None:
                raise error


def run_time(within_s: float) -> float:
    """Return how long runs may go on, in s, when everything must be over `within_s`."""
    return within_s - min(ENDING_S, within_s * ENDING_SHARE)

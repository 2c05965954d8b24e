"""Who is connected: every open WebSocket, its owner and its session, within the limits."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from argentor_asgi.errors import Overloaded
from argentor_asgi.security.identity import Principal

BATCH: Final = 500
"""How many goodbyes a drain begins in one turn of the loop, so that others have theirs."""

log = logging.getLogger("argentor.ws")


class Closable(Protocol):
    """The side of a connection that the gateway can end."""

    async def goodbye(self, code: int, reason: str, *, within_s: float) -> None:
        """Send what is still owed, within the time, then close with a code of RFC 6455 section 7.4."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """One open WebSocket. `session_id` is its own session, where a message without an id goes."""

    id: str
    session_id: str
    principal: Principal
    socket: Closable


class Connections:
    """Every open WebSocket of this process."""

    def __init__(self, *, limit: int, per_principal: int) -> None:
        """Hold at most `limit` connections, and `per_principal` of one principal."""
        self._limit = limit
        self._per_principal = per_principal
        self._open: dict[str, Connection] = {}
        self._of: Counter[Principal] = Counter()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def check(self, principal: Principal) -> None:
        """Raise `Overloaded` when the principal may not open one more."""
        if len(self._open) >= self._limit:
            raise Overloaded("The gateway has no room for another connection.", retry_after=1)
        if self._of[principal] >= self._per_principal:
            raise Overloaded("You have too many open connections.", retry_after=1)

    @contextmanager
    def opened(self, connection: Connection) -> Iterator[None]:
        """Count the connection while the block runs."""
        self.check(connection.principal)
        self._open[connection.id] = connection
        self._of[connection.principal] += 1
        try:
            yield
        finally:
            del self._open[connection.id]
            self._of[connection.principal] -= 1
            if not self._of[connection.principal]:
                del self._of[connection.principal]

    def session_ids(self, principal: Principal) -> list[str]:
        """Return the sessions that the principal's own connections belong to, sorted, each once."""
        return sorted({found.session_id for found in self._open.values() if found.principal == principal})

    def count(self, principal: Principal) -> int:
        """Return how many connections the principal has."""
        return self._of[principal]

    async def drain(self, within_s: float) -> None:
        """Say goodbye to every connection, `BATCH` a turn of the loop, and wait until they are gone.

        Each has `within_s`; one whose goodbye fails is logged and keeps no other from its own.
        """
        sockets = [found.socket for found in self._open.values()]
        async with asyncio.TaskGroup() as goodbyes:
            for at in range(0, len(sockets), BATCH):
                for socket in sockets[at : at + BATCH]:
                    goodbyes.create_task(_goodbye(socket, within_s))
                await asyncio.sleep(0)


async def _goodbye(socket: Closable, within_s: float) -> None:
    try:
        await socket.goodbye(1012, "the gateway restarts", within_s=within_s)
    except Exception:  # one socket's failure must not end the goodbyes of the others
        log.exception("a connection could not be closed")

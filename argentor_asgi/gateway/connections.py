"""Who is connected: every open WebSocket, its owner and its session, within the limits."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from argentor_asgi.errors import Overloaded
from argentor_asgi.gateway.approvals import SEE
from argentor_asgi.ops.clock import Clock, SystemClock
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.ws_session import Farewell
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import Approval

BATCH: Final = 50
"""How many goodbyes a drain begins in one turn of the loop: 20 ms at most, where 500 took 300 ms."""
SLOTS: Final = 20
"""In how many parts the connections are pinged, one after the other, spread over the time between two pings."""
RESTART: Final = Farewell(1012, "restart", "The gateway stops; connect again, to whatever takes its place.")
KEY_REVOKED: Final = Farewell(1008, "key_revoked", "The key of this connection was revoked.")

log = logging.getLogger("argentor.ws")


class Closable(Protocol):
    """The side of a connection that the gateway can end."""

    async def goodbye(self, farewell: Farewell, *, within_s: float) -> None:
        """Send what is still owed, within the time, then say why, and close."""
        ...

    def end(self, farewell: Farewell) -> None:
        """Close without sending what is still owed, but for why."""
        ...

    def beat(self, ping: bytes) -> None:
        """Send this ping, or end if the client is taken for dead; called once in the time between two pings."""
        ...

    def announce(self, approval: Approval) -> None:
        """Tell the client of a call that waits for it; never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """One open WebSocket. `session_id` is its own session, where a message without an id goes."""

    id: str
    session_id: str
    principal: Principal
    socket: Closable


class Connections:
    """Every open WebSocket of this process, and the one timer that pings all of them."""

    def __init__(self, *, limit: int, heartbeat_s: float = inf, clock: Clock | None = None) -> None:
        """Hold at most `limit` connections, and ping each every `heartbeat_s`."""
        self._limit = limit
        self._heartbeat_s = heartbeat_s
        self._clock = clock or SystemClock()
        self._open: dict[str, Connection] = {}
        self._slots: list[dict[str, Closable]] = [{} for _ in range(SLOTS)]
        self._made = 0
        self._beats = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    @contextmanager
    def opened(self, connection: Connection) -> Iterator[None]:
        """Count and ping the connection while the block runs; raises `Overloaded` when there is no room for it."""
        if len(self._open) >= self._limit:
            raise Overloaded("The gateway has no room for another connection.", retry_after=1)
        slot = self._slots[self._made % SLOTS]
        self._made += 1
        self._open[connection.id] = connection
        slot[connection.id] = connection.socket
        self._wake()
        try:
            yield
        finally:
            del self._open[connection.id], slot[connection.id]
            if not self._open:
                self._sleep()

    def evict(self, key_id: str) -> int:
        """Close every connection that was opened with this key; return how many."""
        found = [connection.socket for connection in self._open.values() if connection.principal.key_id == key_id]
        for socket in found:
            socket.end(KEY_REVOKED)
        return len(found)

    def beat(self) -> None:
        """Ping the next part of the connections; the timer's work."""
        slot = self._slots[self._beats % SLOTS]
        self._beats += 1
        ping = ws_session.ping(self._clock.now())
        for socket in [*slot.values()]:
            socket.beat(ping)

    def announce(self, approval: Approval) -> None:
        """Tell every connection of the approval's owner that may know of it (flaw G2: nobody else)."""
        for found in [*self._open.values()]:
            principal = found.principal
            if (principal.id, principal.tenant) == (approval.owner, approval.tenant) and principal.may(SEE):
                found.socket.announce(approval)

    def session_ids(self, principal: Principal) -> list[str]:
        """Return the sessions that the principal's own connections belong to, sorted, each once."""
        return sorted({found.session_id for found in self._open.values() if found.principal == principal})

    def count(self, principal: Principal) -> int:
        """Return how many connections the principal has."""
        return sum(found.principal == principal for found in self._open.values())

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

    def _wake(self) -> None:
        """Start the timer with the first connection; without heartbeats there is none."""
        if self._timer is None and self._heartbeat_s < inf:
            self._timer = asyncio.get_running_loop().call_later(self._heartbeat_s / SLOTS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._wake()
        self.beat()

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


async def _goodbye(socket: Closable, within_s: float) -> None:
    try:
        await socket.goodbye(RESTART, within_s=within_s)
    except Exception:  # one socket's failure must not end the goodbyes of the others
        log.exception("a connection could not be closed")

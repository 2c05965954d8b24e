"""Single-use tickets: how a web page opens a WebSocket, which takes no header of its own, without its key in the URL.

A ticket in a URL may end up in a log, and is then spent or dead: it opens one socket, within seconds, once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from math import ceil

from argentor_asgi.errors import Overloaded
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.keys import Credential

TICKETS = 10_000
"""How many tickets may be out at one time."""
TICKETS_PER_PRINCIPAL = 100
"""How many of them may be one principal's."""
TTL_S = 30.0
"""How long a ticket is good for."""
TICKET_BYTES = 43
"""How long a ticket is: 256 random bits in base64."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a ticket stands for, until when, in seconds since 1970.

    `credential`: that of the key by which it was asked for, None without one.
    """

    principal: Principal
    credential: Credential | None
    expires_s: float

    def is_good(self, now_s: float) -> bool:
        """Say whether neither the ticket nor the key behind it has ended."""
        return now_s < self.expires_s and (self.credential is None or now_s < self.credential.expires_s)


class Tickets:
    """The tickets that are out, by SHA-256. Everything is done in one step, so one ticket opens one socket."""

    def __init__(
        self, *, limit: int = TICKETS, per_principal: int = TICKETS_PER_PRINCIPAL, ttl_s: float = TTL_S
    ) -> None:
        """Keep at most `limit` tickets, and `per_principal` of one principal, for `ttl_s` seconds each."""
        self.ttl_s = ttl_s
        self._limit = limit
        self._per_principal = per_principal
        self._out: dict[bytes, Holder] = {}
        self._counts: dict[Principal, int] = {}

    def __len__(self) -> int:
        """Return how many tickets are out, expired ones with them until the next sweep."""
        return len(self._out)

    def issue(self, holder: Credential | Principal, now_s: float) -> str:
        """Return a ticket for the holder, good until `now_s + ttl_s`; `now_s`: seconds since 1970.

        Raises `Overloaded` when too many are out, in all or of this principal's.
        """
        from secrets import token_urlsafe  # noqa: PLC0415  only where there are web pages; it drags in `random`

        credential = holder if isinstance(holder, Credential) else None
        principal = holder.principal if isinstance(holder, Credential) else holder
        self.sweep(now_s)
        if len(self._out) >= self._limit or self._counts.get(principal, 0) >= self._per_principal:
            raise Overloaded("Too many tickets are waiting to be used; use them, or wait.", retry_after=self._wait_s)
        ticket = token_urlsafe(32)
        self._out[_digest(ticket.encode())] = Holder(principal, credential, now_s + self.ttl_s)
        self._counts[principal] = self._counts.get(principal, 0) + 1
        return ticket

    def redeem(self, ticket: bytes, now_s: float) -> Holder | None:
        """Return whom the ticket stands for, and never again; None when it is spent, expired, revoked or none."""
        if len(ticket) != TICKET_BYTES:
            return None
        found = self._drop(_digest(ticket))
        return found if found is not None and found.is_good(now_s) else None

    def revoke(self, key_id: str) -> int:
        """Forget the tickets that were asked for by this key; return how many there were."""
        return self._drop_where(lambda holder: holder.principal.key_id == key_id)

    def sweep(self, now_s: float) -> None:
        """Forget what has expired; costs nothing while nothing has."""
        # All last equally long, so the oldest are first.
        for digest, _ in list(takewhile(lambda item: item[1].expires_s <= now_s, self._out.items())):
            self._drop(digest)
        if len(self._out) >= self._limit:
            # Not when the clock was set back meanwhile; then an old one that seems to last long hides them.
            self._drop_where(lambda holder: not now_s < holder.expires_s <= now_s + self.ttl_s)

    @property
    def _wait_s(self) -> int:
        return max(1, ceil(self.ttl_s))

    def _drop_where(self, is_over: Callable[[Holder], bool]) -> int:
        over = [digest for digest, holder in self._out.items() if is_over(holder)]
        for digest in over:
            self._drop(digest)
        return len(over)

    def _drop(self, digest: bytes) -> Holder | None:
        found = self._out.pop(digest, None)
        if found is not None:
            left = self._counts.pop(found.principal) - 1
            if left:
                self._counts[found.principal] = left
        return found


def _digest(ticket: bytes) -> bytes:
    return sha256(ticket).digest()

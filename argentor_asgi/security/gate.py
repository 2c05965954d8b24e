"""The gate in front of every route and socket that needs something: who asks, may they, and have they any left.

In this order: a gateway that stops refuses; the caller is told by `Authenticator`; the limits are asked and charged;
the scope of the row must be held. What passed has `principal` and `account`, and its answer the rate-limit headers.
"""

from collections.abc import Callable
from math import ceil
from time import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.route import Route, Socket
from argentor_asgi.errors import Draining, Forbidden
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.guard import Authenticator
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.limits import Limiter
from argentor_asgi.security.refusals import Refusals

if TYPE_CHECKING:
    from argentor_asgi.security.keys import Credential

In = TypeVar("In", bound=Incoming)
Out = TypeVar("Out")

BEARERS = 4096
"""How many Authorization headers are known again without being read."""
BEARER_BYTES = 512
"""How long one may be to be remembered."""
BEARER = b"bearer "
"""How an Authorization header begins whose key is what the caller was told by."""


class Stopping(Protocol):
    """What says whether the gateway still takes work."""

    @property
    def refusing(self) -> bool:
        """Whether it takes no more."""
        ...

    def left_s(self) -> float:
        """Return the seconds until the process should be gone."""
        ...


class Gate:
    """Admits callers, or says why not."""

    def __init__(
        self,
        authenticator: Authenticator,
        limiter: Limiter,
        refusals: Refusals,
        stopping: Stopping,
        clock: Callable[[], float],
        *,
        limits_enabled: Callable[[], bool],
    ) -> None:
        """Put the parts together. `clock`: monotonic s, the limiter's; `limits_enabled` follows the keys there are."""
        self._authenticator = authenticator
        self._limiter = limiter
        self._refusals = refusals
        self._stopping = stopping
        self._clock = clock
        self._limits_enabled = limits_enabled
        self._bearers: dict[bytes, Credential] = {}

    def http(self, row: Route, endpoint: Callable[[In], Out]) -> Callable[[In], Out]:
        """Return the endpoint behind the gate; that of a public row as it is. Raises as `admit` does."""
        return self._before(row.needs, endpoint, even_draining=row.even_draining)

    def socket(self, row: Socket, endpoint: Callable[[In], Out]) -> Callable[[In], Out]:
        """Do for WebSockets what `http` does, before the handshake is answered."""
        return self._before(row.needs, endpoint, even_draining=False)

    def _before(self, needs: str | None, endpoint: Callable[[In], Out], *, even_draining: bool) -> Callable[[In], Out]:
        if needs is None:
            return endpoint
        limiter, stopping, clock, bearers = self._limiter, self._stopping, self._clock, self._bearers
        enough = frozenset({needs, "*"})

        # PERF: no coroutine of its own: what it returns is awaited in its place, and 0.3 us cheaper.
        def guarded(incoming: In) -> Out:
            if stopping.refusing and not even_draining:
                raise draining(stopping)
            fields, now = incoming.fields, clock()
            # PERF: the header of a key that was good before is known as a whole; nothing is taken apart.
            known = bearers.get(fields.get(b"authorization", b""))
            if known is not None and time() < known.expires_s and b"origin" not in fields:
                known.is_used = True
                principal = known.principal
                account = limiter.account(principal, None)
            else:
                principal, account = self._recognised(incoming, now)
            incoming.principal = principal
            incoming.account = account
            limiter.take(account, now)
            incoming.answer_headers += limiter.fields(account, now)
            # Never `account.principal`: beyond the limiter's bound, callers share an account, which is nobody's.
            if enough.isdisjoint(principal.scopes):
                self._refusals.unscoped(needs, incoming, principal)
                raise Forbidden(f"Your key does not have the scope {needs}.")
            return endpoint(incoming)

        return guarded

    def _recognised(self, incoming: Incoming, now: float) -> tuple[Principal, Account]:
        """Return who asks, by whatever credential, and its account; raises what the authenticator does."""
        # Whoever is the first to use a first key, or comes without one after the last was revoked, comes by here.
        self._limiter.enabled = self._limits_enabled()
        address = self._authenticator.address_of(incoming)
        caller = self._authenticator.identify(incoming, address, now)
        if isinstance(caller, Principal):
            return caller, self._limiter.account(caller, address)
        bearer = incoming.fields.get(b"authorization")
        # Of another scheme it is not what was looked at, and must never open anything by itself.
        if bearer is not None and len(bearer) <= BEARER_BYTES and bearer[: len(BEARER)].lower() == BEARER:
            if len(self._bearers) >= BEARERS:
                self._bearers.clear()
            self._bearers[bearer] = caller
        return caller.principal, self._limiter.account(caller.principal, None)


def draining(stopping: Stopping) -> Draining:
    """Return the refusal of a gateway that stops: whoever replaces it is there when it is gone."""
    return Draining(retry_after=max(1, ceil(stopping.left_s())))

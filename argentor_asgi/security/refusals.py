"""What becomes of a caller who is turned away: it is counted by reason, and kept as evidence.

The evidence is bounded: one caller's refusals of one kind are one entry now and one a minute, with their number, so
that nobody can fill the audit log by being refused.
"""

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.identity import Principal


class Refusals:
    """Counts refusals and records them."""

    def __init__(self, metrics: Metrics, audit: Audit) -> None:
        """Keep where to."""
        self._metrics = metrics
        self._audit = audit

    def unknown(self, reason: str, incoming: Incoming, address: str | None) -> None:
        """Note a caller who could not be told, or came from where nobody may: `reason` is the metric's label."""
        self._metrics.auth_failed(reason)
        self._audit.record_rarely(
            f"{reason} {address}",
            "auth_failed",
            outcome="denied",
            request_id=incoming.id,
            address=address,
            details={"reason": reason, "path": incoming.path[:200]},
        )

    def throttled(self, address: str) -> None:
        """Note that the credentials of an address are not looked at for a while."""
        self._audit.record_rarely(f"throttled {address}", "auth_throttled", outcome="denied", address=address)

    def unscoped(self, needs: str, incoming: Incoming, principal: Principal) -> None:
        """Note a caller whose key does not have the scope of the route."""
        self._metrics.auth_failed("forbidden")
        self._audit.record_rarely(
            f"{needs} {principal.tenant}/{principal.id}",
            "forbidden",
            outcome="denied",
            principal=principal.id,
            tenant=principal.tenant,
            request_id=incoming.id,
            details={"needs": needs, "path": incoming.path[:200]},
        )

    def limited(self, policy: str, account: Account) -> None:
        """Note a caller who has used up a limit."""
        self._metrics.limited(policy)
        principal = account.principal
        self._audit.record_rarely(
            f"{policy} {account.key}",
            "rate_limited",
            outcome="denied",
            principal=principal.id,
            tenant=principal.tenant,
            details={"policy": policy, "account": account.key},
        )

"""A limiter with clocks that a test sets, and who calls."""

from datetime import UTC, datetime, timedelta

from argentor_asgi.config import Limits, Plan
from argentor_asgi.errors import RateLimited
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.limits import Limiter

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 5, 2, tzinfo=UTC)
ME = Principal("me")
YOU = Principal("you")
FEW = Principal("few", plan="few")
PLANS = {
    "few": Plan(5, 8, 100, 2, 2, 2),
    "none": Plan(requests_per_minute=0),
    "half": Plan(requests_per_minute=30),
}


class Desk:
    """A limiter, its clocks, and the reasons of its refusals."""

    def __init__(self, *, enabled=True, plans=PLANS, **limits):
        self.mono, self.wall, self.rejected = 1000.0, NOON, []
        self.limiter = Limiter(
            Limits(**limits),
            plans,
            clock=lambda: self.mono,
            now=lambda: self.wall,
            enabled=enabled,
            on_reject=lambda reason, account: self.rejected.append((reason, account.key)),
        )

    def account(self, principal=ME, address=None):
        return self.limiter.account(principal, address)

    def stranger(self, address):
        return self.limiter.account(ANONYMOUS, address)

    def ask(self, account, times=1):
        """Ask so often and return how many were admitted."""
        admitted = 0
        for _ in range(times):
            admitted += self.tried(account) is None
        return admitted

    def tried(self, account):
        """Ask, and return the refusal, None when it was admitted."""
        try:
            self.limiter.take(account)
        except RateLimited as error:
            return error
        return None

    def refusal(self, account):
        """Return why the account is not admitted."""
        error = self.tried(account)
        assert error is not None, "it was admitted"
        return error

    def wait(self, seconds):
        """Let both clocks go on."""
        self.mono += seconds
        self.wall += timedelta(seconds=seconds)

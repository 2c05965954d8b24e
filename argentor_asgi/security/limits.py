"""How much each caller, and all of them together, may use.

A request costs one of the gateway's rate, one of its caller's minute and one of the hour, and needs tokens left of the
caller's day: all are checked, then all are taken. A run sets tokens aside before it starts and counts those it really
used when it ends. Callers are principals, or the addresses of those who need no key. Rates live on a monotonic clock;
the wall clock says only which UTC day it is.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Final

from argentor_asgi import config
from argentor_asgi.errors import Forbidden, Overloaded, RateLimited
from argentor_asgi.security.accounts import Account, Book, Numbers, numbers
from argentor_asgi.security.clients import block_of
from argentor_asgi.security.holds import Hold, Kind, Reservation, RunGrant
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.quota import DAY_S, fresh, left, rate, wait_s
from argentor_asgi.security.rate_headers import DAY, GATEWAY, HOUR, MINUTE, Fields, Pair, Violation

ANONYMOUS_ACCOUNTS: Final = 10_000
"""How many callers without a key have an account of their own; all others share one."""
KNOWN_ACCOUNTS: Final = 100_000
"""How many principals have an account of their own; all others share one."""
RESERVED_S: Final = 5
"""When to come back while runs that go on hold what is left of the day: nobody knows what they will give back."""
PLAN: Final = "plan"
"""The reason of a refusal that no waiting changes."""
_CAPS: Final[Mapping[Kind, str]] = {
    "runs": "You have too many runs at one time.",
    "streams": "You have too many open streams.",
    "connections": "You have too many open connections.",
}

OnReject = Callable[[str, Account], None]

log = logging.getLogger("argentor.limits")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands. `minute`, `hour`: requests not regained yet; `tokens_today`: used; `reserved`: held."""

    minute: int
    hour: int
    tokens_today: int
    reserved: int
    numbers: Numbers


class Limiter:
    """The limits of this process, and what its callers have used of them. For the loop's thread; nothing awaits."""

    def __init__(
        self,
        limits: config.Limits,
        plans: Mapping[str, config.Plan],
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        enabled: bool,
        on_reject: OnReject | None = None,
    ) -> None:
        """Prepare the numbers of each plan. `clock`: monotonic s. `on_reject`: told why and to whom of each refusal.

        While `enabled` is false nothing is refused and requests are not counted; tokens and what is held are, so that
        it may be set at any time.
        """
        self.enabled = enabled
        self._clock = clock
        self._wall = now
        self._on_reject = on_reject or (lambda _reason, _account: None)
        self._common = numbers(limits, None)
        self._plans = {name: numbers(limits, plan) for name, plan in plans.items()}
        self._rate = rate(limits.requests_per_second, 1, limits.burst)
        self._at = fresh(clock(), self._rate)
        self._gap_s, self._slack_s = self._rate.gap_s, self._rate.slack_s
        self._fields = Fields(self._rate)
        self._epoch_s = self._epoch_until = 0.0
        self._known: Book[tuple[str, str]] = Book(KNOWN_ACCOUNTS, self._stranger)
        self._strangers: Book[str] = Book(ANONYMOUS_ACCOUNTS, self._stranger)

    # --- accounts ---

    def account(self, principal: Principal, address: str | None) -> Account:
        """Return the caller's account: the principal's, or without one that of its address, IPv6 by its /64.

        `address` None: a Unix socket, all of whose anonymous callers are one. Keep the result no longer than something
        of it is held: an account with nothing used or held is forgotten, and the caller's next one is another.
        """
        if principal is ANONYMOUS:
            key = block_of(address) if address else "unix"
            return self._strangers.find(key) or self._strangers.open(key, key, self._clock(), self._today())
        found = self._known.find((principal.tenant, principal.id))
        if found is None or found.principal is not principal:
            return self._meet(principal)
        return found

    def _meet(self, principal: Principal) -> Account:
        """Return the account of a principal whose present credential it has not seen last."""
        account = self._open(principal)
        if account.principal == principal:
            own = self._numbers_of(principal)
            account.principal = principal
            if own is not account.numbers:
                account.resize(own, self._clock())
        return account

    def _open(self, principal: Principal) -> Account:
        key = (principal.tenant, principal.id)
        found = self._known.find(key)
        if found is None:
            text = f"{principal.tenant}/{principal.id}"
            found = self._known.open(key, text, self._clock(), self._today())
            if found.key == text:
                found.principal = principal
        return found

    def _numbers_of(self, principal: Principal) -> Numbers:
        if principal.plan is None:
            return self._common
        found = self._plans.get(principal.plan)
        if found is None:
            log.warning("the plan %r of %s/%s is not configured", principal.plan, principal.tenant, principal.id)
        return found or self._common

    def _stranger(self, text: str) -> Account:
        return Account(text, ANONYMOUS, self._common, now=self._clock(), day=self._today())

    def sweep(self, now: float) -> None:
        """Forget accounts with nothing used or held, some thousand of each kind a call; to be called now and then."""
        today = self._today()
        self._known.sweep(now, today)
        self._strangers.sweep(now, today)

    # --- requests ---

    def take(self, account: Account, now: float | None = None) -> None:
        """Count one request or message of the account: everything it costs, or nothing and raise.

        `now`: a reading of the clock that the caller has already. Raises `RateLimited`, whose `retry_after` is never
        early: who comes back exactly then is admitted, unless others took the gateway's rate or runs the tokens.
        Raises `Forbidden` for a plan with a quota of 0.
        """
        if not self.enabled:
            return
        if now is None:
            now = self._clock()
        # PERF: 0.3 us, the calls of `quota.after` spelled out. The day is looked at only when its tokens are gone.
        at, minute_at, hour_at = self._at, account.minute_at, account.hour_at
        if at > now or minute_at > now or hour_at > now or account.left <= 0:
            self._refuse(account, now)
        floor = now - self._slack_s
        self._at = (at if at > floor else floor) + self._gap_s  # noqa: FURB136  a call of max() costs 0.06 us
        floor = now - account.minute_slack_s
        account.minute_at = (minute_at if minute_at > floor else floor) + account.minute_gap_s  # noqa: FURB136  as above
        floor = now - account.hour_slack_s
        account.hour_at = (hour_at if hour_at > floor else floor) + account.hour_gap_s  # noqa: FURB136  as above

    def _refuse(self, account: Account, now: float) -> None:
        """Raise why the account is not admitted; return when only yesterday's tokens kept it out."""
        self._must_have_quotas(account)
        violations = [
            Violation(policy, message, wait_s(at, now))
            for policy, message, at in (
                (MINUTE, "requests per minute limit exceeded", account.minute_at),
                (HOUR, "requests per hour limit exceeded", account.hour_at),
                (GATEWAY, "gateway request limit exceeded", self._at),
            )
            if at > now
        ]
        if (wait := self._day_wait_s(account)) is not None:
            behind = next((at for at, each in enumerate(violations) if each.policy == GATEWAY), len(violations))
            violations.insert(behind, Violation(DAY, "daily token quota exceeded", wait))
        if violations:
            raise self._rejection(account, violations)

    def _must_have_quotas(self, account: Account) -> None:
        if account.numbers.is_barred:
            self._on_reject(PLAN, account)
            raise Forbidden("Your plan admits no requests.")

    def _day_wait_s(self, account: Account) -> int | None:
        """Return the whole seconds until the account has tokens again; None when it has some."""
        epoch_s = self._wall().timestamp()
        account.turn_to(int(epoch_s // DAY_S))
        return max(1, ceil((account.day + 1) * DAY_S - epoch_s)) if account.left <= 0 else None

    def _rejection(self, account: Account, violations: Sequence[Violation]) -> RateLimited:
        first = violations[0]
        self._on_reject(first.policy, account)
        return RateLimited(
            first.message,
            retry_after=max(violation.wait_s for violation in violations),
            headers=self._fields.of_denial(account, violations, self._wall().timestamp()),
            members={"violated-policies": [violation.policy for violation in violations]},
        )

    def fields(self, account: Account, now: float | None = None) -> tuple[Pair, ...]:
        """Return the rate-limit headers of an answer to the account; none while nothing is limited."""
        if not self.enabled:
            return ()
        if now is None:
            now = self._clock()
        if now >= self._epoch_until:
            # PERF: the wall clock once a second; what it says here is for show.
            self._epoch_s, self._epoch_until = self._wall().timestamp() - now, now + 1.0
        return self._fields.of(account, now, self._epoch_s)

    # --- tokens and what is held ---

    def reserve(self, account: Account, tokens: int) -> Reservation:
        """Set tokens of the account's day aside: `tokens`, or what is left of it when that is less.

        So the last run of a day may begin with too few and use more: by no more than one run for each that goes on.
        Raises `RateLimited` when nothing is left, `Forbidden` when the quota is 0.
        """
        if not self.enabled:
            return Reservation(account, tokens, self._today)
        self._must_have_quotas(account)
        wait = self._day_wait_s(account)
        free = account.left - account.reserved
        if wait is not None or free <= 0:
            raise self._rejection(account, [Violation(DAY, "daily token quota exceeded", wait or RESERVED_S)])
        return Reservation(account, min(tokens, free), self._today)

    def remember_used(self, owner: str, tenant: str, tokens: int) -> None:
        """Count tokens that a principal used today before this process started; those of the anonymous are nobody's."""
        principal = Principal(owner, tenant)
        if principal != ANONYMOUS:
            self._open(principal).use(tokens, self._today())

    def hold_run(self, account: Account) -> Hold:
        """Take a place for one more run of the account, until it is released; raises `Overloaded` at the cap."""
        return self._hold(account, "runs", account.runs, account.numbers.runs)

    def hold_stream(self, account: Account) -> Hold:
        """Take a place for one more event stream, as `hold_run` does."""
        return self._hold(account, "streams", account.streams, account.numbers.streams)

    def hold_connection(self, account: Account) -> Hold:
        """Take a place for one more WebSocket, as `hold_run` does."""
        return self._hold(account, "connections", account.connections, account.numbers.connections)

    def _hold(self, account: Account, kind: Kind, live: int, cap: int) -> Hold:
        # Sockets cost memory whether or not callers are limited in what they ask.
        if live >= cap and (self.enabled or kind == "connections"):
            self._on_reject(kind, account)
            raise Overloaded(_CAPS[kind], retry_after=1)
        return Hold(account, kind)

    def grant_run(self, account: Account, tokens: int) -> RunGrant:
        """Take a place for a run and reserve its tokens: both or neither. Raises as `hold_run` and `reserve` do."""
        hold = self.hold_run(account)
        try:
            return RunGrant(hold, self.reserve(account, tokens))
        except BaseException:
            hold.release()
            raise

    # --- looking ---

    def stats(self, account: Account, now: float | None = None) -> Standing:
        """Return where the account stands."""
        if now is None:
            now = self._clock()
        account.turn_to(self._today())
        own = account.numbers
        return Standing(
            own.minute.burst - left(account.minute_at, now, own.minute),
            own.hour.burst - left(account.hour_at, now, own.hour),
            account.used,
            account.reserved,
            own,
        )

    def _today(self) -> int:
        return int(self._wall().timestamp() // DAY_S)

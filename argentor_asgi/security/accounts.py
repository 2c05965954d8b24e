"""What callers have used of their limits: one account each, in a bounded book that forgets who has used nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

from argentor_asgi import config
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.quota import HOUR_S, MINUTE_S, Rate, fresh, is_fresh, rate, rescaled

EARLIER_S: Final = 1.0
"""How much earlier than now a new account is fresh: its caller read the clock before it was opened."""
SWEPT: Final = 10_000
"""How many accounts one sweep looks at; the next one goes on behind them."""
SWEEP_GAP_S: Final = 1.0
"""How long a full book waits between two sweeps that newcomers cause."""

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one caller may use, as the configuration and a plan have it."""

    requests_per_minute: int
    requests_per_hour: int
    tokens_per_day: int
    runs: int
    streams: int
    connections: int
    minute: Rate = field(init=False, compare=False, repr=False)
    hour: Rate = field(init=False, compare=False, repr=False)
    is_barred: bool = field(init=False, compare=False, repr=False)
    limit: tuple[bytes, bytes] = field(init=False, compare=False, repr=False)
    policy: tuple[bytes, bytes] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Work out once what follows: both rates, whether a quota is 0, and two headers."""
        object.__setattr__(self, "minute", rate(self.requests_per_minute, MINUTE_S))
        object.__setattr__(self, "hour", rate(self.requests_per_hour, HOUR_S))
        quotas = (self.requests_per_minute, self.requests_per_hour, self.tokens_per_day)
        object.__setattr__(self, "is_barred", 0 in quotas)
        object.__setattr__(self, "limit", (b"x-ratelimit-limit", b"%d" % quotas[0]))
        policy = b'"minute";q=%d;w=%d, "hour";q=%d;w=%d' % (quotas[0], MINUTE_S, quotas[1], HOUR_S)
        object.__setattr__(self, "policy", (b"ratelimit-policy", policy))


def numbers(limits: config.Limits, plan: config.Plan | None) -> Numbers:
    """Return the plan's numbers, and those of `limits` where it has none."""
    given = plan or config.Plan()
    return Numbers(
        _first(given.requests_per_minute, limits.requests_per_minute),
        _first(given.requests_per_hour, limits.requests_per_hour),
        _first(given.tokens_per_day, limits.tokens_per_day),
        _first(given.runs, limits.runs_per_principal),
        _first(given.streams, limits.streams_per_principal),
        _first(given.connections, limits.connections_per_principal),
    )


def _first(own: int | None, common: int) -> int:
    return common if own is None else own


class Account:
    """One caller's standing: what it may use, and what it has used and holds.

    `key`: `<tenant>/<id>`, or the address of an anonymous caller. `minute_at` and `hour_at`: when the next request is
    admitted, monotonic s. `day`: the UTC day, in days since 1970, that `used` tokens belong to; it never goes back.
    `reserved`: tokens of runs that go on, whichever day they began. `left`: tokens of the day's quota, at most 0 also
    when some quota is 0. `runs`, `streams`, `connections`: how many are live.
    """

    # PERF: the numbers of both rates stand here once more, since `Limiter.take` reads them on each request.
    __slots__ = (
        "connections",
        "day",
        "hour_at",
        "hour_gap_s",
        "hour_slack_s",
        "key",
        "left",
        "minute_at",
        "minute_gap_s",
        "minute_slack_s",
        "numbers",
        "principal",
        "reserved",
        "runs",
        "streams",
        "used",
    )

    def __init__(self, key: str, principal: Principal, own: Numbers, *, now: float, day: int) -> None:
        """Open it with nothing used."""
        self.key = key
        self.principal = principal
        self.minute_at = fresh(now - EARLIER_S, own.minute)
        self.hour_at = fresh(now - EARLIER_S, own.hour)
        self.day = day
        self.used = self.reserved = 0
        self.runs = self.streams = self.connections = 0
        self._adopt(own)

    def _adopt(self, own: Numbers) -> None:
        self.numbers = own
        self.minute_gap_s, self.minute_slack_s = own.minute.gap_s, own.minute.slack_s
        self.hour_gap_s, self.hour_slack_s = own.hour.gap_s, own.hour.slack_s
        self._recount()

    def _recount(self) -> None:
        self.left = 0 if self.numbers.is_barred else self.numbers.tokens_per_day - self.used

    def resize(self, own: Numbers, now: float) -> None:
        """Let other numbers hold from now on; what was used stays used."""
        self.minute_at = _resized(self.minute_at, now, self.numbers.minute, own.minute)
        self.hour_at = _resized(self.hour_at, now, self.numbers.hour, own.hour)
        self._adopt(own)

    def turn_to(self, day: int) -> None:
        """Forget the tokens of an earlier day; a wall clock that was set back changes nothing."""
        if day > self.day:
            self.day, self.used = day, 0
            self._recount()

    def use(self, tokens: int, day: int) -> None:
        """Count tokens that were used on `day`."""
        self.turn_to(day)
        self.used += tokens
        self._recount()

    def is_idle(self, now: float, day: int) -> bool:
        """Say whether a new account would be the same: all regained, nothing used today, nothing held."""
        if self.runs or self.streams or self.connections or self.reserved or (self.used and day <= self.day):
            return False
        return is_fresh(self.minute_at, now, self.numbers.minute) and is_fresh(self.hour_at, now, self.numbers.hour)


def _resized(at: float, now: float, before: Rate, own: Rate) -> float:
    """Return the state under `own` of who stood at `at` under the rate `before`; who had used nothing is fresh."""
    return fresh(now - EARLIER_S, own) if is_fresh(at, now, before) else rescaled(at, now, before, own)


class Book(Generic[Key]):
    """The accounts of one kind of caller, at most `limit` and one that is shared by all who come when it is full."""

    def __init__(self, limit: int, make: Callable[[str], Account]) -> None:
        """Open new accounts, by their text, with `make`."""
        self._limit = limit
        self._make = make
        self._accounts: dict[Key, Account] = {}
        self._overflow: Account | None = None
        self._swept_at: float | None = None
        self.find = self._accounts.get
        """Return the account of a key, None when there is none."""

    def __len__(self) -> int:
        """Return how many accounts are open, the shared one not counted."""
        return len(self._accounts)

    def open(self, key: Key, text: str, now: float, day: int) -> Account:
        """Return a new account for a key that has none, or the shared one when the book is full of busy ones."""
        if len(self._accounts) >= self._limit and not self._makes_room(now, day):
            if self._overflow is None:
                self._overflow = self._make("others")
            return self._overflow
        return self._accounts.setdefault(key, self._make(text))

    def _makes_room(self, now: float, day: int) -> bool:
        if self._swept_at is not None and now - self._swept_at < SWEEP_GAP_S:
            return False
        self.sweep(now, day)
        return len(self._accounts) < self._limit

    def sweep(self, now: float, day: int) -> None:
        """Drop accounts that are idle, of the next `SWEPT`; those that stay go to the end of the line."""
        self._swept_at = now
        for key in list(islice(self._accounts, SWEPT)):
            account = self._accounts.pop(key)
            if not account.is_idle(now, day):
                self._accounts[key] = account

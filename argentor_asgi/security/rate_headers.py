"""How an answer tells its caller where the limits stand.

Three spellings: `X-RateLimit-*` of the original for the minute, `Reset` in seconds since 1970; `RateLimit` and
`RateLimit-Policy` as structured fields (draft-ietf-httpapi-ratelimit-headers-11, RFC 9651). `RateLimit` tells the
tightest rate: `r` requests are left; after `t` seconds all are regained, or with `r=0` the next one is admitted.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple

from argentor_asgi.security.accounts import Account
from argentor_asgi.security.quota import DAY_S, HALF_TICK_S, TICK_S, Rate

Pair = tuple[bytes, bytes]

SMALL: Final = 1024
"""The numbers below this have their bytes ready."""
RESETS: Final = 256
"""How many times of a regained minute have theirs; those of all callers lie within a minute or so."""
MINUTE: Final = "minute"
HOUR: Final = "hour"
DAY: Final = "day"
GATEWAY: Final = "gateway"


class Violation(NamedTuple):
    """A limit that refuses a request: its name, why in words, and the whole seconds until it no longer does."""

    policy: str
    message: str
    wait_s: int


class Fields:
    """Makes the headers of answers. Its tables are made once, for all callers."""

    def __init__(self, gateway: Rate) -> None:
        """Prepare what does not change."""
        self._gateway = b'"%s";q=%d;w=%d' % (GATEWAY.encode(), gateway.burst, gateway.window_s)
        self._numbers = [b"%d" % number for number in range(SMALL)]
        self._minute = [b'"minute";r=%d;t=' % number for number in range(SMALL)]
        self._remaining = [(b"x-ratelimit-remaining", number) for number in self._numbers]
        self._resets: dict[int, Pair] = {}

    def of(self, account: Account, now: float, epoch_s: float) -> tuple[Pair, ...]:
        """Return the headers of an answer to the account's request. `epoch_s`: what to add to `now` for Unix time."""
        # PERF: `quota.left` spelled out for both rates and tables for what is small: 0.8 us instead of 1.6.
        own = account.numbers
        at, hour_at = account.minute_at, account.hour_at
        full_at = at + account.minute_slack_s - TICK_S
        remaining = 1 + int((now - at) / account.minute_gap_s) if at <= now else 0
        of_hour = 1 + int((now - hour_at) / account.hour_gap_s) if hour_at <= now else 0
        if remaining > own.minute.burst:  # noqa: PLR1730  a call of min() costs 0.06 us
            remaining = own.minute.burst
        if of_hour > own.hour.burst:  # noqa: PLR1730  as above
            of_hour = own.hour.burst
        if full_at < now:  # noqa: PLR1730  as above
            full_at = now
        if of_hour < remaining or (of_hour == 0 and hour_at > at):
            state = _state(HOUR, of_hour, _until(of_hour, hour_at, account.hour_slack_s, now))
        else:
            tail = ceil((full_at if remaining else at + HALF_TICK_S) - now)
            if remaining < SMALL and tail < SMALL:
                state = self._minute[remaining] + self._numbers[tail]
            else:
                state = b'"minute";r=%d;t=%d' % (remaining, tail)
        reset = ceil(epoch_s + full_at)
        return (
            own.limit,
            self._remaining[remaining] if remaining < SMALL else (b"x-ratelimit-remaining", b"%d" % remaining),
            self._resets.get(reset) or self._reset(reset),
            (b"ratelimit", state),
            own.policy,
        )

    def _reset(self, epoch_s: int) -> Pair:
        if len(self._resets) >= RESETS:
            self._resets.clear()
        pair = self._resets[epoch_s] = (b"x-ratelimit-reset", b"%d" % epoch_s)
        return pair

    def of_denial(self, account: Account, violations: Sequence[Violation], epoch_s: float) -> tuple[Pair, ...]:
        """Return the headers of a refusal for these reasons. `epoch_s`: Unix time now."""
        own = account.numbers
        extra = {
            DAY: b'"%s";q=%d;w=%d;qu="tokens"' % (DAY.encode(), own.tokens_per_day, DAY_S),
            GATEWAY: self._gateway,
        }
        found = [extra[violation.policy] for violation in violations if violation.policy in extra]
        return (
            own.limit,
            self._remaining[0],
            self._reset(ceil(epoch_s + max(violation.wait_s for violation in violations))),
            (b"ratelimit", b", ".join(_state(each.policy, 0, each.wait_s) for each in violations)),
            (b"ratelimit-policy", b", ".join((own.policy[1], *found))),
        )


def _until(remaining: int, at: float, slack_s: float, now: float) -> int:
    """Return the `t` of a rate."""
    return max(0, ceil((at + slack_s - TICK_S if remaining else at + HALF_TICK_S) - now))


def _state(policy: str, remaining: int, seconds: int) -> bytes:
    return b'"%s";r=%d;t=%d' % (policy.encode(), remaining, seconds)

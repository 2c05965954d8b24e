"""Wrong credentials, by the address they come from: some are slips, many are guessing.

An address has `BURST` failures at once and then one every `GAP_S`; beyond that its credentials are not looked at.
Source: NIST SP 800-63B-4 section 3.2.2.
"""

from collections.abc import Callable
from typing import Final

from argentor_asgi.errors import TooManyFailures
from argentor_asgi.security.clients import block_of
from argentor_asgi.security.quota import Rate, after, fresh, is_fresh, rate, wait_s

BURST: Final = 10
GAP_S: Final = 6
ADDRESSES: Final = 10_000
"""How many addresses with recent failures are told apart; all others are counted as one."""
SWEEP_GAP_S: Final = 1.0
"""How long a full map waits between two sweeps that newcomers cause."""
UNIX: Final = "unix"
"""What callers on a Unix socket, who have no address, are counted by."""
OTHERS: Final = "others"
"""What addresses beyond `ADDRESSES` are counted by."""

_RATE: Final[Rate] = rate(BURST, BURST * GAP_S)


class Throttle:
    """The failures of each address, as the moment from which its next credential is looked at."""

    def __init__(self, on_throttled: Callable[[str], None]) -> None:
        """Tell `on_throttled` each time that an address, IPv6 by its /64, begins to be refused."""
        self._on_throttled = on_throttled
        self._at: dict[str, float] = {}
        self._swept_at: float | None = None

    def __len__(self) -> int:
        """Return how many addresses are counted."""
        return len(self._at)

    def refuse_if_throttled(self, address: str | None, now: float) -> None:
        """Raise `TooManyFailures` while no credential of the address is looked at. `now`: monotonic s."""
        # PERF: nobody has failed, nearly always.
        if self._at and (at := self._at.get(self._key(address), now)) > now:
            raise TooManyFailures(retry_after=wait_s(at, now))

    def failed(self, address: str | None, now: float) -> None:
        """Count a wrong credential. One more while the address is refused already does not prolong that."""
        if len(self._at) >= ADDRESSES:
            self._make_room(now)
        key = self._key(address)
        at = self._at.get(key, fresh(now, _RATE))
        if at > now:
            return
        self._at[key] = after(at, now, _RATE)
        if self._at[key] > now:
            self._on_throttled(key)

    def sweep(self, now: float) -> None:
        """Forget addresses that are as those that never failed; to be called now and then."""
        self._swept_at = now
        for key in [key for key, at in self._at.items() if is_fresh(at, now, _RATE)]:
            del self._at[key]

    def _make_room(self, now: float) -> None:
        if self._swept_at is None or now - self._swept_at >= SWEEP_GAP_S:
            self.sweep(now)

    def _key(self, address: str | None) -> str:
        """Return what the address is counted by at present."""
        key = block_of(address) if address else UNIX
        return key if key in self._at or len(self._at) < ADDRESSES else OTHERS

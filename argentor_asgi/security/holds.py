"""What a caller holds while something of theirs goes on: places under a cap, and tokens of the day."""

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from argentor_asgi.security.accounts import Account

Kind = Literal["runs", "streams", "connections"]


class Hold:
    """One place under a cap of the account; given back once, by the end of a `with` block or by `release`."""

    __slots__ = ("_account", "_kind")

    def __init__(self, account: Account, kind: Kind) -> None:
        """Take the place."""
        self._account: Account | None = account
        self._kind = kind
        _count(account, kind, 1)

    def release(self) -> None:
        """Give the place back; again does nothing."""
        account, self._account = self._account, None
        if account is not None:
            _count(account, self._kind, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _count(account: Account, kind: Kind, change: int) -> None:
    setattr(account, kind, getattr(account, kind) + change)


class Reservation:
    """Tokens of the account's day that are set aside for work whose price is not known yet."""

    __slots__ = ("_account", "_today", "_tokens")

    def __init__(self, account: Account, tokens: int, today: Callable[[], int]) -> None:
        """Set the tokens aside."""
        self._account: Account | None = account
        self._tokens = tokens
        self._today = today
        account.reserved += tokens

    def settle(self, actual: int = 0) -> None:
        """Give the tokens back and count those that were used, on the day on which the work ends; again does nothing.

        That day, since the store counts a run's tokens when it ended: a restart finds the same sums.
        """
        account, self._account = self._account, None
        if account is not None:
            account.reserved -= self._tokens
            account.use(actual, self._today())


class RunGrant:
    """What one run holds of its caller's limits as long as it lives: a place and the tokens that it may need."""

    __slots__ = ("_hold", "_reservation")

    def __init__(self, hold: Hold, reservation: Reservation) -> None:
        """Own both."""
        self._hold = hold
        self._reservation = reservation

    def end(self, tokens: int) -> None:
        """Give back both and count the tokens that the run used; again does nothing."""
        self._hold.release()
        self._reservation.settle(tokens)

"""What a run and its principal's day may use: tokens, cost, seconds of work, calls of skills."""

from argentor_asgi.protocol.messages import Usage


class RunBudget:
    """What one run may still use, together with the runs inside of it."""

    def take_turn(self) -> None:
        """Begin a model call. Raises `BudgetExceeded`, whose message says what is used up: tokens, cost or seconds."""

    def used(self, model: str, usage: Usage) -> None:
        """Count a model call that ended, however it did; a model without a price leaves the cost unknown."""

    def take_calls(self, count: int) -> None:
        """Count calls of skills before they run. Raises `BudgetExceeded` when the run or its day has fewer left."""

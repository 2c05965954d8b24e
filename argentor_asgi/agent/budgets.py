"""What a run and its principal's day may use: tokens, cost, seconds of work, calls of skills."""

from argentor_asgi.agent.allowances import UNBOUNDED, Allowance, calls_short, used_up
from argentor_asgi.agent.day_budgets import DayBudget, DayBudgets
from argentor_asgi.agent.prices import Prices
from argentor_asgi.errors import BudgetExceeded
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.sessions.records import Run, Scope, Used


class RunBudget:
    """What one run may still use, together with the runs inside of it.

    A model call is not known before it ends, so that the last one may use more than was left: of tokens no more than
    its input, since `max_tokens` bounds its answer, for each of those that go on at the same time. Calls of skills are
    never more than allowed.
    """

    __slots__ = ("_allowance", "_day", "_is_priced", "_prices", "_usage", "_used")

    def __init__(
        self,
        allowance: Allowance = UNBOUNDED,
        *,
        prices: Prices | None = None,
        day: DayBudget | None = None,
        before: Run | None = None,
    ) -> None:
        """Begin with nothing used, or with what `before` had, a run that goes on after a restart.

        `prices` None: no model has one. `day`: what is used counts there too, except what `before` had.
        """
        self._allowance = allowance
        self._prices = prices or Prices()
        self._day = day
        self._used = Used() if before is None else before.used
        self._usage = Usage() if before is None else before.usage
        self._is_priced = before is None or before.cost_micros is not None

    @property
    def usage(self) -> Usage:
        """What all model calls used, those of the runs inside of this one too."""
        return self._usage

    @property
    def cost_micros(self) -> int | None:
        """What the model calls cost, in millionths; None once a model without a price was used."""
        return self._used.cost_micros if self._is_priced else None

    def take_turn(self) -> None:
        """Begin a model call. Raises `BudgetExceeded`, whose message says what is used up: tokens, cost or seconds.

        A cost that is not known bounds nothing: only what has a price is held against the budget.
        """
        bound = used_up(self._used, self._allowance)
        if bound is not None:
            raise BudgetExceeded(f"The run used its budget of {bound}.")
        if self._day is not None:
            self._day.require()

    def max_tokens(self, wanted: int) -> int:
        """Return how many tokens the answer of the next model call may have: `wanted`, or what is left, at least 1."""
        allowed = self._allowance.tokens
        return wanted if allowed is None else min(wanted, max(1, allowed - self._used.tokens))

    def used(self, model: str, usage: Usage) -> None:
        """Count a model call that ended, however it did; a model without a price leaves the cost unknown."""
        cost = self._prices.cost_micros(model, usage)
        self._is_priced = self._is_priced and cost is not None
        self._usage = self._usage.plus(usage)
        self._used = self._used.plus(Used(usage.input_tokens + usage.output_tokens, cost or 0))
        if self._day is not None and cost:
            self._day.charge(Used(cost_micros=cost))

    def take_calls(self, count: int) -> None:
        """Count calls of skills before they run, all or none. Raises `BudgetExceeded` when fewer are left."""
        short = calls_short(self._used, self._allowance, count)
        if short is not None:
            raise BudgetExceeded(f"The run's budget of {short}.")
        if self._day is not None:
            self._day.take_calls(count)
        self._used = self._used.plus(Used(tool_calls=count))

    def worked(self, seconds: float) -> None:
        """Count seconds in which the run was worked on, when it ends: those of this process, each of them once."""
        worked = Used(work_ms=max(0, round(seconds * 1000)))
        self._used = self._used.plus(worked)
        if self._day is not None:
            self._day.charge(worked)


class Budgets:
    """Makes the budgets of runs: one policy for all of them, and the days that they count on."""

    def __init__(self, allowance: Allowance, prices: Prices, days: DayBudgets) -> None:
        """Keep what a run may use, what models cost, and what each principal used today."""
        self._allowance = allowance
        self._prices = prices
        self.days = days

    def admit(self, scope: Scope, plan: str | None) -> RunBudget:
        """Return the budget of a new run. Raises `BudgetExceeded` and `Forbidden` as `DayBudgets.admit` does."""
        return RunBudget(self._allowance, prices=self._prices, day=self.days.admit(scope, plan))

    def resumed(self, run: Run) -> RunBudget:
        """Return the budget of a run that goes on after a restart, with what it used before.

        Its day is that of a principal without a plan: which one it had is not kept.
        """
        day = self.days.of(Scope(run.owner, run.tenant), None)
        return RunBudget(self._allowance, prices=self._prices, day=day, before=run)

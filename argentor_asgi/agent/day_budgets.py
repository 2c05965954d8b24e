"""What the runs of each principal use in a UTC day: cost, seconds of work, calls of skills.

Every charge counts at once, whichever run makes it, so that runs at the same time share the day. At midnight all of it
is forgotten together. Anonymous callers are one principal here. For the loop's thread; nothing awaits.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from math import ceil
from typing import Final

from argentor_asgi import config
from argentor_asgi.agent.allowances import Allowance, calls_short, of_day, used_up
from argentor_asgi.errors import BudgetExceeded, Forbidden
from argentor_asgi.security.quota import DAY_S
from argentor_asgi.sessions.records import Scope, Used

PRINCIPALS: Final = 100_000
"""How many principals are counted each for itself in a day; all others share one day."""
OTHERS: Final = Scope("", "")
"""Under which name they do: no principal has it."""


class DayBudgets:
    """The days of all principals. A clock that is set back begins no day again."""

    def __init__(
        self,
        limits: config.Limits,
        plans: Mapping[str, config.Plan],
        *,
        now: Callable[[], datetime],
        principals: int = PRINCIPALS,
    ) -> None:
        """Prepare what each plan allows. `principals`: how many are counted each for itself."""
        self._common = of_day(limits, None)
        self._plans = {name: of_day(limits, plan) for name, plan in plans.items()}
        self._now = now
        self._principals = principals
        self._day = 0
        self._used: dict[Scope, Used] = {}

    def admit(self, scope: Scope, plan: str | None) -> "DayBudget":
        """Return the day that a new run of the principal counts on.

        Raises `BudgetExceeded`, which says when to come back, once the day's cost or seconds are used up, and
        `Forbidden` where they are 0. Calls of skills are counted when they are made: a run may need none.
        """
        budget = self.of(scope, plan)
        allowed = budget.allowance
        if 0 in (allowed.cost_micros, allowed.work_ms):
            raise Forbidden("Your plan admits no runs.")
        budget.require()
        return budget

    def of(self, scope: Scope, plan: str | None) -> "DayBudget":
        """Return the principal's day without asking what is left: of a run that goes on after a restart."""
        return DayBudget(self, scope, self._common if plan is None else self._plans.get(plan, self._common))

    def used(self, scope: Scope) -> Used:
        """Return what the principal used today; for one of those who share a day, what they all used."""
        self._turn()
        return self._used.get(self._counted(scope), Used())

    def charge(self, scope: Scope, used: Used) -> None:
        """Count what the principal used just now, or today before this process started (`RunStore.usage_since`)."""
        self._turn()
        counted = self._counted(scope)
        self._used[counted] = self._used.get(counted, Used()).plus(used)

    def seconds_left(self) -> int:
        """Return the whole seconds until the day is over, rounded up, at least 1."""
        return max(1, ceil((self._turn() + 1) * DAY_S - self._now().timestamp()))

    def _turn(self) -> int:
        """Return the day, in days since 1970, after forgetting what was used before it."""
        today = int(self._now().timestamp() // DAY_S)
        if today > self._day:
            self._day = today
            self._used.clear()
        return self._day

    def _counted(self, scope: Scope) -> Scope:
        """Return under whose name the principal is counted."""
        return scope if scope in self._used or len(self._used) < self._principals else OTHERS


class DayBudget:
    """One principal's day as one run sees it: it may last past midnight, and then counts on the next."""

    __slots__ = ("_days", "_scope", "allowance")

    def __init__(self, days: DayBudgets, scope: Scope, allowance: Allowance) -> None:
        """Look at the days of `scope`, of which `allowance` may be used."""
        self._days = days
        self._scope = scope
        self.allowance = allowance

    def require(self) -> None:
        """Raise `BudgetExceeded` unless there is something left for a model call."""
        bound = used_up(self._days.used(self._scope), self.allowance)
        if bound is not None:
            raise self._exceeded(f"Today's budget of {bound} is used up.")

    def take_calls(self, count: int) -> None:
        """Count calls of skills, all or none. Raises `BudgetExceeded`."""
        short = calls_short(self._days.used(self._scope), self.allowance, count)
        if short is not None:
            raise self._exceeded(f"Today's budget of {short}.")
        self.charge(Used(tool_calls=count))

    def charge(self, used: Used) -> None:
        """Count what was used just now."""
        self._days.charge(self._scope, used)

    def _exceeded(self, message: str) -> BudgetExceeded:
        return BudgetExceeded(message, retry_after=self._days.seconds_left())

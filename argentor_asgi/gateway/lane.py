"""What a run is while it lives, and the place it has in its session: plain records, and the rule of who comes next."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from argentor_asgi.agent.budgets import RunBudget
from argentor_asgi.agent.run_context import Resumed, RunContext
from argentor_asgi.gateway.run_log import Recorder, RunLog
from argentor_asgi.gateway.stopwatch import Stopwatch
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.events import RunEvent
from argentor_asgi.protocol.messages import Message
from argentor_asgi.protocol.ws_session import OnBusy
from argentor_asgi.security.holds import RunGrant
from argentor_asgi.sessions.records import Approval, Claim, Run, RunStatus, Scope, Session
from argentor_asgi.sessions.store import Store

QUEUED_PER_SESSION: Final = 16
"""How many messages may wait behind the one that a session works on."""

Step = Literal["start", "queue", "interrupt", "steer", "refuse"]


def plan(*, busy: bool, queued: int, on_busy: OnBusy) -> Step:
    """Say what becomes of a message for a session that is `busy` or not, with `queued` messages waiting."""
    if not busy:
        return "start"
    if on_busy == "steer":
        return "steer"
    if on_busy == "reject" or queued >= QUEUED_PER_SESSION:
        return "refuse"
    return "queue" if on_busy == "enqueue" else "interrupt"


def unbudgeted() -> RunBudget | None:
    """Return no budget: for a run that nobody counts."""
    return None


def nothing_granted() -> RunGrant | None:
    """Return no grant: for a caller whom nothing limits."""
    return None


@dataclass(slots=True, eq=False)
class Pending:
    """An approval of a run that is live, and the future of what becomes of it.

    `is_told`, `is_resolved`: whether the run's log has its request, and its end.
    """

    approval: Approval
    decided: asyncio.Future[Approval]
    is_told: bool = False
    is_resolved: bool = False


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a run that goes on after a restart was asking: its approvals by call id, and what its log has of them.

    `resumed`: None for one that was queued, and so begins with its turn.
    """

    resumed: Resumed | None = None
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    resolved: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run that is asked for: its rows, and what its caller wants of it.

    `claim`: its idempotency key. `is_abandoned_early`: end the run when the caller goes before it is accepted. `trace`:
    the caller's `traceparent`. `grant`: takes what the run holds of its caller's limits; it is asked only when the
    run gets a place, and raises what refuses one; `budget` likewise makes the run's. `notices`: the first events after
    `run_started`. `may_ask`: whether a person can be asked to approve its calls.
    `recalled`: set for a run that goes on after a restart: it is stored already, and its message unless it was queued.
    """

    run: Run
    session: Session
    message: Message
    on_busy: OnBusy
    claim: Claim | None = None
    is_abandoned_early: bool = False
    trace: str | None = None
    grant: Callable[[], RunGrant | None] = nothing_granted
    budget: Callable[[], RunBudget | None] = unbudgeted
    notices: Sequence[RunEvent] = ()
    may_ask: bool = False
    recalled: Recalled | None = None


class LiveRun:
    """A run that has not ended: its row, its log, its task, what it holds, and who waits for what."""

    __slots__ = (
        "accepted",
        "asked",
        "cancel_reason",
        "claim",
        "context",
        "ended",
        "grant",
        "is_cancellable",
        "is_stopped",
        "lane",
        "log",
        "message",
        "open",
        "recalled",
        "recorder",
        "run",
        "task",
        "turn",
        "watch",
    )

    def __init__(self, order: Order, store: Store, clock: Clock, *, is_first: bool) -> None:
        """Prepare the run and take its grant; nothing is stored or started yet. Raises what the grant refuses."""
        budget = order.budget()
        self.grant = order.grant()
        self.run = order.run if is_first else replace(order.run, status="queued")
        self.message = order.message
        self.claim = order.claim
        self.log = RunLog(self.run.id, last_seq=self.run.last_seq)
        self.recorder = Recorder(store, self.log)
        scope = scope_of_run(self.run)
        run = self.run
        self.context = RunContext(
            run.id,
            run.session_id,
            scope,
            trace=order.trace,
            budget=budget,
            notices=order.notices,
            turns=run.turns,
            usage=run.usage,
            tool_calls=run.tool_calls,
        )
        self.recalled = order.recalled
        if order.recalled is not None:
            self.context.resumed = order.recalled.resumed
        self.watch = Stopwatch(clock, run.work_ms)
        self.asked: dict[str, Pending] = {}
        """By call id: what was asked before a restart, and not again yet."""
        self.open: dict[str, Pending] = {}
        """By approval id: what nobody has decided yet."""
        self.lane = (scope, self.run.session_id)
        self.task: asyncio.Task[None] | None = None
        self.cancel_reason = ""
        self.is_stopped = False
        self.is_cancellable = False
        self.accepted: asyncio.Future[Run | Claim] = asyncio.get_running_loop().create_future()
        self.turn = asyncio.Event()
        self.ended = asyncio.Event()

    def as_of(self, status: RunStatus, now: datetime) -> Run:
        """Return the run's row in this status, with what it has used so far."""
        context = self.context
        return replace(
            self.run,
            status=status,
            updated_at=now,
            turns=context.turns,
            usage=context.usage,
            cost_micros=context.cost_micros,
            tool_calls=context.tool_calls,
            work_ms=self.watch.spent_ms,
        )

    def give_back(self) -> None:
        """End what the run holds of its caller's limits, and count the tokens that it used."""
        budget, usage = self.context.budget, self.context.usage
        if budget is not None:
            budget.worked(self.watch.stretch_s)
        if self.grant is not None:
            self.grant.end(usage.input_tokens + usage.output_tokens)


@dataclass(slots=True)
class Lane:
    """A busy session: the run it works on, and those that wait, in order.

    A stranger who names the session has a lane of their own, until the store refuses the run: the owner's stays free.
    """

    current: LiveRun
    waiting: deque[LiveRun] = field(default_factory=deque)


def scope_of_run(run: Run) -> Scope:
    """Return whose the run is."""
    return Scope(run.owner, run.tenant)

"""One run, between its owner and the loop that works it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from argentor_asgi.agent.approver import Approver
from argentor_asgi.agent.budgets import RunBudget
from argentor_asgi.protocol.events import RunEvent
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.sessions.records import Scope

STEERING: Final = 16
"""How many texts may wait for a run's next safe point."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a run goes on that waited for a person when the gateway stopped: before the calls of its last turn.

    `next_index`: the number of its next text piece. `cut_calls`: the ids of those calls that cannot run, since the
    model never completed them. `asked_calls`: the ids of those that a person was asked for, and perhaps has answered.
    """

    next_index: int
    cut_calls: frozenset[str] = frozenset()
    asked_calls: frozenset[str] = frozenset()


@dataclass(slots=True)
class RunContext:
    """What a run is told, and what came of it.

    `deadline`: monotonic s on the runner's clock, None for none. `trace`: the `traceparent` of what asked for the run.
    `approver`: who puts questions to a person, None where nobody could answer. `budget`: what the run may use, None
    for a run that nobody counts. `depth`: how many runs it is inside of. `notices`: what is told first. `resumed`: set
    for a run that goes on; then `turns` and `usage` are those that it had. `is_laid_aside`: its owner has cancelled it
    while it waits for a person, to let it go on after the next start.

    The fields from `text` on are filled by the loop, and are right after any ending: the text of the last turn as far
    as it came, the turns begun, the tokens of them all, the calls that were run.
    """

    run_id: str
    session_id: str
    scope: Scope
    deadline: float | None = None
    trace: str | None = None
    approver: Approver | None = None
    budget: RunBudget | None = None
    depth: int = 0
    notices: Sequence[RunEvent] = ()
    resumed: Resumed | None = None
    is_laid_aside: bool = False
    steering: deque[str] = field(default_factory=deque)
    is_listening: bool = True
    text: str = ""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    tool_calls: int = 0
    finish_reason: str | None = None

    @property
    def cost_micros(self) -> int | None:
        """What the run cost so far, in millionths; None where nobody counts or a model of it has no price."""
        return None if self.budget is None else self.budget.cost_micros

    def steer(self, text: str) -> bool:
        """Leave `text` for the run's next safe point; False when `STEERING` texts wait or the run is past its last."""
        if not self.is_listening or len(self.steering) >= STEERING:
            return False
        self.steering.append(text)
        return True

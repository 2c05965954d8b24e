"""Whom a run talks to while it works: the readers of its events, and the person whom it asks."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from argentor_asgi.protocol.events import RiskLevel, RunEvent
from argentor_asgi.protocol.schema import JsonObject

Emit: TypeAlias = Callable[[RunEvent], Awaitable[None]]
"""Tells a run's readers of an event. It has the event before it first waits, so that a cancel finds it told."""


@dataclass(frozen=True, slots=True)
class Question:
    """May this call run? `description`: in words for a person, what it is about to do."""

    call_id: str
    tool: str
    arguments: JsonObject
    risk_level: RiskLevel
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question. `reviewer`: the principal who decided, None where the time did, or nobody could.

    `edited_arguments`: what the call runs with in the place of its own; None when those stand.
    """

    approved: bool
    reviewer: str | None
    reason: str | None
    edited_arguments: JsonObject | None = None


class Approver(Protocol):
    """Puts a run's questions to a person and waits. It tells the run's readers of each question and each answer."""

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer]:
        """Return one answer for each question, in order, when all are there; nobody's answer in time is a no.

        Meanwhile the run is `waiting_approval`, and its time stands still. Asked again for calls that it was asked
        for before (after a restart), it goes on with those questions, and ends those that are not among these, which
        may be none. Cancelled, no question of it stays open, unless the run is being laid aside for the next start.
        """
        ...

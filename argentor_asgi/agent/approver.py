"""What a run asks of a person, and what it hears: the contract between the loop and whoever finds that person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.schema import JsonObject


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
        for before (after a restart), it goes on with those questions. Cancelled, no question of it stays open, unless
        the run is being laid aside for the next start.
        """
        ...

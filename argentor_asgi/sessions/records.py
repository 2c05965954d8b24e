"""Sessions, runs, approvals, notes and keys, as the stores keep them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, Literal, TypeVar

from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import JsonObject

RunStatus = Literal["queued", "running", "waiting_approval", "done", "failed", "cancelled", "interrupted"]
ApprovalStatus = Literal["pending", "approved", "denied", "expired", "cancelled"]
LIVE: frozenset[str] = frozenset({"queued", "running", "waiting_approval"})
"""The statuses of a run that has not ended."""
STATUS_AFTER: Final[Mapping[str, RunStatus]] = {"done": "done", "error": "failed", "cancelled": "cancelled"}
"""The status of a run by the type of its terminal event."""
MICROS: Final = 1_000_000
"""How many millionths make one of the currency."""
NOTES_PER_SCOPE = 1000
"""How many notes one principal may keep."""
KEYS = 10_000
"""How many keys are stored, the revoked and the expired ones included until they are pruned."""
KEY_KEPT_DAYS = 30
"""For how many days a key that was revoked or has expired is still listed."""
Row = TypeVar("Row")


def in_currency(micros: int | None) -> float | None:
    """Return a cost in the currency; None where it is not known."""
    return None if micros is None else micros / MICROS


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose data: a principal's id and its tenant."""

    owner: str
    tenant: str = "default"


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation. `version` is the number of messages ever appended and only rises. Times are aware, in UTC."""

    id: str
    owner: str
    tenant: str
    created_at: datetime
    updated_at: datetime
    title: str = ""
    version: int = 0
    active_skills: tuple[str, ...] = ()
    metadata: JsonObject = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One user message worked to its end. `last_seq` is the number of its newest stored event, 0 before the first.

    `cost_micros`: in millionths of the currency of the price table, None where a model of the run has no price.
    `work_ms`: how long it was worked on, without waiting for its turn or for a person.
    """

    id: str
    session_id: str
    owner: str
    tenant: str
    status: RunStatus
    model: str
    input: str
    created_at: datetime
    updated_at: datetime
    text: str = ""
    finish_reason: str | None = None
    error_code: str | None = None
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    last_seq: int = 0
    cost_micros: int | None = None
    tool_calls: int = 0
    work_ms: int = 0

    @property
    def cost(self) -> float | None:
        """What the run cost, in the currency; None where that is not known."""
        return in_currency(self.cost_micros)

    @property
    def used(self) -> "Used":
        """What the run used; a cost that is not known counts nothing."""
        tokens = self.usage.input_tokens + self.usage.output_tokens
        return Used(tokens, self.cost_micros or 0, self.work_ms, self.tool_calls)


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that waits, or waited, for a person. Once decided it does not change.

    `arguments`: what the model wants to call the tool with; `edited_arguments`: what the reviewer put in their place.
    `reviewer`: the id of the principal who decided, None where nobody did: then it `expired`, or its run was
    `cancelled`.
    """

    id: str
    run_id: str
    session_id: str
    owner: str
    tenant: str
    call_id: str
    tool: str
    arguments: JsonObject
    risk_level: RiskLevel
    description: str
    created_at: datetime
    expires_at: datetime
    status: ApprovalStatus = "pending"
    reviewer: str | None = None
    reason: str | None = None
    edited_arguments: JsonObject | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """What a scope's runs used: tokens of input and output together, cost in millionths, ms of work, skill calls."""

    tokens: int = 0
    cost_micros: int = 0
    work_ms: int = 0
    tool_calls: int = 0

    def plus(self, other: "Used") -> "Used":
        """Return the sum."""
        return Used(
            self.tokens + other.tokens,
            self.cost_micros + other.cost_micros,
            self.work_ms + other.work_ms,
            self.tool_calls + other.tool_calls,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key as first used: the SHA-256 of its request and the run that it started."""

    key: str
    fingerprint: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something the agent was told to remember."""

    id: str
    content: str
    created_at: datetime
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key that was made while the gateway ran. `digest`: its SHA-256, which alone is kept of the key itself.

    `created_by`: the principal who made it; `replaced_by`: the id of the key that a rotation put in its place.
    """

    id: str
    name: str
    digest: bytes
    owner: str
    tenant: str
    scopes: tuple[str, ...]
    plan: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, and the opaque cursor of the next page, None at the end."""

    rows: Sequence[Row]
    cursor: str | None

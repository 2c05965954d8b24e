"""The events of a run, in the original's names with added fields and types (agent.md 2.4).

Each event is a dataclass whose first field is its `type`; orjson turns it into the JSON that every reader gets. A run's
events are numbered from 1 by its log; `done`, `error` and `cancelled` are terminal, and there is exactly one of them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import JsonObject

TERMINAL = frozenset({"done", "error", "cancelled"})
RiskLevel = Literal["low", "medium", "high", "critical"]
Phase = Literal["input", "output", "tool_result"]
Severity = Literal["log", "warn", "block"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run exists and its user message is stored."""

    type: str = field(default="run_started", init=False)
    run_id: str
    session_id: str
    model: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer; `index` counts the run's text pieces from 0 (the original's `token_index` over SSE)."""

    type: str = field(default="text_delta", init=False)
    text: str
    index: int


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning."""

    type: str = field(default="reasoning_delta", init=False)
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """The model opens a call."""

    type: str = field(default="tool_call_start", init=False)
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the call's arguments, as JSON text."""

    type: str = field(default="tool_call_delta", init=False)
    id: str
    arguments_delta: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """The call's arguments are complete, or given up on; every started call gets one, also on cancel and error."""

    type: str = field(default="tool_call_end", init=False)
    id: str
    name: str
    arguments: JsonObject | None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the skill returned. `content` is text, mostly JSON; `truncated` when it was cut to the size cap."""

    type: str = field(default="tool_result", init=False)
    id: str
    name: str
    content: str
    is_error: bool
    duration_ms: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A call waits for a person. It is denied when nobody has answered by `expires_at`."""

    type: str = field(default="approval_request", init=False)
    approval_id: str
    call_id: str
    tool: str
    arguments: JsonObject
    risk_level: RiskLevel
    description: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    """The call may run, or not. `reviewer`: who said so, None where nobody did.

    `edited_arguments`: what the reviewer put in the place of the arguments, None when they stand.
    """

    type: str = field(default="approval_resolved", init=False)
    approval_id: str
    approved: bool
    reviewer: str | None
    reason: str | None
    edited_arguments: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A guardrail found something; `severity` is `block` where it stopped it, `warn` where it took it out."""

    type: str = field(default="guardrail", init=False)
    rule: str
    severity: Severity
    phase: Phase
    message: str


@dataclass(frozen=True, slots=True)
class Retry:
    """A model call failed before it said anything and is tried again, the same way or with another model."""

    type: str = field(default="retry", init=False)
    attempt: int
    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Steered:
    """The user's words were handed to the running turn."""

    type: str = field(default="steered", init=False)
    text: str


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """One model call ended; turns count from 1."""

    type: str = field(default="turn_end", init=False)
    turn: int
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Done:
    """The run is finished. `text` is the answer of the last turn; `tokens_used` is input plus output of all turns.

    `cost`: in the currency of the price table, None where a model of the run has no price.
    """

    type: str = field(default="done", init=False)
    run_id: str
    text: str
    turns: int
    usage: Usage
    tokens_used: int
    finish_reason: str
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """The run failed. `code` is one of `errors.py`; `message` is safe to show.

    `retry_after`: the whole seconds after which it may succeed, where that is known.
    """

    type: str = field(default="error", init=False)
    message: str
    code: str
    retryable: bool
    run_id: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The run was cancelled. `text` is the part of the answer that was there."""

    type: str = field(default="cancelled", init=False)
    run_id: str
    reason: str
    text: str


RunEvent: TypeAlias = (
    RunStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | ToolResult
    | ApprovalRequest
    | ApprovalResolved
    | Guardrail
    | Retry
    | Steered
    | TurnEnd
    | Done
    | Error
    | Cancelled
)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event as the run's log keeps it: its number from 1, its type, and its JSON."""

    seq: int
    type: str
    data: bytes

    @property
    def is_terminal(self) -> bool:
        """Whether this is the run's last event."""
        return self.type in TERMINAL

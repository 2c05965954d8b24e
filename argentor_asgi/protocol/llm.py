"""What is asked of a model and what it answers, the same for every provider (agent.md 2.2).

A model's answer is a stream of `LlmEvent`; `Finish` is its last event, and a stream that ends without one is truncated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from argentor_asgi.protocol.events import Guardrail
from argentor_asgi.protocol.messages import Message, Usage
from argentor_asgi.protocol.schema import JsonObject

FinishReason = Literal["stop", "tool_calls", "length", "content_filter", "pause", "context_overflow"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A skill as a model sees it: `parameters` is the JSON Schema of its arguments, always of type object."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One model call. `messages` oldest first, valid on every wire: each tool call is followed by its result.

    `tenant`: whose call it is, so that nothing kept of it serves another. `trace_parent`: the `traceparent` that the
    call to the model carries, if any. `deadline`: monotonic s on the gateway's clock, after which nobody waits for the
    answer, None for no end: a try that could not begin before it is not waited for.
    """

    system: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    tenant: str = "default"
    trace_parent: str | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """A piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStart:
    """The model opens a call. `id` is unique in the run."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolArgs:
    """A piece of an open call's arguments: the pieces of one call join to JSON text."""

    id: str
    piece: str


@dataclass(frozen=True, slots=True)
class ToolEnd:
    """The arguments of the call are complete; it has not run yet."""

    id: str


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What the call used; the last report of a stream counts. `model`: which one answered, None for the backend's."""

    usage: Usage
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The model is done. `metadata` is stored with the assistant's message and comes back in later requests."""

    reason: FinishReason
    raw_reason: str | None = None
    response_id: str | None = None
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retrying:
    """The call failed before it said anything, and is tried again in `delay_ms`; `attempt` counts from 1."""

    attempt: int
    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Screened:
    """A guardrail found something in the answer; what follows it has been dealt with."""

    finding: Guardrail


LlmEvent: TypeAlias = (
    TextPiece | ReasoningPiece | ToolStart | ToolArgs | ToolEnd | UsageReport | Finish | Retrying | Screened
)

"""What is said in a session: messages, their parts, and what a model call used (agent.md 2.1).

A message keeps the original's fields and adds `parts`. `content` is always the plain-text view of the parts, so that a
client which knows only `content` still reads the whole conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from argentor_asgi.protocol.schema import JsonObject, JsonValue

Role = Literal["user", "assistant", "system", "tool"]
PartType = Literal["text", "reasoning", "tool_call", "tool_result"]


@dataclass(frozen=True, slots=True)
class Part:
    """One block of a message; which fields are set depends on `type`.

    text, reasoning: `text`. tool_call: `id`, `name`, `arguments` (a JSON object). tool_result: `id` (the call's),
    `name`, `content` (text), `is_error`.
    """

    type: PartType
    text: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: JsonValue = None
    content: str | None = None
    is_error: bool | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said in a session, immutable once stored. Times are aware and in UTC."""

    id: str
    role: Role
    content: str
    session_id: str
    timestamp: datetime
    parts: tuple[Part, ...] = ()
    channel_id: str | None = None
    metadata: JsonObject = field(default_factory=dict)

    @property
    def tool_calls(self) -> tuple[Part, ...]:
        """The calls that this message makes, in order."""
        return tuple(part for part in self.parts if part.type == "tool_call")

    @property
    def tool_results(self) -> tuple[Part, ...]:
        """The results that this message carries, in call order."""
        return tuple(part for part in self.parts if part.type == "tool_result")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call or of a whole run; `estimated` when counted here and not by the provider."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum; it is an estimate as soon as one of the two is."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.estimated or other.estimated,
        )


def from_user(message_id: str, text: str, session_id: str, timestamp: datetime) -> Message:
    """Return what a user says, as a message of one part."""
    return Message(message_id, "user", text, session_id, timestamp, (Part("text", text=text),))


def plain_text(parts: Sequence[Part]) -> str:
    """Return the text of `parts` as a reader sees it: texts joined, results on lines of their own, no reasoning."""
    if any(part.type == "tool_result" for part in parts):
        return "\n".join(part.content or "" for part in parts if part.type == "tool_result")
    return "".join(part.text or "" for part in parts if part.type == "text")

"""Skills: what the agent can do, how one is written, and the registry that calls them."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from argentor_asgi.protocol.schema import JsonObject, JsonValue
from argentor_asgi.sessions.session import Scope

Effect = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class SkillDescriptor:
    """What a skill says of itself. `parameters_schema` is a JSON Schema of type object.

    `effect`: whether it changes anything. `parallel_safe`: whether calls of one turn may run at the same time.
    """

    name: str
    description: str
    parameters_schema: JsonObject
    required_capabilities: tuple[JsonValue, ...] = ()
    effect: Effect = "read"
    parallel_safe: bool = True


@dataclass(frozen=True, slots=True)
class SkillContext:
    """Who calls, for what run, and when. What a skill stores belongs to `scope`, whatever its arguments say."""

    run_id: str
    session_id: str
    call_id: str
    scope: Scope
    now: datetime


@dataclass(frozen=True, slots=True)
class SkillOutput:
    """What a call came to: text, mostly JSON."""

    content: str
    is_error: bool = False
    truncated: bool = False


class Skill(Protocol):
    """Something the agent can do."""

    @property
    def descriptor(self) -> SkillDescriptor:
        """What the skill says of itself."""
        ...

    def execute(self, arguments: JsonObject, context: SkillContext) -> Awaitable[SkillOutput]:
        """Check the arguments and do it. A refusal is an output with `is_error`; cancellation stops the work."""
        ...

"""Calls one skill as the registry does, and checks on every call that the schema it shows is the one it follows."""

import json
from datetime import UTC, datetime

from jsonschema import Draft202012Validator

from argentor_asgi.agent.skills import Skill, SkillContext, SkillOutput, SkillRegistry
from argentor_asgi.protocol.schema import JsonValue
from argentor_asgi.sessions.records import Scope

NOW = datetime(2026, 11, 22, 10, 30, 15, tzinfo=UTC)
MEBI = 1024 * 1024


def context_of(owner: str = "me", tenant: str = "default", now: datetime = NOW) -> SkillContext:
    return SkillContext("run-1", "session-1", "call-1", Scope(owner, tenant), now)


async def outcome(called: Skill, arguments: dict[str, JsonValue], context: SkillContext | None = None) -> SkillOutput:
    registry = SkillRegistry([called], output_bytes=4 * MEBI)
    return await registry.call(called.descriptor.name, arguments, context or context_of())


async def answer(called: Skill, context: SkillContext | None = None, /, **arguments: JsonValue) -> JsonValue:
    """Return what the call came to, decoded; fails when it was refused."""
    Draft202012Validator(called.descriptor.parameters_schema).validate(arguments)
    got = await outcome(called, arguments, context)
    assert not got.is_error, got.content
    return json.loads(got.content)


async def refusal(called: Skill, context: SkillContext | None = None, /, **arguments: JsonValue) -> str:
    """Return the words of the refusal; fails when there is none, or when they are those of a bug."""
    got = await outcome(called, arguments, context)
    assert got.is_error, got.content
    assert "the gateway's log says why" not in got.content
    return got.content

import json
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator
from skillcalls import context_of

from argentor_asgi.agent.builtin_skills import default_skills, with_help
from argentor_asgi.agent.skills import Skill, SkillRegistry
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.sessions.memory import MemoryStore

NAMES = [
    "calculator",
    "csv_processor",
    "data_validator",
    "datetime",
    "diff",
    "encode_decode",
    "hash",
    "human_approval",
    "json_query",
    "memory_forget",
    "memory_list",
    "memory_search",
    "memory_store",
    "skills_help",
    "summarizer",
    "text_transform",
    "uuid_generator",
]


def registry() -> SkillRegistry:
    return with_help(SkillRegistry(default_skills(MemoryStore(clock=SystemClock()))))


EVERY = [found for name in NAMES if (found := registry().get(name)) is not None]


def test_these_are_the_default_skills() -> None:
    assert [each.name for each in registry().descriptors()] == NAMES


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.descriptor.name)
def test_every_schema_is_a_closed_object_whose_fields_are_described(each: Skill) -> None:
    schema = each.descriptor.parameters_schema
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert all(field["description"] for field in schema["properties"].values())
    assert "$ref" not in json.dumps(schema)
    assert len(json.dumps(schema)) < 3000
    assert each.descriptor.description


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.descriptor.name)
async def test_every_documented_operation_runs_or_says_what_it_needs(each: Skill) -> None:
    schema = each.descriptor.parameters_schema
    plain = {"data": {}, "input": "x", "value": "x", "text": "x", "old": "x", "content": "x", "query": "x", "task": "x"}
    needed = {name: plain[name] for name in schema.get("required", ()) if name != "operation"}
    for operation in schema["properties"].get("operation", {}).get("enum", [None]):
        arguments = {**needed, **({"operation": operation} if operation else {})}
        got = await registry().call(each.descriptor.name, arguments, context_of())
        assert "the gateway's log says why" not in got.content
        assert not got.content.startswith("argument validation failed")


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.descriptor.name)
async def test_an_unknown_field_is_refused(each: Skill) -> None:
    got = await registry().call(each.descriptor.name, {"surprise": 1}, context_of())
    assert got.is_error
    assert "argument validation failed" in got.content


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.descriptor.name)
async def test_texts_that_utf8_cannot_carry_break_nothing(each: Skill) -> None:
    fields = each.descriptor.parameters_schema["properties"]
    odd = {
        name: "\ud800" for name, field in fields.items() if field.get("type") == "string" and "maxLength" not in field
    }
    for operation in fields.get("operation", {}).get("enum", [None]):
        arguments = {**odd, **({"operation": operation} if operation else {})}
        arguments |= {"data": "\ud800"} if "data" in fields else {}
        got = await registry().call(each.descriptor.name, arguments, context_of())
        got.content.encode()
        assert "the gateway's log says why" not in got.content


def test_only_changes_are_declared_as_writing() -> None:
    writing = [each.name for each in registry().descriptors() if each.effect == "write"]
    assert writing == ["memory_forget", "memory_store"]
    assert [each.name for each in registry().descriptors() if not each.parallel_safe] == ["human_approval", *writing]


def test_only_the_question_to_a_person_needs_one() -> None:
    assert [each.name for each in registry().descriptors() if each.needs_approval] == ["human_approval"]


@pytest.mark.slow
def test_making_the_skills_imports_no_heavy_module() -> None:
    code = (
        "import sys; from argentor_asgi.agent.builtin_skills import default_skills; default_skills(None);"
        "print([name for name in ('difflib', 'csv', 'zoneinfo', 'html', 'statistics', 'fractions', 'unicodedata')"
        " if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603  our own words
    assert done.stdout.strip() == "[]"

import asyncio
import json
import logging
import threading
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from skillcalls import context_of

from argentor_asgi.agent import skills
from argentor_asgi.agent.skills import (
    SKILL_THREADS,
    FunctionSkill,
    SkillContext,
    SkillOutput,
    SkillRefused,
    SkillRegistry,
    fitted,
    skill,
)
from argentor_asgi.errors import ConfigError, StorageUnavailable
from argentor_asgi.protocol.schema import Meta


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


@skill("move", "Moves a point.", effect="write", parallel_safe=False, capabilities=("database_query",))
def move(
    to: Point,
    how: Annotated[Literal["fast", "slow"], Meta(description="The pace.")] = "slow",
    times: Annotated[int, Meta(ge=1, le=3)] = 1,
    label: str | None = None,
    side: Literal["left", "right"] | None = None,
) -> dict[str, object]:
    return {"to": to, "how": how, "times": times, "label": label, "side": side}


@skill("whose", "Says who calls.")
async def whose(context: SkillContext, greeting: str = "hello") -> str:
    await asyncio.sleep(0)
    return f"{greeting} {context.scope.owner}"


@skill("refuses", "Says no.")
def refuses() -> str:
    raise SkillRefused("Ask for something else.")


@skill("breaks", "Has a bug.")
def breaks() -> str:
    raise ZeroDivisionError("secret internals")


@skill("offline", "Its store is gone.")
async def offline() -> str:
    raise StorageUnavailable


@skill("hangs", "Never answers.")
async def hangs() -> str:
    await asyncio.Event().wait()
    return ""


@skill("gives_up", "Its own deadline passes.")
async def gives_up() -> str:
    raise TimeoutError("upstream said so")


@skill("big", "Answers at length.")
def big(count: int) -> str:
    return "é" * count


async def call(made: FunctionSkill, **arguments: object) -> SkillOutput:
    return await SkillRegistry([made], timeout_s=5).call(made.descriptor.name, arguments, context_of())


def test_a_descriptor_says_what_the_decorator_was_told() -> None:
    told = move.descriptor
    assert (told.name, told.description, told.effect) == ("move", "Moves a point.", "write")
    assert (told.parallel_safe, told.required_capabilities) == (False, ("database_query",))


def test_the_schema_is_one_self_contained_object_that_refuses_unknown_fields() -> None:
    schema = move.descriptor.parameters_schema
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["to"]
    assert schema["properties"]["to"] == {"$ref": "#/$defs/Point"}
    assert list(schema["$defs"]) == ["Point"]
    assert schema["properties"]["how"] == {"enum": ["fast", "slow"], "description": "The pace.", "default": "slow"}
    assert schema["properties"]["label"] == {"type": "string"}
    assert schema["properties"]["side"] == {"enum": ["left", "right"]}


def test_the_context_is_no_argument() -> None:
    assert list(whose.descriptor.parameters_schema["properties"]) == ["greeting"]


async def test_a_skill_gets_its_arguments_defaults_and_context() -> None:
    got = await call(move, to={"x": 3}, times=2)
    assert json.loads(got.content) == {
        "to": {"x": 3, "y": 0},
        "how": "slow",
        "times": 2,
        "label": None,
        "side": None,
    }
    assert (await call(whose)).content == "hello me"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "/to"),
        ({"to": {"x": True}}, "/to/x"),
        ({"to": {"x": 1.5}}, "/to/x"),
        ({"to": {"x": "1"}}, "/to/x"),
        ({"to": {"x": 1}, "times": True}, "/times"),
        ({"to": {"x": 1}, "times": 4}, "/times"),
        ({"to": {"x": 1}, "label": 7}, "/label"),
        ({"to": {"x": 1}, "nope": 7}, "/nope"),
        ({"to": {"x": 1}, "how": "sideways"}, "/how"),
    ],
)
async def test_bad_arguments_name_the_field_and_all_the_right_ones(arguments: dict[str, object], words: str) -> None:
    got = await call(move, **arguments)
    assert got.is_error
    assert got.content.startswith("argument validation failed for move: " + words)
    assert "to (required), how, times, label, side" in got.content
    assert "how is one of: fast, slow." in got.content


async def test_a_refusal_is_an_error_output_with_its_words() -> None:
    assert await call(refuses) == SkillOutput("Ask for something else.", is_error=True)


async def test_a_bug_in_a_skill_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        got = await call(breaks)
    assert got.is_error
    assert "secret" not in got.content
    assert "secret internals" in caplog.text
    assert "run-1" in caplog.text


async def test_a_store_that_is_gone_is_told_in_its_own_words() -> None:
    assert await call(offline) == SkillOutput(StorageUnavailable.message, is_error=True)


async def test_a_skill_that_does_not_answer_times_out() -> None:
    # agent.md 1.10 D12
    got = await SkillRegistry([hangs], timeout_s=0.001).call("hangs", {}, context_of())
    assert got.is_error
    assert "timed out after 0.001 s" in got.content


async def test_a_skill_that_needs_longer_is_given_its_own_time() -> None:
    """A bound of its own stands in the place of the registry's: agent.md 1.10 D12."""

    @skill("patient", "Waits.", timeout_s=60)
    async def patient() -> str:
        await asyncio.sleep(0.05)
        return "there"

    @skill("hasty", "Waits.", timeout_s=0.01)
    async def hasty() -> str:
        await asyncio.sleep(60)
        return "never"

    quick = SkillRegistry([patient, hasty], timeout_s=0.02)
    assert (await quick.call("patient", {}, context_of())).content == "there"
    late = await SkillRegistry([hasty]).call("hasty", {}, context_of())
    assert late == SkillOutput("The skill hasty timed out after 0.01 s.", is_error=True)


async def test_a_timeout_inside_a_skill_is_not_the_deadline() -> None:
    got = await call(gives_up)
    assert got.is_error
    assert "timed out" not in got.content


async def test_cancelling_a_call_cancels_the_skill() -> None:
    task = asyncio.create_task(SkillRegistry([hangs]).call("hangs", {}, context_of()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_skill_declared_for_a_thread_runs_beside_the_loop_and_in_a_bounded_pool() -> None:
    running, most = 0, 0
    lock, full, loop_thread = threading.Lock(), threading.Event(), threading.get_ident()

    @skill("slow", "Works long.", thread=True)
    def slow() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if running == SKILL_THREADS:
            full.set()
        assert full.wait(5)
        with lock:
            running -= 1
        return str(threading.get_ident() != loop_thread)

    registry = SkillRegistry([slow])
    got = await asyncio.gather(*(registry.call("slow", {}, context_of()) for _ in range(3 * SKILL_THREADS)))
    assert {output.content for output in got} == {"True"}
    assert most == SKILL_THREADS


def test_an_async_function_cannot_be_declared_for_a_thread() -> None:
    async def late() -> str:
        return ""

    with pytest.raises(TypeError, match="async"):
        skill("late", "", thread=True)(late)


def test_a_parameter_needs_an_annotation() -> None:
    def untyped(value) -> str:
        return str(value)

    with pytest.raises(TypeError, match="value"):
        skill("untyped", "")(untyped)


async def test_integers_of_any_size_keep_their_digits() -> None:
    @skill("huge", "")
    def huge() -> dict[str, int]:
        return {"result": 3**200}

    assert (await call(huge)).content == '{"result":' + str(3**200) + "}"


def test_skills_are_listed_by_name_whatever_their_order() -> None:
    # agent.md 1.10 D21
    one, other = SkillRegistry([whose, move, big]), SkillRegistry([big, move, whose])
    assert [each.name for each in one.descriptors()] == ["big", "move", "whose"]
    assert one.descriptors() == other.descriptors()
    assert [spec.name for spec in one.specs()] == ["big", "move", "whose"]
    assert one.specs()[1].parameters is move.descriptor.parameters_schema
    assert len(one) == 3


def test_a_skill_is_found_by_its_name() -> None:
    registry = SkillRegistry([whose])
    assert registry.get("whose") is whose
    assert registry.get("other") is None


def test_a_name_twice_is_refused_at_start() -> None:
    with pytest.raises(ConfigError, match="twice"):
        SkillRegistry([move, move])


def test_skills_are_exchanged_for_others_while_the_gateway_runs() -> None:
    registry = SkillRegistry([move, whose])
    registry.exchange(["move", "unheard_of"], [refuses])
    assert [each.name for each in registry.descriptors()] == ["refuses", "whose"]
    assert [each.name for each in registry.specs()] == ["refuses", "whose"]
    registry.exchange(["whose"], [whose])
    assert len(registry) == 2


def test_an_exchange_that_is_refused_changes_nothing() -> None:
    registry = SkillRegistry([move, whose])
    with pytest.raises(ConfigError, match="'whose' is registered twice"):
        registry.exchange(["move"], [refuses, whose])
    assert [each.name for each in registry.descriptors()] == ["move", "whose"]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "x" * 65, "a\n"])
def test_a_name_no_provider_takes_is_refused_at_start(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        SkillRegistry([skill(name, "")(lambda: "")])


def test_a_name_may_have_64_characters() -> None:
    assert len(SkillRegistry([skill("x" * 64, "")(lambda: "")])) == 1


def test_a_schema_that_is_no_object_is_refused_at_start() -> None:
    class Odd:
        descriptor = skills.SkillDescriptor("odd", "", {"type": "array"})

        def wrong(self, _arguments: object) -> None:
            return None

        async def execute(self, _arguments: object, _context: object) -> SkillOutput:
            return SkillOutput("")

    with pytest.raises(ConfigError, match="object"):
        SkillRegistry([Odd()])


async def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    got = await SkillRegistry([move, whose, big]).call("mvoe" * 1000, {}, context_of())
    assert got.is_error
    assert "move" in got.content
    assert len(got.content) < 300
    assert "no skills" in (await SkillRegistry().call("x", {}, context_of())).content


async def test_a_long_output_is_cut_to_the_limit_with_a_mark() -> None:
    # agent.md 1.10 D12
    registry = SkillRegistry([big], output_bytes=100)
    whole = await registry.call("big", {"count": 50}, context_of())
    assert whole == SkillOutput("é" * 50)
    cut = await registry.call("big", {"count": 51}, context_of())
    assert cut.truncated
    assert "[cut: 102 bytes, the limit is 100]" in cut.content
    assert len(cut.content.encode()) <= 100


@given(st.text(st.characters(), max_size=80), st.integers(1, 120))
def test_a_fitted_output_is_valid_text_within_its_limit(content: str, limit: int) -> None:
    got = fitted(SkillOutput(content), limit)
    assert len(got.content.encode()) <= limit
    assert got.truncated == (len(content.encode("utf-8", "replace")) > limit)


def test_a_lone_surrogate_in_an_output_is_replaced() -> None:
    assert fitted(SkillOutput("a\ud800b"), 100) == SkillOutput("a?b")

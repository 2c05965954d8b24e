import pytest
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills import with_help
from argentor_asgi.agent.builtin_skills.help import skills_help
from argentor_asgi.agent.builtin_skills.uuids import uuid_generator
from argentor_asgi.agent.skills import SkillRegistry
from argentor_asgi.errors import ConfigError


async def test_all_skills_are_listed_with_help_itself() -> None:
    registry = with_help(SkillRegistry([uuid_generator]))
    asked = registry.get("skills_help")
    assert asked is not None
    listed = await answer(asked)
    assert [each["name"] for each in listed["skills"]] == ["skills_help", "uuid_generator"]
    assert listed["total"] == 2


async def test_one_skill_is_described_with_its_schema() -> None:
    got = await answer(skills_help(SkillRegistry([uuid_generator])), name="uuid_generator")
    assert got["skills"][0]["parameters_schema"] == uuid_generator.descriptor.parameters_schema


async def test_an_unknown_skill_is_answered_with_the_nearest() -> None:
    assert "uuid_generator" in await refusal(skills_help(SkillRegistry([uuid_generator])), name="uuid_gen")


def test_help_is_registered_once() -> None:
    with pytest.raises(ConfigError):
        with_help(with_help(SkillRegistry()))

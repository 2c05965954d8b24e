"""`argentor_asgi.api.skills`: what the agent can do, by name and in full."""

import pytest
from doors import doors

from argentor_asgi.agent.skills import skill

pytestmark = pytest.mark.slow

SKILLS = "/api/v1/skills"


@skill("dog_years", "Turns years into a dog's years.")
def dog_years(years: int) -> dict[str, int]:
    """Return the years of a dog."""
    return {"years": years * 7}


async def test_skills_are_listed_by_name_those_of_the_embedder_too():
    async with doors(skills=[dog_years]) as house:
        listed = (await house.get(SKILLS)).json()
        names = [found["name"] for found in listed]
        assert names == sorted(set(names))
        assert {"calculator", "skills_help", "dog_years"} <= set(names)
        assert {"name": "dog_years", "description": "Turns years into a dog's years."} in listed


async def test_a_skill_is_shown_with_the_schema_of_its_arguments():
    async with doors(skills=[dog_years]) as house:
        for head in (await house.get(SKILLS)).json():
            found = (await house.get(f"{SKILLS}/{head['name']}")).json()
            assert head.items() <= found.items()
            assert (found["parameters_schema"]["type"], found["effect"] in {"read", "write"}) == ("object", True)
        shown = (await house.get(f"{SKILLS}/dog_years")).json()
        assert shown["parameters_schema"]["required"] == ["years"]
        assert (shown["required_capabilities"], shown["effect"]) == ([], "read")


@skill("wipe", "Wipes a disk.", effect="write", needs_approval=True, risk_level="critical", parallel_safe=False)
def wipe(disk: str) -> str:
    """Pretend to."""
    return disk


async def test_a_skill_says_whether_it_needs_a_person_and_what_its_calls_do():
    async with doors(skills=[dog_years, wipe]) as house:
        told = {}
        for name in ("dog_years", "wipe"):
            shown = (await house.get(f"{SKILLS}/{name}")).json()
            told[name] = [shown[field] for field in ("effect", "needs_approval", "risk_level", "parallel_safe")]
        assert told == {"dog_years": ["read", False, "low", True], "wipe": ["write", True, "critical", False]}


async def test_an_unknown_skill_is_404_with_its_name_cut_to_a_sane_length():
    async with doors() as house:
        for name in ("cat_years", "x" * 500):
            found = await house.get(f"{SKILLS}/{name}")
            assert (found.status, found.json()["code"]) == (404, "skill_not_found")
            assert name[:50] in found.json()["message"]
            assert len(found.json()["message"]) < 120


async def test_skills_need_a_key():
    async with doors(keys=("me",)) as house:
        assert (await house.as_(None).get(SKILLS)).status == 401

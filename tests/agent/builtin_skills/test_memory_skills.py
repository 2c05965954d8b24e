import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skillcalls import NOW, answer, context_of, refusal

from argentor_asgi.agent.builtin_skills.memory import FOUND, LISTED, METADATA_BYTES, NOTE_BYTES, memory_skills
from argentor_asgi.agent.skills import Skill
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.records import NOTES_PER_SCOPE, Note, Scope
from argentor_asgi.sessions.sqlite import SqliteStore


def made() -> tuple[MemoryStore, dict[str, Skill]]:
    store = MemoryStore(clock=SystemClock())
    return store, {each.descriptor.name: each for each in memory_skills(store)}


async def test_what_is_stored_is_found_listed_and_forgotten() -> None:
    _, skills = made()
    stored = await answer(skills["memory_store"], content=" my dog is called Rex ", metadata={"from": "chat"})
    assert stored["stored"] is True
    await answer(skills["memory_store"], content="the meeting is on Monday")
    found = await answer(skills["memory_search"], query="what is my dog's name")
    assert found["total"] == 1
    assert (
        found["results"][0].items()
        >= {
            "id": stored["id"],
            "content": "my dog is called Rex",
            "created_at": "2026-11-22T10:30:15Z",
        }.items()
    )
    assert found["results"][0]["score"] > 0
    listed = await answer(skills["memory_list"])
    assert [each["content"] for each in listed["memories"]] == ["the meeting is on Monday", "my dog is called Rex"]
    assert listed["total"] == 2
    assert (await answer(skills["memory_forget"], id=stored["id"]))["forgotten"] == 1
    assert (await answer(skills["memory_forget"], id=stored["id"]))["forgotten"] == 0
    assert (await answer(skills["memory_search"], query="dog"))["results"] == []


@pytest.mark.slow
async def test_what_is_stored_in_a_file_is_found_and_forgotten_by_its_words(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "a.db", clock=SystemClock()) as store:
        skills = {each.descriptor.name: each for each in memory_skills(store)}
        for content in ("my dog is called Rex", "the meetings are on Monday"):
            await answer(skills["memory_store"], content=content)
        for query, content in (
            ("what is my dog's name?", "my dog is called Rex"),
            ("MEETING*", "the meetings are on Monday"),
        ):
            found = await answer(skills["memory_search"], query=query)
            assert ([each["content"] for each in found["results"]], found["total"]) == ([content], 1)
            assert found["results"][0]["score"] > 0
        assert (await answer(skills["memory_search"], context_of(tenant="else"), query="dog"))["total"] == 0
        assert (await answer(skills["memory_forget"], query='"dogs" NOT x'))["memories"][0]["content"].endswith("Rex")
        assert (await answer(skills["memory_search"], query="dog"))["total"] == 0


async def test_forgetting_by_query_takes_the_best_match_alone_and_says_which() -> None:
    _, skills = made()
    for content in ("my dog is called Rex", "my dog likes bones", "tea is green"):
        await answer(skills["memory_store"], content=content)
    got = await answer(skills["memory_forget"], query="dog called rex")
    assert (got["forgotten"], got["memories"][0]["content"]) == (1, "my dog is called Rex")
    assert await answer(skills["memory_forget"], query="submarine") == {"forgotten": 0, "memories": []}
    assert (await answer(skills["memory_list"]))["total"] == 2


async def test_notes_belong_to_who_calls_whatever_the_arguments_say() -> None:
    _, skills = made()
    stored = await answer(skills["memory_store"], content="a secret")
    for other in (context_of(owner="else"), context_of(tenant="else")):
        assert (await answer(skills["memory_list"], other))["total"] == 0
        assert (await answer(skills["memory_search"], other, query="secret"))["total"] == 0
        assert (await answer(skills["memory_forget"], other, id=stored["id"]))["forgotten"] == 0
        assert (await answer(skills["memory_forget"], other, query="secret"))["forgotten"] == 0
    for each in skills.values():
        assert not {"owner", "tenant", "scope"} & set(each.descriptor.parameters_schema["properties"])
    assert (await answer(skills["memory_list"]))["total"] == 1


async def test_a_full_memory_refuses_and_says_what_to_do() -> None:
    store, skills = made()
    for number in range(NOTES_PER_SCOPE):
        await store.add_note(Scope("me"), Note(str(number), f"note {number}", NOW))
    assert "Forget some first" in await refusal(skills["memory_store"], content="one more")
    assert (await answer(skills["memory_store"], context_of(owner="else"), content="mine"))["stored"]
    listed = await answer(skills["memory_list"])
    assert (len(listed["memories"]), listed["total"]) == (LISTED, NOTES_PER_SCOPE)
    found = await answer(skills["memory_search"], query="note", top_k=FOUND)
    assert (len(found["results"]), found["total"]) == (FOUND, NOTES_PER_SCOPE)
    assert found["results"][0]["content"] == f"note {NOTES_PER_SCOPE - 1}"


async def test_a_note_has_a_length_up_to_the_bound() -> None:
    _, skills = made()
    assert (await answer(skills["memory_store"], content="é" * (NOTE_BYTES // 2)))["stored"]
    assert "too long" in await refusal(skills["memory_store"], content="é" * (NOTE_BYTES // 2) + "x")
    assert "too long" in await refusal(skills["memory_store"], content="x", metadata={"a": "x" * METADATA_BYTES})
    assert "too long" in await refusal(skills["memory_search"], query="x" * 5000)
    assert "/top_k" in await refusal(skills["memory_search"], query="x", top_k=FOUND + 1)


@pytest.mark.parametrize("content", ["", "  \n"])
async def test_nothing_is_not_remembered(content: str) -> None:
    _, skills = made()
    assert "empty" in await refusal(skills["memory_store"], content=content)
    assert "id or query" in await refusal(skills["memory_forget"])
    assert "/query" in await refusal(skills["memory_search"], query="")


@settings(max_examples=25)
@given(st.lists(st.text("abc ", min_size=1, max_size=8).filter(str.strip), max_size=6), st.text("abc ", min_size=1))
def test_every_result_of_a_search_is_a_note_best_first(contents: list[str], query: str) -> None:
    async def searched() -> None:
        _, skills = made()
        for content in contents:
            await answer(skills["memory_store"], content=content)
        got = await answer(skills["memory_search"], query=query, top_k=FOUND)
        scores = [each["score"] for each in got["results"]]
        assert scores == sorted(scores, reverse=True)
        assert {each["content"] for each in got["results"]} <= {content.strip() for content in contents}

    asyncio.run(searched())

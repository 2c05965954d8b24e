"""`argentor_asgi.api.sessions`: list, read and delete one's own conversations."""

from uuid import uuid4

import pytest
from asgi_driver import soon
from doors import CHAT, doors
from scripted_backend import Park, answer

from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.protocol.llm import Finish, TextPiece

pytestmark = pytest.mark.slow

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
SESSIONS = "/api/v1/sessions"


def code_of(found):
    return found.status, found.json()["code"]


async def chat(house, text="hi", **more):
    return (await house.post(CHAT, {"message": text, **more})).json()["session_id"]


async def pages_of(house, target):
    """Follow the `Link` headers to the end; return the pages."""
    path, found = target.split("?")[0], []
    while True:
        answered = await house.get(target)
        found.append(answered.json())
        link = answered.header("link")
        if link is None:
            return found
        target = path + link.partition("; ")[0].strip("<>")


async def test_a_session_is_listed_by_its_head_and_read_with_its_messages():
    async with doors(answer("hello")) as house:
        session_id = await chat(house, "hi there")
        [head] = (await house.get(SESSIONS)).json()
        whole = (await house.get(f"{SESSIONS}/{session_id}")).json()
        messages, metadata = whole.pop("messages"), whole.pop("metadata")
        assert whole == head
        assert (head["session_id"], head["message_count"], head["title"], metadata) == (session_id, 2, "hi there", {})
        assert [(said["role"], said["content"]) for said in messages] == [("user", "hi there"), ("assistant", "hello")]
        assert all(said.keys() == {"id", "role", "content", "timestamp"} for said in messages)
        assert all(said["timestamp"].endswith("Z") for said in messages)
        assert head["created_at"] <= head["updated_at"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_sessions_are_listed_newest_first_page_by_page_to_the_end(limit):
    async with doors() as house:
        made = [await chat(house) for _ in range(3)]
        pages = await pages_of(house, f"{SESSIONS}?limit={limit}")
        assert [found["session_id"] for page in pages for found in page] == made[::-1]
        assert len(pages) == -(-3 // limit)


@pytest.mark.parametrize("limit", [1, 3, 4, 5])
async def test_messages_are_read_oldest_first_page_by_page_to_the_end(limit):
    async with doors() as house:
        session_id = await chat(house, "one")
        await chat(house, "two", session_id=session_id)
        pages = await pages_of(house, f"{SESSIONS}/{session_id}?limit={limit}")
        assert [said["content"] for page in pages for said in page["messages"]] == ["one", "ok", "two", "ok"]
        assert [page["message_count"] for page in pages] == [4] * -(-4 // limit)


async def test_reading_behind_the_end_is_a_session_without_messages():
    async with doors() as house:
        found = await house.get(f"{SESSIONS}/{await chat(house)}?after=99")
        assert (found.json()["messages"], found.header("link")) == ([], None)


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?cursor=nonsense", "?limit=x"])
async def test_a_query_out_of_range_is_422(query):
    async with doors() as house:
        assert code_of(await house.get(SESSIONS + query)) == (422, "invalid_input")


async def test_what_is_foreign_or_unknown_is_404_and_stays():
    async with doors(keys=("me", "you")) as house:
        session_id, you = await chat(house), house.as_("you")
        assert (await you.get(SESSIONS)).json() == []
        for who, found in ((you, session_id), (house, uuid4())):
            assert code_of(await who.get(f"{SESSIONS}/{found}")) == (404, "session_not_found")
            assert code_of(await who.delete(f"{SESSIONS}/{found}")) == (404, "session_not_found")
        assert (await house.get(f"{SESSIONS}/{session_id}")).status == 200
        assert code_of(await house.get(f"{SESSIONS}/nonsense")) == (400, "invalid_path")


async def test_a_session_is_deleted_once_with_its_runs():
    async with doors() as house:
        session_id = await chat(house)
        [run] = (await house.get("/api/v1/runs")).json()
        found = await house.delete(f"{SESSIONS}/{session_id}")
        assert (found.status, found.json()) == (200, {"deleted": True, "session_id": session_id})
        assert code_of(await house.delete(f"{SESSIONS}/{session_id}")) == (404, "session_not_found")
        assert (await house.get(f"/api/v1/runs/{run['run_id']}")).status == 404
        assert (await house.get(SESSIONS)).json() == []


async def test_a_session_that_works_on_a_message_is_not_deleted_and_a_stranger_does_not_learn_of_it():
    async with doors(HALVES, keys=("me", "you")) as house:
        asking = house.begin("POST", CHAT, {"message": "hi"})
        await soon(house.backend.parked.wait())
        [found] = (await house.get(SESSIONS)).json()
        target = f"{SESSIONS}/{found['session_id']}"
        busy = await house.delete(target)
        assert (code_of(busy), busy.header("retry-after")) == ((409, "session_busy"), "1")
        assert code_of(await house.as_("you").delete(target)) == (404, "session_not_found")
        house.backend.release.set()
        await asking.end()
        assert (await house.delete(target)).status == 200


async def test_of_two_who_delete_at_once_one_hears_that_it_is_gone():
    async with doors() as house:
        target = f"{SESSIONS}/{await chat(house)}"

        class Raced(type(house.store)):
            async def delete_session(self, scope, session_id):
                await super().delete_session(scope, session_id)
                return await super().delete_session(scope, session_id)

        house.store.__class__ = Raced
        assert code_of(await house.delete(target)) == (404, "session_not_found")


async def test_a_deleted_id_may_be_used_again():
    async with doors() as house:
        session_id = await chat(house)
        await house.delete(f"{SESSIONS}/{session_id}")
        assert await chat(house, "again", session_id=session_id) == session_id
        whole = (await house.get(f"{SESSIONS}/{session_id}")).json()
        assert [said["content"] for said in whole["messages"]] == ["again", "ok"]


async def test_a_store_that_fails_is_503():
    async with doors() as house:
        target = f"{SESSIONS}/{await chat(house)}"
        house.store.faults["get_session"] = StorageUnavailable()
        for found in (await house.get(target), await house.delete(target)):
            assert code_of(found) == (503, "storage_unavailable")

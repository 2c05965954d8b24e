"""`argentor_asgi.api.runs`: look at a run, follow it, end it; each only one's own."""

from datetime import datetime
from uuid import uuid4

import pytest
from asgi_driver import soon
from contracts.store_values import a_run
from doors import CHAT, doors, streamed
from scripted_backend import Park, answer

from argentor_asgi.api.runs import view
from argentor_asgi.errors import ProviderUnavailable, StorageUnavailable
from argentor_asgi.protocol.llm import Finish, TextPiece

pytestmark = pytest.mark.slow

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
RUNS = "/api/v1/runs"


def code_of(found):
    return found.status, found.json()["code"]


async def chat(house, text="hi", **more):
    reply = await house.post(CHAT, {"message": text, **more})
    assert reply.status == 200
    return reply.json()


async def parked(house):
    """Start a run that waits in the middle of its answer, and return its id."""
    house.begin("POST", CHAT, {"message": "one"})
    await soon(house.backend.parked.wait())
    [run] = (await house.get(RUNS)).json()
    return run["run_id"]


async def pages_of(house, target):
    """Follow the `Link` headers to the end; return the pages."""
    path, found = target.split("?")[0], []
    while target:
        answered = await house.get(target)
        assert answered.status == 200
        found.append(answered.json())
        link = answered.header("link")
        if link is None:
            return found
        reference, _, relation = link.partition("; ")
        assert relation == 'rel="next"'
        assert reference.startswith("<?")
        target = path + reference.strip("<>")
    return found


async def test_a_run_is_shown_while_it_lives_and_after_its_end():
    async with doors(HALVES) as house:
        run_id = await parked(house)
        live = (await house.get(f"{RUNS}/{run_id}")).json()
        assert (live["status"], live["text"], live["finish_reason"], live["error_code"]) == ("running", "", None, None)
        house.backend.release.set()
        heard = streamed(await house.get(f"{RUNS}/{run_id}/stream"))
        ended = (await house.get(f"{RUNS}/{run_id}")).json()
        assert ended.keys() == live.keys()
        expected = {"status": "done", "text": "half whole", "turns": 1, "model": "scripted-1", "finish_reason": "stop"}
        assert expected.items() <= ended.items()
        assert (ended["last_seq"], ended["session_id"]) == (heard.seqs[-1], heard.session_id)
        assert datetime.fromisoformat(ended["created_at"]) <= datetime.fromisoformat(ended["updated_at"])
        assert ended["created_at"].endswith("Z")
        assert (await house.get(RUNS)).json() == [ended]


@pytest.mark.parametrize(("micros", "cost"), [(None, None), (0, 0.0), (1, 0.000001), (2_500_000, 2.5)])
def test_a_run_shows_its_calls_and_what_it_cost_where_that_is_known(micros, cost):
    shown = view(a_run(cost_micros=micros, tool_calls=3))
    assert (shown.cost, shown.tool_calls) == (cost, 3)


async def test_a_failed_run_shows_its_code():
    async with doors([ProviderUnavailable()]) as house:
        await house.post(CHAT, {"message": "x"})
        [run] = (await house.get(RUNS)).json()
        assert (run["status"], run["error_code"]) == ("failed", "provider_unavailable")


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_runs_are_listed_newest_first_page_by_page_to_the_end(limit):
    async with doors() as house:
        made = [(await chat(house, str(number)))["run_id"] for number in range(5)]
        pages = await pages_of(house, f"{RUNS}?limit={limit}")
        assert [run["run_id"] for page in pages for run in page] == made[::-1]
        assert len(pages) == -(-5 // limit)
        assert all(len(page) == limit for page in pages[:-1])


async def test_the_runs_of_one_session_are_listed_page_by_page():
    async with doors() as house:
        session_id = (await chat(house))["session_id"]
        for _ in range(2):
            await chat(house, session_id=session_id)
            await chat(house)
        pages = await pages_of(house, f"{RUNS}?limit=2&session_id={session_id}")
        assert [len(page) for page in pages] == [2, 1]
        assert {run["session_id"] for page in pages for run in page} == {session_id}
        assert (await house.get(f"{RUNS}?session_id={uuid4()}")).json() == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=nonsense", "session_id=" + "x" * 65])
async def test_a_query_out_of_range_is_422(query):
    async with doors() as house:
        assert code_of(await house.get(f"{RUNS}?{query}")) == (422, "invalid_input")


@pytest.mark.parametrize("is_live", [True, False])
async def test_what_is_foreign_or_unknown_is_404(is_live):
    async with doors(HALVES, keys=("me", "you")) as house:
        run_id = await parked(house)
        if not is_live:
            house.backend.release.set()
            await house.get(f"{RUNS}/{run_id}/stream")
        you = house.as_("you")
        assert (await you.get(RUNS)).json() == []
        for who, found in ((you, run_id), (house, uuid4())):
            assert code_of(await who.get(f"{RUNS}/{found}")) == (404, "run_not_found")
            assert code_of(await who.get(f"{RUNS}/{found}/stream")) == (404, "run_not_found")
            assert code_of(await who.post(f"{RUNS}/{found}/cancel")) == (404, "run_not_found")
        assert (await house.get(f"{RUNS}/{run_id}")).json()["status"] == ("running" if is_live else "done")


@pytest.mark.parametrize("target", ["nonsense", "nonsense/stream"])
async def test_an_id_that_is_none_is_400(target):
    async with doors() as house:
        assert code_of(await house.get(f"{RUNS}/{target}")) == (400, "invalid_path")


# --- follow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "header", "first"),
    [("", None, 1), ("?after=2", None, 3), ("", "{run}:3", 4), ("?after=1", "{run}:3", 4), ("?after=1", "other:3", 2)],
)
async def test_a_run_is_replayed_from_the_header_else_from_after(query, header, first):
    async with doors(answer("he", "llo")) as house:
        run_id = (await chat(house))["run_id"]
        fields = {"last_event_id": header.format(run=run_id)} if header else {}
        heard = streamed(await house.get(f"{RUNS}/{run_id}/stream{query}", **fields), resumed=first > 1)
        assert (heard.run_id, heard.seqs) == (run_id, list(range(first, 6)))


async def test_who_has_seen_all_of_an_ended_run_is_told_to_stop_and_of_a_live_one_hears_the_rest():
    async with doors(HALVES) as house:
        run_id = await parked(house)
        ahead = house.begin("GET", f"{RUNS}/{run_id}/stream?after=999999")
        await ahead.seen(lambda found: found.status)
        house.backend.release.set()
        assert (await ahead.end()).body
        last = (await house.get(f"{RUNS}/{run_id}")).json()["last_seq"]
        for after in (last, last + 1):
            for fields in ({}, {"last_event_id": f"{run_id}:{after}"}):
                seen = await house.get(f"{RUNS}/{run_id}/stream?after={after}", **fields)
                assert (seen.status, seen.body) == (204, b"")


async def test_events_that_are_gone_are_410_with_what_is_still_known():
    async with doors() as house:
        run_id = (await chat(house))["run_id"]
        log = house.store._runs[run_id]
        await house.store.prune(log.run.updated_at.replace(year=9999))
        gone = await house.get(f"{RUNS}/{run_id}/stream")
        assert (code_of(gone), gone.json()["run_status"], gone.json()["text"]) == (
            (410, "replay_expired"),
            "done",
            "ok",
        )
        assert (await house.get(f"{RUNS}/{run_id}/stream?after={log.run.last_seq}")).status == 204


@pytest.mark.parametrize("after", ["-1", "x", str(2**53 + 1)])
async def test_a_place_out_of_range_is_422(after):
    async with doors() as house:
        run_id = (await chat(house))["run_id"]
        assert code_of(await house.get(f"{RUNS}/{run_id}/stream?after={after}")) == (422, "invalid_input")


async def test_a_store_that_fails_is_503():
    async with doors() as house:
        run_id = (await chat(house))["run_id"]
        house.store.faults["events"] = StorageUnavailable()
        assert code_of(await house.get(f"{RUNS}/{run_id}/stream")) == (503, "storage_unavailable")
        house.store.faults["get_run"] = StorageUnavailable()
        assert code_of(await house.get(f"{RUNS}/{run_id}")) == (503, "storage_unavailable")


# --- end ---------------------------------------------------------------------------------------------------------


async def test_cancelling_is_202_while_the_run_lives_and_200_when_it_has_ended():
    async with doors(HALVES) as house:
        run_id = await parked(house)
        answers = [await house.post(f"{RUNS}/{run_id}/cancel") for _ in range(2)]
        heard = streamed(await house.get(f"{RUNS}/{run_id}/stream"))
        answers.append(await house.post(f"{RUNS}/{run_id}/cancel"))
        assert (answers[0].status, answers[-1].status) == (202, 200)
        assert answers[0].json() == {"run_id": run_id, "status": "running"}
        assert answers[-1].json() == {"run_id": run_id, "status": "cancelled"}
        assert (heard.last["type"], heard.last["reason"]) == ("cancelled", "cancelled by the client")


async def test_cancelling_a_run_that_is_done_leaves_it_done():
    async with doors() as house:
        run_id = (await chat(house))["run_id"]
        found = await house.post(f"{RUNS}/{run_id}/cancel")
        assert (found.status, found.json()["status"]) == (200, "done")

"""`argentor_asgi.gateway.dispatch`: the rules of every message, and what its idempotency key promises."""

import asyncio

import pytest
from asgi_driver import soon, until
from audit_place import an_audit, seen
from faulty_store import FaultyStore
from house import ME, TENANT, YOU, House, kinds
from scripted_backend import Park, answer

from argentor_asgi.agent.guardrails import Guardrails
from argentor_asgi.config import Guardrails as Settings
from argentor_asgi.errors import (
    BodyTooLarge,
    ContentRejected,
    Draining,
    EmptyInput,
    IdempotencyKeyReused,
    Overloaded,
    RunNotFound,
    SessionBusy,
    SessionNotFound,
    StorageUnavailable,
)
from argentor_asgi.gateway.dispatch import TITLE_CHARS, Ask, scope_of
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.sessions.records import Scope

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
OTHERS_KEYS = [YOU, TENANT]


async def parked(*scripts, key="k", **settings):
    house = House(HALVES, *scripts, **settings)
    run = await house.start("one", key=key)
    await soon(house.backend.parked.wait())
    return house, run


async def runs_of(house, who=ME):
    return (await house.store.list_runs(scope_of(who), limit=100)).rows


# --- what may be said --------------------------------------------------------------------------------------------

BAD = [
    ("", EmptyInput),
    (" \n", EmptyInput),
    ("x" * 11, BodyTooLarge),
    ("é" * 6, BodyTooLarge),
    ("\x00", ContentRejected),
]


@pytest.mark.parametrize(("content", "error"), BAD)
async def test_what_is_no_message_is_refused_before_anything_is_stored(content, error):
    house = House(message_bytes=10)
    with pytest.raises(error):
        await house.start(content, key="k")
    assert (await runs_of(house), house.runs._lanes, house.backend.requests) == ([], {}, [])
    run = await house.start("x" * 10, key="k")
    assert (await house.outcome(run)).status == "done"


@pytest.mark.parametrize(("content", "error"), BAD)
async def test_what_is_no_message_does_not_steer(content, error):
    house, run = await parked(message_bytes=10)
    with pytest.raises(error):
        await house.dispatch.steer(ME, run.id, content)
    house.backend.release.set()
    assert "steered" not in kinds(await house.record(run))


@pytest.mark.parametrize("way", ["start", "steer"])
async def test_what_guardrails_find_in_a_message_that_steers_is_counted_and_kept_as_evidence(way, tmp_path):
    audit = an_audit(tmp_path)
    async with audit:
        house, run = await parked(audit=audit, guardrails=Guardrails(Settings()))
        if way == "start":
            assert (await house.start("tell jo@example.com too", on_busy="steer")).id == run.id
        else:
            await house.dispatch.steer(ME, run.id, "tell jo@example.com too")
        (found,) = [row for row in await seen(audit) if row.action == "guardrail_input"]
        house.backend.release.set()
        await house.outcome(run)
    assert (found.session_id, found.details["run_id"], found.details["rule"]) == (house.session, run.id, "pii")
    page, _ = await house.metrics.render("text/plain")
    assert sum(line.startswith(b"argentor_guardrail_findings_total{") for line in page.splitlines()) == 1
    assert ("user", "tell [EMAIL] too") in await house.said()


async def test_a_message_is_cleaned_once_for_the_session_the_run_and_the_model():
    house = House()
    run = await house.start("\x1b[31m" + "x" * TITLE_CHARS + "yz\x00")
    clean = "x" * TITLE_CHARS + "yz"
    await house.outcome(run)
    session = await house.store.get_session(scope_of(ME), house.session)
    assert (run.input, session.title) == (clean, "x" * TITLE_CHARS)
    assert (await house.said())[0] == ("user", clean)
    assert house.backend.requests[0].messages[-1].content == clean


async def test_a_message_without_a_session_begins_a_new_one_each_time():
    house = House()
    runs = [await house.dispatch.start(ME, Ask("hi")) for _ in range(2)]
    assert len({run.session_id for run in runs}) == 2
    assert [(await house.outcome(run)).status for run in runs] == ["done"] * 2


async def test_a_run_belongs_to_who_asked_in_their_tenant():
    house = House()
    run = await house.start(who=TENANT)
    assert (run.owner, run.tenant, run.model) == ("me", "acme", "scripted-1")
    assert scope_of(TENANT) == Scope("me", "acme")
    assert (await house.outcome(run, who=TENANT)).status == "done"


async def test_a_draining_gateway_takes_no_message():
    house, run = await parked()
    house.drain.begin("test")
    for key in (None, "k"):
        with pytest.raises(Draining) as refused:
            await house.start("one", key=key)
        assert refused.value.retry_after == 1
    house.backend.release.set()
    assert (await house.outcome(run)).status == "done"


# --- idempotency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_live", [True, False])
async def test_the_same_key_finds_its_run_live_or_ended_and_asks_nothing_again(is_live):
    house, run = await parked()
    if not is_live:
        house.backend.release.set()
        await house.outcome(run)
    again = await house.start("one", key="k")
    assert (again.id, again.status) == (run.id, "running" if is_live else "done")
    house.backend.release.set()
    await house.outcome(run)
    assert (len(house.backend.requests), len(await runs_of(house))) == (1, 1)
    assert await house.said() == [("user", "one"), ("assistant", "half whole")]


@pytest.mark.parametrize("on_busy", ["reject", "enqueue", "interrupt", "steer"])
async def test_asking_again_does_to_a_busy_session_what_the_first_time_did(on_busy):
    house, run = await parked()
    assert (await house.start("one", key="k", on_busy=on_busy)).id == run.id
    assert (await house.runs.get(scope_of(ME), run.id)).status == "running"
    house.backend.release.set()
    assert kinds(await house.record(run))[-1] == "done"
    assert len(await runs_of(house)) == 1


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("other", [{"content": "two"}, {"session": "elsewhere"}])
async def test_a_key_of_another_request_is_refused_live_or_ended(is_live, other):
    house, run = await parked()
    if not is_live:
        house.backend.release.set()
        await house.outcome(run)
    with pytest.raises(IdempotencyKeyReused):
        await house.start(**{"content": "one", "key": "k"} | other)
    house.backend.release.set()
    await house.outcome(run)
    assert len(await runs_of(house)) == 1


async def test_requests_with_one_key_at_the_same_time_are_one_run():
    house = House()
    gate = house.store.gate("begin_run")
    calls = [asyncio.create_task(house.start("one", key="k")) for _ in range(5)]
    await soon(house.store.reached.wait())
    gate.set()
    runs = await asyncio.gather(*calls)
    assert len({run.id for run in runs}) == 1
    await house.outcome(runs[0])
    assert (len(house.backend.requests), house.runs._keys) == (1, {})


async def test_requests_that_differ_only_in_what_a_guardrail_takes_out_are_other_requests():
    house = House(guardrails=Guardrails(Settings()))
    await house.start("write to ann@example.com", key="k")
    with pytest.raises(IdempotencyKeyReused):
        await house.start("write to bob@example.com", key="k")


async def test_of_other_requests_with_one_key_at_the_same_time_one_is_worked_and_the_others_hear_of_it():
    house = House()
    gate = house.store.gate("begin_run")
    calls = [asyncio.create_task(house.start(text, key="k", session=text)) for text in ("one", "two")]
    await soon(house.store.reached.wait())
    gate.set()
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(second, IdempotencyKeyReused)
    assert (await house.outcome(first)).status == "done"


async def test_who_asks_again_hears_when_the_first_could_not_begin_and_may_ask_once_more():
    house = House()
    gate = house.store.gate("begin_run")
    calls = [asyncio.create_task(house.start("one", key="k")) for _ in range(2)]
    await soon(house.store.reached.wait())
    house.store.faults["begin_run"] = StorageUnavailable()
    gate.set()
    refused = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in refused] == [StorageUnavailable] * 2
    del house.store.faults["begin_run"]
    assert (await house.outcome(await house.start("one", key="k"))).status == "done"


class LateStore(FaultyStore):
    """A store whose first answer about a key takes so long that it is old."""

    def __init__(self):
        super().__init__()
        self.old = asyncio.Event()
        self.looks = 0

    async def get_claim(self, scope, key):
        found = await super().get_claim(scope, key)
        self.looks += 1
        if self.looks == 1:
            await self.old.wait()
        return found


async def test_a_key_that_was_claimed_between_looking_and_beginning_finds_the_earlier_run():
    house = House(store=LateStore())
    late = asyncio.create_task(house.start("one", key="k"))
    await until(lambda: house.store.looks)
    first = await house.start("one", key="k")
    await house.outcome(first)
    house.store.old.set()
    assert (await late).id == first.id
    assert (len(house.runs), house.runs._lanes, house.runs._keys) == (0, {}, {})
    assert len(house.backend.requests) == 1


@pytest.mark.parametrize("stranger", OTHERS_KEYS)
async def test_a_key_is_its_owners_own(stranger):
    house, run = await parked()
    theirs = await house.start("one", key="k", who=stranger, session="theirs")
    assert theirs.id != run.id
    with pytest.raises(SessionNotFound):
        await house.start("one", key="other", who=stranger)
    house.backend.release.set()
    assert (await house.outcome(theirs, who=stranger)).status == "done"


@pytest.mark.parametrize("refusal", ["busy", "limit"])
async def test_a_refused_request_leaves_its_key_free(refusal):
    house, run = await parked(answer("two"), key=None, limit=1 if refusal == "limit" else 9)
    session = "elsewhere" if refusal == "limit" else None
    with pytest.raises(Overloaded if refusal == "limit" else SessionBusy):
        await house.start("two", key="k", session=session)
    house.backend.release.set()
    await house.outcome(run)
    again = await house.start("two", key="k", session=session)
    assert (await house.outcome(again)).text == "two"


async def test_a_key_outlives_its_session_and_then_finds_no_run():
    house = House()
    run = await house.start("one", key="k")
    await house.outcome(run)
    await house.store.delete_session(scope_of(ME), house.session)
    with pytest.raises(RunNotFound):
        await house.start("one", key="k")


async def test_a_store_that_cannot_look_a_key_up_is_told_to_the_caller():
    house = House()
    house.store.faults["get_claim"] = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await house.start("one", key="k")
    assert (await house.outcome(await house.start("one"))).status == "done"

"""`argentor_asgi.gateway.runs`: one run at a time in a session, and exactly one terminal event for each."""

import asyncio
import logging

import pytest
from asgi_driver import soon, until
from house import ME, TENANT, YOU, House, everything, kinds
from scripted_backend import Park, answer

from argentor_asgi.errors import (
    Draining,
    Overloaded,
    ProviderUnavailable,
    RunNotFound,
    SessionBusy,
    SessionNotFound,
    StorageUnavailable,
)
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.lane import QUEUED_PER_SESSION
from argentor_asgi.gateway.runs import SHUTDOWN
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.protocol.schema import restore
from argentor_asgi.sessions.records import LIVE

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
LATE = [Park(), *answer("late")]
STRANGERS = [YOU, TENANT]


def members(event):
    return restore(event.data, dict)


async def parked(*scripts, **settings):
    """Return a house whose first run waits in the middle of its answer, and that run."""
    house = House(HALVES, *scripts, **settings)
    run = await house.start("one")
    await soon(house.backend.parked.wait())
    return house, run


async def scrape(house):
    """Return the samples of runs, without the times."""
    body, _ = await house.metrics.render(None)
    lines = [line.split(" ") for line in body.decode().splitlines() if line.startswith("argentor_runs_")]
    return {name: float(value) for name, value in lines}


POLICIES = ["reject", "enqueue", "interrupt", "steer"]


# --- a run's life ------------------------------------------------------------------------------------------------


async def test_a_run_is_stored_with_its_message_when_it_is_accepted_and_whole_when_it_has_ended():
    house = House(answer("he", "llo"))
    run = await house.start("hi")
    assert await house.said() == [("user", "hi")]
    assert (run.status, house.runs.is_busy(scope_of(ME), house.session), len(house.runs)) == ("running", True, 1)
    events = await house.record(run)
    ended = await house.outcome(run)
    assert (ended.status, ended.text, ended.turns, ended.finish_reason) == ("done", "hello", 1, "stop")
    assert ended.last_seq == events[-1].seq == len(events)
    assert await house.store.get_run(scope_of(ME), run.id) == ended
    assert list(await house.store.events(run.id, limit=100)) == events
    assert await house.said() == [("user", "hi"), ("assistant", "hello")]
    assert (house.runs.is_busy(scope_of(ME), house.session), len(house.runs)) == (False, 0)
    assert await scrape(house) == {'argentor_runs_total{status="done"}': 1.0, "argentor_runs_active": 0.0}


async def test_any_number_of_readers_hear_the_same_wherever_they_begin():
    house, run = await parked()
    early = [asyncio.create_task(house.record(run)) for _ in range(3)]
    middle = asyncio.create_task(house.record(run, after=1))
    await asyncio.sleep(0)
    house.backend.release.set()
    heard = await asyncio.gather(*early)
    await house.outcome(run)
    late = await house.record(run)
    assert heard == [late] * 3
    assert await middle == await house.record(run, after=1) == late[1:]


async def test_a_reader_that_claims_to_have_seen_more_than_there_is_hears_what_comes_next():
    house, run = await parked()
    reader = await house.runs.reader(scope_of(ME), run.id, after=10**6)
    house.backend.release.set()
    events = await soon(everything(reader))
    assert kinds(events)[-1] == "done"
    assert reader.run.status == "done"


async def test_a_caller_that_is_cancelled_while_it_waits_to_be_accepted_leaves_the_run_going():
    house = House()
    gate = house.store.gate("begin_run")
    caller = asyncio.create_task(house.start())
    await soon(house.store.reached.wait())
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    await until(lambda: not house.runs)
    assert await house.said() == [("user", "hi"), ("assistant", "ok")]


async def test_a_caller_that_is_cancelled_while_it_waits_for_the_outcome_leaves_the_run_going():
    house, run = await parked()
    caller = asyncio.create_task(house.outcome(run))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    house.backend.release.set()
    assert (await house.outcome(run)).status == "done"


async def test_a_run_that_takes_too_long_fails_with_the_code_timeout():
    house = House(HALVES, timeout_s=0.01)
    run = await house.start()
    last = members((await house.record(run))[-1])
    assert (last["type"], last["code"]) == ("error", "timeout")
    ended = await house.outcome(run)
    assert (ended.status, ended.error_code, ended.text) == ("failed", "timeout", "half ")
    assert await house.said() == [("user", "hi"), ("assistant", "half ")]


async def test_what_a_backend_raises_ends_its_own_run_and_no_other(caplog):
    house = House(HALVES, [TextPiece("oh"), ProviderUnavailable("no luck")], [RuntimeError("a secret")])
    other = await house.start("one", session="other")
    await soon(house.backend.parked.wait())
    expected, unexpected = await house.start(session="a"), await house.start(session="b")
    with caplog.at_level(logging.ERROR):
        lasts = [members((await house.record(run))[-1]) for run in (expected, unexpected)]
    assert [(last["type"], last["code"]) for last in lasts] == [("error", "provider_unavailable")] * 2
    assert "a secret" not in str(lasts)
    assert "a secret" in caplog.text
    house.backend.release.set()
    assert (await house.outcome(other)).text == "half whole"
    assert await scrape(house) == {
        'argentor_runs_total{status="failed"}': 2.0,
        'argentor_runs_total{status="done"}': 1.0,
        "argentor_runs_active": 0.0,
    }


# --- limits ------------------------------------------------------------------------------------------------------


async def test_at_the_limit_a_run_is_refused_until_one_has_ended():
    house, run = await parked(limit=2)
    queued = await house.start(on_busy="enqueue")
    for session in ("elsewhere", None):
        with pytest.raises(Overloaded) as refused:
            await house.start(session=session, on_busy="enqueue")
        assert refused.value.retry_after == 1
    assert not house.runs.is_busy(scope_of(ME), "elsewhere")
    house.backend.release.set()
    for found in (run, queued):
        await house.outcome(found)
    assert (await house.outcome(await house.start())).status == "done"


async def test_at_the_limit_a_running_turn_can_still_be_steered():
    house, run = await parked(limit=1)
    assert (await house.start("more", on_busy="steer")).id == run.id
    house.backend.release.set()
    assert "steered" in kinds(await house.record(run))


# --- a busy session ----------------------------------------------------------------------------------------------


async def test_a_busy_session_refuses_and_nothing_of_the_message_is_kept():
    house, run = await parked()
    with pytest.raises(SessionBusy) as refused:
        await house.start("two")
    assert refused.value.retry_after == 1
    house.backend.release.set()
    await house.outcome(run)
    assert await house.said() == [("user", "one"), ("assistant", "half whole")]


async def test_queued_messages_are_worked_in_the_order_in_which_they_were_asked():
    house = House(HALVES, then=lambda request: answer(f"re {request.messages[-1].content}"))
    texts = ["one", "two", "three", "four"]
    calls = [asyncio.create_task(house.start(text, on_busy="enqueue")) for text in texts]
    runs = [await call for call in calls]
    assert [run.status for run in runs] == ["running", "queued", "queued", "queued"]
    await soon(house.backend.parked.wait())
    assert (await house.runs.get(scope_of(ME), runs[1].id)).status == "queued"
    assert await house.said() == [("user", "one")]
    house.backend.release.set()
    assert [kinds(await house.record(run))[-1] for run in runs] == ["done"] * 4
    answers = ["half whole", "re two", "re three", "re four"]
    assert await house.said() == [
        said for text, told in zip(texts, answers, strict=True) for said in (("user", text), ("assistant", told))
    ]
    assert house.runs._lanes == {}


async def test_no_more_messages_wait_than_the_bound_and_a_place_is_free_when_one_has_ended():
    house, run = await parked()
    waiting = [await house.start(str(number), on_busy="enqueue") for number in range(QUEUED_PER_SESSION)]
    for on_busy in ("enqueue", "interrupt"):
        with pytest.raises(SessionBusy):
            await house.start(on_busy=on_busy)
    assert (await house.runs.get(scope_of(ME), run.id)).status == "running"
    await house.cancel(waiting[3])
    assert (await house.outcome(waiting[3])).status == "cancelled"
    extra = await house.start("extra", on_busy="enqueue")
    house.backend.release.set()
    assert (await house.outcome(extra)).status == "done"
    assert ("user", "3") not in await house.said()


async def test_interrupting_ends_the_current_run_and_then_works_on_the_new_message():
    house, run = await parked(answer("new"))
    reading = asyncio.create_task(house.record(run))
    new = await house.start("two", on_busy="interrupt")
    last = members((await soon(reading))[-1])
    assert (last["type"], last["reason"], last["text"]) == ("cancelled", "interrupted by a new message", "half ")
    assert (await house.outcome(new)).text == "new"
    assert await house.said() == [("user", "one"), ("assistant", "half "), ("user", "two"), ("assistant", "new")]


async def test_interrupting_twice_ends_the_run_once_and_works_on_both():
    house, run = await parked()
    news = [await house.start(text, on_busy="interrupt") for text in ("two", "three")]
    assert [(await house.outcome(found)).status for found in (run, *news)] == ["cancelled", "done", "done"]


async def test_steering_hands_the_words_to_the_running_turn():
    house, run = await parked(answer("both"))
    steered = await house.start("and this", on_busy="steer")
    assert steered.id == run.id
    house.backend.release.set()
    assert "steered" in kinds(await house.record(run))
    assert (await house.outcome(run)).text == "both"
    said = [("user", "one"), ("assistant", "half whole"), ("user", "and this"), ("assistant", "both")]
    assert await house.said() == said


async def test_a_run_that_cannot_take_more_words_says_busy():
    house, run = await parked()
    queued = await house.start(on_busy="enqueue")
    await house.cancel(run)
    for steering in (
        house.start("more", on_busy="steer"),
        house.dispatch.steer(ME, queued.id, "more"),
        house.dispatch.steer(ME, run.id, "more"),
    ):
        with pytest.raises(SessionBusy):
            await steering
    await house.outcome(queued)
    with pytest.raises(SessionBusy, match="already ended"):
        await house.dispatch.steer(ME, run.id, "more")


# --- foreign ids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("is_live", [True, False])
async def test_a_foreign_run_reads_as_absent_live_or_ended(stranger, is_live):
    house, run = await parked()
    if not is_live:
        house.backend.release.set()
        await house.outcome(run)
    scope = scope_of(stranger)
    for call in (
        house.runs.reader(scope, run.id),
        house.runs.get(scope, run.id),
        house.runs.outcome(scope, run.id),
        house.runs.cancel(scope, run.id, "mine now"),
        house.runs.steer(scope, run.id, "mine now"),
        house.runs.get(scope_of(ME), "unknown"),
    ):
        with pytest.raises(RunNotFound):
            await call
    assert (await house.runs.get(scope_of(ME), run.id)).status == ("running" if is_live else "done")
    house.backend.release.set()


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("on_busy", POLICIES)
@pytest.mark.parametrize("is_live", [True, False])
async def test_a_message_to_a_foreign_session_finds_none_busy_or_not(stranger, on_busy, is_live):
    house, run = await parked()
    if not is_live:
        house.backend.release.set()
        await house.outcome(run)
    with pytest.raises(SessionNotFound):
        await house.start("mine now", who=stranger, on_busy=on_busy)
    house.backend.release.set()
    assert (await house.outcome(run)).text == "half whole"
    assert await house.said() == [("user", "one"), ("assistant", "half whole")]
    assert house.runs._lanes == {}


@pytest.mark.parametrize("on_busy", POLICIES)
async def test_a_stranger_who_asks_in_a_session_does_not_make_it_busy_for_its_owner(on_busy):
    house = House()
    await house.outcome(await house.start("one"))
    gate = house.store.gate("begin_run")
    stranger = asyncio.create_task(house.start("mine now", who=YOU))
    await soon(house.store.reached.wait())
    owner = asyncio.create_task(house.start("two", on_busy=on_busy))
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(SessionNotFound):
        await stranger
    assert (await house.outcome(await owner)).status == "done"


# --- cancelling --------------------------------------------------------------------------------------------------


async def test_a_running_run_is_cancelled_once_with_what_was_there():
    house, run = await parked()
    reading = asyncio.create_task(house.record(run))
    assert [(await house.cancel(run, reason=reason)).status for reason in ("first", "second")] == ["running"] * 2
    last = members((await soon(reading))[-1])
    assert (last["type"], last["reason"], last["text"]) == ("cancelled", "first", "half ")
    assert (await house.outcome(run)).status == "cancelled"
    assert (house.backend.streams, len(house.runs)) == (0, 0)


async def test_cancelling_a_run_that_has_ended_changes_nothing():
    house = House()
    run = await house.start()
    ended = await house.outcome(run)
    assert [await house.cancel(run) for _ in range(2)] == [ended] * 2
    assert await house.store.get_run(scope_of(ME), run.id) == ended


async def test_a_queued_run_is_cancelled_without_its_turn_and_those_behind_it_go_on():
    house, run = await parked()
    middle, last = [await house.start(text, on_busy="enqueue") for text in ("two", "three")]
    await house.cancel(middle)
    await house.cancel(middle)
    assert kinds(await house.record(middle)) == ["run_started", "cancelled"]
    assert (await house.runs.get(scope_of(ME), run.id)).status == "running"
    house.backend.release.set()
    assert (await house.outcome(last)).status == "done"
    assert ("user", "two") not in await house.said()


async def test_a_run_that_is_cancelled_before_its_first_step_never_asks_the_model():
    house = House()
    gate = house.store.gate("begin_run")
    asking = asyncio.create_task(house.start())
    await soon(house.store.reached.wait())
    [live] = house.runs._live.values()
    await house.cancel(live.run)
    gate.set()
    run = await asking
    assert kinds(await house.record(run)) == ["run_started", "cancelled"]
    assert (await house.outcome(run)).status == "cancelled"
    assert (house.backend.requests, await house.said()) == ([], [("user", "hi")])


async def test_a_cancel_in_the_same_step_as_the_acceptance_ends_the_run():
    house = House(HALVES)
    run = await house.start()
    await house.cancel(run)
    assert kinds(await house.record(run))[-1] == "cancelled"


async def test_a_run_whose_end_is_being_stored_ends_as_it_was():
    house = House()
    gate = house.store.gate("save_run")
    run = await house.start()
    await soon(house.store.reached.wait())
    await house.cancel(run)
    gate.set()
    assert (await house.outcome(run)).status == "done"


# --- a store that fails ------------------------------------------------------------------------------------------


async def test_a_store_that_cannot_begin_a_run_is_told_to_the_caller_and_leaves_no_trace():
    house = House()
    house.store.faults["begin_run"] = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await house.start(key="k")
    assert (len(house.runs), house.runs._lanes, house.runs._keys) == (0, {}, {})
    del house.store.faults["begin_run"]
    assert (await house.outcome(await house.start(key="k"))).status == "done"
    assert await scrape(house) == {'argentor_runs_total{status="done"}': 1.0, "argentor_runs_active": 0.0}


async def test_a_run_that_cannot_begin_hands_its_turn_to_the_next():
    house = House()
    gate = house.store.gate("begin_run")
    asking = [asyncio.create_task(house.start(text, on_busy="enqueue")) for text in ("one", "two")]
    await soon(house.store.reached.wait())
    [lane] = house.runs._lanes.values()
    assert len(lane.waiting) == 1
    house.store.faults["begin_run"] = StorageUnavailable()
    gate.set()
    for refused in asking:
        with pytest.raises(StorageUnavailable):
            await refused
    assert house.runs._lanes == {}


FAULTS = [StorageUnavailable(), Overloaded(), RuntimeError("a bug of the store")]


@pytest.mark.parametrize("fault", FAULTS)
async def test_when_events_cannot_be_stored_the_run_fails_and_every_reader_still_hears_its_end(fault, caplog):
    house, run = await parked()
    before = asyncio.create_task(house.record(run))
    await asyncio.sleep(0)
    house.store.faults["append_events"] = fault
    with caplog.at_level(logging.ERROR):
        house.backend.release.set()
        heard = await soon(before)
    ended = await house.outcome(run)
    code = getattr(fault, "code", "internal")
    assert (kinds(heard)[-1], members(heard[-1])["code"]) == ("error", code)
    assert (ended.status, ended.error_code) == ("failed", code)
    assert await house.record(run) == heard, "what could not be stored then is stored with the end"
    assert "could not be stored" in caplog.text
    assert await scrape(house) == {'argentor_runs_total{status="failed"}': 1.0, "argentor_runs_active": 0.0}


@pytest.mark.parametrize("fault", FAULTS)
async def test_when_the_end_cannot_be_stored_its_readers_still_hear_it(fault, caplog):
    house, run = await parked()
    reader = await house.runs.reader(scope_of(ME), run.id)
    waiting = asyncio.create_task(house.outcome(run))
    await asyncio.sleep(0)
    house.store.faults["save_run"] = fault
    with caplog.at_level(logging.ERROR):
        house.backend.release.set()
        events = await soon(everything(reader))
    assert kinds(events)[-1] == "done"
    assert (reader.run.status, (await waiting).status) == ("done", "done")
    assert "could not be stored" in caplog.text
    assert (len(house.runs), house.runs._lanes) == (0, {})
    assert await scrape(house) == {'argentor_runs_total{status="done"}': 1.0, "argentor_runs_active": 0.0}
    late = await soon(everything(await house.runs.reader(scope_of(ME), run.id)))
    assert "done" not in kinds(late)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_queued_run_whose_turn_cannot_be_stored_fails_alone(fault, caplog):
    house, run = await parked()
    queued = await house.start("two", on_busy="enqueue")
    house.store.faults["start_run"] = fault
    with caplog.at_level(logging.ERROR):
        house.backend.release.set()
        assert kinds(await house.record(queued)) == ["run_started", "error"]
    assert (await house.outcome(run)).status == "done"
    assert (await house.outcome(queued)).error_code == getattr(fault, "code", "internal")


# --- drain -------------------------------------------------------------------------------------------------------


async def test_a_drain_lets_runs_finish_that_can():
    house, run = await parked()
    queued = await house.start("two", on_busy="enqueue")
    draining = asyncio.create_task(house.runs.drain(60.0))
    await asyncio.sleep(0)
    for on_busy in POLICIES:
        with pytest.raises(Draining):
            await house.start(on_busy=on_busy)
    house.backend.release.set()
    await soon(draining)
    assert [(await house.outcome(found)).status for found in (run, queued)] == ["done", "done"]


async def test_a_drain_ends_what_does_not_finish_and_every_run_has_its_terminal_event():
    house, run = await parked()
    queued = [await house.start(text, on_busy="enqueue") for text in ("two", "three")]
    await soon(house.runs.drain(0.0))
    for found in (run, *queued):
        last = members((await house.record(found))[-1])
        assert (last["type"], last["reason"]) == ("cancelled", SHUTDOWN)
        assert (await house.outcome(found)).status == "cancelled"
    assert await house.said() == [("user", "one"), ("assistant", "half "), ("user", "two"), ("user", "three")]
    assert len(house.backend.requests) == 1
    assert (len(house.runs), house.runs._lanes) == (0, {})


async def test_a_drain_ends_a_run_that_is_just_being_accepted():
    house = House()
    gate = house.store.gate("begin_run")
    asking = asyncio.create_task(house.start())
    await soon(house.store.reached.wait())
    draining = asyncio.create_task(house.runs.drain(0.0))
    await until(lambda: all(live.cancel_reason for live in house.runs._live.values()))
    gate.set()
    await soon(draining)
    run = await asking
    assert kinds(await house.record(run)) == ["run_started", "cancelled"]
    assert house.backend.requests == []


async def test_a_drain_without_runs_ends_at_once_and_nothing_is_accepted_any_more():
    house = House()
    await soon(house.runs.drain(60.0))
    with pytest.raises(Draining):
        await house.start()


async def test_no_status_of_an_ended_run_is_live():
    house = House(answer("ok"), [ProviderUnavailable()], HALVES)
    runs = [await house.start(session=name) for name in ("a", "b", "c")]
    await soon(house.backend.parked.wait())
    await house.cancel(runs[2])
    statuses = [(await house.outcome(run)).status for run in runs]
    assert statuses == ["done", "failed", "cancelled"]
    assert LIVE.isdisjoint(statuses)

"""`argentor_asgi.gateway.restoring`, and `Runs` with it: a run that waits for a person outlives its process."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from asgi_driver import soon, until
from contracts.store_values import ALL, StillClock, a_message
from house import ME, YOU, everything, kinds
from scripted_backend import Park, answer, call, calling
from waiting_room import Room, asking, of

from argentor_asgi.config import Agent
from argentor_asgi.errors import ApprovalDecided, RunLaidAside, SessionBusy, StorageUnavailable
from argentor_asgi.gateway.approvals import LATE
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.runs import SHUTDOWN
from argentor_asgi.gateway.telling import failure_of
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.llm import TextPiece
from argentor_asgi.sessions.sqlite import SqliteStore

WAYS = ["stop", "kill"]


async def waiting(*call_ids, **settings):
    """Return a room whose run has said something and waits for a person, and the run."""
    script = [TextPiece("let me "), TextPiece("see"), *asking(*(call_ids or ("c1",)))]
    room = Room(script, answer("thanks"), **settings)
    run = await room.start()
    await room.asked(len(call_ids) or 1)
    return room, run


async def restarted(room, way, *scripts, count=1, **more):
    again = await room.after_stop(*scripts, **more) if way == "stop" else room.after_kill(*scripts, **more)
    assert await again.restored() == count
    return again


def once_each(events):
    """Say that each approval is asked and resolved once, and that the run began once."""
    told = [
        (kind, each["approval_id"]) for kind in ("approval_request", "approval_resolved") for each in of(events, kind)
    ]
    return len(told) == len(set(told)) and kinds(events).count("run_started") == 1


# --- a run that goes on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_that_waits_goes_on_after_a_restart_as_if_there_had_been_none(way):
    room, run = await waiting("c1", "c2")
    again = await restarted(room, way)
    first, second = await again.asked(2)
    assert again.sent == []
    await again.decide(first)
    await again.decide(second, approved=False, reason="no")
    events = await again.record(run)
    assert once_each(events)
    told = ["approval_request", "approval_resolved", "tool_result"]
    assert kinds(events)[-9:] == [kind for kind in told for _ in "12"] + ["text_delta", "turn_end", "done"]
    [done] = of(events, "done")
    assert (done["text"], done["turns"], done["usage"]["input_tokens"]) == ("sent", 2, 6)
    assert [each["index"] for each in of(events, "text_delta")] == [0, 1, 2]
    assert (again.sent, (await again.run(run)).status) == ([("you", "me")], "done")
    assert [message.role for message in await again.said()] == ["user", "assistant", "tool", "assistant"]


async def test_a_run_is_asked_about_over_many_restarts_and_works_once():
    room, run = await waiting()
    for way in ("stop", "kill", "stop", "stop", "kill"):
        room = await restarted(room, way)
        await room.waits(run)
    await room.decide(await room.asked())
    events = await room.record(run)
    assert once_each(events)
    assert room.sent == [("you", "me")]
    assert room.announced == []


async def test_what_was_decided_while_nobody_heard_it_is_not_asked_again():
    room, run = await waiting("c1", "c2")
    first, second = await room.asked(2)
    for approval, status in ((first, "approved"), (second, "denied")):
        await room.store.decide_approval(
            replace(approval, status=status, reviewer="me", decided_at=SystemClock().now(), reason="before the crash")
        )
    again = await restarted(room, "kill")
    events = await again.record(run)
    assert once_each(events)
    assert [each["approved"] for each in of(events, "approval_resolved")] == [True, False]
    assert again.sent == [("you", "me")]


async def test_what_was_decided_and_heard_before_the_stop_is_told_once():
    room, run = await waiting("c1", "c2")
    first, second = await room.asked(2)
    await room.decide(first)
    reader = await room.runs.reader(scope_of(ME), run.id)
    async for batch in reader:
        if batch[-1].type == "approval_resolved":
            break
    again = await restarted(room, "stop")
    assert [approval.id for approval in again.approvals.pending(scope_of(ME))] == [second.id]
    await again.decide(await again.asked())
    assert once_each(await again.record(run))
    assert len(again.sent) == 2


async def test_a_request_that_a_crash_kept_from_the_readers_is_told_after_the_restart():
    room, run = await waiting()
    [log] = room.store._runs.values()
    log.events = [event for event in log.events if event.type != "approval_request"]
    log.run = replace(log.run, last_seq=len(log.events))
    again = await restarted(room, "kill")
    approval = await again.asked()
    assert again.announced == [approval]
    await again.decide(approval)
    assert once_each(await again.record(run))


async def test_the_time_to_answer_is_not_begun_anew():
    room, run = await waiting()
    [approval] = await room.store.approvals_of(run.id)
    over = replace(approval, created_at=approval.created_at - timedelta(hours=1), expires_at=approval.created_at)
    room.store._approvals[approval.id] = over
    again = await restarted(room, "kill")
    events = await again.record(run)
    assert [each["reason"] for each in of(events, "approval_resolved")] == [LATE]
    assert (again.sent, (await again.approval(approval)).status) == ([], "expired")


async def test_a_restored_run_has_its_session_and_only_its_owner_may_answer():
    room, run = await waiting()
    again = await restarted(room, "stop")
    assert again.runs.is_busy(scope_of(ME), again.session)
    with pytest.raises(SessionBusy):
        await again.start("more")
    assert list(again.approvals.pending(scope_of(YOU))) == []
    assert (await again.start("hurry", on_busy="steer")).id == run.id
    await again.decide(await again.asked())
    assert "steered" in kinds(await again.record(run))


async def test_a_restored_run_can_be_cancelled():
    room, run = await waiting()
    again = await restarted(room, "stop")
    await again.asked()
    await again.runs.cancel(scope_of(ME), run.id, "enough")
    assert kinds(await again.record(run))[-1] == "cancelled"
    assert [each.status for each in await again.store.approvals_of(run.id)] == ["cancelled"]


async def test_a_call_that_the_model_never_completed_is_not_made_after_a_restart():
    cut = list(calling(call("c1", "send", '{"to": "you"}'), call("c2", "send", '{"to"')))
    del cut[-3]  # the end of the second call
    room = Room(cut, answer("ok"))
    run = await room.start()
    await room.asked()
    again = await restarted(room, "stop")
    await again.decide(await again.asked())
    events = await again.record(run)
    assert [(each["id"], each["is_error"]) for each in of(events, "tool_result")] == [("c1", False), ("c2", True)]
    assert again.sent == [("you", "me")]


async def test_what_a_new_policy_no_longer_asks_is_closed_and_the_call_is_judged_by_it():
    room, run = await waiting()
    [approval] = await room.store.approvals_of(run.id)
    again = await restarted(room, "stop", agent=Agent(deny_skills=("send",)))
    assert (await again.ended(run)).status == "done"
    assert (again.sent, (await again.approval(approval)).status) == ([], "cancelled")
    with pytest.raises(ApprovalDecided):
        await again.decide(approval)


async def test_a_crash_in_the_middle_of_the_approved_calls_ends_the_run_and_repeats_none():
    """Once the answers are there, the run is no longer one that waits."""
    room, run = await waiting()
    gate = room.store.gate("append_events")
    await room.decide(await room.asked())
    await until(lambda: room.sent)
    again = room.after_kill()
    assert await again.restored() == 0
    assert ((await again.run(run)).status, again.sent) == ("interrupted", [("you", "me")])
    gate.set()
    await room.ended(run)


async def test_a_crash_right_after_a_restart_ends_the_run():
    """Until it asks again nobody knows whether its calls were made."""
    room, run = await waiting()
    again = await room.after_stop()
    again.store.gate("append_events")
    await again.restored()
    assert (await again.run(run)).status == "running"
    last = again.after_kill()
    assert await last.restored() == 0
    assert (await last.run(run)).status == "interrupted"
    again.store.gates["append_events"].set()
    await again.runs.cancel(scope_of(ME), run.id, "over")
    await again.ended(run)


# --- one that does not -------------------------------------------------------------------------------------------


async def test_a_run_that_nothing_waits_for_is_interrupted_with_its_terminal_event():
    room, run = await waiting()
    again = room.after_kill()
    await again.store.append(again.session, [a_message("from nowhere", again.session)])
    assert await again.restored() == 0
    events = await again.record(run)
    assert kinds(events)[-1] == "error"
    assert of(events, "error")[0]["code"] == "interrupted"
    assert [each.status for each in await again.store.approvals_of(run.id)] == ["cancelled"]
    assert not again.runs.is_busy(scope_of(ME), again.session)


async def test_a_store_that_fails_ends_the_start():
    room, _ = await waiting()
    again = room.after_kill()
    again.store.faults["events"] = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await again.restored()


async def test_with_nothing_stored_there_is_nothing_to_restore():
    assert await Room().restored() == 0


# --- the stop ----------------------------------------------------------------------------------------------------


async def test_a_stop_lays_a_waiting_run_aside_at_once_and_lets_its_readers_go():
    room, run = await waiting()
    reader = await room.runs.reader(scope_of(ME), run.id)
    reading = asyncio.create_task(everything(reader))
    blocked = asyncio.create_task(room.runs.outcome(scope_of(ME), run.id))
    await asyncio.sleep(0)
    await soon(room.runs.drain(1000))
    assert kinds(await soon(reading))[-1] == "approval_request"
    left = await soon(blocked)
    assert (left.status, type(await failure_of(room.store, left))) == ("waiting_approval", RunLaidAside)
    stored = await room.run(run)
    assert (stored.status, stored.last_seq) == ("waiting_approval", len(await room.store.events(run.id, limit=ALL)))
    assert [message.role for message in await room.said()] == ["user", "assistant"]
    assert (len(room.runs), len(room.approvals)) == (0, 0)
    [approval] = await room.store.approvals_of(run.id)
    assert approval.status == "pending"


async def test_an_answer_that_comes_while_the_gateway_stops_is_kept():
    room, run = await waiting()
    approval = await room.asked()
    await soon(room.runs.drain(0))
    assert (await room.decide(approval)).status == "approved"
    again = room.after_kill()
    assert await again.restored() == 1
    await again.ended(run)
    assert again.sent == [("you", "me")]


async def test_a_run_that_begins_to_wait_while_the_gateway_stops_is_laid_aside_then():
    room = Room([Park(), *asking("c1")], answer("never"))
    run = await room.start()
    await soon(room.backend.parked.wait())
    stopping = asyncio.create_task(room.runs.drain(1000))
    await asyncio.sleep(0)
    room.backend.release.set()
    await soon(stopping)
    assert (await room.run(run)).status == "waiting_approval"
    again = room.after_kill()
    assert await again.restored() == 1
    await again.decide(await again.asked())
    assert once_each(await again.record(run))


async def test_words_left_for_a_run_that_waits_are_kept_and_the_run_is_not():
    """They are in memory alone, so the stop has the run end, which writes them into the session."""
    room, run = await waiting()
    await room.start("and this", on_busy="steer")
    await soon(room.runs.drain(0))
    assert (await room.run(run)).status == "cancelled"
    assert [message.content for message in await room.said() if message.role == "user"] == ["hi", "and this"]
    assert of(await room.record(run), "cancelled")[0]["reason"] == SHUTDOWN


@pytest.mark.parametrize("way", WAYS)
async def test_messages_behind_a_run_that_waits_have_their_turn_after_it_as_before(way):
    room, run = await waiting()
    behind = [await room.start(text, on_busy="enqueue") for text in ("second", "third")]
    again = await restarted(room, way, answer("sent"), asking("c2"), answer("2"), answer("3"), count=3)
    assert [message.content for message in await again.said() if message.role == "user"] == ["hi"]
    assert [(await again.run(each)).status for each in behind] == ["queued", "queued"]
    await again.decide(await again.asked())
    assert (await again.ended(run)).text == "sent"
    await again.decide(await again.asked())
    assert [(await again.ended(each)).text for each in behind] == ["2", "3"]
    for each in (run, *behind):
        assert once_each(await again.record(each))
    assert [message.content for message in await again.said() if message.role == "user"] == ["hi", "second", "third"]
    assert len(again.sent) == 2


async def test_a_queued_message_that_was_cancelled_before_the_stop_has_no_turn():
    room, run = await waiting()
    behind = await room.start("second", on_busy="enqueue")
    await room.runs.cancel(scope_of(ME), behind.id, "never mind")
    again = await restarted(room, "stop")
    assert (await again.run(behind)).status == "cancelled"
    await again.decide(await again.asked())
    assert once_each(await again.record(run))


async def test_what_is_queued_behind_a_run_that_cannot_go_on_ends_with_it():
    room, run = await waiting()
    behind = await room.start("second", on_busy="enqueue")
    again = room.after_kill()
    await again.store.append(again.session, [a_message("from nowhere", again.session)])
    assert await again.restored() == 0
    assert {(await again.run(each)).status for each in (run, behind)} == {"interrupted"}
    assert (await again.said())[-1].content == "second"


async def test_where_nothing_is_kept_a_stop_cancels_what_waits():
    room, run = await waiting(lays_aside=False)
    await soon(room.runs.drain(0))
    assert kinds(await room.record(run))[-1] == "cancelled"
    assert [each.status for each in await room.store.approvals_of(run.id)] == ["cancelled"]


# --- the real file -----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_run_waits_in_a_file_and_goes_on_from_it(tmp_path):
    path = tmp_path / "db"
    async with SqliteStore(path, clock=StillClock()) as store:
        room = Room([TextPiece("let me"), *asking("c1")], store=store)
        run = await room.start()
        await room.asked()
        await soon(room.runs.drain(0))
    async with SqliteStore(path, clock=StillClock()) as store:
        again = Room(answer("sent"), store=store, session=room.session)
        assert await again.restored() == 1
        await again.decide(await again.asked(), edited_arguments={"to": "them"})
        events = await again.record(run)
        assert once_each(events)
        assert (kinds(events)[-1], again.sent) == ("done", [("them", "me")])
        [approval] = await store.approvals_of(run.id)
        assert (approval.status, approval.edited_arguments) == ("approved", {"to": "them"})

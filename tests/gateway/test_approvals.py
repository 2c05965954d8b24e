"""`argentor_asgi.gateway.approvals`: calls that wait for a person; what they are answered, by whom and when.

agent.md 1.10 D10 and core.md G1 to G4: a person is asked in the loop, only the owner's principal may answer, and an
answer finds its question.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from asgi_driver import soon, until
from audit_place import an_audit, seen
from contracts.approval_store import an_approval
from house import ME, TENANT, YOU, kinds
from hypothesis import given
from hypothesis import strategies as st
from scripted_backend import answer, call, calling
from waiting_room import Room, asking, of

from argentor_asgi.errors import (
    ApprovalDecided,
    ApprovalNotFound,
    InvalidInput,
    RunNotFound,
    SessionBusy,
    StorageUnavailable,
)
from argentor_asgi.gateway.approvals import FULL, LATE, OVER, Decision, as_of
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.security.identity import Principal

GUEST = Principal("me", scopes=frozenset({"chat:write", "approvals:read"}))
"""The same principal with a key that may not approve."""
NOT_APPROVED = "The call was not approved: "


async def waiting(*call_ids, **settings):
    """Return a room whose run waits for a person, the run, and what it asks."""
    room = Room(asking(*(call_ids or ("c1",))), answer("thanks"), **settings)
    run = await room.start()
    return room, run, await room.asked(len(call_ids) or 1)


# --- asking and answering ----------------------------------------------------------------------------------------


async def test_an_approved_call_runs_after_the_answer_and_not_before():
    """agent.md 1.10 D10: the loop asks, and goes on with what it hears."""
    room, run, approval = await waiting()
    stored = await room.run(run)
    assert (stored.status, stored.turns, stored.usage.input_tokens) == ("waiting_approval", 1, 3)
    assert (await room.approval(approval), room.sent, room.announced) == (approval, [], [approval])
    assert (approval.tool, approval.arguments, approval.risk_level) == ("send", {"to": "you"}, "high")
    decided = await room.decide(approval, reason="go ahead")
    assert await room.approval(approval) == decided
    events = await room.record(run)
    told = ["approval_request", "approval_resolved", "tool_result", "text_delta", "turn_end", "done"]
    assert kinds(events)[-7:] == ["turn_end", *told]
    assert room.sent == [("you", "me")]
    assert await room.heard_of_calls() == [("sent to you", False)]
    assert (await room.run(run)).status == "done"
    assert len(room.approvals) == 0


async def test_the_events_of_an_approval_say_what_is_asked_and_what_became_of_it():
    room, run, approval = await waiting()
    await room.decide(approval, reason="fine", edited_arguments={"to": "them"})
    events = await room.record(run)
    [request], [resolved] = of(events, "approval_request"), of(events, "approval_resolved")
    assert request == {
        "type": "approval_request",
        "approval_id": approval.id,
        "call_id": "c1",
        "tool": "send",
        "arguments": {"to": "you"},
        "risk_level": "high",
        "description": approval.description,
        "expires_at": request["expires_at"],
    }
    assert request["expires_at"].startswith(approval.expires_at.isoformat()[:19])
    assert resolved == {
        "type": "approval_resolved",
        "approval_id": approval.id,
        "approved": True,
        "reviewer": "me",
        "reason": "fine",
        "edited_arguments": {"to": "them"},
    }


async def test_a_denied_call_does_not_run_and_the_model_hears_why():
    room, run, approval = await waiting()
    await room.decide(approval, approved=False, reason="too early")
    await room.ended(run)
    assert room.sent == []
    assert await room.heard_of_calls() == [(f"{NOT_APPROVED}too early.", True)]
    assert (await room.approval(approval)).status == "denied"


async def test_edited_arguments_are_what_the_call_is_made_with():
    room, run, approval = await waiting()
    await room.decide(approval, edited_arguments={"to": "them"})
    await room.ended(run)
    assert room.sent == [("them", "me")]
    stored = await room.approval(approval)
    assert (stored.arguments, stored.edited_arguments) == ({"to": "you"}, {"to": "them"})


async def test_edited_arguments_are_checked_as_the_models_are():
    room, run, approval = await waiting()
    await room.decide(approval, edited_arguments={"wrong": 1})
    await room.ended(run)
    assert room.sent == []
    [(content, is_error)] = await room.heard_of_calls()
    assert (is_error, "to" in content) == (True, True)


async def test_arguments_are_edited_only_for_a_call_that_may_run():
    room, run, approval = await waiting()
    with pytest.raises(InvalidInput):
        await room.decide(approval, approved=False, edited_arguments={})
    assert (await room.approval(approval)).status == "pending"
    await room.decide(approval, approved=False)
    await room.ended(run)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
async def test_no_call_of_a_turn_runs_before_all_are_decided_in_whatever_order(order):
    room, run, approvals = await waiting("c1", "c2", "c3")
    for number in order[:-1]:
        await room.decide(approvals[number], approved=number != 1)
    reader = await room.runs.reader(scope_of(ME), run.id)
    await until(lambda: reader.run.status == "waiting_approval")
    assert (room.sent, len(room.approvals)) == ([], 1)
    await room.decide(approvals[order[-1]], approved=order[-1] != 1)
    events = await room.record(run)
    assert [each["approval_id"] for each in of(events, "approval_resolved")] == [approvals[n].id for n in order]
    assert [(each["id"], each["is_error"]) for each in of(events, "tool_result")] == [
        ("c1", False),
        ("c2", True),
        ("c3", False),
    ]
    assert len(room.sent) == 2


async def test_calls_that_need_nobody_wait_with_their_turn():
    room = Room(calling(call("c1", "look", '{"to": "me"}'), call("c2", "send", '{"to": "you"}')), answer("ok"))
    run = await room.start()
    approval = await room.asked()
    assert (approval.call_id, room.sent) == ("c2", [])
    await room.decide(approval)
    await room.ended(run)
    assert sorted(room.sent) == [("me", "nobody was asked"), ("you", "me")]


async def test_two_turns_of_a_run_ask_one_after_the_other():
    room = Room(asking("c1"), asking("c2"), answer("both"))
    run = await room.start()
    await room.decide(await room.asked())
    await until(lambda: len(room.announced) == 2)
    assert room.sent == [("you", "me")]
    await room.decide(await room.asked())
    assert kinds(await room.record(run)).count("approval_request") == 2
    assert room.approvals.outcomes == {"approved": 2}


# --- who may -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", [YOU, TENANT])
async def test_another_principal_finds_no_approval_and_the_run_still_waits(stranger):
    """core.md G2: only the owner's principal may answer."""
    room, run, approval = await waiting()
    with pytest.raises(ApprovalNotFound):
        await room.decide(approval, who=stranger)
    assert list(room.approvals.pending(scope_of(stranger))) == []
    assert (await room.asked()).id == approval.id
    await room.decide(approval)
    await room.ended(run)


async def test_an_id_that_nobody_made_is_not_found():
    """core.md G3: ids are the gateway's own, so that no model can name another's."""
    room, run, approval = await waiting()
    with pytest.raises(ApprovalNotFound):
        await room.decide(replace(approval, id="unknown"))
    await room.decide(approval)
    await room.ended(run)


@pytest.mark.parametrize("refused", ["deny", "scope"])
async def test_where_nobody_can_answer_the_call_is_denied_at_once(refused):
    """core.md G4: no run waits for five minutes for a person who is not there."""
    room = Room(asking("c1"), answer("ok"))
    run = await (room.start(on_approval="deny") if refused == "deny" else room.start(who=GUEST))
    events = await room.record(run)
    assert "approval_request" not in kinds(events)
    assert (room.sent, len(room.announced)) == ([], 0)
    [(content, is_error)] = await room.heard_of_calls()
    assert (content.startswith(NOT_APPROVED), is_error) == (True, True)
    assert list(await room.store.approvals_of(run.id)) == []


# --- once and in time --------------------------------------------------------------------------------------------


async def test_a_call_that_nobody_answers_in_time_is_denied():
    room = Room(asking("c1", "c2"), answer("ok"), approval_s=0.01)
    run = await room.start()
    events = await room.record(run)
    assert [each["reason"] for each in of(events, "approval_resolved")] == [LATE] * 2
    assert await room.heard_of_calls() == [(f"{NOT_APPROVED}{LATE}.", True)] * 2
    found = await room.store.approvals_of(run.id)
    assert [(each.status, each.reviewer, each.reason) for each in found] == [("expired", None, LATE)] * 2
    with pytest.raises(ApprovalDecided) as late:
        await room.decide(found[0])
    assert late.value.members == {"approval_status": "expired"}
    assert (room.sent, room.approvals.outcomes) == ([], {"expired": 2})


@pytest.mark.parametrize(("first", "status"), [(True, "approved"), (False, "denied")])
async def test_a_second_answer_hears_what_the_first_was(first, status):
    room, run, approval = await waiting()
    await room.decide(approval, approved=first)
    for again in (True, False):
        with pytest.raises(ApprovalDecided) as late:
            await room.decide(approval, approved=again)
        assert late.value.members == {"approval_status": status}
    await room.ended(run)
    assert len(room.sent) == first


async def test_of_many_answers_at_once_one_counts():
    room, run, approval = await waiting()
    answers = (room.decide(approval, approved=number % 2 == 0, reason=str(number)) for number in range(20))
    heard = await asyncio.gather(*answers, return_exceptions=True)
    [winner] = [each for each in heard if not isinstance(each, Exception)]
    assert [type(each) for each in heard].count(ApprovalDecided) == 19
    [resolved] = of(await room.record(run), "approval_resolved")
    assert resolved["reason"] == winner.reason


async def test_the_answerer_hears_nothing_before_the_answer_is_stored():
    room, run, approval = await waiting()
    gate = room.store.gate("decide_approval")
    answering = asyncio.create_task(room.decide(approval))
    await soon(room.store.reached.wait())
    assert not answering.done()
    gate.set()
    assert (await answering).status == "approved"
    await room.ended(run)


async def test_an_answerer_who_leaves_meanwhile_has_answered():
    room, run, approval = await waiting()
    gate = room.store.gate("decide_approval")
    answering = asyncio.create_task(room.approvals.decide(ME, approval.id, Decision(approved=True)))
    await soon(room.store.reached.wait())
    answering.cancel()
    await asyncio.wait([answering])
    gate.set()
    await soon(room.approvals.settled())
    await room.ended(run)
    assert room.sent == [("you", "me")]


async def test_beyond_the_bound_calls_are_denied_at_once():
    """core.md G4: what waits is bounded."""
    room, run, _ = await waiting("c1", "c2", limit=2)
    room.backend._scripts.appendleft(asking("d1"))
    room.session = "another"
    over = await room.start()
    events = await room.record(over)
    assert "approval_request" not in kinds(events)
    assert (await room.heard_of_calls())[-1] == (f"{NOT_APPROVED}{FULL}.", True)
    await room.runs.cancel(scope_of(ME), run.id, "enough")
    await room.ended(run)
    assert len(room.approvals) == 0


# --- the run meanwhile -------------------------------------------------------------------------------------------


async def test_a_run_that_is_cancelled_while_it_waits_asks_no_more():
    room, run, approval = await waiting("c1")
    await room.runs.cancel(scope_of(ME), run.id, "never mind")
    events = await room.record(run)
    assert kinds(events)[-2:] == ["approval_request", "cancelled"]
    stored = await room.approval(approval)
    assert (stored.status, stored.reviewer, stored.reason) == ("cancelled", None, OVER)
    with pytest.raises(ApprovalDecided) as late:
        await room.decide(approval)
    assert late.value.members == {"approval_status": "cancelled"}
    assert (room.sent, len(room.approvals)) == ([], 0)
    assert await room.heard_of_calls() == [("cancelled", True)]


async def test_a_run_that_waits_is_busy_and_can_be_steered():
    room, run, approval = await waiting()
    with pytest.raises(SessionBusy):
        await room.start("more")
    steered = await room.start("hurry", on_busy="steer")
    assert steered.id == run.id
    await room.decide(approval)
    events = await room.record(run)
    assert kinds(events).index("tool_result") < kinds(events).index("steered")
    assert [message.content for message in await room.said()][-2:] == ["hurry", "thanks"]


async def test_a_new_message_may_interrupt_a_run_that_waits():
    room, run, approval = await waiting()
    later = await room.start("instead", on_busy="interrupt")
    assert (await room.ended(run)).status == "cancelled"
    assert (await room.ended(later)).status == "done"
    assert (await room.approval(approval)).status == "cancelled"


@pytest.mark.slow
async def test_the_time_of_a_run_stands_still_while_it_waits():
    room, run, approval = await waiting(timeout_s=0.5)
    await asyncio.sleep(0.7)
    await room.decide(approval)
    ended = await room.ended(run)
    assert (ended.status, ended.work_ms < 500) == ("done", True)


async def test_work_is_counted_without_the_time_that_it_waits():
    room, run, approval = await waiting()
    stored = await room.run(run)
    await room.decide(approval)
    assert stored.work_ms <= (await room.ended(run)).work_ms < 10_000


# --- failures ----------------------------------------------------------------------------------------------------


async def test_a_question_that_cannot_be_stored_fails_the_run_and_nothing_is_done():
    room = Room(asking("c1"), answer("never"))
    room.store.faults["request_approvals"] = StorageUnavailable()
    run = await room.start()
    assert (await room.ended(run)).error_code == "storage_unavailable"
    assert (room.sent, room.announced, len(room.approvals)) == ([], [], 0)


async def test_an_answer_that_cannot_be_stored_is_refused_and_may_be_given_again():
    room, run, approval = await waiting()
    room.store.faults["decide_approval"] = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await room.decide(approval)
    del room.store.faults["decide_approval"]
    await room.decide(approval)
    assert (await room.ended(run)).status == "done"
    assert room.sent == [("you", "me")]


async def test_a_run_that_cannot_be_stored_as_running_again_does_not_make_its_calls():
    """What was approved is run at most once: a crash right then must find that the run was going on."""
    room, run, approval = await waiting()
    room.store.faults["save_run"] = StorageUnavailable()
    await room.decide(approval)
    assert (await room.ended(run)).status == "failed"
    assert room.sent == []


async def test_a_run_whose_approvals_cannot_be_closed_ends_all_the_same(caplog):
    room, run, _ = await waiting()
    room.store.faults["decide_approval"] = StorageUnavailable()
    await room.runs.cancel(scope_of(ME), run.id, "enough")
    assert (await room.ended(run)).status == "cancelled"
    assert "could not be closed" in caplog.text
    assert len(room.approvals) == 0


async def test_approvals_go_with_their_session_and_the_run_ends():
    room = Room(asking("c1"), answer("never"), approval_s=0.1)
    run = await room.start()
    approval = await room.asked()
    await room.store.delete_session(scope_of(ME), room.session)
    with pytest.raises(ApprovalNotFound):
        await room.decide(approval)
    assert (await room.ended(run)).status == "failed"
    assert (room.sent, len(room.approvals)) == ([], 0)
    with pytest.raises(RunNotFound):
        await room.runs.get(scope_of(ME), run.id)


# --- evidence ----------------------------------------------------------------------------------------------------


async def test_the_audit_log_has_who_decided_and_the_names_of_arguments_alone(tmp_path):
    async with an_audit(tmp_path / "audit") as audit:
        room, run, approval = await waiting(audit=audit)
        await room.decide(approval, edited_arguments={"to": "SECRET"}, reason="SECRET")
        await room.ended(run)
        rows = [row for row in await seen(audit) if row.action.startswith("approval_")]
        common = {"run_id": run.id, "call_id": "c1", "approval_id": approval.id, "arguments": ["to"]}
        assert [(row.action, row.outcome, row.principal, row.skill_name, row.details) for row in rows] == [
            ("approval_requested", "success", "me", "send", common),
            (
                "approval_decided",
                "success",
                "me",
                "send",
                common | {"status": "approved", "reviewer": "me", "edited_arguments": ["to"]},
            ),
        ]
        assert "SECRET" not in str(rows)


async def test_a_refusal_and_a_time_that_is_over_are_audited_as_denied(tmp_path):
    async with an_audit(tmp_path / "audit") as audit:
        room, run, approvals = await waiting("c1", "c2", audit=audit, approval_s=0.1)
        await room.decide(approvals[0], approved=False)
        await room.ended(run)
        rows = [row for row in await seen(audit) if row.action == "approval_decided"]
        assert [(row.outcome, row.details["status"], row.details["reviewer"]) for row in rows] == [
            ("denied", "denied", "me"),
            ("denied", "expired", None),
        ]


# --- plain functions ---------------------------------------------------------------------------------------------


@given(st.sampled_from(["pending", "approved", "denied", "expired", "cancelled"]), st.integers(-600, 600))
def test_only_what_is_pending_expires_and_only_once_its_time_is_over(status, late_s):
    approval = an_approval(status=status)
    now = approval.expires_at + timedelta(seconds=late_s)
    expected = "expired" if status == "pending" and late_s >= 0 else status
    found = as_of(approval, now)
    assert found.status == expected
    assert replace(found, status=status, reason=None) == approval

"""Runs that ask, cut at every step of the loop: cancelled, laid aside or killed, they end once and do nothing twice."""

import asyncio

import pytest
from asgi_driver import soon
from house import ME, kinds
from scripted_backend import answer
from waiting_room import Room, asking, of

from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.sessions.records import LIVE

pytestmark = pytest.mark.slow

STEPS = 120
"""More steps of the loop than such a run takes."""


async def reviewed(room, seen):
    """Approve what waits, and keep what became of it in `seen`."""
    for approval in room.approvals.pending(scope_of(ME)):
        if approval.id not in seen:
            seen[approval.id] = asyncio.create_task(room.decide(approval))


async def cut(step, **settings):
    """Return a room whose run was begun, reviewed as it asked, and is left after so many steps of the loop."""
    room = Room(asking("c1", "c2"), asking("c3", to="them"), answer("done"), **settings)
    run, seen = await room.start(), {}
    for _ in range(step):
        await asyncio.sleep(0)
        await reviewed(room, seen)
    return room, run, seen


async def over(room, seen):
    """Say that nothing of the room goes on: no run, no open question, no task."""
    await asyncio.gather(*seen.values(), return_exceptions=True)
    await room.approvals.settled()
    mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for _ in range(5):
        await asyncio.sleep(0)
    return (len(room.runs), len(room.approvals), [task for task in mine if not task.done()]) == (0, 0, [])


@pytest.mark.parametrize("start", range(0, STEPS, 30))
async def test_a_run_that_is_cancelled_anywhere_leaves_no_question_open(start):
    for step in range(start, start + 30):
        room, run, seen = await cut(step)
        await room.runs.cancel(scope_of(ME), run.id, "enough")
        events = await room.record(run)
        await room.ended(run)
        assert await over(room, seen)
        assert kinds(events)[-1] in {"cancelled", "done"}
        assert {each.status for each in await room.store.approvals_of(run.id)} <= {"approved", "cancelled"}
        assert len(room.sent) <= 3


@pytest.mark.parametrize("start", range(0, STEPS, 30))
async def test_a_run_that_a_stop_meets_anywhere_ends_then_or_goes_on_and_sends_nothing_twice(start):
    waits = 0
    for step in range(start, start + 30):
        room, run, seen = await cut(step)
        again = await room.after_stop()
        assert await over(room, seen)
        waits += await finished(again, run)
    assert waits or start


@pytest.mark.parametrize("start", range(0, STEPS, 30))
async def test_a_run_that_a_crash_meets_anywhere_ends_or_goes_on_and_sends_nothing_twice(start):
    for step in range(start, start + 30):
        room, run, seen = await cut(step)
        again = room.after_kill()
        await room.runs.cancel(scope_of(ME), run.id, "the test has seen enough of it")
        await room.ended(run)
        assert await over(room, seen)
        await finished(again, run)


async def finished(room, run):
    """Start again, approve all that is asked, and look at what came of the run; say whether it had waited."""
    waited = (await room.run(run)).status == "waiting_approval"
    assert await room.restored() == waited
    seen = {}
    async with asyncio.timeout(5):
        while len(room.runs):
            await asyncio.sleep(0)
            await reviewed(room, seen)
    assert await over(room, seen)
    ended = await room.run(run)
    assert ended.status not in LIVE
    assert ended.status != "interrupted" or not waited
    assert (room.sent.count(("you", "me")) <= 2, room.sent.count(("them", "me")) <= 1) == (True, True)
    assert not waited or len(room.sent) >= 1
    events = await soon(room.record(run))
    told = [each["approval_id"] for each in of(events, "approval_request")]
    assert len(told) == len(set(told))
    assert {each.status for each in await room.store.approvals_of(run.id)} <= {"approved", "cancelled"}
    return waited

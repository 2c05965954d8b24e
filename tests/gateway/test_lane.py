"""`argentor_asgi.gateway.lane`: what becomes of a message, and what a live run holds."""

from dataclasses import replace

import pytest
from callers import Desk
from faulty_store import FaultyStore
from house import ME
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import Overloaded
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.lane import QUEUED_PER_SESSION, LiveRun, Order, nothing_granted, plan, scope_of_run
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.messages import Message, Usage
from argentor_asgi.sessions.records import Run, Session

NOW = SystemClock().now()
ORDER = Order(
    run=Run("r", "s", "me", "default", "running", "m", "hi", NOW, NOW),
    session=Session("s", "me", "default", NOW, NOW),
    message=Message("u", "user", "hi", "s", NOW, ()),
    on_busy="reject",
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
POLICIES = st.sampled_from(["reject", "enqueue", "interrupt", "steer"])


@given(st.integers(0, 2 * QUEUED_PER_SESSION), POLICIES)
def test_a_session_that_is_free_starts_whatever_the_policy(queued, on_busy):
    assert plan(busy=False, queued=queued, on_busy=on_busy) == "start"


@pytest.mark.parametrize(
    ("on_busy", "below", "full"),
    [
        ("reject", "refuse", "refuse"),
        ("enqueue", "queue", "refuse"),
        ("interrupt", "interrupt", "refuse"),
        ("steer", "steer", "steer"),
    ],
)
@given(st.integers(0, QUEUED_PER_SESSION - 1), st.integers(0, 5))
def test_a_busy_session_follows_its_policy_as_long_as_there_is_room_to_wait(on_busy, below, full, queued, beyond):
    assert plan(busy=True, queued=queued, on_busy=on_busy) == below
    assert plan(busy=True, queued=QUEUED_PER_SESSION + beyond, on_busy=on_busy) == full


async def test_the_first_in_a_session_runs_and_the_others_are_queued():
    for is_first, status in ((True, "running"), (False, "queued")):
        live = LiveRun(ORDER, FaultyStore(), SystemClock(), is_first=is_first)
        assert (live.run.status, live.context.trace, live.lane) == (status, ORDER.trace, (scope_of(ME), "s"))
        assert scope_of_run(live.run) == scope_of(ME)


async def test_what_a_run_holds_is_given_back_once_with_the_tokens_that_it_used():
    desk = Desk()
    account = desk.account()
    order = replace(ORDER, grant=lambda: desk.limiter.grant_run(account, 500))
    live = LiveRun(order, FaultyStore(), SystemClock(), is_first=True)
    assert (account.runs, account.reserved) == (1, 500)
    live.context.usage = Usage(30, 12, 5)
    for _ in range(2):
        live.give_back()
    assert (account.runs, account.reserved, account.used) == (0, 0, 42)


async def test_a_grant_that_is_refused_makes_no_run_and_none_is_needed():
    def refused():
        raise Overloaded

    with pytest.raises(Overloaded):
        LiveRun(replace(ORDER, grant=refused), FaultyStore(), SystemClock(), is_first=True)
    assert nothing_granted() is None
    LiveRun(ORDER, FaultyStore(), SystemClock(), is_first=True).give_back()

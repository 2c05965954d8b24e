"""`argentor_asgi.gateway.dispatch`: what a run costs its caller, what costs nothing, and what a lost caller leaves."""

import asyncio

import pytest
from asgi_driver import soon, until
from callers import FEW, Desk
from house import House, kinds
from hypothesis import given
from hypothesis import strategies as st
from scripted_backend import USAGE, Park, answer

from argentor_asgi.errors import (
    Draining,
    Forbidden,
    IdempotencyKeyReused,
    Overloaded,
    RateLimited,
    SessionBusy,
    SessionNotFound,
    StorageUnavailable,
)
from argentor_asgi.gateway import runs as runs_module
from argentor_asgi.gateway.dispatch import ANSWER_TOKENS, estimate, scope_of
from argentor_asgi.protocol.llm import Finish, TextPiece, UsageReport
from argentor_asgi.security.identity import Principal

COST = USAGE.input_tokens + USAGE.output_tokens
SLOW = [TextPiece("half "), Park(), TextPiece("whole"), UsageReport(USAGE), Finish("stop")]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Counted:
    """A house whose caller has an account."""

    def __init__(self, *scripts, who=FEW, desk=None, **settings):
        self.desk = desk or Desk(tokens_per_day=10_000)
        self.who = who
        self.account = self.desk.account(who)
        self.house = House(*scripts, limiter=self.desk.limiter, **settings)

    async def start(self, content="hi", **more):
        return await self.house.start(content, who=self.who, account=self.account, **more)

    async def parked(self, **more):
        run = await self.start("one", **more)
        await soon(self.house.backend.parked.wait())
        return run

    async def outcome(self, run):
        return await self.house.outcome(run, who=self.who)

    @property
    def held(self):
        return self.account.runs, self.account.reserved, self.account.used


# --- what a run costs --------------------------------------------------------------------------------------------


@given(st.text(max_size=200))
def test_a_message_is_thought_to_cost_a_quarter_of_its_characters_and_a_usual_answer(text):
    assert estimate(text) == len(text) // 4 + ANSWER_TOKENS


async def test_a_run_holds_a_place_and_tokens_as_long_as_it_lives_and_then_costs_what_it_used():
    mine = Counted(SLOW, who=Principal("me"))
    run = await mine.parked(session=None)
    assert mine.held == (1, estimate("one"), 0)
    mine.house.backend.release.set()
    assert (await mine.outcome(run)).status == "done"
    assert mine.held == (0, 0, COST)


async def test_a_queued_run_holds_its_place_too():
    mine = Counted(SLOW, desk=Desk(runs_per_principal=2), who=Principal("me"))
    await mine.parked()
    queued = await mine.start("two", on_busy="enqueue")
    assert mine.account.runs == 2
    with pytest.raises(Overloaded, match="runs"):
        await mine.start("three", on_busy="enqueue")
    assert mine.desk.rejected == [("runs", "default/me")]
    mine.house.backend.release.set()
    await mine.outcome(queued)
    assert mine.held == (0, 0, 2 * COST)


@pytest.mark.parametrize("ending", ["cancel", "drain", "timeout", "error", "store"])
async def test_a_run_gives_back_what_it_holds_whatever_way_it_ends(ending):
    script = [TextPiece("a"), UsageReport(USAGE), Park(), Finish("stop")]
    mine = Counted(script, timeout_s=0.01 if ending == "timeout" else 300.0)
    house = mine.house
    run = await mine.parked()
    [live] = house.runs._live.values()
    if ending == "cancel":
        await house.cancel(run, who=FEW)
    elif ending == "drain":
        await house.runs.drain(0.0)
    elif ending in {"error", "store"}:
        house.store.faults["append_events" if ending == "error" else "save_run"] = StorageUnavailable()
        house.backend.release.set()
    await mine.outcome(run)
    usage = live.context.usage
    assert mine.held == (0, 0, usage.input_tokens + usage.output_tokens)
    assert mine.account.used == COST or ending != "store"


@pytest.mark.parametrize("refusal", [StorageUnavailable, SessionNotFound])
async def test_a_run_that_cannot_begin_costs_nothing(refusal):
    mine = Counted()
    mine.house.store.faults["begin_run"] = refusal()
    with pytest.raises(refusal):
        await mine.start()
    assert mine.held == (0, 0, 0)


async def test_what_is_refused_for_another_reason_costs_nothing():
    mine = Counted(SLOW)
    run = await mine.parked()
    before = mine.held
    with pytest.raises(SessionBusy):
        await mine.start("two")
    assert mine.held == before
    mine.house.backend.release.set()
    await mine.outcome(run)
    full = Counted(SLOW, limit=1)
    run = await full.parked()
    with pytest.raises(Overloaded, match="gateway"):
        await full.start("two", session="elsewhere")
    assert (full.account.runs, full.desk.rejected) == (1, [])
    await full.house.runs.drain(0.0)
    with pytest.raises(Draining):
        await full.start()
    assert full.account.runs == 0


async def test_without_tokens_nothing_starts_and_nothing_is_stored():
    mine = Counted()
    mine.account.use(100, mine.account.day)
    with pytest.raises(RateLimited, match="daily token quota exceeded"):
        await mine.start(key="k")
    assert (mine.held, mine.house.backend.requests, len(mine.house.runs)) == ((0, 0, 100), [], 0)
    assert (await mine.house.store.list_runs(scope_of(FEW), limit=9)).rows == []
    mine.desk.wait(86_400)
    assert (await mine.outcome(await mine.start(key="k"))).status == "done"


async def test_a_quota_of_no_tokens_is_forbidden():
    mine = Counted(desk=Desk(tokens_per_day=0), who=Principal("me"))
    with pytest.raises(Forbidden):
        await mine.start()


async def test_the_last_run_of_a_day_may_use_more_than_is_left():
    mine = Counted()
    mine.account.use(99, mine.account.day)
    assert (await mine.outcome(await mine.start())).status == "done"
    assert mine.held == (0, 0, 99 + COST)


async def test_a_caller_without_an_account_costs_nobody_anything():
    mine = Counted()
    run = await mine.house.start(who=FEW)
    await mine.outcome(run)
    assert mine.held == (0, 0, 0)
    alone = House()
    assert (await alone.outcome(await alone.start(account=mine.account))).status == "done"
    assert mine.held == (0, 0, 0)


# --- what costs nothing ------------------------------------------------------------------------------------------


async def test_a_replay_costs_nothing_live_ended_or_at_the_same_time():
    mine = Counted(SLOW)
    run = await mine.parked(key="k")
    before = mine.held
    assert (await mine.start("one", key="k")).id == run.id
    assert mine.held == before
    mine.house.backend.release.set()
    await mine.outcome(run)
    assert (await mine.start("one", key="k")).id == run.id
    assert mine.held == (0, 0, COST)


async def test_a_steer_costs_nothing_of_its_own():
    mine = Counted(SLOW, answer("both"))
    run = await mine.parked()
    before = mine.held
    assert (await mine.start("more", on_busy="steer")).id == run.id
    assert mine.held == before
    mine.house.backend.release.set()
    await mine.outcome(run)
    assert mine.held == (0, 0, 2 * COST)


# --- a key on a message that steers ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_live", [True, False])
async def test_a_message_that_steered_steers_once_however_often_it_is_sent(is_live):
    house = House(SLOW, answer("both"))
    run = await house.start("one")
    await soon(house.backend.parked.wait())
    assert (await house.start("more", key="k", on_busy="steer")).id == run.id
    if not is_live:
        house.backend.release.set()
        await house.outcome(run)
    for on_busy in ("steer", "reject", "enqueue"):
        assert (await house.start("more", key="k", on_busy=on_busy)).id == run.id
    with pytest.raises(IdempotencyKeyReused):
        await house.start("other", key="k", on_busy="steer")
    house.backend.release.set()
    assert kinds(await house.record(run)).count("steered") == 1
    assert [text for role, text in await house.said() if role == "user"] == ["one", "more"]


async def test_a_steer_that_was_refused_leaves_its_key_free():
    house = House(SLOW, answer("later"))
    run = await house.start("one")
    await soon(house.backend.parked.wait())
    await house.cancel(run)
    with pytest.raises(SessionBusy):
        await house.start("more", key="k", on_busy="steer")
    await house.outcome(run)
    assert (await house.outcome(await house.start("more", key="k"))).text == "later"


async def test_keys_of_steering_messages_are_bounded_and_the_oldest_goes_first():
    house = House(SLOW)
    await house.start("one")
    await soon(house.backend.parked.wait())
    [live] = house.runs._live.values()
    for number in range(runs_module.STEERED_KEYS + 2):
        live.context.steering.clear()
        await house.start(str(number), key=f"k{number}", on_busy="steer")
    assert len(house.runs._steered) == runs_module.STEERED_KEYS
    assert [key for _, key in list(house.runs._steered)[:1]] == ["k2"]
    await house.runs.drain(0.0)


# --- a caller who goes, traces and waits -------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["continue", "cancel"])
async def test_a_caller_who_goes_while_the_run_is_stored_has_it_ended_when_that_was_the_wish(wish):
    house = House()
    gate = house.store.gate("begin_run")
    asking = asyncio.create_task(house.start(on_disconnect=wish))
    await soon(house.store.reached.wait())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.set()
    await until(lambda: not house.runs)
    [run] = (await house.store.list_runs(scope_of(Principal("me")), limit=9)).rows
    assert (run.status, len(house.backend.requests)) == (("done", 1) if wish == "continue" else ("cancelled", 0))


async def test_a_caller_who_goes_before_the_run_is_stored_gives_everything_back():
    mine = Counted()
    gate = mine.house.store.gate("begin_run")
    asking = asyncio.create_task(mine.start(on_disconnect="cancel"))
    await soon(mine.house.store.reached.wait())
    assert mine.account.runs == 1
    asking.cancel()
    gate.set()
    await until(lambda: not mine.house.runs)
    assert mine.held == (0, 0, 0)


async def test_a_run_knows_the_trace_of_its_request():
    house = House(SLOW)
    await house.start(trace=TRACE)
    await soon(house.backend.parked.wait())
    assert [live.context.trace for live in house.runs._live.values()] == [TRACE]
    await house.runs.drain(0.0)


async def test_the_wait_for_a_turn_is_counted_once_for_each_run_that_had_one():
    house = House(SLOW)
    run = await house.start("one")
    await soon(house.backend.parked.wait())
    worked, left = [await house.start(text, on_busy="enqueue") for text in ("two", "three")]
    await house.cancel(left)
    house.backend.release.set()
    for found in (run, worked, left):
        await house.outcome(found)
    body, _ = await house.metrics.render(None)
    assert b"argentor_run_queue_seconds_count 2.0" in body

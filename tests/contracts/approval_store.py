"""What every store promises of the calls that wait for a person."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from contracts.store_values import (
    ALL,
    ME,
    OTHERS,
    PROPERTY,
    START,
    FreshStores,
    a_message,
    a_run,
    a_session,
    an_event,
    begin,
    pages,
)
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import InvalidInput
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.sessions.records import Approval

LATER = START + timedelta(minutes=5)


def an_approval(approval_id="a", run_id="r", session_id="s", scope=ME, at=START, **fields):
    fields = {"tool": "send", "arguments": {"to": "you"}, "risk_level": "high", "description": "Sends mail."} | fields
    return Approval(
        approval_id,
        run_id,
        session_id,
        scope.owner,
        scope.tenant,
        fields.pop("call_id", f"c-{approval_id}"),
        created_at=at,
        expires_at=at + timedelta(seconds=300),
        **fields,
    )


def waiting(run=None, **fields):
    return replace(run or a_run(), status="waiting_approval", **fields)


def decided(approval, status="approved", **fields):
    return replace(approval, **{"status": status, "reviewer": approval.owner, "decided_at": LATER} | fields)


async def ask(store, *approvals, run=None):
    """Begin the run of the approvals and let it wait for them."""
    run = run or a_run(approvals[0].run_id, approvals[0].session_id)
    await begin(store, run)
    await store.request_approvals(waiting(run), approvals)


class ApprovalStoreContract(FreshStores):
    """The promises of `ApprovalStore`, one test each."""

    async def test_approvals_are_kept_whole_with_the_fields_of_the_run_that_waits(self, store):
        await begin(store)
        run = waiting(turns=2, usage=Usage(3, 4, 5), updated_at=LATER)
        whole = an_approval("b", arguments={"deep": [{"ü": None}]}, description="zwölf\0", risk_level="critical")
        bare = an_approval("a", arguments={})
        await store.request_approvals(run, [whole, bare])
        assert await store.get_run(ME, "r") == run
        assert [await store.get_approval(ME, name) for name in "ba"] == [whole, bare]
        assert list(await store.approvals_of("r")) == [whole, bare]

    async def test_a_run_asks_again_and_its_approvals_stand_in_the_order_they_were_requested(self, store):
        await ask(store, an_approval("z"), an_approval("y"))
        await store.request_approvals(waiting(), [an_approval("x")])
        await store.request_approvals(waiting(), [])
        assert [approval.id for approval in await store.approvals_of("r")] == ["z", "y", "x"]
        assert list(await store.approvals_of("another")) == []

    async def test_an_approval_id_is_stored_once_and_then_nothing_of_the_request_is(self, store):
        await ask(store, an_approval())
        await begin(store, a_run("r2", "s2"))
        with pytest.raises(ValueError, match="already stored"):
            await store.request_approvals(
                waiting(a_run("r2", "s2")), [an_approval("b", "r2", "s2"), an_approval("a", "r2", "s2")]
            )
        assert list(await store.approvals_of("r2")) == []
        assert (await store.get_run(ME, "r2")).status == "running"

    async def test_a_request_of_a_deleted_run_stores_nothing(self, store):
        await store.request_approvals(waiting(), [an_approval()])
        assert await store.get_approval(ME, "a") is None

    @pytest.mark.parametrize("edited", [None, {}, {"to": "them", "n": [1]}])
    async def test_a_decision_is_kept_whole(self, store, edited):
        await ask(store, an_approval())
        decision = decided(an_approval(), edited_arguments=edited, reason="fine by me ü")
        assert await store.decide_approval(decision) is True
        assert await store.get_approval(ME, "a") == decision

    async def test_a_decision_changes_nothing_but_what_a_decision_says(self, store):
        await ask(store, an_approval())
        lie = decided(an_approval(tool="other", arguments={}, description="", risk_level="low"), "denied")
        await store.decide_approval(lie)
        assert await store.get_approval(ME, "a") == decided(an_approval(), "denied")

    async def test_the_first_decision_stays(self, store):
        await ask(store, an_approval())
        first = decided(an_approval(), "denied", reason="no")
        assert await store.decide_approval(first) is True
        assert await store.decide_approval(decided(an_approval())) is False
        assert await store.get_approval(ME, "a") == first

    async def test_of_many_decisions_at_once_one_is_the_first(self, store):
        await ask(store, an_approval())
        statuses = ["approved", "denied", "expired", "cancelled"] * 5
        heard = await asyncio.gather(*(store.decide_approval(decided(an_approval(), each)) for each in statuses))
        assert heard.count(True) == 1
        assert (await store.get_approval(ME, "a")).status == statuses[heard.index(True)]

    async def test_nothing_is_decided_on_what_is_not_there(self, store):
        assert await store.decide_approval(decided(an_approval())) is False

    @pytest.mark.parametrize("other", OTHERS)
    async def test_foreign_approvals_read_as_absent(self, store, other):
        await ask(store, an_approval())
        assert await store.get_approval(other, "a") is None
        assert list((await store.list_approvals(other, status=None, limit=ALL)).rows) == []
        assert await store.get_approval(ME, "\ud800") is None

    async def test_approvals_go_with_their_session(self, store):
        await ask(store, an_approval())
        await store.delete_session(ME, "s")
        assert await store.get_approval(ME, "a") is None
        assert list(await store.approvals_of("r")) == []
        assert list((await store.list_approvals(ME, status=None, limit=ALL)).rows) == []
        assert list(await store.waiting_runs()) == []
        assert await store.decide_approval(decided(an_approval())) is False

    async def test_text_that_utf_8_cannot_carry_is_replaced_and_refused_in_a_reviewer(self, store):
        await ask(store, an_approval(description="a\ud800", tool="b\udfff", arguments={"k": "\ud800"}))
        found = await store.get_approval(ME, "a")
        assert (found.description, found.tool, found.arguments) == ("a\ufffd", "b\ufffd", {"k": "\ufffd"})
        with pytest.raises(InvalidInput):
            await store.decide_approval(decided(an_approval(), reviewer="\ud800"))
        assert await store.decide_approval(decided(an_approval(), reason="\udfff"))
        assert (await store.get_approval(ME, "a")).reason == "\ufffd"

    # --- lists ---

    @PROPERTY
    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=12), st.integers(1, 5))
    def test_a_list_is_newest_first_page_by_page_of_one_scope_and_status(self, made, limit):
        async def scenario(store):
            rows = []
            for number, (age, is_mine, is_decided) in enumerate(made):
                scope = ME if is_mine else OTHERS[number % len(OTHERS)]
                run = a_run(f"r{number}", f"s{number}", scope)
                approval = an_approval(f"a{number}", run.id, run.session_id, scope, START + timedelta(age))
                await ask(store, approval, run=run)
                if is_decided:
                    await store.decide_approval(approval := decided(approval))
                rows += [approval] if is_mine else []
            rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
            for status in (None, "pending", "approved", "denied"):
                found, sizes = await pages(lambda s=status, **page: store.list_approvals(ME, status=s, **page), limit)
                assert found == [row for row in rows if status in {None, row.status}]
                assert all(size == limit for size in sizes[:-1])

        self.run_fresh(scenario)

    async def test_a_cursor_of_another_list_is_refused(self, store):
        await ask(store, an_approval("a"), an_approval("b"))
        mine = (await store.list_approvals(ME, status=None, limit=1)).cursor
        assert mine is not None
        with pytest.raises(InvalidInput):
            await store.list_runs(ME, limit=1, cursor=mine)
        with pytest.raises(InvalidInput):
            await store.list_approvals(ME, status="pending", limit=1, cursor="x")

    # --- after a crash ---

    async def test_a_crash_leaves_alone_what_waits_for_a_person(self, store):
        await ask(store, an_approval())
        await begin(store, a_run("r2", "s2", at=START + timedelta(1)))
        await store.append_events("r", [an_event(1), an_event(2)])
        assert await store.interrupt_live(LATER) == 1
        assert [run.id for run in await store.waiting_runs()] == ["r"]
        assert await store.get_run(ME, "r") == waiting(last_seq=2)
        assert (await store.get_approval(ME, "a")).status == "pending"
        assert (await store.get_run(ME, "r2")).status == "interrupted"

    async def test_waiting_runs_are_those_of_everybody_oldest_first(self, store):
        for number, scope in enumerate((ME, *OTHERS)):
            run = a_run(f"r{number}", f"s{number}", scope, START - timedelta(number))
            await ask(store, an_approval(f"a{number}", run.id, run.session_id, scope), run=run)
        await begin(store, a_run("other", "s9"))
        assert [run.id for run in await store.waiting_runs()] == ["r3", "r2", "r1", "r0"]
        await store.save_run(a_run("r1", "s1", OTHERS[0]))
        assert [run.id for run in await store.waiting_runs()] == ["r3", "r2", "r0"]

    async def test_a_crash_leaves_alone_what_is_queued_behind_a_run_that_waits(self, store):
        await ask(store, an_approval())
        await begin(store, a_run("other", "s2"))
        for number, session in ((2, "s"), (1, "s"), (3, "s2")):
            queued = a_run(f"q{number}", session, at=START + timedelta(number), status="queued", input=f"{number}")
            await store.begin_run(queued, session=a_session(session), message=None)
        assert await store.interrupt_live(LATER) == 2
        assert [run.id for run in await store.waiting_runs()] == ["r", "q1", "q2"]
        assert [message.content for message in await store.messages("s", limit=ALL)] == ["hello"]
        assert [message.content for message in await store.messages("s2", limit=ALL)] == ["hello", "3"]
        assert {(await store.get_run(ME, name)).status for name in ("other", "q3")} == {"interrupted"}

    async def test_a_crash_cancels_what_was_asked_by_runs_that_it_ends(self, store):
        await ask(store, an_approval("a"), an_approval("b"))
        await store.decide_approval(decided(an_approval("b")))
        await store.save_run(a_run())
        assert await store.interrupt_live(LATER) == 1
        ended = [await store.get_approval(ME, name) for name in "ab"]
        assert [approval.status for approval in ended] == ["cancelled", "approved"]
        assert ended[0] == decided(an_approval("a"), "cancelled", reviewer=None)

    async def test_events_of_a_run_that_waits_are_not_pruned(self, store):
        await ask(store, an_approval())
        await store.append_events("r", [an_event(1)])
        await store.prune(START + timedelta(9))
        assert len(await store.events("r", limit=ALL)) == 1

    async def test_a_cancelled_request_is_whole_or_absent(self, store):
        await begin(store, message=a_message())
        call = asyncio.ensure_future(store.request_approvals(waiting(), [an_approval("a"), an_approval("b")]))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await store.check()
        kept = len(await store.approvals_of("r"))
        assert (kept, (await store.get_run(ME, "r")).status) in {(0, "running"), (2, "waiting_approval")}

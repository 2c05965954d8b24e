"""What every store promises of runs, their events and their keys."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from contracts.store_values import (
    ALL,
    ME,
    OTHERS,
    START,
    FreshStores,
    a_message,
    a_run,
    a_session,
    an_event,
    begin,
    numbers,
    texts,
)

from argentor_asgi.errors import SessionNotFound
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import LoggedEvent, TextDelta, ToolCallEnd, ToolCallStart
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.sessions.records import Claim


class RunStoreContract(FreshStores):
    """The promises of `RunStore`, one test each."""

    # --- begin_run, start_run ---

    async def test_a_run_begins_with_its_session_its_message_and_its_fields(self, store):
        run = a_run(
            usage=Usage(1, 2, 3, estimated=True),
            turns=4,
            text="part",
            finish_reason="stop",
            error_code="x",
            last_seq=9,
            cost_micros=5,
            tool_calls=6,
            work_ms=7,
        )
        assert await begin(store, run) is None
        assert await store.get_run(ME, "r") == replace(run, last_seq=0)
        assert texts(await store.messages("s", limit=ALL)) == ["hello"]
        assert (await store.get_session(ME, "s")).version == 1

    async def test_a_queued_run_begins_without_its_message_and_starts_with_it(self, store):
        await begin(store, a_run(status="queued"), message=None)
        assert await store.messages("s", limit=ALL) == []
        started = replace(a_run(), updated_at=START + timedelta(seconds=1))
        await store.start_run(started, a_message("now"))
        assert texts(await store.messages("s", limit=ALL)) == ["now"]
        assert await store.get_run(ME, "r") == started

    async def test_a_run_started_twice_says_its_message_once(self, store):
        await begin(store, a_run(status="queued"), message=None)
        for _ in range(2):
            await store.start_run(a_run(), a_message("now"))
        assert texts(await store.messages("s", limit=ALL)) == ["now"]

    async def test_a_run_in_a_foreign_session_is_refused_and_leaves_nothing(self, store):
        await store.open_session(a_session())
        thief = a_run(scope=OTHERS[0])
        claim = Claim("k", "f", "r")
        with pytest.raises(SessionNotFound):
            await store.begin_run(thief, session=a_session(scope=OTHERS[0]), message=a_message(), claim=claim)
        assert await store.messages("s", limit=ALL) == []
        assert await store.get_run(OTHERS[0], "r") is None
        assert await begin(store, a_run("r2", "s2", OTHERS[0]), claim=claim) is None

    async def test_a_run_id_is_stored_once(self, store):
        await begin(store)
        with pytest.raises(ValueError, match="already stored"):
            await begin(store, a_run(session_id="s2"), claim=Claim("k", "f", "r"))
        assert await store.get_session(ME, "s2") is None
        assert await begin(store, a_run("r2", "s2"), claim=Claim("k", "f", "r2")) is None

    async def test_a_claimed_key_returns_the_first_claim_and_stores_nothing(self, store):
        first = Claim("k", "fingerprint", "r")
        assert await begin(store, claim=first) is None
        assert await begin(store, a_run("r2", "s2"), claim=Claim("k", "other", "r2")) == first
        assert await store.get_session(ME, "s2") is None
        assert await store.get_run(ME, "r2") is None

    @pytest.mark.parametrize("other", OTHERS)
    async def test_a_claim_is_read_back_by_its_owner_alone(self, store, other):
        await begin(store, claim=Claim("k", "f", "r"))
        assert await store.get_claim(ME, "k") == Claim("k", "f", "r")
        assert await store.get_claim(ME, "other") is None
        assert await store.get_claim(other, "k") is None

    @pytest.mark.parametrize("other", OTHERS)
    async def test_keys_of_others_are_others(self, store, other):
        await begin(store, claim=Claim("k", "f", "r"))
        assert await begin(store, a_run("r2", "s2", other), claim=Claim("k", "f", "r2")) is None

    async def test_of_many_with_one_key_one_begins(self, store):
        tries = (begin(store, a_run(f"r{n}", f"s{n}"), claim=Claim("k", "f", f"r{n}")) for n in range(50))
        found = await asyncio.gather(*tries)
        assert found.count(None) == 1
        winner = found.index(None)
        assert {one.run_id for one in found if one} == {f"r{winner}"}
        assert [row.id for row in (await store.list_runs(ME, limit=ALL)).rows] == [f"r{winner}"]
        assert await store.count_sessions(ME) == 1

    async def test_a_claim_outlives_its_session(self, store):
        claim = Claim("k", "f", "r")
        await begin(store, claim=claim)
        await store.delete_session(ME, "s")
        assert await begin(store, a_run("r2", "s2"), claim=Claim("k", "f", "r2")) == claim

    # --- events, save_run ---

    async def test_events_are_kept_as_their_bytes(self, store):
        await begin(store)
        events = [an_event(1, "run_started", b"{}"), an_event(2, "text_delta", b'{"t":"\xc3\xa9\\u0000"}')]
        await store.append_events("r", events)
        assert await store.events("r", limit=ALL) == events
        assert (await store.get_run(ME, "r")).last_seq == 2

    async def test_a_stored_number_is_kept_as_it_is(self, store):
        await begin(store)
        await store.append_events("r", [an_event(1), an_event(2)])
        await store.append_events("r", [an_event(2, data=b"other"), an_event(3), an_event(3, data=b"again")])
        assert await store.events("r", limit=ALL) == [an_event(1), an_event(2), an_event(3)]

    async def test_a_gap_does_not_keep_a_run_from_ending(self, store):
        await begin(store)
        await store.append_events("r", [an_event(1)])
        await store.save_run(a_run(status="failed"), [an_event(4, "error")])
        assert numbers(await store.events("r", limit=ALL)) == [1, 4]
        assert numbers(await store.events("r", after=2, limit=ALL)) == [4]
        assert (await store.get_run(ME, "r")).last_seq == 4

    async def test_events_of_no_run_are_dropped(self, store):
        await store.append_events("nobody", [an_event(1)])
        await store.save_run(a_run("nobody"), [an_event(1)])
        assert await store.events("nobody", limit=ALL) == []
        assert await store.get_run(ME, "nobody") is None

    async def test_events_are_read_behind_a_number_and_up_to_a_limit(self, store):
        await begin(store)
        await store.append_events("r", [an_event(n) for n in range(1, 301)])
        assert numbers(await store.events("r", after=100, limit=150)) == list(range(101, 251))
        assert numbers(await store.events("r", after=-3, limit=2)) == [1, 2]
        assert await store.events("r", after=300, limit=5) == []
        assert await store.events("r", limit=0) == []

    async def test_saving_a_run_stores_what_may_change_and_its_events(self, store):
        await begin(store, a_run(input="the input"))
        later = START + timedelta(seconds=5)
        saved = replace(
            a_run(status="done", model="other", text="answer", finish_reason="stop", turns=2),
            usage=Usage(5, 6, 7, estimated=True),
            cost_micros=8,
            tool_calls=9,
            work_ms=10,
            updated_at=later,
            input="not this",
            session_id="nor this",
            owner="nor them",
            created_at=later,
            last_seq=99,
        )
        await store.save_run(saved, [an_event(1), an_event(2, "done")])
        fixed = {"input": "the input", "session_id": "s", "owner": "me", "created_at": START, "last_seq": 2}
        assert await store.get_run(ME, "r") == replace(saved, **fixed)

    async def test_saving_a_run_without_events_keeps_its_number(self, store):
        await begin(store)
        await store.append_events("r", [an_event(1)])
        await store.save_run(a_run(status="waiting_approval"))
        assert (await store.get_run(ME, "r")).last_seq == 1

    # --- interrupt_live ---

    async def test_a_crash_ends_each_live_run_with_one_terminal_event(self, store):
        for status in ("running", "queued", "done", "failed", "cancelled"):
            await begin(store, a_run(status, status=status))
            await store.append_events(status, [an_event(1)])
        later = START + timedelta(hours=1)
        assert await store.interrupt_live(later) == 2
        for run_id in ("running", "queued"):
            run = await store.get_run(ME, run_id)
            assert (run.status, run.error_code, run.last_seq, run.updated_at) == (
                "interrupted",
                "interrupted",
                2,
                later,
            )
            terminal = (await store.events(run_id, limit=ALL))[-1]
            assert terminal.is_terminal
            assert schema.decode_value(terminal.data) == {
                "type": "error",
                "message": "The gateway stopped during this run.",
                "code": "interrupted",
                "retryable": True,
                "run_id": run_id,
                "retry_after": None,
            }
        assert numbers(await store.events("done", limit=ALL)) == [1]
        assert await store.interrupt_live(later) == 0

    async def test_a_crash_ends_the_calls_that_it_left_open(self, store):
        await begin(store)
        started = [ToolCallStart(name, "skill") for name in ("closed", "open", "other")]
        ended = ToolCallEnd("closed", "skill", {})
        said = [*started, ended, TextDelta("and", 0)]
        logged = [LoggedEvent(seq, event.type, schema.encode(event)) for seq, event in enumerate(said, start=1)]
        await store.append_events("r", logged)
        await store.interrupt_live(START)
        left = await store.events("r", after=5, limit=ALL)
        assert [(event.seq, event.type) for event in left] == [
            (6, "tool_call_end"),
            (7, "tool_call_end"),
            (8, "error"),
        ]
        assert schema.decode_value(left[0].data) == {
            "type": "tool_call_end",
            "id": "open",
            "name": "skill",
            "arguments": None,
        }
        assert (await store.get_run(ME, "r")).last_seq == 8

    async def test_a_crash_says_what_a_queued_run_had_not_said(self, store):
        await begin(store)
        await begin(store, a_run("q1", status="queued", input="one", at=START + timedelta(1)), message=None)
        await begin(store, a_run("q2", status="queued", input="two", at=START + timedelta(2)), message=None)
        await begin(store, a_run("q3", status="queued", input="gone", at=START), message=None)
        await store.save_run(a_run("q3", status="cancelled"))
        later = START + timedelta(days=9)
        assert await store.interrupt_live(later) == 3
        kept = await store.messages("s", limit=ALL)
        assert texts(kept) == ["hello", "one", "two"]
        assert [(one.role, one.metadata, one.timestamp) for one in kept[1:]] == [
            ("user", {"interrupted": True}, later)
        ] * 2
        assert len({one.id for one in kept}) == 3
        assert (await store.get_session(ME, "s")).version == 3
        assert numbers(await store.events("q1", limit=ALL)) == [1]

    async def test_a_crash_does_not_say_a_message_twice(self, store):
        await begin(store, a_run(status="queued"))
        await store.interrupt_live(START)
        assert texts(await store.messages("s", limit=ALL)) == ["hello"]

    @pytest.mark.parametrize(("kind", "status"), [("done", "done"), ("error", "failed"), ("cancelled", "cancelled")])
    async def test_a_run_whose_terminal_event_is_stored_gets_no_second(self, store, kind, status):
        await begin(store)
        await store.append_events("r", [an_event(1), an_event(2, kind)])
        assert await store.interrupt_live(START) == 1
        assert (await store.get_run(ME, "r")).status == status
        assert numbers(await store.events("r", limit=ALL)) == [1, 2]

    # --- prune ---

    async def test_pruning_drops_the_events_of_old_runs_and_keeps_the_runs(self, store):
        for run_id, status, age_s in (("old", "done", 20), ("new", "done", 5), ("live", "running", 20)):
            run = a_run(run_id, status=status, text="kept", at=START - timedelta(seconds=age_s))
            await begin(store, run)
            await store.append_events(run_id, [an_event(1), an_event(2)])
        assert await store.prune(START - timedelta(seconds=10)) == 2
        assert await store.events("old", limit=ALL) == []
        old = await store.get_run(ME, "old")
        assert (old.text, old.last_seq) == ("kept", 2)
        assert numbers(await store.events("new", limit=ALL)) == [1, 2]
        assert numbers(await store.events("live", limit=ALL)) == [1, 2]
        assert await store.prune(START - timedelta(seconds=10)) == 0

    async def test_pruning_frees_old_keys(self, store):
        await begin(store, claim=Claim("k", "f", "r"))
        assert await store.prune(START) == 0
        assert await store.prune(START + timedelta(microseconds=1)) == 1
        assert await begin(store, a_run("r2"), claim=Claim("k", "f", "r2")) is None

    async def test_pruning_drops_sessions_past_their_end(self, store, clock):
        await store.open_session(a_session("a", expires_at=START + timedelta(seconds=1)))
        await store.open_session(a_session("b", expires_at=START + timedelta(seconds=9)))
        await store.open_session(a_session("c"))
        await store.append("a", [a_message()])
        clock.pass_by(1)
        assert await store.prune(START - timedelta(days=1)) == 1
        assert [row.id for row in (await store.list_sessions(ME, limit=ALL)).rows] == ["c", "b"]
        assert await store.messages("a", limit=ALL) == []

    async def test_pruning_goes_to_the_end_of_much(self, store):
        for n in range(40):
            await begin(store, a_run(f"r{n}", f"s{n}", status="done"), claim=Claim(f"k{n}", "f", "r"))
            await store.append_events(f"r{n}", [an_event(1), an_event(2)])
            await store.open_session(a_session(f"e{n}", expires_at=START))
        assert await store.prune(START + timedelta(seconds=1)) == 40 * 4
        assert await store.count_sessions(ME) == 40

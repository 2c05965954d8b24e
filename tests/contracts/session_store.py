"""What every store promises of sessions and their messages."""

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
    numbers,
    texts,
)
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import SessionNotFound, StaleSession
from argentor_asgi.protocol.messages import Message, Part


class SessionStoreContract(FreshStores):
    """The promises of `SessionStore`, one test each."""

    # --- open_session, get_session, delete_session ---

    async def test_an_opened_session_is_stored_whole(self, store):
        session = a_session(
            title="Ein Titel: 日本",
            active_skills=("calculator", "echo"),
            metadata={"a": [1, 2.5, None, {"b": "ü"}], "big": 2**60},
            expires_at=START + timedelta(days=3650, microseconds=7),
        )
        assert await store.open_session(session) == session
        assert await store.get_session(ME, "s") == session

    async def test_a_known_session_is_returned_as_it_was_stored(self, store):
        first = await store.open_session(a_session(title="first"))
        assert await store.open_session(a_session(title="second", at=START + timedelta(1))) == first

    async def test_whatever_is_stored_again_leaves_a_sessions_messages(self, store):
        """agent.md 1.10 D25: there, storing a session again deletes them."""
        await begin(store)
        await store.append("s", [a_message("two"), a_message("three")])
        await store.open_session(a_session(title="again"))
        await begin(store, a_run("r2"), message=a_message("four"))
        await store.save_run(a_run(status="done"), [an_event(1)])
        assert texts(await store.messages("s", limit=ALL)) == ["hello", "two", "three", "four"]
        assert (await store.get_session(ME, "s")).version == 4

    async def test_a_session_is_opened_without_messages_whatever_its_version_says(self, store):
        assert (await store.open_session(a_session(version=7))).version == 0
        assert await store.messages("s", limit=ALL) == []

    @pytest.mark.parametrize("other", OTHERS)
    async def test_a_foreign_session_cannot_be_opened(self, store, other):
        await store.open_session(a_session())
        with pytest.raises(SessionNotFound):
            await store.open_session(a_session(scope=other))
        assert (await store.get_session(ME, "s")).owner == "me"

    @pytest.mark.parametrize("other", OTHERS)
    async def test_a_foreign_session_reads_as_absent(self, store, other):
        await store.open_session(a_session())
        await begin(store)
        assert await store.get_session(other, "s") is None
        assert (await store.list_sessions(other, limit=ALL)).rows == []
        assert await store.count_sessions(other) == 0
        assert await store.delete_session(other, "s") is False
        assert await store.get_run(other, "r") is None
        assert (await store.list_runs(other, limit=ALL)).rows == []
        assert (await store.list_runs(other, session_id="s", limit=ALL)).rows == []
        assert await store.get_session(ME, "s") is not None

    async def test_an_unknown_session_is_none(self, store):
        assert await store.get_session(ME, "nobody") is None
        assert await store.messages("nobody", limit=ALL) == []
        assert await store.recent("nobody", limit=ALL) == []

    async def test_later_changes_of_the_callers_metadata_are_not_stored(self, store):
        metadata = {"a": {"b": 1}}
        await store.open_session(a_session(metadata=metadata))
        await store.append("s", [a_message(metadata=metadata)])
        metadata["a"]["b"] = 2
        assert (await store.get_session(ME, "s")).metadata == {"a": {"b": 1}}
        assert (await store.recent("s", limit=1))[0].metadata == {"a": {"b": 1}}

    async def test_a_deleted_session_takes_all_that_hangs_on_it(self, store):
        await begin(store)
        await store.append_events("r", [an_event(1), an_event(2)])
        assert await store.delete_session(ME, "s") is True
        assert await store.get_session(ME, "s") is None
        assert await store.messages("s", limit=ALL) == []
        assert await store.get_run(ME, "r") is None
        assert (await store.list_runs(ME, limit=ALL)).rows == []
        assert await store.events("r", limit=ALL) == []
        assert await store.count_sessions(ME) == 0

    async def test_of_two_deletes_one_hears_true(self, store):
        await store.open_session(a_session())
        assert sorted(await asyncio.gather(*(store.delete_session(ME, "s") for _ in range(5)))) == [False] * 4 + [True]

    async def test_a_run_of_a_deleted_session_leaves_no_trace(self, store):
        await begin(store)
        await store.delete_session(ME, "s")
        await store.append_events("r", [an_event(1)])
        await store.save_run(a_run(status="done"), [an_event(2, "done")])
        with pytest.raises(SessionNotFound):
            await store.append("s", [a_message()])
        with pytest.raises(SessionNotFound):
            await store.start_run(a_run(), a_message())
        assert await store.get_run(ME, "r") is None
        assert await store.events("r", limit=ALL) == []
        assert await store.get_session(ME, "s") is None

    async def test_a_deleted_session_may_be_opened_anew_and_is_empty(self, store):
        await begin(store)
        await store.delete_session(ME, "s")
        await store.open_session(a_session())
        assert (await store.get_session(ME, "s")).version == 0
        assert await store.messages("s", limit=ALL) == []

    async def test_deleting_one_session_leaves_the_others(self, store):
        await begin(store)
        await begin(store, a_run("r2", "s2"))
        await store.append_events("r2", [an_event(1)])
        await store.delete_session(ME, "s")
        assert texts(await store.messages("s2", limit=ALL)) == ["hello"]
        assert numbers(await store.events("r2", limit=ALL)) == [1]

    # --- append, messages, recent ---

    async def test_an_appended_message_is_stored_whole(self, store):
        await store.open_session(a_session())
        parts = (
            Part("text", text="a"),
            Part("reasoning", text="because"),
            Part("tool_call", id="c1", name="echo", arguments={"x": [1, {"y": None}]}),
            Part("tool_result", id="c1", name="echo", content="out", is_error=False),
        )
        message = Message(
            "m", "assistant", "a", "s", START + timedelta(microseconds=1), parts, "chan", {"k": ["v", 1.5, True]}
        )
        assert await store.append("s", [message]) == 1
        assert await store.messages("s", limit=ALL) == [message]

    async def test_messages_come_in_the_order_of_appending_not_of_time(self, store):
        await store.open_session(a_session())
        early = replace(a_message("early"), timestamp=START - timedelta(days=1))
        assert await store.append("s", [a_message("a"), early]) == 2
        assert await store.append("s", [a_message("b")]) == 3
        assert texts(await store.messages("s", limit=ALL)) == ["a", "early", "b"]

    async def test_appending_nothing_returns_the_version(self, store):
        await store.open_session(a_session())
        await store.append("s", [a_message()])
        assert await store.append("s", []) == 1
        assert await store.append("s", [], after=1) == 1

    async def test_a_message_belongs_to_the_session_it_is_appended_to(self, store):
        await store.open_session(a_session())
        await store.append("s", [a_message(session_id="elsewhere")])
        assert (await store.messages("s", limit=1))[0].session_id == "s"

    async def test_an_append_moves_the_sessions_version_and_time(self, store, clock):
        await store.open_session(a_session())
        clock.pass_by(60)
        await store.append("s", [a_message()])
        session = await store.get_session(ME, "s")
        assert (session.version, session.created_at, session.updated_at) == (1, START, clock.at)

    async def test_the_time_of_a_session_never_goes_back(self, store, clock):
        await store.open_session(a_session())
        clock.pass_by(-60)
        await store.append("s", [a_message()])
        assert (await store.get_session(ME, "s")).updated_at == START

    async def test_an_append_to_no_session_is_refused(self, store):
        with pytest.raises(SessionNotFound):
            await store.append("nobody", [a_message()])
        with pytest.raises(SessionNotFound):
            await store.append("nobody", [])

    @pytest.mark.parametrize("after", [0, 2, 99, -1])
    async def test_an_append_after_another_version_is_stale_and_stores_nothing(self, store, after):
        await store.open_session(a_session())
        await store.append("s", [a_message("a")], after=0)
        with pytest.raises(StaleSession):
            await store.append("s", [a_message("b")], after=after)
        assert texts(await store.messages("s", limit=ALL)) == ["a"]

    async def test_of_many_optimistic_appends_one_wins(self, store):
        await store.open_session(a_session())
        tries = (store.append("s", [a_message(f"{n}")], after=0) for n in range(20))
        found = await asyncio.gather(*tries, return_exceptions=True)
        assert [one for one in found if not isinstance(one, StaleSession)] == [1]
        assert len(await store.messages("s", limit=ALL)) == 1

    async def test_concurrent_appends_lose_nothing_and_keep_each_callers_order(self, store):
        # agent.md 1.10 D23
        await store.open_session(a_session())

        async def say(who):
            for n in range(10):
                await store.append("s", [a_message(f"{who}:{n}"), a_message(f"{who}:{n}+")])

        await asyncio.gather(*(say(who) for who in range(20)))
        kept = texts(await store.messages("s", limit=ALL))
        assert len(kept) == 400
        for who in range(20):
            assert [text for text in kept if text.startswith(f"{who}:")] == [
                f"{who}:{n}{mark}" for n in range(10) for mark in ("", "+")
            ]

    async def test_gathered_appends_keep_the_order_in_which_they_were_called(self, store):
        await store.open_session(a_session())
        versions = await asyncio.gather(*(store.append("s", [a_message(f"{n}")]) for n in range(100)))
        assert versions == list(range(1, 101))
        assert texts(await store.messages("s", limit=ALL)) == [f"{n}" for n in range(100)]

    async def test_what_was_appended_is_read_at_once(self, store):
        await store.open_session(a_session())
        for n in range(20):
            await store.append("s", [a_message(f"{n}")])
            assert texts(await store.recent("s", limit=1)) == [f"{n}"]

    @given(count=st.integers(0, 12), after=st.integers(-2, 14), limit=st.integers(-1, 14))
    @PROPERTY
    def test_reading_is_slicing(self, count, after, limit):
        async def scenario(store):
            await store.open_session(a_session())
            await store.append("s", [a_message(f"{n}") for n in range(count)])
            every = [f"{n}" for n in range(count)]
            start = max(after, 0)
            assert texts(await store.messages("s", after=after, limit=limit)) == every[start : start + max(limit, 0)]
            assert texts(await store.recent("s", limit=limit)) == every[max(count - max(limit, 0), 0) :]

        self.run_fresh(scenario)

    async def test_a_long_session_is_read_to_its_end(self, store):
        await store.open_session(a_session())
        await store.append("s", [a_message(f"{n}") for n in range(1000)])
        assert texts(await store.messages("s", limit=ALL)) == [f"{n}" for n in range(1000)]
        assert texts(await store.messages("s", after=500, limit=300)) == [f"{n}" for n in range(500, 800)]
        assert texts(await store.recent("s", limit=300)) == [f"{n}" for n in range(700, 1000)]

"""What every store must do. Subclass `StoreContract` in a test file and say how to make one.

    class TestMine(StoreContract):
        def make(self, clock): return MyStore(..., clock=clock)   # each call a fresh, empty, unopened store

`contracts.store_machine` is its stateful half.
"""

import asyncio
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argentor_asgi.errors import InvalidInput, SessionNotFound, StaleSession
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message, Part, Usage
from argentor_asgi.sessions.session import NOTES_PER_SCOPE, Claim, Note, Run, Scope, Session

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ME = Scope("me")
OTHERS = (Scope("you"), Scope("me", "acme"), Scope("you", "acme"))
ALL = 10_000
PROPERTY = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors],  # each store's class runs it, which is the purpose
)


class StillClock:
    """A clock that stands where it is put."""

    def __init__(self):
        self.at = START

    def now(self):
        return self.at

    def monotonic(self):
        return 0.0

    def pass_by(self, seconds):
        self.at += timedelta(seconds=seconds)


def a_session(session_id="s", scope=ME, at=START, **fields):
    return Session(session_id, scope.owner, scope.tenant, at, at, **fields)


def a_message(text="hello", session_id="s", **fields):
    return Message(f"m-{text}"[:20], "user", text, session_id, START, **fields)


def a_run(run_id="r", session_id="s", scope=ME, at=START, **fields):
    fields = {"status": "running", "model": "builtin", "input": "hello"} | fields
    return Run(run_id, session_id, scope.owner, scope.tenant, created_at=at, updated_at=at, **fields)


def an_event(seq, kind="text_delta", data=None):
    return LoggedEvent(seq, kind, data if data is not None else f'{{"n":{seq}}}'.encode())


def texts(messages):
    return [message.content for message in messages]


def numbers(events):
    return [event.seq for event in events]


async def begin(store, run=None, **fields):
    """Begin a run in a session of its own scope."""
    run = run or a_run()
    session = a_session(run.session_id, Scope(run.owner, run.tenant), run.created_at)
    return await store.begin_run(run, **{"session": session, "message": a_message(session_id=run.session_id)} | fields)


async def pages(listing, limit):
    """Read a list page by page to its end; also how long each page was."""
    rows, sizes, cursor = [], [], None
    while True:
        page = await listing(limit=limit, cursor=cursor)
        rows += page.rows
        sizes.append(len(page.rows))
        cursor = page.cursor
        if cursor is None:
            return rows, sizes


class StoreContract:
    """The promises of `sessions.session`, one test each."""

    def make(self, clock):
        raise NotImplementedError

    @pytest.fixture
    def clock(self):
        return StillClock()

    @pytest.fixture
    async def store(self, clock):
        async with self.make(clock) as store:
            yield store

    @asynccontextmanager
    async def fresh(self):
        async with self.make(StillClock()) as store:
            yield store

    def run_fresh(self, scenario):
        """Run `scenario(store)` on a store and a loop of its own, as each example of a property needs."""

        async def work():
            async with self.fresh() as store:
                await scenario(store)

        asyncio.run(work())

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

    # --- text ---

    @given(text=st.text(st.characters(exclude_categories=()), max_size=40))
    @PROPERTY
    def test_any_text_is_kept_and_only_lone_surrogates_are_replaced(self, text):
        async def scenario(store):
            await store.open_session(a_session(title=text, metadata={"t": text}))
            await store.append("s", [a_message(text, parts=(Part("text", text=text),))])
            [message] = await store.messages("s", limit=1)
            clean = schema.scrub(text)
            assert (message.content, message.parts[0].text) == (clean, clean)
            session = await store.get_session(ME, "s")
            assert (session.title, session.metadata["t"]) == (clean, clean)

        self.run_fresh(scenario)

    @pytest.mark.parametrize("text", ["", "\0", "a\0b", "\0\0", "\ufeffx", "\r\n", "'; DROP TABLE messages; --"])
    async def test_odd_text_is_kept(self, store, text):
        await store.open_session(a_session())
        await store.append("s", [a_message(text)])
        assert texts(await store.messages("s", limit=1)) == [text]

    async def test_odd_ids_are_kept_apart(self, store):
        ids = ["", "a", "A", "a ", "a\0b", "a\0c", "%", "_", "é", "e\u0301"]
        for row_id in ids:
            await store.open_session(a_session(row_id, title=row_id))
        assert [(await store.get_session(ME, row_id)).title for row_id in ids] == ids
        rows, _ = await pages(lambda **page: store.list_sessions(ME, **page), 3)
        assert {row.id for row in rows} == set(ids)
        assert len(rows) == len(ids)

    async def test_an_id_that_utf8_cannot_carry_is_refused_and_never_found(self, store):
        with pytest.raises(InvalidInput):
            await store.open_session(a_session("\ud800"))
        with pytest.raises(InvalidInput):
            await store.open_session(a_session(scope=Scope("\udfff")))
        assert await store.get_session(ME, "\ud800") is None
        assert await store.get_session(Scope("\ud800"), "s") is None
        assert (await store.list_sessions(Scope("\ud800"), limit=9)).rows == []
        assert await store.messages("\ud800", limit=9) == []
        assert await store.events("\ud800", limit=9) == []

    async def test_a_message_of_a_mebibyte_is_kept(self, store):
        await store.open_session(a_session())
        text = "é" * (512 * 1024)
        await store.append("s", [a_message(text), a_message("b"), a_message(text), a_message("c")])
        assert [len(one) for one in texts(await store.messages("s", limit=ALL))] == [len(text), 1, len(text), 1]
        assert texts(await store.recent("s", limit=1)) == ["c"]

    async def test_arguments_as_deep_as_the_gateway_takes_are_kept(self, store):
        await store.open_session(a_session())
        deep = {}
        for _ in range(schema.DEPTH - 1):
            deep = {"a": deep}
        await store.append("s", [a_message(parts=(Part("tool_call", id="c", name="n", arguments=deep),))])
        assert (await store.recent("s", limit=1))[0].parts[0].arguments == deep

    # --- lists ---

    async def test_sessions_are_listed_newest_first_and_stay_in_place_when_they_change(self, store, clock):
        for n in (2, 0, 1):
            await store.open_session(a_session(f"s{n}", at=START + timedelta(microseconds=n)))
        clock.pass_by(60)
        await store.append("s0", [a_message()])
        rows = (await store.list_sessions(ME, limit=ALL)).rows
        assert [row.id for row in rows] == ["s2", "s1", "s0"]
        assert rows[2].version == 1

    @given(times=st.lists(st.integers(0, 3), max_size=12), limit=st.integers(1, 13))
    @PROPERTY
    def test_pages_hold_every_row_once_in_order(self, times, limit):
        async def scenario(store):
            for n, at in enumerate(times):
                await begin(store, a_run(f"r{n}", f"s{n}", at=START + timedelta(microseconds=at)))
            await store.open_session(a_session("theirs", OTHERS[0]))
            for listing, mark in ((store.list_sessions, "s"), (store.list_runs, "r")):
                rows, sizes = await pages(lambda listing=listing, **page: listing(ME, **page), limit)
                assert {row.id for row in rows} == {f"{mark}{n}" for n in range(len(times))}
                order = [(row.created_at, row.id) for row in rows]
                assert order == sorted(set(order), reverse=True)
                assert all(size == limit for size in sizes[:-1])
                assert sizes[-1] > 0 or not times

        self.run_fresh(scenario)

    async def test_a_page_is_not_moved_by_what_comes_and_goes_meanwhile(self, store):
        for n in range(6):
            await store.open_session(a_session(f"s{n}", at=START + timedelta(seconds=n)))
        page = await store.list_sessions(ME, limit=2)
        await store.open_session(a_session("new", at=START + timedelta(seconds=9)))
        await store.delete_session(ME, page.rows[-1].id)
        rest, _ = await pages(
            lambda limit, cursor: store.list_sessions(ME, limit=limit, cursor=cursor or page.cursor), 2
        )
        assert [row.id for row in rest] == ["s3", "s2", "s1", "s0"]

    async def test_a_long_list_is_read_in_one_page(self, store):
        for n in range(150):
            await store.open_session(a_session(f"s{n:03}", at=START + timedelta(seconds=n)))
        page = await store.list_sessions(ME, limit=150)
        assert ([row.id for row in page.rows], page.cursor) == ([f"s{n:03}" for n in reversed(range(150))], None)
        assert await store.count_sessions(ME) == 150

    async def test_a_page_of_nothing_is_empty(self, store):
        await store.open_session(a_session())
        assert (await store.list_sessions(ME, limit=0)).rows == []
        assert (await store.list_runs(ME, limit=-5)).rows == []

    async def test_a_cursor_of_the_other_list_is_refused(self, store):
        for n in range(2):
            await begin(store, a_run(f"r{n}", f"s{n}"))
        cursor = (await store.list_sessions(ME, limit=1)).cursor
        with pytest.raises(InvalidInput):
            await store.list_runs(ME, limit=1, cursor=cursor)

    @pytest.mark.parametrize("cursor", ["", "x", "é", "\ud800", "====", "a" * 5000, "cy4xLmE=", "cy4xLmE \n"])
    async def test_a_made_up_cursor_is_refused(self, store, cursor):
        for listing in (store.list_sessions, store.list_runs):
            with pytest.raises(InvalidInput) as caught:
                await listing(ME, limit=1, cursor=cursor)
            assert caught.value.details[0].pointer == "/cursor"

    @given(text=st.text(max_size=30) | st.binary(max_size=30).map(lambda data: urlsafe_b64encode(data).decode()))
    @PROPERTY
    def test_any_cursor_is_read_or_refused(self, text):
        async def scenario(store):
            with suppress(InvalidInput):
                assert (await store.list_sessions(ME, limit=1, cursor=text)).rows == []

        self.run_fresh(scenario)

    async def test_runs_can_be_listed_by_session(self, store):
        await begin(store, a_run("a", "s"))
        await begin(store, a_run("b", "s", at=START + timedelta(seconds=1)))
        await begin(store, a_run("c", "s2"))
        rows, sizes = await pages(lambda **page: store.list_runs(ME, session_id="s", **page), 1)
        assert ([row.id for row in rows], sizes) == (["b", "a"], [1, 1])
        assert (await store.list_runs(ME, session_id="nobody", limit=ALL)).rows == []

    # --- begin_run, start_run ---

    async def test_a_run_begins_with_its_session_its_message_and_its_fields(self, store):
        run = a_run(
            usage=Usage(1, 2, 3, estimated=True), turns=4, text="part", finish_reason="stop", error_code="x", last_seq=9
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
        for status in ("running", "waiting_approval", "done", "failed", "cancelled"):
            await begin(store, a_run(status, status=status))
            await store.append_events(status, [an_event(1)])
        later = START + timedelta(hours=1)
        assert await store.interrupt_live(later) == 2
        for run_id in ("running", "waiting_approval"):
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
            }
        assert numbers(await store.events("done", limit=ALL)) == [1]
        assert await store.interrupt_live(later) == 0

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

    # --- notes ---

    async def test_notes_are_kept_whole_and_oldest_first(self, store):
        late = Note("b", "später\0", START + timedelta(1), {"k": [1]})
        early = Note("a", "early", START)
        assert await store.add_note(ME, late)
        assert await store.add_note(ME, early)
        assert await store.add_note(ME, replace(early, id="c", content="same time"))
        assert list(await store.notes(ME)) == [early, replace(early, id="c", content="same time"), late]

    @pytest.mark.parametrize("other", OTHERS)
    async def test_foreign_notes_read_as_absent(self, store, other):
        await store.add_note(ME, Note("a", "mine", START))
        assert list(await store.notes(other)) == []
        assert await store.delete_note(other, "a") is False
        assert await store.add_note(other, Note("a", "theirs", START))
        assert [note.content for note in await store.notes(ME)] == ["mine"]

    async def test_a_note_of_a_known_id_stays_as_it_was(self, store):
        await store.add_note(ME, Note("a", "first", START))
        assert await store.add_note(ME, Note("a", "second", START)) is True
        assert [note.content for note in await store.notes(ME)] == ["first"]

    async def test_a_forgotten_note_was_there_once(self, store):
        await store.add_note(ME, Note("a", "x", START))
        assert [await store.delete_note(ME, "a"), await store.delete_note(ME, "a")] == [True, False]
        assert list(await store.notes(ME)) == []

    @pytest.mark.slow
    async def test_a_scope_is_full_at_its_bound_and_others_are_not(self, store):
        added = (store.add_note(ME, Note(f"n{n}", "x", START)) for n in range(NOTES_PER_SCOPE))
        assert all(await asyncio.gather(*added))
        assert await store.add_note(ME, Note("one more", "x", START)) is False
        assert len(await store.notes(ME)) == NOTES_PER_SCOPE
        assert await store.add_note(OTHERS[0], Note("theirs", "x", START))
        await store.delete_note(ME, "n5")
        assert await store.add_note(ME, Note("one more", "x", START)) is True

    # --- check, cancellation ---

    async def test_an_open_store_can_be_written(self, store):
        await store.check()
        await store.check()

    async def test_a_cancelled_append_is_whole_or_absent_and_harms_no_other(self, store):
        await store.open_session(a_session())
        calls = [asyncio.ensure_future(store.append("s", [a_message(f"{n}"), a_message(f"{n}+")])) for n in range(40)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await store.check()
        kept = texts(await store.messages("s", limit=ALL))
        assert kept == [text for first in kept[::2] for text in (first, f"{first}+")]
        assert {f"{n}" for n in range(1, 40, 2)} <= set(kept)

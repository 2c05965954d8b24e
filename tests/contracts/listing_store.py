"""What every store promises of text and of lists."""

from base64 import urlsafe_b64encode
from contextlib import suppress
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
    begin,
    pages,
    texts,
)
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import InvalidInput
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.messages import Part
from argentor_asgi.sessions.records import Scope


class ListingStoreContract(FreshStores):
    """What holds for every text and every page, one test each."""

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

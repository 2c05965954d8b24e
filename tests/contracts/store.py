"""What every store must do. Subclass `StoreContract` in a test file and say how to make one.

    class TestMine(StoreContract):
        def make(self, clock): return MyStore(..., clock=clock)   # each call a fresh, empty, unopened store

`contracts.store_machine` is its stateful half.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from contracts.listing_store import ListingStoreContract
from contracts.run_store import RunStoreContract
from contracts.session_store import SessionStoreContract
from contracts.store_keys import KeyStoreContract
from contracts.store_values import (
    ALL,
    ME,
    OTHERS,
    START,
    a_message,
    a_session,
    texts,
)

from argentor_asgi.sessions.session import NOTES_PER_SCOPE, Note


class StoreContract(SessionStoreContract, ListingStoreContract, RunStoreContract, KeyStoreContract):
    """All promises of a `Store`."""

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

"""What every store must do. Subclass `StoreContract` in a test file and say how to make one.

    class TestMine(StoreContract):
        def make(self, clock): return MyStore(..., clock=clock)   # each call a fresh, empty, unopened store

`contracts.store_machine` is its stateful half.
"""

import asyncio

from contracts.approval_store import ApprovalStoreContract
from contracts.listing_store import ListingStoreContract
from contracts.note_store import NoteStoreContract
from contracts.run_store import RunStoreContract
from contracts.session_store import SessionStoreContract
from contracts.store_keys import KeyStoreContract
from contracts.store_values import (
    ALL,
    a_message,
    a_session,
    texts,
)


class StoreContract(
    SessionStoreContract,
    ListingStoreContract,
    RunStoreContract,
    ApprovalStoreContract,
    NoteStoreContract,
    KeyStoreContract,
):
    """All promises of a `Store`."""

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

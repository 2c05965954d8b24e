import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from contracts.store import StoreContract
from contracts.store_machine import StoreMachine
from contracts.store_values import ALL, ME, START, StillClock, a_message, a_run, a_session, an_event, begin
from hypothesis import settings

from argentor_asgi.errors import Overloaded
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.memory_rows import ROW_BYTES
from argentor_asgi.sessions.records import Claim, Note


class TestMemoryStore(StoreContract):
    def make(self, clock):
        return MemoryStore(clock=clock)


class MemoryMachine(StoreMachine):
    def make(self, clock):
        return MemoryStore(clock=clock)


TestMemoryMachine = pytest.mark.slow(MemoryMachine.TestCase)
TestMemoryMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def a_store(**bounds):
    return MemoryStore(clock=StillClock(), **bounds)


async def test_at_its_bound_of_sessions_it_refuses_new_ones_and_takes_known_ones():
    store = a_store(max_sessions=2)
    for session_id in ("a", "b"):
        await store.open_session(a_session(session_id))
    for refused in (store.open_session(a_session("c")), begin(store, a_run("r", "c"), claim=Claim("k", "f", "r"))):
        with pytest.raises(Overloaded):
            await refused
    assert await begin(store, a_run("r", "a"), claim=Claim("k", "f", "r")) is None
    await store.delete_session(ME, "b")
    await store.open_session(a_session("c"))


async def test_at_its_bound_of_bytes_it_refuses_and_stores_nothing():
    store = a_store(max_bytes=ROW_BYTES * 10)
    await store.open_session(a_session())
    big = "x" * ROW_BYTES * 10
    refusals = (
        store.append("s", [a_message("small"), a_message(big)]),
        begin(store, a_run("r", "s2"), message=a_message(big)),
        begin(store, a_run("r", "s2", input=big), message=None),
        store.add_note(ME, Note("n", big, START)),
    )
    for refused in refusals:
        with pytest.raises(Overloaded):
            await refused
    assert await store.messages("s", limit=ALL) == []
    assert await store.count_sessions(ME) == 1
    assert list(await store.notes(ME)) == []
    assert await store.append("s", [a_message("small")]) == 1


async def test_events_past_the_bound_are_refused_but_a_run_can_end():
    store = a_store(max_bytes=ROW_BYTES * 5)
    await begin(store)
    with pytest.raises(Overloaded):
        await store.append_events("r", [an_event(1, data=b"x" * ROW_BYTES * 5)])
    await store.save_run(a_run(status="done"), [an_event(1, "done", b"x" * ROW_BYTES * 5)])
    assert (await store.get_run(ME, "r")).status == "done"


async def test_what_goes_makes_room():
    store = a_store()
    await begin(store, claim=Claim("k", "f", "r"))
    await begin(store, a_run("r2", "s2", status="done"))
    await store.append("s", [a_message("x" * 100)])
    await store.append_events("r", [an_event(1)])
    await store.append_events("r2", [an_event(1)])
    await store.save_run(a_run(status="done", text="answer" * 100), [an_event(2, "done")])
    await store.save_run(replace(a_run(status="done"), text="shorter"))
    await store.add_note(ME, Note("n", "text", START))
    assert store._used_bytes > 0
    await store.prune(START + timedelta(days=1))
    await store.delete_note(ME, "n")
    for session_id in ("s", "s2"):
        await store.delete_session(ME, session_id)
    assert store._used_bytes == 0
    assert not any((store._sessions, store._runs, store._claims, store._notes, store._session_keys, store._run_keys))


async def test_no_call_waits():
    store = a_store()
    call = asyncio.ensure_future(begin(store))
    await asyncio.sleep(0)
    assert call.done()

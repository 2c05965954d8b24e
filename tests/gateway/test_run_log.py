"""A run as a log (design 6.4): numbered once, durable before it is seen, bounded in memory."""

import asyncio
import tracemalloc

import pytest
from asgi_driver import soon
from contracts.store_values import START, StillClock, a_run, begin
from house import everything, recorded
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import Internal, ReplayExpired, StorageUnavailable
from argentor_asgi.gateway.run_log import BATCH_BYTES, READ_EVENTS, UNSTORED_EVENTS, Reader, Recorder, RunLog
from argentor_asgi.protocol.events import Cancelled, LoggedEvent, RunStarted, TextDelta, ToolCallEnd, ToolCallStart
from argentor_asgi.protocol.schema import encode
from argentor_asgi.sessions.memory import MemoryStore


def filled(count, *, shown=None, **bounds):
    run_log = RunLog("r", **bounds)
    for index in range(count):
        run_log.append(TextDelta("x" * 10, index))
    run_log.show(count if shown is None else shown)
    return run_log


def test_a_kept_event_takes_about_as_much_memory_as_its_bytes():
    tracemalloc.start()
    try:
        run_log = filled(1000)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1000 * 400, run_log


class SlowStore:
    """A store whose writes wait until they are let through."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.batches = []
        self.failure = None

    async def append_events(self, _run_id, events):
        await self.gate.wait()
        if self.failure:
            raise self.failure
        self.batches.append([event.seq for event in events])


def seqs(events):
    return [event.seq for event in events]


def test_events_are_numbered_from_one_without_a_gap():
    assert seqs(filled(5).after(0)) == [1, 2, 3, 4, 5]


def test_an_event_that_is_not_shown_is_not_seen():
    assert seqs(filled(5, shown=3).after(1)) == [2, 3]


def test_a_reader_behind_the_ring_is_told_so():
    run_log = filled(10, ring_events=4)
    assert run_log.after(5) is None
    assert seqs(run_log.after(6)) == [7, 8, 9, 10]


def test_the_ring_keeps_exactly_its_bound():
    # agent.md 1.10 D9
    assert seqs(filled(4, ring_events=4).after(0)) == [1, 2, 3, 4]
    assert filled(5, ring_events=4).after(0) is None


def test_the_ring_is_bounded_in_bytes_too():
    one = len(RunLog("r").append(TextDelta("x" * 10, 0)).data)
    assert seqs(filled(9, ring_bytes=one * 4).after(5)) == [6, 7, 8, 9]
    assert filled(9, ring_bytes=one * 4).after(4) is None


def test_a_reader_gets_a_batch_of_so_many_bytes_and_then_the_next():
    run_log = RunLog("r")
    for number in range(100):
        run_log.append(TextDelta("x" * 4000, number))
    run_log.show(100)
    heard = []
    while batch := run_log.after(len(heard)):
        assert sum(len(event.data) for event in batch[:-1]) < BATCH_BYTES
        heard += seqs(batch)
    assert heard == list(range(1, 101))


def test_an_event_larger_than_a_batch_is_a_batch():
    run_log = RunLog("r")
    run_log.append(TextDelta("x" * (BATCH_BYTES + 1), 0))
    run_log.append(TextDelta("y", 1))
    run_log.show(2)
    assert (seqs(run_log.after(0)), seqs(run_log.after(1))) == ([1], [2])


def test_what_is_not_yet_shown_never_leaves_the_ring():
    run_log = filled(10, shown=0, ring_events=4)
    run_log.show(10)
    assert run_log.after(0) is None
    assert seqs(run_log.after(6)) == [7, 8, 9, 10]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 10))
def test_after_gives_every_shown_event_once_or_says_that_it_cannot(count, shown, after, ring):
    run_log = filled(count, shown=min(shown, count), ring_events=ring)
    found = run_log.after(after)
    wanted = list(range(after + 1, min(shown, count) + 1))
    assert found is None or seqs(found) == wanted
    assert found is not None or wanted


async def test_a_waiting_reader_wakes_when_something_is_shown():
    run_log = filled(1)
    waiting = asyncio.create_task(run_log.beyond(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    run_log.append(TextDelta("y", 1))
    run_log.show(2)
    await asyncio.wait_for(waiting, 1)


async def test_an_event_is_shown_only_when_it_is_stored_and_a_burst_is_one_write():
    store, run_log = SlowStore(), RunLog("r")
    recorder = Recorder(store, run_log)
    for index in range(5):
        await recorder.emit(TextDelta("x", index))
    await asyncio.sleep(0)
    assert run_log.shown_seq == 0
    store.gate.set()
    await recorder.settle()
    assert run_log.shown_seq == 5
    assert store.batches == [[1, 2, 3, 4, 5]]


async def test_a_run_waits_when_it_is_too_far_ahead_of_the_store():
    # agent.md 1.10 D9
    store, run_log = SlowStore(), RunLog("r")
    recorder = Recorder(store, run_log)
    await recorder.emit(TextDelta("x", 0))
    await asyncio.sleep(0)  # the write takes this one, and waits
    for index in range(1, UNSTORED_EVENTS):
        await recorder.emit(TextDelta("x", index))
    ahead = asyncio.create_task(recorder.emit(TextDelta("x", UNSTORED_EVENTS)))
    await asyncio.sleep(0)
    assert not ahead.done()
    store.gate.set()
    await asyncio.wait_for(ahead, 1)
    await recorder.settle()
    assert run_log.shown_seq == UNSTORED_EVENTS + 1


async def test_a_store_that_fails_fails_the_run_and_not_its_readers():
    store, run_log = SlowStore(), RunLog("r")
    store.failure = StorageUnavailable()
    store.gate.set()
    recorder = Recorder(store, run_log)
    await recorder.emit(TextDelta("x", 0))
    await recorder.settle()
    with pytest.raises(StorageUnavailable):
        await recorder.emit(TextDelta("x", 1))


async def test_what_could_not_be_stored_is_kept_in_order_with_what_comes_after_it():
    store, run_log = SlowStore(), RunLog("r")
    recorder = Recorder(store, run_log)
    await recorder.emit(TextDelta("x", 0))
    await asyncio.sleep(0)
    await recorder.emit(TextDelta("x", 1))
    store.failure = StorageUnavailable()
    store.gate.set()
    await recorder.settle()
    with pytest.raises(StorageUnavailable):
        await recorder.emit(ToolCallStart("c", "echo"))
    assert seqs(recorder.unstored) == [1, 2, 3]
    await recorder.emit(ToolCallEnd("c", "echo", None))
    await recorder.settle()
    assert (seqs(recorder.unstored), run_log.shown_seq) == ([1, 2, 3, 4], 0)


async def test_a_store_that_works_again_gets_what_it_missed():
    store, run_log = SlowStore(), RunLog("r")
    store.failure = RuntimeError("a bug")
    store.gate.set()
    recorder = Recorder(store, run_log)
    await recorder.emit(TextDelta("x", 0))
    await recorder.settle()
    with pytest.raises(Internal):
        await recorder.emit(TextDelta("x", 1))
    store.failure = None
    await recorder.emit(TextDelta("x", 2))
    await recorder.settle()
    assert (store.batches, recorder.unstored, run_log.shown_seq) == ([[1, 2, 3]], [], 3)


async def test_a_waiting_reader_that_is_cancelled_leaves_the_log():
    run_log = filled(1)
    waiting = [asyncio.create_task(run_log.beyond(1)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert len(run_log._waiting) == 1
    run_log.append(TextDelta("y", 1))
    run_log.show(2)
    await soon(waiting[1])
    assert (run_log._waiting, repr(run_log)) == (set(), "<RunLog r last=2 shown=2 ring=2>")


# --- Reader ------------------------------------------------------------------------------------------------------

TEXTS = 2 * READ_EVENTS
EVENTS = [
    RunStarted("r", "s", "scripted-1", START),
    *(TextDelta("x", index) for index in range(TEXTS)),
    Cancelled("r", "asked", "x" * TEXTS),
]
LAST = len(EVENTS)


def logged(events=EVENTS):
    return [LoggedEvent(seq, event.type, encode(event)) for seq, event in enumerate(events, 1)]


async def stored(events):
    """Return a store with one run and these events of it."""
    store = MemoryStore(clock=StillClock())
    await begin(store)
    await store.append_events("r", events)
    return store


def reading(store, run_log=None, *, after=0, **run):
    return Reader(lambda: a_run(**run), run_log, store, after)


@pytest.mark.parametrize("after", [0, 1, READ_EVENTS, LAST - 1])
async def test_an_ended_run_is_read_from_the_store_in_pieces(after):
    store = await stored(logged())
    reader = reading(store, after=after, last_seq=LAST)
    await reader.prime()
    assert seqs(await recorded(reader, after=after)) == list(range(after + 1, LAST + 1))


@pytest.mark.parametrize("after", [LAST, LAST + 1])
async def test_a_reader_past_the_end_of_an_ended_run_hears_nothing(after):
    reader = reading(await stored(logged()), after=after, last_seq=LAST)
    assert reader.is_past_the_end
    await reader.prime()
    assert await everything(reader) == []


@pytest.mark.parametrize("is_primed", [True, False])
async def test_a_reader_whom_the_ring_has_overrun_goes_on_from_the_store_and_returns_to_the_ring(is_primed):
    store, run_log = await stored(logged()[:-1]), RunLog("r", ring_events=4)
    for event in EVENTS[:-1]:
        run_log.append(event)
    run_log.show(LAST - 1)
    reader = reading(store, run_log)
    assert not reader.is_past_the_end
    if is_primed:
        await reader.prime()
    following = asyncio.create_task(recorded(reader))
    for _ in range(10):
        await asyncio.sleep(0)
    run_log.append(EVENTS[-1])
    run_log.show(LAST)
    assert seqs(await soon(following)) == list(range(1, LAST + 1))


async def test_priming_waits_for_nothing_while_the_log_has_what_comes_next():
    run_log = RunLog("r")
    await soon(reading(None, run_log).prime())


@pytest.mark.parametrize("kept", [[], logged()[5:]])
async def test_what_is_kept_nowhere_any_more_is_expired_and_says_what_came_of_the_run(kept):
    reader = reading(await stored(kept), after=2, last_seq=LAST, status="cancelled", text="xx")
    for read in (reader.prime(), everything(reader)):
        with pytest.raises(ReplayExpired) as expired:
            await read
        assert expired.value.members == {"run_status": "cancelled", "text": "xx"}


async def test_a_reader_hears_what_is_before_a_gap_and_then_that_there_is_one():
    reader = reading(await stored(logged()[:3] + logged()[5:]), last_seq=LAST)
    batches = aiter(reader)
    assert seqs(await anext(batches)) == [1, 2, 3]
    with pytest.raises(ReplayExpired):
        await anext(batches)


# --- a log that is closed, or goes on ----------------------------------------------------------------------------


async def test_readers_of_a_log_that_is_closed_end_behind_what_is_shown():
    run_log = RunLog("r")
    readers = [asyncio.create_task(everything(reading(None, run_log))) for _ in range(3)]
    for event in EVENTS[:3]:
        run_log.append(event)
    run_log.show(2)
    await asyncio.sleep(0)
    run_log.close()
    assert [seqs(await soon(reader)) for reader in readers] == [[1, 2]] * 3
    assert seqs(await soon(everything(reading(None, run_log)))) == [1, 2]


async def test_a_log_goes_on_behind_what_is_only_in_the_store():
    run_log = RunLog("r", last_seq=3)
    store = await stored(logged()[:3])
    following = asyncio.create_task(recorded(reading(store, run_log)))
    await asyncio.sleep(0)
    for event in EVENTS[3:]:
        run_log.append(event)
    run_log.show(LAST)
    assert seqs(await soon(following)) == list(range(1, LAST + 1))

"""A run as a log (design 6.4): numbered once, durable before it is seen, bounded in memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.gateway.run_log import UNSTORED_EVENTS, Recorder, RunLog
from argentor_asgi.protocol.events import TextDelta


def filled(count, *, shown=None, **bounds):
    run_log = RunLog("r", **bounds)
    for index in range(count):
        run_log.append(TextDelta("x" * 10, index))
    run_log.show(count if shown is None else shown)
    return run_log


class SlowStore:
    """A store whose writes wait until they are let through."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.batches = []
        self.failure = None

    async def append_events(self, run_id, events):
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
    assert seqs(filled(4, ring_events=4).after(0)) == [1, 2, 3, 4]
    assert filled(5, ring_events=4).after(0) is None


def test_the_ring_is_bounded_in_bytes_too():
    one = len(RunLog("r").append(TextDelta("x" * 10, 0)).data)
    assert seqs(filled(9, ring_bytes=one * 4).after(5)) == [6, 7, 8, 9]
    assert filled(9, ring_bytes=one * 4).after(4) is None


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

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager

import pytest

from argentor_asgi.errors import ConfigError, StaleSession, StorageUnavailable
from argentor_asgi.sessions.writer import BATCH, WRITER_QUEUE, Writer


def connect():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE kept (x PRIMARY KEY)")
    return db


def keep(value):
    return lambda db: db.execute("INSERT INTO kept VALUES (?)", (value,)).rowcount


def kept(db):
    return [value for (value,) in db.execute("SELECT x FROM kept ORDER BY rowid")]


def keep_and_raise(value, error):
    def work(db):
        keep(value)(db)
        raise error

    return work


@asynccontextmanager
async def writing(connect=connect):
    closed = threading.Event()
    writer = Writer(connect, closed.set)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.aclose()
    assert closed.is_set()


@asynccontextmanager
async def busy(writer):
    """Keep the thread in one operation, so that what is submitted meanwhile shares the next transaction."""
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(_db):
        loop.call_soon_threadsafe(entered.set)
        assert leave.wait(30)

    blocker = asyncio.ensure_future(writer.submit(work))
    await entered.wait()
    try:
        yield
    finally:
        leave.set()
        await blocker


async def together(writer, *works):
    """Submit all of `works` into one transaction, and return what became of each."""
    async with busy(writer):
        calls = [asyncio.ensure_future(writer.submit(work)) for work in works]
        await asyncio.sleep(0)
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_an_operation_returns_its_result():
    async with writing() as writer:
        assert await writer.submit(keep(1)) == 1
        assert await writer.submit(kept) == [1]


async def test_one_failing_operation_is_undone_alone():
    async with writing() as writer:
        found = await together(writer, keep(1), keep_and_raise(2, StaleSession()), keep(3), keep(1), keep(4))
        assert [type(one) for one in found] == [int, StaleSession, int, StorageUnavailable, int]
        assert await writer.submit(kept) == [1, 3, 4]


async def test_operations_of_one_transaction_share_one_commit():
    statements = []

    def traced():
        db = connect()
        db.set_trace_callback(statements.append)
        return db

    async with writing(traced) as writer:
        await together(writer, *(keep(n) for n in range(10)))
    assert statements.count("COMMIT") == 2
    assert statements.count("SAVEPOINT task") == 11


async def test_a_transaction_holds_a_bounded_number_of_operations():
    commits = []

    def traced():
        db = connect()
        db.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        return db

    async with writing(traced) as writer:
        await together(writer, *(keep(n) for n in range(BATCH + 1)))
    assert len(commits) == 3


async def test_a_lost_transaction_fails_all_of_its_operations_and_the_writer_goes_on():
    async with writing() as writer:
        found = await together(
            writer, keep(1), lambda db: db.execute("INSERT OR ROLLBACK INTO kept VALUES (1)"), keep(2)
        )
        assert [type(one) for one in found] == [StorageUnavailable] * 3
        assert len({id(one) for one in found}) == 3
        assert await writer.submit(keep(3)) == 1
        assert await writer.submit(kept) == [3]


async def test_a_commit_that_fails_fails_all_of_its_operations():
    def deferred():
        db = connect()
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("CREATE TABLE child (x REFERENCES kept (x) DEFERRABLE INITIALLY DEFERRED)")
        return db

    async with writing(deferred) as writer:
        found = await together(writer, keep(1), lambda db: db.execute("INSERT INTO child VALUES (9)"))
        assert [type(one) for one in found] == [StorageUnavailable] * 2
        assert await writer.submit(kept) == []


async def test_a_bug_in_an_operation_reaches_its_caller_and_no_other():
    async with writing() as writer:
        found = await together(writer, keep(1), keep_and_raise(2, ZeroDivisionError()))
        assert [type(one) for one in found] == [int, ZeroDivisionError]


async def test_past_the_queues_bound_callers_wait():
    async with writing() as writer:
        async with busy(writer):
            calls = [asyncio.ensure_future(writer.submit(keep(n))) for n in range(WRITER_QUEUE + 9)]
            await asyncio.sleep(0)
            assert writer._queue.qsize() == WRITER_QUEUE - 1
        assert await asyncio.gather(*calls) == [1] * (WRITER_QUEUE + 9)
        assert await writer.submit(kept) == list(range(WRITER_QUEUE + 9))


async def test_a_cancelled_caller_does_not_disturb_the_others():
    async with writing() as writer:
        async with busy(writer):
            calls = [asyncio.ensure_future(writer.submit(keep(n))) for n in range(3)]
            await asyncio.sleep(0)
            calls[1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert calls[1].cancelled()
        assert set(await writer.submit(kept)) >= {0, 2}


async def test_a_caller_cancelled_while_it_waits_for_room_writes_nothing():
    async with writing() as writer:
        async with busy(writer):
            calls = [asyncio.ensure_future(writer.submit(keep(n))) for n in range(WRITER_QUEUE)]
            await asyncio.sleep(0)
            calls[-1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await writer.submit(kept) == list(range(WRITER_QUEUE - 1))


async def test_closing_finishes_what_was_accepted_and_refuses_what_was_not():
    async with writing() as writer:
        async with busy(writer):
            calls = [asyncio.ensure_future(writer.submit(keep(n))) for n in range(WRITER_QUEUE + 2)]
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(writer.aclose())
            await asyncio.sleep(0)
        await closing
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert found[: WRITER_QUEUE - 1] == [1] * (WRITER_QUEUE - 1)
        assert {type(one) for one in found[WRITER_QUEUE - 1 :]} == {StorageUnavailable}
        with pytest.raises(StorageUnavailable):
            await writer.submit(kept)
        await writer.aclose()


async def test_a_cancelled_close_still_closes():
    async with writing() as writer, busy(writer):
        closing = asyncio.ensure_future(writer.aclose())
        await asyncio.sleep(0)
        closing.cancel()


async def test_a_connection_that_cannot_be_opened_is_heard_and_closed():
    closed = threading.Event()

    def fail():
        raise ConfigError("no")

    writer = Writer(fail, closed.set)
    with pytest.raises(ConfigError, match="no"):
        await writer.start()
    assert closed.is_set()
    await writer.aclose()


async def test_a_cancelled_start_closes_what_it_opened():
    closed, leave = threading.Event(), threading.Event()

    def slow():
        assert leave.wait(30)
        return connect()

    writer = Writer(slow, closed.set)
    starting = asyncio.ensure_future(writer.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    leave.set()
    await writer.aclose()
    assert closed.is_set()


def test_a_loop_that_ends_before_its_writer_does_no_harm():
    closed = threading.Event()

    async def forget():
        writer = Writer(connect, closed.set)
        await writer.start()
        return writer

    writer = asyncio.run(forget())
    writer._queue.put(None)
    assert closed.wait(30)

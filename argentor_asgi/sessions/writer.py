"""The one thread that writes: whatever waits goes into one transaction, and its callers hear of it in one callback."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Generic, Protocol, TypeVar, cast

from argentor_asgi.errors import InvalidInput, StorageUnavailable
from argentor_asgi.sessions.database import close_writer

WRITER_QUEUE: Final = 1024
"""How many operations may be accepted and not yet durable; further callers wait."""
BATCH: Final = 512
"""How many operations share one transaction."""
T = TypeVar("T")

log = logging.getLogger("argentor.storage")


def unavailable(error: Exception) -> StorageUnavailable:
    """Log what the database said and return what a caller is told."""
    log.error("the database failed: %s: %s", type(error).__name__, error)
    return StorageUnavailable()


class Task(Protocol):
    """An operation as the thread sees it."""

    def run(self, db: sqlite3.Connection) -> None:
        """Do it in the open transaction and keep the result."""
        ...

    def fail(self, error: Exception) -> None:
        """Keep the failure in place of a result."""
        ...

    def settle(self) -> None:
        """Tell the caller, on the loop."""
        ...


class _Job(Generic[T]):
    """An operation and the future of its caller."""

    __slots__ = ("_error", "_future", "_value", "_work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], future: "asyncio.Future[T]") -> None:
        self._work = work
        self._value: T | None = None
        self._error: Exception | None = None
        self._future = future

    def run(self, db: sqlite3.Connection) -> None:
        self._value = self._work(db)

    def fail(self, error: Exception) -> None:
        self._error = error

    def settle(self) -> None:
        if self._future.done():  # its caller was cancelled
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(cast("T", self._value))


class Writer:
    """Owns the writing connection, from `start` to `aclose`, in a thread of its own."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], closed: Callable[[], None]) -> None:
        """Prepare; `connect` and, as the very last thing, `closed` are called in the thread."""
        self._connect = connect
        self._closed = closed
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        self._room = asyncio.Semaphore(WRITER_QUEUE)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._is_closing = False
        self._depth = 0

    @property
    def depth(self) -> int:
        """How many operations are accepted and not yet committed, 0 to `WRITER_QUEUE`."""
        return self._depth

    async def start(self) -> None:
        """Open the connection; raises what `connect` raises. Cancelled, the thread closes again by itself."""
        opened: asyncio.Future[None] = self._loop.create_future()
        Thread(target=self._live, args=(opened,), name="argentor-writer", daemon=True).start()
        try:
            await opened
        except asyncio.CancelledError:
            self._stop()
            raise

    async def submit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction, alone undone when it raises, and return its result once it is durable.

        Waits while `WRITER_QUEUE` operations are under way. A cancelled caller's operation is either done or not begun.
        Raises what `work` raises, `StorageUnavailable` for what the database raises and after `aclose`.
        """
        await self._room.acquire()
        if self._is_closing:
            self._room.release()
            raise StorageUnavailable
        future: asyncio.Future[T] = self._loop.create_future()
        self._depth += 1
        self._queue.put(_Job(work, future))
        return await future

    async def aclose(self) -> None:
        """Finish what was accepted, then close; may be called again. Cancelled, the thread still finishes."""
        self._stop()
        await asyncio.shield(self._ended)

    def _stop(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._queue.put(None)

    def _live(self, opened: "asyncio.Future[None]") -> None:
        """Be the thread: open, work, close."""
        try:
            db = self._connect()
        except Exception as error:  # noqa: BLE001  whatever it is, the one who starts the store hears it
            self._closed()
            self._post(partial(_give, opened, error))
            self._post(partial(_give, self._ended, None))
            return
        self._post(partial(_give, opened, None))
        try:
            while self._take(db):
                pass
        finally:
            close_writer(db)
            self._closed()
            self._post(partial(_give, self._ended, None))

    def _take(self, db: sqlite3.Connection) -> bool:
        """Write what waits; False when the queue is at its end."""
        batch: list[Task] = []
        task = self._queue.get()
        try:
            while task is not None:
                batch.append(task)
                if len(batch) == BATCH:
                    break
                task = self._queue.get_nowait()
        except Empty:
            pass
        if batch:
            commit(db, batch)
            self._post(partial(self._settle, batch))
        return task is not None

    def _settle(self, batch: Sequence[Task]) -> None:
        for task in batch:
            task.settle()
            self._depth -= 1
            self._room.release()

    def _post(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            log.warning("the event loop ended before its store was closed")


def commit(db: sqlite3.Connection, batch: Sequence[Task]) -> None:
    """Run every task of `batch` in one transaction; one that raises is undone alone, a lost transaction fails all."""
    try:
        db.execute("BEGIN IMMEDIATE")
        for task in batch:
            _attempt(db, task)
        db.execute("COMMIT")
    except Exception as error:  # noqa: BLE001  the thread lives on, and each caller is told
        with suppress(sqlite3.Error):  # SQLite may have ended the transaction itself; what is left fails the next BEGIN
            db.execute("ROLLBACK")
        unavailable(error)
        for task in batch:
            task.fail(StorageUnavailable())


def _attempt(db: sqlite3.Connection, task: Task) -> None:
    """Run one task; raises when SQLite gave up the whole transaction, as it may for a full disk."""
    db.execute("SAVEPOINT task")
    try:
        task.run(db)
    except Exception as error:
        if not db.in_transaction:
            raise
        db.execute("ROLLBACK TO task")
        task.fail(_told(error))
    db.execute("RELEASE task")


def _told(error: Exception) -> Exception:
    """Return what the caller of a failed task is told."""
    if isinstance(error, sqlite3.Error):
        return unavailable(error)
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("An id holds text that is not valid Unicode.")
    return error


def _give(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)

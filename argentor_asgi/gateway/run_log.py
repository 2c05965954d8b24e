"""A run as a log: its events are numbered and appended once, made durable, then shown to any number of cursors."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import islice
from typing import Final

from argentor_asgi.errors import GatewayError, Internal, ReplayExpired
from argentor_asgi.protocol.events import LoggedEvent, RunEvent
from argentor_asgi.protocol.schema import encode
from argentor_asgi.sessions.records import Run
from argentor_asgi.sessions.store import RunStore

RING_EVENTS: Final = 4096
RING_BYTES: Final = 8 * 1024 * 1024
BATCH_BYTES: Final = 64 * 1024
"""How much a reader gets of the ring at a time; one that stalls holds it as its server's unsent bytes."""
READ_EVENTS: Final = 256
"""How many events one read of the store brings."""
UNSTORED_EVENTS: Final = 256
"""How many events a run may be ahead of the store before it waits."""

log = logging.getLogger("argentor.runs")


class RunLog:
    """The newest events of one run, in memory. A slow reader costs a cursor; what left the ring is in the store."""

    def __init__(
        self, run_id: str, *, last_seq: int = 0, ring_events: int = RING_EVENTS, ring_bytes: int = RING_BYTES
    ) -> None:
        """Begin an empty log; `last_seq`: the number of the newest event that is only in the store."""
        self.run_id = run_id
        self.last_seq = last_seq
        self.shown_seq = last_seq
        self.is_closed = False
        self._ring: deque[LoggedEvent] = deque()
        self._ring_events = ring_events
        self._ring_bytes = ring_bytes
        self._bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        """Show the numbers that a debugger wants."""
        return f"<RunLog {self.run_id} last={self.last_seq} shown={self.shown_seq} ring={len(self._ring)}>"

    def append(self, event: RunEvent) -> LoggedEvent:
        """Number the event and keep it; readers do not see it before `show`."""
        self.last_seq += 1
        # A copy: the encoder's own bytes hold 4 KiB of memory, however few they are, and these are kept.
        logged = LoggedEvent(self.last_seq, event.type, bytes(memoryview(encode(event))))
        self._ring.append(logged)
        self._bytes += len(logged.data)
        self._trim()
        return logged

    def show(self, seq: int) -> None:
        """Let readers see every event up to `seq`, and wake them."""
        self.shown_seq = max(self.shown_seq, seq)
        self._trim()
        self._wake()

    def close(self) -> None:
        """Say that no more events come; readers end behind what is shown, also of a run that goes on another day."""
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    def after(self, seq: int) -> Sequence[LoggedEvent] | None:
        """Return the shown events behind `seq`, oldest first; None when the first of them has left the ring.

        They are as many as fit into `BATCH_BYTES`, and one that does not: what a reader is given it may hold for long.
        """
        if seq >= self.shown_seq:
            return ()
        first = self._ring[0].seq if self._ring else self.last_seq + 1
        if first > seq + 1:
            return None
        batch, size = [], 0
        for event in islice(self._ring, seq + 1 - first, self.shown_seq + 1 - first):  # numbered without a gap
            batch.append(event)
            size += len(event.data)
            if size >= BATCH_BYTES:
                break
        return batch

    async def beyond(self, seq: int) -> None:
        """Wait until an event behind `seq` is shown, or none will be."""
        while self.shown_seq <= seq and not self.is_closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    def _trim(self) -> None:
        """Let the oldest shown events go while the ring is over a bound; what is not yet stored stays."""
        ring = self._ring
        while ring and (len(ring) > self._ring_events or self._bytes > self._ring_bytes):
            if ring[0].seq > self.shown_seq:
                return
            self._bytes -= len(ring.popleft().data)


class Recorder:
    """Stores a run's events and then shows them, so that no reader ever saw what a crash takes back.

    The run goes on while its events are being stored, up to `UNSTORED_EVENTS` ahead: one burst of events costs one
    write, not one each.
    """

    def __init__(self, store: RunStore, run_log: RunLog) -> None:
        """Record into `run_log` and `store`."""
        self._store = store
        self._log = run_log
        self.unstored: list[LoggedEvent] = []
        self._writing: asyncio.Task[None] | None = None
        self._failure: GatewayError | None = None

    async def emit(self, event: RunEvent) -> None:
        """Append one event; waits only when the store is far behind.

        Raises what the store raised before, once; the event is kept even so, and so is what cleaning up emits then.
        """
        self.unstored.append(self._log.append(event))
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        elif len(self.unstored) >= UNSTORED_EVENTS:
            await asyncio.shield(self._writing)

    async def settle(self) -> None:
        """Wait until everything that was emitted is stored and shown; what could not be is in `unstored`."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        batch: list[LoggedEvent] = []
        try:
            while self.unstored:
                batch, self.unstored = self.unstored, []
                await self._store.append_events(self._log.run_id, batch)
                self._log.show(batch[-1].seq)
        except Exception as error:
            log.exception("the events of run %s could not be stored", self._log.run_id)
            self._failure = error if isinstance(error, GatewayError) else Internal()
            self.unstored[:0] = batch
        finally:
            self._writing = None


class Reader:
    """A cursor on one run, over its log while it lives and over the store for what the log no longer has."""

    def __init__(self, run: Callable[[], Run], run_log: RunLog | None, store: RunStore, after: int) -> None:
        """Begin behind event number `after`; `run` returns the run as it is when it is asked."""
        self._run = run
        self._log = run_log
        self._store = store
        self._after = after
        self._primed: Sequence[LoggedEvent] = ()

    @property
    def run(self) -> Run:
        """The run; once its terminal event was yielded, as it ended."""
        return self._run()

    @property
    def is_past_the_end(self) -> bool:
        """Whether the run has ended and this reader has already seen all of it."""
        return self._log is None and self._after >= self.run.last_seq

    async def __aiter__(self) -> AsyncGenerator[Sequence[LoggedEvent], None]:
        """Yield events in order, as many at a time as there are, the terminal one last.

        A run that is laid aside until the next start has no terminal one. Raises `ReplayExpired` when events in between
        are kept nowhere any more.
        """
        while batch := self._primed or await self._next():
            self._primed = ()
            self._after = batch[-1].seq
            yield batch
            if batch[-1].is_terminal:
                return

    async def prime(self) -> None:
        """Fetch the first events now if only the store has them; raises `ReplayExpired` before anything was sent."""
        if self._log is None or self._log.after(self._after) is None:
            self._primed = await self._next()

    async def _next(self) -> Sequence[LoggedEvent]:
        run_log = self._log
        if run_log is not None:
            await run_log.beyond(self._after)
            batch = run_log.after(self._after)
            if batch is not None:
                return batch
        elif self.is_past_the_end:
            return ()
        stored = await self._store.events(self.run.id, after=self._after, limit=READ_EVENTS)
        batch = [event for seq, event in enumerate(stored, self._after + 1) if event.seq == seq]
        if not batch:
            raise ReplayExpired(members={"run_status": self.run.status, "text": self.run.text})
        return batch

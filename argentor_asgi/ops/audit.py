"""The audit log: who did what, and what was refused, kept so that a change shows.

`record` only queues; one thread writes, in order and in batches. Nothing here ever stops a request: what cannot be
written is kept and tried again, what is beyond the queue is counted, and both show in readiness, metrics and the log.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from datetime import UTC
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Unpack

from argentor_asgi.errors import ConfigError, StorageUnavailable
from argentor_asgi.ops.audit_entry import Entry, Outcome, Row, Who, entry, is_violation
from argentor_asgi.ops.audit_files import AuditFiles, Written
from argentor_asgi.ops.audit_floods import Floods
from argentor_asgi.ops.audit_read import AuditPage, from_cursor, page
from argentor_asgi.ops.audit_tally import AuditStats, Tally
from argentor_asgi.ops.audit_thread import Worker
from argentor_asgi.ops.clock import Clock

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

QUEUED: Final = 10_000
"""How many entries wait for the disk; further ones are dropped, counted, and told of in a later entry."""
BATCH: Final = 512
"""How many entries are handed to the disk at once."""
RETRY_S: Final = 1.0
"""After how long a write that failed is tried again, besides at every `check` and `flush`."""
LOCK_WAIT_S: Final = 10.0
"""How long to wait for the process before this one to let go of the directory."""
LOCK_POLL_S: Final = 0.05
"""How often the lock is asked for."""
WRITE_S: Final = 10.0
"""How long `flush`, `check` and the close wait for the disk."""
PAGE_ROWS: Final = 1000
"""How many entries one page has at most."""
UNAVAILABLE: Final = "The audit log cannot be written or read."

logger = logging.getLogger("argentor.audit")


class Audit:
    """The log in `directory`, from `__aenter__` to `__aexit__`; in a temporary directory that goes with it for None.

    `file_bytes`: the size at which a file is full. `retention_days`: how long a full file stays after its last entry.
    `lock_wait_s`: how long to wait for another process to let go of the directory, as a rolling restart needs.
    `write_wait_s`: how long `flush`, `check`, and at the end the last write and the close, wait for the disk.
    Not `enabled`, nothing is kept and everything reads as empty.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        clock: Clock,
        file_bytes: int,
        retention_days: int,
        enabled: bool = True,
        lock_wait_s: float = LOCK_WAIT_S,
        write_wait_s: float = WRITE_S,
    ) -> None:
        """Nothing is touched yet."""
        self._directory = directory
        self._clock = clock
        self._file_bytes = file_bytes
        self._retention_days = retention_days
        self._is_enabled = enabled
        self._lock_wait_s = lock_wait_s
        self._write_wait_s = write_wait_s
        self._temporary: TemporaryDirectory[str] | None = None
        self._files: AuditFiles | None = None
        self._worker: Worker | None = None
        self._is_open = False
        self._queue: deque[Entry] = deque()
        self._floods = Floods()
        self._flood_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._tally = Tally(clock.now().astimezone(UTC).date())
        self._failure: OSError | None = None
        self._unsaid = 0
        self._dropped = self._written = self._errors = 0

    @property
    def errors(self) -> int:
        """How often writing failed."""
        return self._errors

    @property
    def dropped(self) -> int:
        """How many entries were lost, beyond the queue or outside of the time in which the log is open."""
        return self._dropped

    @property
    def written(self) -> int:
        """How many entries this process has written."""
        return self._written

    @property
    def depth(self) -> int:
        """How many entries wait for the disk, 0 to `QUEUED`."""
        return len(self._queue)

    # --- from start to end ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Lock the directory and go on behind the last whole line. Raises `ConfigError`; then nothing is held."""
        if self._is_enabled:
            self._worker = Worker("argentor-audit")
            try:
                await self._open(self._worker)
            except BaseException:
                self._worker.stop()
                self._remove_temporary()
                raise
            self._wait_for_floods()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Write what waits, say `audit_closed`, force it to the device, let go. Waits `write_wait_s` for each."""
        worker, files = self._worker, self._files
        if worker is None or files is None:
            return
        for each in self._floods.due(math.inf):
            self._put(each)
        self._floods = Floods()
        self.record("audit_closed", outcome="success")
        self._is_open = False
        for timer in (self._flood_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        self._flood_timer = self._retry_timer = None
        try:
            async with asyncio.timeout(self._write_wait_s):
                await self._write_all()
        except (OSError, TimeoutError) as failure:
            logger.error("audit entries could not be written", extra={"n": self.depth, "reason": str(failure)})  # noqa: TRY400  the traceback would be ours, the failure is the disk's
        finally:
            if self._writing is not None:
                self._writing.cancel()
            self._drop(len(self._queue))
            self._queue.clear()
            await self._let_go(worker, files)

    async def _let_go(self, worker: Worker, files: AuditFiles) -> None:
        """Close behind what the thread has begun; a disk that hangs keeps nobody for long."""
        self._files = self._worker = None
        closed = worker.submit(files.close)
        worker.stop()
        try:
            async with asyncio.timeout(self._write_wait_s):
                await closed
        except (OSError, TimeoutError) as failure:
            self._errors += 1
            logger.error("the audit log could not be closed in order", extra={"reason": str(failure)})  # noqa: TRY400  as above
        finally:
            self._remove_temporary()

    async def _open(self, worker: Worker) -> None:
        directory = self._place()
        files = AuditFiles(directory, file_bytes=self._file_bytes, retention_days=self._retention_days)
        try:
            await self._lock(worker, files, directory)
            self._tally, written = await worker.submit(partial(files.open, self._clock.now()))
        except OSError as error:
            worker.submit(files.close).add_done_callback(_ignore)
            raise ConfigError(
                f"audit.directory: {directory} cannot be written: {error.strerror}; name another directory, "
                "or set audit.enabled=false"
            ) from error
        except BaseException:
            worker.submit(files.close).add_done_callback(_ignore)
            raise
        self._files, self._is_open = files, True
        self._settle(written)

    async def _lock(self, worker: Worker, files: AuditFiles, directory: Path) -> None:
        try:
            async with asyncio.timeout(self._lock_wait_s):
                while not await worker.submit(files.try_lock):  # noqa: ASYNC110  another process frees it
                    await asyncio.sleep(LOCK_POLL_S)
        except TimeoutError:
            raise ConfigError(
                f"audit.directory: {directory} is in use by another process; give each gateway its own directory, "
                "or set audit.enabled=false"
            ) from None

    def _place(self) -> Path:
        if self._directory is not None:
            return self._directory
        from tempfile import TemporaryDirectory  # noqa: PLC0415  only where nothing is kept: it costs milliseconds

        try:
            self._temporary = TemporaryDirectory(prefix="argentor-audit-", ignore_cleanup_errors=True)
        except OSError as error:
            raise ConfigError(f"audit.directory: there is no temporary directory: {error.strerror}") from error
        return Path(self._temporary.name)

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    # --- recording -----------------------------------------------------------------------------------------------

    def record(self, action: str, *, outcome: Outcome, **who: Unpack[Who]) -> None:
        """Queue an entry; call it on the loop. Never waits, never raises: what cannot be taken is counted."""
        self._take(partial(self._entry, action, outcome, who))

    def record_rarely(self, key: str, action: str, *, outcome: Outcome, **who: Unpack[Who]) -> None:
        """Queue the first entry of `key`; count further ones, written as one with `details.repeated` each minute.

        As `record` otherwise. `key` says what is the same, such as the action with an address.
        """
        make = partial(self._entry, action, outcome, who)
        self._take(lambda: self._floods.admit(key, make, self._clock.monotonic()))
        self._wait_for_floods()

    def _take(self, make: Callable[[], Entry | None]) -> None:
        if not self._is_enabled:
            return
        try:
            made = make()
        except Exception:
            self._drop(1)
            logger.exception("an audit entry could not be made")
            return
        if made is not None:
            self._put(made)

    def _entry(self, action: str, outcome: Outcome, who: Who) -> Entry:
        return entry(
            self._clock.now(),
            action,
            outcome,
            who.get("details") or {},
            principal=who.get("principal"),
            tenant=who.get("tenant"),
            session_id=who.get("session_id"),
            skill_name=who.get("skill_name"),
            request_id=who.get("request_id"),
            address=who.get("address"),
        )

    def _put(self, each: Entry) -> None:
        if not self._is_open or len(self._queue) >= QUEUED:
            self._drop(1)
            return
        self._queue.append(each)
        if self._failure is None:
            self._begin_writing()

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._unsaid += count

    def _wait_for_floods(self) -> None:
        due_s = self._floods.next_s()
        if due_s is not None and self._flood_timer is None and self._is_open:
            delay_s = max(due_s - self._clock.monotonic(), 0.0)
            self._flood_timer = asyncio.get_running_loop().call_later(delay_s, self._tell_of_floods)

    def _tell_of_floods(self) -> None:
        self._flood_timer = None
        for each in self._floods.due(self._clock.monotonic()):
            self._put(each)
        self._wait_for_floods()

    # --- writing -------------------------------------------------------------------------------------------------

    def _begin_writing(self) -> "asyncio.Task[None]":
        """Return the one task that writes the queue; it ends when the queue is empty or the disk refuses."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_queue())
        return self._writing

    async def _write_queue(self) -> None:
        try:
            if self._worker is not None and self._files is not None:
                await self._write_batches(self._worker, self._files)
        finally:
            self._writing = None

    async def _write_batches(self, worker: Worker, files: AuditFiles) -> None:
        """Write until nothing waits; on a failure keep what waits, and see to a later try."""
        while True:
            self._tell_of_dropped()
            batch = [self._queue[index] for index in range(min(BATCH, len(self._queue)))]
            written = await worker.submit(partial(files.append, batch, self._clock.now()))
            for _ in range(written.taken):
                self._queue.popleft()
            self._settle(written)
            if written.error is not None or not self._queue:
                return

    def _tell_of_dropped(self) -> None:
        if self._unsaid and len(self._queue) < QUEUED:
            details = {"n": self._unsaid}
            self._unsaid = 0
            self._queue.append(entry(self._clock.now(), "audit_dropped", "error", details))

    def _settle(self, written: Written) -> None:
        """Count what was written, and notice that writing fails or works again."""
        self._written += len(written.entries)
        for each in written.entries:
            self._tally.add(each)
        if written.error is not None:
            self._fail(written.error)
        elif self._failure is not None:
            self._failure = None
            logger.warning("the audit log is written again")

    def _fail(self, error: OSError) -> None:
        self._errors += 1
        if self._failure is None:
            logger.error("the audit log cannot be written", extra={"reason": str(error)})
        self._failure = error
        if self._retry_timer is None and self._is_open:
            self._retry_timer = asyncio.get_running_loop().call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_timer = None
        self._begin_writing()

    async def _write_all(self) -> None:
        """Write all that waits now, also where nothing does. Raises `OSError` when the disk refuses."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
        await asyncio.shield(self._begin_writing())
        if self._failure is not None:
            raise self._failure

    async def flush(self) -> None:
        """Wait until all that was recorded is on the device, `write_wait_s` at most. Raises `StorageUnavailable`."""
        await self._try(lambda files: files.sync())

    async def check(self) -> None:
        """Prove that the log can be written to right now, and that nothing is held back; raises as `flush`."""
        await self._try(lambda files: files.probe())

    async def _try(self, work: Callable[[AuditFiles], None]) -> None:
        """Write what waits, then do `work` in the thread."""
        if not self._is_enabled:
            return
        worker, files = self._worker, self._files
        if worker is None or files is None:
            raise StorageUnavailable(UNAVAILABLE)
        try:
            async with asyncio.timeout(self._write_wait_s):
                await self._write_all()
                await worker.submit(partial(work, files))
        except (OSError, TimeoutError) as error:
            raise StorageUnavailable(UNAVAILABLE) from error

    # --- reading -------------------------------------------------------------------------------------------------

    async def logs(
        self, *, limit: int, cursor: str | None = None, tenant: str | None = None, violations_only: bool = False
    ) -> AuditPage:
        """Return up to `limit` (1 to `PAGE_ROWS`) entries, newest first; a tenant's own, or all for None.

        A page may hold fewer, even none, and still have a cursor: what one call reads has a bound. Raises
        `InvalidInput` for a cursor that is none, `StorageUnavailable` when the files cannot be read.
        """

        def is_wanted(row: Row) -> bool:
            return (tenant is None or row.tenant == tenant) and (not violations_only or is_violation(row))

        below = from_cursor(cursor)
        place = self._directory if self._temporary is None else Path(self._temporary.name)
        if place is None or not self._is_enabled:
            return AuditPage((), None)
        try:
            rows = min(max(limit, 1), PAGE_ROWS)
            return await asyncio.to_thread(page, place, below=below, limit=rows, is_wanted=is_wanted)
        except OSError as error:
            raise StorageUnavailable(UNAVAILABLE) from error

    def stats(self, tenant: str | None = None) -> AuditStats:
        """Return what is counted of a tenant, of all for None; a tenant's total is of what the start has scanned."""
        kept = self._files.kept if tenant is None and self._files is not None else None
        return self._tally.stats(tenant, self._clock.now(), kept=kept)


def _ignore(closed: "asyncio.Future[None]") -> None:
    """Take note of how a close ended that nobody waits for."""
    if not closed.cancelled():
        closed.exception()

"""The embedded store: one SQLite file, one process, one writing thread, and short reads on the loop.

A point read costs some 7 us, less than a hop to a thread; a long one goes on in slices, between which the loop runs.
Only what must walk an index goes through the writer.
"""
# ruff: noqa: S608  the queries are put together from constants; every value is a parameter

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message
from argentor_asgi.sessions import approval_statements, key_statements, note_statements, ranking, rules, statements
from argentor_asgi.sessions.approval_statements import APPROVAL_COLUMNS, approval_of
from argentor_asgi.sessions.database import open_writer
from argentor_asgi.sessions.lock import lock_database
from argentor_asgi.sessions.reader import Listing, Reader
from argentor_asgi.sessions.records import (
    KEYS,
    NOTES_PER_SCOPE,
    Approval,
    ApprovalStatus,
    Claim,
    Note,
    Page,
    Run,
    Scope,
    Session,
    StoredKey,
    Used,
)
from argentor_asgi.sessions.rows import (
    CLAIM_COLUMNS,
    KEY_COLUMNS,
    MESSAGE_COLUMNS,
    RUN_COLUMNS,
    SESSION_COLUMNS,
    claim_of,
    event_of,
    message_of,
    message_values,
    note_of,
    run_of,
    session_of,
    stored_key_of,
    version_of,
)
from argentor_asgi.sessions.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

_SESSION: Final = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ? AND owner = ? AND tenant = ?"
_RUN: Final = f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ? AND owner = ? AND tenant = ?"
_CLAIM: Final = f"SELECT {CLAIM_COLUMNS} FROM claims WHERE tenant = ? AND owner = ? AND key = ?"
_NEWEST_FIRST: Final = "AND (created_at, id) < (?, ?) ORDER BY created_at DESC, id DESC LIMIT ?"
_SESSIONS: Final = Listing(
    f"SELECT {SESSION_COLUMNS} FROM sessions WHERE tenant = ? AND owner = ? {_NEWEST_FIRST}", ("created_at", "id")
)
_RUNS: Final = Listing(
    f"SELECT {RUN_COLUMNS} FROM runs WHERE tenant = ? AND owner = ? {_NEWEST_FIRST}", ("created_at", "id")
)
# A `+` keeps SQLite off the index of the scope, where it would pass by every run of the owner's other sessions.
_RUNS_OF_SESSION: Final = Listing(
    f"SELECT {RUN_COLUMNS} FROM runs WHERE +tenant = ? AND +owner = ? AND session_id = ? {_NEWEST_FIRST}",
    ("created_at", "id"),
)
_MESSAGES: Final = Listing(
    f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session_id = ? AND idx > ? ORDER BY idx LIMIT ?", ("idx",)
)
_EVENTS: Final = Listing(
    "SELECT seq, type, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?", ("seq",)
)
_APPROVAL: Final = f"SELECT {APPROVAL_COLUMNS} FROM approvals WHERE id = ? AND owner = ? AND tenant = ?"
_APPROVALS: Final = Listing(
    f"SELECT {APPROVAL_COLUMNS} FROM approvals WHERE tenant = ? AND owner = ? {_NEWEST_FIRST}", ("created_at", "id")
)
_APPROVALS_BY_STATUS: Final = Listing(
    f"SELECT {APPROVAL_COLUMNS} FROM approvals WHERE tenant = ? AND owner = ? AND status = ? {_NEWEST_FIRST}",
    ("created_at", "id"),
)
_APPROVALS_OF_RUN: Final = Listing(
    f"SELECT rowid, {APPROVAL_COLUMNS} FROM approvals WHERE run_id = ? AND rowid > ? ORDER BY rowid LIMIT ?", ("rowid",)
)
_ALL_OF_RUN: Final = 2**31
"""More approvals than a run can have."""
_NOTES: Final = Listing(
    "SELECT number, id, content, created_at, metadata FROM notes WHERE tenant = ? AND owner = ? "
    "AND (created_at, number) > (?, ?) ORDER BY created_at, number LIMIT ?",
    ("created_at", "number"),
)
_OLDEST: Final = (-(2**63), 0)
_KEY: Final = f"SELECT {KEY_COLUMNS} FROM keys WHERE id = ?"
_ALL_KEYS: Final = Listing(
    f"SELECT {KEY_COLUMNS} FROM keys WHERE (created_at, id) > (?, ?) ORDER BY created_at, id LIMIT ?",
    ("created_at", "id"),
)
_KEYS: Final = Listing(
    f"SELECT {KEY_COLUMNS} FROM keys WHERE (created_at, id) < (?, ?) ORDER BY created_at DESC, id DESC LIMIT ?",
    ("created_at", "id"),
)
_KEYS_OF_TENANT: Final = Listing(
    f"SELECT {KEY_COLUMNS} FROM keys WHERE tenant = ? {_NEWEST_FIRST}", ("created_at", "id")
)


class SqliteStore:
    """A `Store` in the file at `path`, which this process alone uses from `__aenter__` to `aclose`.

    `lock_wait_s`: how long to wait for another process to let go of the file.
    """

    def __init__(self, path: str | Path, *, clock: Clock, lock_wait_s: float = 10.0) -> None:
        """Name the file; nothing is opened yet."""
        self._path = Path(path)
        self._clock = clock
        self._lock_wait_s = lock_wait_s
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    async def __aenter__(self) -> Self:
        """Lock the file, open it, bring it up to date. Raises `ConfigError`; then nothing is held or changed."""
        path = self._path.resolve()
        lock = await lock_database(path, self._lock_wait_s)
        writer = Writer(partial(open_writer, path), lock.release)
        await writer.start()
        try:
            self._reader = Reader(path)
        except StorageUnavailable:
            await writer.aclose()
            raise
        self._writer = writer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close as `aclose` does."""
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what was accepted, move the log into the file, close, free the lock. May be called again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._writer is not None:
            await self._writer.aclose()

    async def check(self) -> None:
        """Write one row and wait until it is durable; raises `StorageUnavailable`."""
        await self._write(statements.probe, self._now())

    @property
    def queue_depth(self) -> int:
        """How many writes are accepted and not yet committed; 0 when the store is not open."""
        return 0 if self._writer is None else self._writer.depth

    def _now(self) -> int:
        return rules.micros(self._clock.now())

    async def _write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Have the writer do `work`."""
        if self._writer is None:
            raise StorageUnavailable
        return await self._writer.submit(lambda db: work(db, *args, **kwargs))

    def _read(self) -> Reader:
        """Return what reads; raises `StorageUnavailable` unless the store is open."""
        if self._reader is None:
            raise StorageUnavailable
        return self._reader

    # --- sessions ------------------------------------------------------------------------------------------------

    async def open_session(self, session: Session) -> Session:
        """Return the stored session, after storing this one when there is none."""
        stored = await self.get_session(Scope(session.owner, session.tenant), session.id)
        if stored is None:
            stored = await self._write(statements.open_session, session)
        return stored

    async def get_session(self, scope: Scope, session_id: str) -> Session | None:
        """Return the session when it is the scope's."""
        return self._read().one(session_of, _SESSION, (session_id, scope.owner, scope.tenant))

    async def list_sessions(self, scope: Scope, *, limit: int, cursor: str | None = None) -> Page[Session]:
        """Return one page, newest first."""
        start = rules.from_cursor("s", cursor)
        where = (scope.tenant, scope.owner)
        rows = await self._read().many(session_of, _SESSIONS, where, start=start, limit=limit + 1)
        return rules.page(rows, limit, "s", rules.key_of)

    async def delete_session(self, scope: Scope, session_id: str) -> bool:
        """Delete the session and all that hangs on it."""
        return await self._write(statements.delete_session, scope, session_id)

    async def append(self, session_id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Append messages and return the new version."""
        rows = [message_values(message) for message in messages]
        return await self._write(statements.append, session_id, rows, after, self._now())

    async def messages(self, session_id: str, *, after: int = 0, limit: int) -> Sequence[Message]:
        """Return messages from the one behind the first `after`."""
        return await self._read().many(message_of, _MESSAGES, (session_id,), start=(after - 1,), limit=limit)

    async def recent(self, session_id: str, *, limit: int) -> Sequence[Message]:
        """Return the last messages, oldest first."""
        version = self._read().one(version_of, "SELECT version FROM sessions WHERE id = ?", (session_id,)) or 0
        return await self.messages(session_id, after=version - limit, limit=limit)

    async def count_sessions(self, scope: Scope) -> int:
        """Count the scope's sessions."""
        return await self._write(statements.count_sessions, scope)

    # --- runs ----------------------------------------------------------------------------------------------------

    async def begin_run(
        self, run: Run, *, session: Session, message: Message | None, claim: Claim | None = None
    ) -> Claim | None:
        """Store the session, the claim, the message and the run, or return the earlier claim."""
        row = None if message is None else message_values(message)
        return await self._write(statements.begin_run, run, session=session, message=row, claim=claim, now=self._now())

    async def get_claim(self, scope: Scope, key: str) -> Claim | None:
        """Return the key's claim."""
        return self._read().one(claim_of, _CLAIM, (scope.tenant, scope.owner, key))

    async def start_run(self, run: Run, message: Message) -> None:
        """Store a queued run's message and its new fields."""
        await self._write(statements.start_run, run, message_values(message), self._now())

    async def append_events(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        """Append those events that are not stored yet."""
        await self._write(statements.append_events, run_id, tuple(events))

    async def save_run(self, run: Run, events: Sequence[LoggedEvent] = ()) -> None:
        """Store the run's fields and events."""
        await self._write(statements.save_run, run, tuple(events))

    async def get_run(self, scope: Scope, run_id: str) -> Run | None:
        """Return the run when it is the scope's."""
        return self._read().one(run_of, _RUN, (run_id, scope.owner, scope.tenant))

    async def list_runs(
        self, scope: Scope, *, session_id: str | None = None, limit: int, cursor: str | None = None
    ) -> Page[Run]:
        """Return one page, newest first, of the scope or of one session of it."""
        start = rules.from_cursor("r", cursor)
        where: tuple[str, ...] = (scope.tenant, scope.owner)
        listing = _RUNS
        if session_id is not None:
            listing, where = _RUNS_OF_SESSION, (*where, session_id)
        rows = await self._read().many(run_of, listing, where, start=start, limit=limit + 1)
        return rules.page(rows, limit, "r", rules.key_of)

    async def events(self, run_id: str, *, after: int = 0, limit: int) -> Sequence[LoggedEvent]:
        """Return events with a number above `after`."""
        return await self._read().many(event_of, _EVENTS, (run_id,), start=(after,), limit=limit)

    async def interrupt_live(self, now: datetime) -> int:
        """End what a crash left live."""
        return await self._write(statements.interrupt_live, now)

    # --- approvals -----------------------------------------------------------------------------------------------

    async def request_approvals(self, run: Run, approvals: Sequence[Approval]) -> None:
        """Store the approvals and the run's fields."""
        await self._write(statements.request_approvals, run, tuple(approvals))

    async def decide_approval(self, approval: Approval) -> bool:
        """Store the decision unless there is one."""
        return await self._write(approval_statements.decide_approval, approval)

    async def get_approval(self, scope: Scope, approval_id: str) -> Approval | None:
        """Return the approval when it is the scope's."""
        return self._read().one(approval_of, _APPROVAL, (approval_id, scope.owner, scope.tenant))

    async def list_approvals(
        self, scope: Scope, *, status: ApprovalStatus | None, limit: int, cursor: str | None = None
    ) -> Page[Approval]:
        """Return one page, newest first."""
        start = rules.from_cursor("a", cursor)
        where: tuple[str, ...] = (scope.tenant, scope.owner)
        listing = _APPROVALS
        if status is not None:
            listing, where = _APPROVALS_BY_STATUS, (*where, status)
        rows = await self._read().many(approval_of, listing, where, start=start, limit=limit + 1)
        return rules.page(rows, limit, "a", rules.key_of)

    async def approvals_of(self, run_id: str) -> Sequence[Approval]:
        """Return the run's approvals, as they were requested."""
        return await self._read().many(approval_of, _APPROVALS_OF_RUN, (run_id,), start=(-1,), limit=_ALL_OF_RUN)

    async def waiting_runs(self) -> Sequence[Run]:
        """Return the runs that wait for a person, and those behind them."""
        return await self._write(approval_statements.waiting_runs)

    # --- usage, pruning ------------------------------------------------------------------------------------------

    async def usage_since(self, moment: datetime) -> Sequence[tuple[Scope, Used]]:
        """Add up what the runs updated since used."""
        return await self._write(key_statements.usage_since, rules.micros(moment))

    async def prune(self, before: datetime) -> int:
        """Drop what is too old, in steps between which others may write."""
        total = 0
        while gone := await self._write(statements.prune_step, rules.micros(before), self._now()):
            total += gone
        return total

    # --- notes ---------------------------------------------------------------------------------------------------

    async def add_note(self, scope: Scope, note: Note) -> bool:
        """Keep the note unless the scope is full."""
        return await self._write(note_statements.add_note, scope, note)

    async def notes(self, scope: Scope) -> Sequence[Note]:
        """Return the notes, oldest first."""
        where = (scope.tenant, scope.owner)
        return await self._read().many(note_of, _NOTES, where, start=_OLDEST, limit=NOTES_PER_SCOPE)

    async def search_notes(self, scope: Scope, query: str, *, limit: int) -> tuple[Sequence[tuple[Note, float]], int]:
        """Return the best notes, and how many share a word with the query."""
        return await self._write(note_statements.search_notes, scope, ranking.terms(query), limit)

    async def delete_note(self, scope: Scope, note_id: str) -> bool:
        """Forget the note."""
        return await self._write(note_statements.delete_note, scope, note_id)

    # --- keys ----------------------------------------------------------------------------------------------------

    async def add_key(self, key: StoredKey) -> bool:
        """Store the key unless there are too many."""
        return await self._write(key_statements.add_key, rules.kept_key(key))

    async def all_keys(self) -> Sequence[StoredKey]:
        """Return every key, oldest first."""
        return await self._read().many(stored_key_of, _ALL_KEYS, (), start=(_OLDEST[0], ""), limit=KEYS)

    async def list_keys(self, tenant: str | None, *, limit: int, cursor: str | None = None) -> Page[StoredKey]:
        """Return one page, newest first."""
        start = rules.from_cursor("k", cursor)
        listing, where = (_KEYS, ()) if tenant is None else (_KEYS_OF_TENANT, (tenant,))
        rows = await self._read().many(stored_key_of, listing, where, start=start, limit=limit + 1)
        return rules.page(rows, limit, "k", rules.key_of)

    async def get_key(self, key_id: str) -> StoredKey | None:
        """Return the key."""
        return self._read().one(stored_key_of, _KEY, (key_id,))

    async def save_key(self, key: StoredKey) -> None:
        """Replace the stored key's fields."""
        await self._write(key_statements.save_key, rules.kept_key(key))

    async def mark_used(self, times: Mapping[str, datetime]) -> None:
        """Store when keys were last used."""
        rows = [(rules.micros(when), key_id) for key_id, when in times.items()]
        await self._write(key_statements.mark_used, rows)

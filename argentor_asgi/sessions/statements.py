"""What the writer does, one function for each operation, inside a transaction that is already open.

A function either does all of it or raises; the savepoint around it undoes what it had begun.
"""
# ruff: noqa: S608  the statements are put together from constants; every value is a parameter

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from argentor_asgi.errors import SessionNotFound, StaleSession
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.sessions.approval_statements import WAITING_SQL, add_approvals, cancel_approvals
from argentor_asgi.sessions.key_statements import prune_keys
from argentor_asgi.sessions.records import KEY_KEPT_DAYS, Approval, Claim, Run, Scope, Session
from argentor_asgi.sessions.rows import (
    CLAIM_COLUMNS,
    MESSAGE_COLUMNS,
    RUN_COLUMNS,
    RUN_FIELDS,
    SESSION_COLUMNS,
    Value,
    claim_of,
    event_of,
    marks,
    message_values,
    run_changes,
    run_of,
    run_values,
    session_of,
    session_values,
)
from argentor_asgi.sessions.rules import CALL_EVENTS, DAY_MICROS, micros, settled, unsaid

PRUNE_ROWS: Final = 1000
"""How many claims one step of pruning drops."""
PRUNE_OWNERS: Final = 16
"""How many runs or sessions one step of pruning empties, so that other writers wait for milliseconds only."""
LIVE_SQL: Final = "status IN ('queued', 'running', 'waiting_approval')"

_INSERT_SESSION: Final = f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({marks(SESSION_COLUMNS)})"
_INSERT_MESSAGE: Final = f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES ({marks(MESSAGE_COLUMNS)})"
_INSERT_RUN: Final = (
    f"INSERT INTO runs ({RUN_COLUMNS}, is_unsaid) VALUES ({marks(RUN_COLUMNS)}, ?) ON CONFLICT (id) DO NOTHING"
)
_UPDATE_RUN: Final = f"UPDATE runs SET ({RUN_FIELDS}) = ({marks(RUN_FIELDS)}) WHERE id = ?"
_INSERT_EVENT: Final = "INSERT INTO events (run_id, seq, type, data) VALUES (?, ?, ?, ?)"
_TOLD: Final = """
    SELECT seq, type, data FROM events WHERE run_id = :run
    AND (type IN (:start, :end) OR seq = (SELECT max(seq) FROM events WHERE run_id = :run)) ORDER BY seq
"""


def open_session(db: sqlite3.Connection, session: Session) -> Session:
    """Do what `SessionStore.open_session` says."""
    row = db.execute(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?", (session.id,)).fetchone()
    if row is None:
        db.execute(_INSERT_SESSION, session_values(session))
        row = db.execute(f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?", (session.id,)).fetchone()
    stored = session_of(row)
    if (stored.owner, stored.tenant) != (session.owner, session.tenant):
        raise SessionNotFound
    return stored


def delete_session(db: sqlite3.Connection, scope: Scope, session_id: str) -> bool:
    """Delete the session; the foreign keys take its messages, runs and events along."""
    where = (session_id, scope.owner, scope.tenant)
    return db.execute("DELETE FROM sessions WHERE id = ? AND owner = ? AND tenant = ?", where).rowcount > 0


def append(
    db: sqlite3.Connection, session_id: str, rows: Sequence[tuple[Value, ...]], after: int | None, now: int
) -> int:
    """Append `rows`, each as `message_values` makes it; see `SessionStore.append`."""
    found = db.execute("SELECT version FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if found is None:
        raise SessionNotFound
    version: int = found[0]
    if after is not None and after != version:
        raise StaleSession
    if not rows:
        return version
    db.executemany(_INSERT_MESSAGE, [(session_id, index, *row) for index, row in enumerate(rows, version)])
    version += len(rows)
    db.execute(
        "UPDATE sessions SET version = ?, updated_at = max(updated_at, ?) WHERE id = ?", (version, now, session_id)
    )
    return version


def begin_run(
    db: sqlite3.Connection,
    run: Run,
    *,
    session: Session,
    message: tuple[Value, ...] | None,
    claim: Claim | None,
    now: int,
) -> Claim | None:
    """Do what `RunStore.begin_run` says."""
    earlier = claim and _claimed(db, run, claim)
    if earlier is not None:
        return earlier
    open_session(db, session)
    if db.execute(_INSERT_RUN, (*run_values(run), int(message is None))).rowcount == 0:
        raise ValueError(f"run {run.id} is already stored")
    if message is not None:
        append(db, session.id, [message], None, now)
    return None


def _claimed(db: sqlite3.Connection, run: Run, claim: Claim) -> Claim | None:
    """Return the earlier claim of the key, or claim it and return None."""
    where = (run.tenant, run.owner, claim.key)
    row = db.execute(f"SELECT {CLAIM_COLUMNS} FROM claims WHERE tenant = ? AND owner = ? AND key = ?", where).fetchone()
    if row is not None:
        return claim_of(row)
    db.execute(
        "INSERT INTO claims (tenant, owner, key, fingerprint, run_id, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (*where, claim.fingerprint, claim.run_id, micros(run.created_at)),
    )
    return None


def start_run(db: sqlite3.Connection, run: Run, message: tuple[Value, ...], now: int) -> None:
    """Do what `RunStore.start_run` says."""
    row = db.execute("SELECT session_id, is_unsaid FROM runs WHERE id = ?", (run.id,)).fetchone()
    if row is None:
        raise SessionNotFound
    if row["is_unsaid"]:
        append(db, row["session_id"], [message], None, now)
        db.execute("UPDATE runs SET is_unsaid = 0 WHERE id = ?", (run.id,))
    db.execute(_UPDATE_RUN, (*run_changes(run), run.id))


def append_events(db: sqlite3.Connection, run_id: str, events: Sequence[LoggedEvent]) -> None:
    """Do what `RunStore.append_events` says."""
    row = db.execute("SELECT last_seq FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return
    last_seq: int = row[0]
    fresh = []
    for event in events:
        if event.seq > last_seq:
            last_seq = event.seq
            fresh.append((run_id, event.seq, event.type, event.data))
    if fresh:
        db.executemany(_INSERT_EVENT, fresh)
        db.execute("UPDATE runs SET last_seq = ?, has_events = 1 WHERE id = ?", (last_seq, run_id))


def save_run(db: sqlite3.Connection, run: Run, events: Sequence[LoggedEvent]) -> None:
    """Do what `RunStore.save_run` says."""
    db.execute(_UPDATE_RUN, (*run_changes(run), run.id))
    append_events(db, run.id, events)


def request_approvals(db: sqlite3.Connection, run: Run, approvals: Sequence[Approval]) -> None:
    """Do what `ApprovalStore.request_approvals` says."""
    if db.execute(_UPDATE_RUN, (*run_changes(run), run.id)).rowcount:
        add_approvals(db, approvals)


def interrupt_live(db: sqlite3.Connection, now: datetime) -> int:
    """Do what `RunStore.interrupt_live` says."""
    found = db.execute(
        f"SELECT {RUN_COLUMNS}, is_unsaid FROM runs WHERE {LIVE_SQL} AND NOT ({WAITING_SQL}) ORDER BY created_at, id"
    ).fetchall()
    for row in found:
        run = run_of(row)
        cancel_approvals(db, run.id, micros(now))
        told = db.execute(_TOLD, {"run": run.id, "start": CALL_EVENTS[0], "end": CALL_EVENTS[1]}).fetchall()
        if row["is_unsaid"]:
            append(db, run.session_id, [message_values(unsaid(run, now))], None, micros(now))
            db.execute("UPDATE runs SET is_unsaid = 0 WHERE id = ?", (run.id,))
        ended, events = settled(run, [event_of(each) for each in told], now)
        save_run(db, ended, events)
    return len(found)


def prune_step(db: sqlite3.Connection, before: int, now: int) -> int:
    """Drop some of what `RunStore.prune` drops, all events of a run together, and return how many rows went."""
    keys = prune_keys(db, now - KEY_KEPT_DAYS * DAY_MICROS)
    return keys + _prune_events(db, before) + _prune_claims(db, before) + _prune_sessions(db, now)


def _prune_events(db: sqlite3.Connection, before: int) -> int:
    ended = db.execute(
        f"SELECT id FROM runs WHERE has_events = 1 AND updated_at < ? AND NOT {LIVE_SQL} LIMIT {PRUNE_OWNERS}",
        (before,),
    ).fetchall()
    gone = 0
    for (run_id,) in ended:
        gone += db.execute("DELETE FROM events WHERE run_id = ?", (run_id,)).rowcount
        db.execute("UPDATE runs SET has_events = 0 WHERE id = ?", (run_id,))
    return gone


def _prune_claims(db: sqlite3.Connection, before: int) -> int:
    return db.execute(
        "DELETE FROM claims WHERE (tenant, owner, key) IN "
        f"(SELECT tenant, owner, key FROM claims WHERE created_at < ? LIMIT {PRUNE_ROWS})",
        (before,),
    ).rowcount


def _prune_sessions(db: sqlite3.Connection, now: int) -> int:
    return db.execute(
        f"DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= ? LIMIT {PRUNE_OWNERS})",
        (now,),
    ).rowcount


def count_sessions(db: sqlite3.Connection, scope: Scope) -> int:
    """Return how many sessions the scope has; it walks an index, so it is not for the loop."""
    where = (scope.tenant, scope.owner)
    found: int = db.execute("SELECT count(*) FROM sessions WHERE tenant = ? AND owner = ?", where).fetchone()[0]
    return found


def probe(db: sqlite3.Connection, now: int) -> None:
    """Write one row, as proof that the disk takes it."""
    db.execute(
        "INSERT INTO probe (id, checked_at) VALUES (1, ?) "
        "ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at",
        (now,),
    )

"""The tables of the embedded database, version by version.

Times are microseconds since 1970 in UTC, ids text, JSON bytes as `protocol.schema.encode` makes them (NULL when empty).
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from argentor_asgi.sessions.note_statements import counts, mark, words

APPLICATION_ID: Final = 0x41475452
"""`AGTR`, in the header of every file that is ours: a database of something else is never written to."""

_FIRST: Final = (
    """CREATE TABLE sessions (
        id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        title TEXT NOT NULL,
        version INTEGER NOT NULL,
        active_skills BLOB,
        metadata BLOB,
        expires_at INTEGER
    )""",
    "CREATE INDEX sessions_by_scope ON sessions (tenant, owner, created_at, id)",
    "CREATE INDEX sessions_expiring ON sessions (expires_at) WHERE expires_at IS NOT NULL",
    """CREATE TABLE messages (
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        idx INTEGER NOT NULL,
        id TEXT NOT NULL,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        channel_id TEXT,
        parts BLOB,
        metadata BLOB,
        UNIQUE (session_id, idx)
    )""",
    """CREATE TABLE runs (
        id TEXT NOT NULL PRIMARY KEY,
        session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        status TEXT NOT NULL,
        model TEXT NOT NULL,
        input TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        text TEXT NOT NULL,
        finish_reason TEXT,
        error_code TEXT,
        turns INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        last_seq INTEGER NOT NULL DEFAULT 0,
        is_unsaid INTEGER NOT NULL,
        has_events INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX runs_by_scope ON runs (tenant, owner, created_at, id)",
    "CREATE INDEX runs_by_session ON runs (session_id, created_at, id)",
    "CREATE INDEX runs_live ON runs (created_at) WHERE status IN ('queued', 'running', 'waiting_approval')",
    "CREATE INDEX runs_with_events ON runs (updated_at) WHERE has_events = 1",
    """CREATE TABLE events (
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        type TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (run_id, seq)
    ) WITHOUT ROWID""",
    """CREATE TABLE claims (
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        run_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, owner, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX claims_by_age ON claims (created_at)",
    """CREATE TABLE notes (
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        content TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        metadata BLOB,
        UNIQUE (tenant, owner, id)
    )""",
    "CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), checked_at INTEGER NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

_KEYS: Final = (
    """CREATE TABLE keys (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        tenant TEXT NOT NULL,
        scopes BLOB,
        plan TEXT,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        expires_at INTEGER,
        last_used_at INTEGER,
        revoked_at INTEGER,
        replaced_by TEXT
    )""",
    "CREATE INDEX keys_by_age ON keys (created_at, id)",
    "CREATE INDEX keys_by_tenant ON keys (tenant, created_at, id)",
    "CREATE INDEX runs_by_update ON runs (updated_at)",
)

_APPROVALS: Final = (
    """CREATE TABLE approvals (
        id TEXT NOT NULL PRIMARY KEY,
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        session_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        call_id TEXT NOT NULL,
        tool TEXT NOT NULL,
        arguments BLOB,
        risk_level TEXT NOT NULL,
        description TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        reviewer TEXT,
        reason TEXT,
        edited_arguments BLOB,
        decided_at INTEGER
    )""",
    "CREATE INDEX approvals_by_scope ON approvals (tenant, owner, created_at, id)",
    "CREATE INDEX approvals_by_status ON approvals (tenant, owner, status, created_at, id)",
    "CREATE INDEX approvals_by_run ON approvals (run_id, created_at, id)",
    "ALTER TABLE runs ADD COLUMN cost_micros INTEGER",
    "ALTER TABLE runs ADD COLUMN tool_calls INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN work_ms INTEGER NOT NULL DEFAULT 0",
)

# The number is a column, since a VACUUM may give rows other numbers where it is none, and the index knows rows by it
# (sqlite.org/lang_vacuum.html). A word is what `ranking.tokens` makes: letters, digits, `_`, and nothing else in ASCII.
_NOTE_WORDS: Final = (
    """CREATE TABLE numbered_notes (
        number INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        content TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        metadata BLOB,
        mark TEXT NOT NULL,
        words TEXT NOT NULL,
        counts BLOB NOT NULL,
        UNIQUE (tenant, owner, id)
    )""",
    """INSERT INTO numbered_notes
        SELECT rowid, tenant, owner, id, content, created_at, metadata, note_mark(tenant, owner), note_words(content),
            note_counts(content) FROM notes ORDER BY rowid""",
    "DROP TABLE notes",
    "ALTER TABLE numbered_notes RENAME TO notes",
    """CREATE VIRTUAL TABLE note_words USING fts5 (
        mark, words, content='notes', content_rowid='number', tokenize="ascii tokenchars '_'", detail=column,
        columnsize=0
    )""",
    """CREATE TRIGGER notes_added AFTER INSERT ON notes BEGIN
        INSERT INTO note_words (rowid, mark, words) VALUES (new.number, new.mark, new.words);
    END""",
    """CREATE TRIGGER notes_deleted AFTER DELETE ON notes BEGIN
        INSERT INTO note_words (note_words, rowid, mark, words) VALUES ('delete', old.number, old.mark, old.words);
    END""",
    "INSERT INTO note_words (note_words) VALUES ('rebuild')",
)

MIGRATIONS: Final[Sequence[Sequence[str]]] = (_FIRST, _KEYS, _APPROVALS, _NOTE_WORDS)
"""What moves a file from version `i` to `i + 1`. A released entry is never changed; a change is a new entry."""


def migrate(db: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the newest version, each step in one transaction with its version number."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.create_function("note_mark", 2, mark, deterministic=True)
    db.create_function("note_words", 1, words, deterministic=True)
    db.create_function("note_counts", 1, counts, deterministic=True)
    for number, statements in enumerate(migrations[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")

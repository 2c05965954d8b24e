"""What the writer does to keys and for limits, one function for each operation, as `statements` does the rest."""
# ruff: noqa: S608  the statements are put together from constants; every value is a parameter

import sqlite3
from collections.abc import Sequence
from typing import Final

from argentor_asgi.sessions.records import KEYS, Scope, StoredKey, Used
from argentor_asgi.sessions.rows import KEY_COLUMNS, key_values, marks, usage_of

_INSERT: Final = f"INSERT INTO keys ({KEY_COLUMNS}) VALUES ({marks(KEY_COLUMNS)})"
_UPDATE: Final = f"UPDATE keys SET ({KEY_COLUMNS}) = ({marks(KEY_COLUMNS)}) WHERE id = ?"
_USE: Final = "UPDATE keys SET last_used_at = max(coalesce(last_used_at, ?1), ?1) WHERE id = ?2"
# A `+` keeps SQLite off the index of the scope, where it would read every run there is.
USAGE: Final = (
    "SELECT tenant, owner, sum(input_tokens + output_tokens) AS tokens, coalesce(sum(cost_micros), 0) AS cost_micros, "
    "sum(work_ms) AS work_ms, sum(tool_calls) AS tool_calls FROM runs WHERE updated_at >= ? GROUP BY +tenant, +owner "
    "ORDER BY tenant, owner"
)


def add_key(db: sqlite3.Connection, key: StoredKey) -> bool:
    """Do what `KeyStore.add_key` says."""
    if db.execute("SELECT 1 FROM keys WHERE id = ? OR digest = ?", (key.id, key.digest)).fetchone() is not None:
        raise ValueError(f"key {key.id} is already stored")
    (kept,) = db.execute("SELECT count(*) FROM keys").fetchone()
    if kept >= KEYS:
        return False
    db.execute(_INSERT, key_values(key))
    return True


def save_key(db: sqlite3.Connection, key: StoredKey) -> None:
    """Do what `KeyStore.save_key` says."""
    if db.execute("SELECT 1 FROM keys WHERE digest = ? AND id != ?", (key.digest, key.id)).fetchone() is not None:
        raise ValueError(f"the digest of key {key.id} is another key's")
    db.execute(_UPDATE, (*key_values(key), key.id))


def mark_used(db: sqlite3.Connection, times: Sequence[tuple[int, str]]) -> None:
    """Do what `KeyStore.mark_used` says, for pairs of microseconds and id."""
    db.executemany(_USE, times)


def prune_keys(db: sqlite3.Connection, before: int) -> int:
    """Drop the keys that were over before, and return how many; there are never more than `KEYS`."""
    return db.execute("DELETE FROM keys WHERE revoked_at < ?1 OR expires_at < ?1", (before,)).rowcount


def usage_since(db: sqlite3.Connection, since: int) -> Sequence[tuple[Scope, Used]]:
    """Do what `RunStore.usage_since` says; it walks an index, so it is not for the loop."""
    found = map(usage_of, db.execute(USAGE, (since,)))
    return [(scope, used) for scope, used in found if used != Used()]

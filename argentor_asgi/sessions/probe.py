"""Trying a database file out without changing it, for `argentor doctor`."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from argentor_asgi.sessions.lock import FileLock

SQLITE_VERSION: Final = sqlite3.sqlite_version
"""The version of the SQLite library that Python is linked with."""
RESET_BUG_FIXED: Final = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""The releases that fixed the WAL-reset bug (sqlite.org/wal.html), of three release branches."""


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Say whether a SQLite of this version may lose commits when two connections write one file at once."""
    fixed = [release for release in RESET_BUG_FIXED if release[:2] == version[:2]]
    return version < (fixed[0] if fixed else RESET_BUG_FIXED[-1])


def has_module(name: str) -> bool:
    """Say whether the SQLite library has the virtual table module `name`, such as `fts5`."""
    with closing(sqlite3.connect(":memory:")) as db:
        try:
            db.execute(f"CREATE VIRTUAL TABLE probe USING {name} (x)")
        except sqlite3.OperationalError:
            return False
        return True


def writer_of(path: Path) -> str | None:
    """Return the process id of the gateway that has the database at `path` in use, None when none has.

    Raises `OSError`. The lock is free again when this returns.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    if not lock.try_acquire():
        return lock.holder()
    lock.release()
    return None


def try_write(path: Path, *, wait_s: float = 1.0) -> None:
    """Begin to write to an existing database, waiting up to `wait_s` for its lock, and take it back.

    Raises `sqlite3.Error`.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=wait_s)) as db:
        db.isolation_level = None
        db.execute("BEGIN IMMEDIATE")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        db.execute("ROLLBACK")

"""Opening the database file: made private, looked at before it is touched, brought up to date.

Exactly one connection of one process writes and checkpoints: SQLite 3.7.0 to 3.51.2 can lose commits when two do it at
once (sqlite.org/wal.html, "The WAL-Reset Bug").
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from argentor_asgi.errors import ConfigError
from argentor_asgi.sessions.probe import SQLITE_VERSION, has_module
from argentor_asgi.sessions.schema_sql import APPLICATION_ID, MIGRATIONS, migrate

QUICK_CHECK_BYTES: Final = 64 * 1024 * 1024
"""Files up to this size are checked whole at start; a larger one would hold up the start for seconds."""
WRITER_SETTINGS: Final = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 67108864",
)
READER_SETTINGS: Final = ("PRAGMA query_only = ON", "PRAGMA wal_autocheckpoint = 0")
BUSY_S: Final = 5.0
"""How long the writer waits for a tool of the operator, such as the `sqlite3` shell, to let go of the file."""
SEARCH_MODULE: Final = "fts5"
"""The part of SQLite that notes are searched with; some builds of the library lack it."""
NOT_LOOKED_AT: Final = "unable to validate the inverted index"
"""How a finding begins that is none: SQLite 3.44 and later cannot look into a search index that is opened read-only."""


def open_writer(
    path: Path, *, quick_check_bytes: int = QUICK_CHECK_BYTES, search_module: str = SEARCH_MODULE
) -> sqlite3.Connection:
    """Return the writing connection to the file at `path`, made with mode 0600 when it is missing.

    Raises `ConfigError` naming the file when it is not ours, damaged, of a newer version, or cannot be opened, and when
    the SQLite library lacks the `search_module`; the file is then as it was. Damage is looked for in files of up to
    `quick_check_bytes`.
    """
    if not has_module(search_module):
        raise ConfigError(
            f"storage.url: the SQLite library of this Python, {SQLITE_VERSION}, lacks {search_module.upper()}, which "
            "notes are searched with; use a Python whose SQLite has it, or storage.url=memory:// to keep nothing"
        )
    try:
        _create_private(path)
        _look(path, quick_check_bytes)
        return _connect_writer(path)
    except sqlite3.Error as error:
        raise ConfigError(f"storage.url: {path} cannot be used as a database: {error}") from error
    except OSError as error:
        raise ConfigError(f"storage.url: {path} cannot be opened: {error.strerror}") from error


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that can neither write nor checkpoint and never waits for long."""
    db = _connect_read_only(path)
    for setting in READER_SETTINGS:
        db.execute(setting)
    return db


def close_writer(db: sqlite3.Connection) -> None:
    """Move everything from the write-ahead log into the file, and close."""
    with suppress(sqlite3.Error):  # what was committed is durable in the log; the next start moves it
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def _create_private(path: Path) -> None:
    """Make the file before SQLite does, so that it is never open to others; SQLite's side files take its mode.

    Only a missing file is opened: closing a descriptor of a database would drop SQLite's own locks on it (POSIX).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _look(path: Path, quick_check_bytes: int) -> None:
    """Raise `ConfigError` or `sqlite3.Error` for a file that is not to be written to, without writing to it."""
    with closing(_connect_read_only(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise ConfigError(f"storage.url: {path} is a database of another program")
        if version > len(MIGRATIONS):
            raise ConfigError(
                f"storage.url: {path} has version {version}, and this release knows versions up to {len(MIGRATIONS)}; "
                "start the newer release that wrote it"
            )
        if path.stat().st_size <= quick_check_bytes:
            _refuse_damaged(path, db)


def _refuse_damaged(path: Path, db: sqlite3.Connection) -> None:
    findings = damage([finding for (finding,) in db.execute("PRAGMA quick_check(3)")])
    if findings:
        raise ConfigError(
            f"storage.url: {path} is damaged ({'; '.join(findings)}); move it away or restore a backup of it"
        )


def damage(findings: Sequence[str]) -> list[str]:
    """Return those of the rows of a `quick_check` that tell of damage."""
    return [finding for finding in findings if finding != "ok" and not finding.startswith(NOT_LOOKED_AT)]


def _connect_writer(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        _use_log(path, db)
        for setting in WRITER_SETTINGS:
            db.execute(setting)
        migrate(db)
    except BaseException:
        db.close()
        raise
    db.row_factory = sqlite3.Row
    return db


def _use_log(path: Path, db: sqlite3.Connection) -> None:
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigError(f"storage.url: {path} is on a file system that cannot share memory (WAL); use a local one")


def _connect_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.0, isolation_level=None)

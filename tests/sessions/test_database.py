import os
import sqlite3
from contextlib import closing

import pytest

from argentor_asgi.errors import ConfigError
from argentor_asgi.sessions import database
from argentor_asgi.sessions.database import NOT_LOOKED_AT, close_writer, open_reader, open_writer
from argentor_asgi.sessions.schema_sql import APPLICATION_ID, MIGRATIONS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


@pytest.fixture
def db(path):
    with closing(open_writer(path)) as opened:
        yield opened


def pragma(db, name):
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def refused(path):
    """Return why the file is refused, and make sure that it is as it was."""
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        open_writer(path)
    assert path.read_bytes() == before
    assert str(path) in str(caught.value)
    return str(caught.value)


def fill(path):
    """Make a database of some pages, and close it."""
    db = open_writer(path)
    for number in range(400):
        db.execute("INSERT INTO claims VALUES ('t', 'o', ?, ?, 'r', 0)", (f"key {number:05}", "f" * 500))
    close_writer(db)


def damage(path):
    """Overwrite some pages in the middle."""
    with path.open("r+b") as file:
        file.seek(4096 * 40)
        file.write(b"\xa5" * 4096 * 8)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_and_its_side_files_are_private_whatever_the_umask(path, umask):
    before = os.umask(umask)
    try:
        with closing(open_writer(path)) as db, closing(open_reader(path)) as reader:
            db.execute("INSERT INTO probe VALUES (1, 1)")
            reader.execute("SELECT * FROM probe").fetchall()
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600}


def test_the_writer_has_the_settings_that_survive_a_kill(db):
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "journal_size_limit")
    assert [pragma(db, name) for name in names] == ["wal", 1, 1, 5000, 1000, 64 * 1024 * 1024]
    assert (pragma(db, "user_version"), pragma(db, "application_id")) == (len(MIGRATIONS), APPLICATION_ID)


@pytest.mark.usefixtures("db")
def test_the_reader_cannot_write_nor_checkpoint_nor_wait(path):
    with closing(open_reader(path)) as reader:
        assert [pragma(reader, name) for name in ("query_only", "wal_autocheckpoint", "busy_timeout")] == [1, 0, 0]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("INSERT INTO probe VALUES (1, 1)")


def test_closing_leaves_one_whole_file(path):
    db = open_writer(path)
    db.execute("INSERT INTO probe VALUES (1, 1)")
    close_writer(db)
    assert [file.name for file in path.parent.iterdir()] == ["a.db"]


def test_a_file_of_other_bytes_is_refused_untouched(path):
    path.write_bytes(b"this is no database" * 100)
    assert "not a database" in refused(path)


def test_a_database_of_another_program_is_refused_untouched(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
    assert "another program" in refused(path)


def test_a_newer_version_is_refused_untouched(path):
    close_writer(open_writer(path))
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        newer.commit()
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert "start the newer release" in refused(path)


def test_a_damaged_page_is_found_and_the_file_left_untouched(path):
    fill(path)
    damage(path)
    assert "damaged" in refused(path)


def test_a_file_cut_short_is_refused_untouched(path):
    fill(path)
    os.truncate(path, path.stat().st_size // 2)
    refused(path)


def test_a_damaged_file_with_an_unfinished_log_is_left_untouched(path, tmp_path):
    fill(path)
    db = open_writer(path)
    db.execute("INSERT INTO probe VALUES (1, 1)")
    crashed = tmp_path / "crashed.db"
    for tail in ("", "-wal"):
        (tmp_path / f"crashed.db{tail}").write_bytes((tmp_path / f"a.db{tail}").read_bytes())
    close_writer(db)
    damage(crashed)
    assert "damaged" in refused(crashed)


def test_what_is_in_the_log_after_a_crash_is_there(path, tmp_path):
    db = open_writer(path)
    db.execute("INSERT INTO probe VALUES (1, 42)")
    for tail in ("", "-wal"):
        (tmp_path / f"crashed.db{tail}").write_bytes((tmp_path / f"a.db{tail}").read_bytes())
    close_writer(db)
    with closing(open_writer(tmp_path / "crashed.db")) as after:
        assert after.execute("SELECT checked_at FROM probe").fetchone()[0] == 42


def test_an_empty_file_becomes_a_database(path):
    path.touch()
    with closing(open_writer(path)) as db:
        assert pragma(db, "user_version") == len(MIGRATIONS)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be used"):
        open_writer(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be opened: No such file"):
        open_writer(tmp_path / "none" / "a.db")


def test_a_file_above_the_bound_is_not_read_whole_at_start(path):
    fill(path)
    size = path.stat().st_size
    damage(path)
    with pytest.raises(ConfigError, match="damaged"):
        open_writer(path, quick_check_bytes=size)
    open_writer(path, quick_check_bytes=size - 1).close()


def test_a_file_system_without_a_log_is_refused(path):
    with closing(sqlite3.connect(":memory:")) as db, pytest.raises(ConfigError, match="cannot share memory"):
        database._use_log(path, db)


def test_a_library_without_full_text_search_is_refused_before_a_file_is_made(path):
    with pytest.raises(ConfigError, match=r"storage\.url: .* lacks NO_SUCH_MODULE.*memory://"):
        open_writer(path, search_module="no_such_module")
    assert not path.exists()


@pytest.mark.parametrize(
    ("findings", "bad"),
    [
        (["ok"], []),
        ([f"{NOT_LOOKED_AT} for FTS5 table main.note_words: attempt to write a readonly database"], []),
        (["wrong # of entries in index a", "ok"], ["wrong # of entries in index a"]),
        (["malformed inverted index for FTS5 table main.note_words"],) * 2,
    ],
)
def test_an_index_that_could_not_be_looked_at_is_no_damage(findings, bad):
    assert database.damage(findings) == bad

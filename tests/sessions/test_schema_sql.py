# ruff: noqa: S608  the queries are put together from constants
import hashlib
import re
import sqlite3
from contextlib import closing

import pytest

from argentor_asgi.sessions import sqlite
from argentor_asgi.sessions.key_statements import USAGE
from argentor_asgi.sessions.schema_sql import MIGRATIONS, migrate
from argentor_asgi.sessions.statements import LIVE_SQL

OLD = (("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"),)
NEW = (*OLD, ("ALTER TABLE a ADD COLUMN y DEFAULT 2",), ("CREATE TABLE b AS SELECT x + y AS z FROM a",))


@pytest.fixture
def db():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        yield opened


def version(db):
    return db.execute("PRAGMA user_version").fetchone()[0]


def test_an_older_file_is_brought_forward_with_what_it_holds(db):
    migrate(db, OLD)
    assert version(db) == 1
    migrate(db, NEW)
    assert (version(db), db.execute("SELECT z FROM b").fetchall()) == (3, [(3,)])


def test_a_released_step_is_never_changed():
    text = [";".join(step) for step in MIGRATIONS]
    assert [hashlib.sha256(step.encode()).hexdigest()[:16] for step in text] == [
        "1418447972d2e286",
        "69513eb153e6ca64",
        "33927c6d09380370",
        "31892a77382bbc7e",
    ]


def test_usage_is_read_by_an_index(db):
    migrate(db)
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {USAGE}", [1]))
    assert "runs_by_update" in plan


def test_a_file_that_is_up_to_date_is_left_alone(db):
    migrate(db)
    before = db.total_changes
    migrate(db)
    assert (db.total_changes, version(db)) == (before, len(MIGRATIONS))


def test_a_step_that_fails_is_undone_with_its_version(db):
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, (*OLD, ("CREATE TABLE c (x)", "no such statement")))
    db.execute("ROLLBACK")
    assert version(db) == 1
    assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["a"]


def test_no_statement_replaces_rows(db):
    """agent.md 1.10 D25: a REPLACE of a session took its messages along."""
    migrate(db)
    assert not re.search(r"\bREPLACE\b", " ".join(line for step in MIGRATIONS for line in step), re.IGNORECASE)


@pytest.mark.parametrize("since", range(len(MIGRATIONS)))
def test_from_every_version_a_file_comes_to_the_same_tables(db, since):
    migrate(db, MIGRATIONS[:since])
    migrate(db)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        migrate(new)
        tables = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        assert db.execute(tables).fetchall() == new.execute(tables).fetchall()
    assert version(db) == len(MIGRATIONS)


QUERIES = [
    (sqlite._SESSIONS.sql, "sessions_by_scope"),
    (sqlite._RUNS.sql, "runs_by_scope"),
    (sqlite._RUNS_OF_SESSION.sql, "runs_by_session"),
    (sqlite._MESSAGES.sql, "sqlite_autoindex_messages_1"),
    (sqlite._EVENTS.sql, "PRIMARY KEY"),
    (f"SELECT id FROM runs WHERE {LIVE_SQL} ORDER BY created_at", "runs_live"),
    ("SELECT id FROM runs WHERE has_events = 1 AND updated_at < ?", "runs_with_events"),
    ("SELECT id FROM sessions WHERE expires_at <= ?", "sessions_expiring"),
    ("SELECT key FROM claims WHERE created_at < ?", "claims_by_age"),
    (sqlite._KEYS.sql, "keys_by_age"),
    (sqlite._ALL_KEYS.sql, "keys_by_age"),
    (sqlite._KEYS_OF_TENANT.sql, "keys_by_tenant"),
]


@pytest.mark.parametrize(("query", "index"), QUERIES)
def test_every_list_is_read_in_the_order_of_an_index(db, query, index):
    migrate(db)
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", [1] * query.count("?")))
    assert index in plan
    assert "TEMP B-TREE" not in plan

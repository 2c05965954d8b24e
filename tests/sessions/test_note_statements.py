"""The index of notes in the file: what finds them, and that it holds what the table holds, whatever goes."""

import sqlite3
from contextlib import closing

import pytest
from contracts.store_values import ME, OTHERS, START
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.sessions.note_statements import MATCHES, add_note, delete_note, mark, search_notes
from argentor_asgi.sessions.ranking import terms
from argentor_asgi.sessions.records import Note, Scope
from argentor_asgi.sessions.schema_sql import migrate

SCOPES = (ME, *OTHERS)


def opened():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    return closing(db)


def verify(db):
    """Raise `sqlite3.DatabaseError` unless the index holds what the table does (sqlite.org/fts5.html, 6.7)."""
    db.execute("INSERT INTO note_words (note_words, rank) VALUES ('integrity-check', 1)")


def ids(db, query, scope=ME):
    return [note.id for note, _ in search_notes(db, scope, terms(query), 20)[0]]


def test_the_index_is_asked_once_and_then_the_notes_by_their_number():
    with opened() as db:
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {MATCHES}", ("x", "t", "o"))]
    assert steps[0].startswith("SCAN note_words VIRTUAL TABLE")
    assert steps[1] == "SEARCH notes USING INTEGER PRIMARY KEY (rowid=?)"


def test_an_index_that_differs_from_its_table_is_told_of():
    with opened() as db:
        add_note(db, ME, Note("a", "dog", START))
        db.execute("DROP TRIGGER notes_deleted")
        delete_note(db, ME, "a")
        with pytest.raises(sqlite3.DatabaseError):
            verify(db)


def test_the_index_follows_notes_that_any_tool_deletes():
    with opened() as db:
        for scope in SCOPES:
            for note_id in ("a", "b"):
                add_note(db, scope, Note(note_id, "dog " + note_id * 3, START))
        db.execute("DELETE FROM notes WHERE tenant = ? AND owner = ?", (ME.tenant, ME.owner))
        verify(db)
        assert (ids(db, "dog"), ids(db, "dog", OTHERS[0])) == ([], ["b", "a"])
        db.execute("DELETE FROM notes")
        verify(db)
        assert db.execute("SELECT count(*) FROM note_words").fetchone()[0] == 0


def test_a_note_that_was_not_added_since_its_id_is_known_is_not_in_the_index():
    with opened() as db:
        add_note(db, ME, Note("a", "dog", START))
        add_note(db, ME, Note("a", "cat", START))
        verify(db)
        assert (ids(db, "dog"), ids(db, "cat")) == (["a"], [])


def test_the_index_is_undone_with_the_note():
    with opened() as db:
        db.execute("BEGIN")
        add_note(db, ME, Note("a", "dog", START))
        db.execute("ROLLBACK")
        verify(db)
        assert ids(db, "dog") == []


def test_a_vacuum_leaves_every_note_findable():
    with opened() as db:
        for n in range(20):
            add_note(db, ME, Note(f"n{n}", f"dog word{n}", START))
        for n in range(0, 20, 2):
            delete_note(db, ME, f"n{n}")
        db.execute("VACUUM")
        verify(db)
        assert [ids(db, f"word{n}") for n in (1, 2, 19)] == [["n1"], [], ["n19"]]


def test_scopes_of_one_mark_do_not_see_each_other():
    with opened() as db:
        add_note(db, ME, Note("a", "dog", START))
        db.execute(
            "INSERT INTO notes (tenant, owner, id, content, created_at, mark, words, counts) "
            "SELECT 'acme', 'you', 'b', content, created_at, mark, words, counts FROM notes"
        )
        assert (ids(db, "dog"), ids(db, "dog", Scope("you", "acme"))) == (["a"], [])


def test_a_mark_tells_tenant_and_owner_apart():
    pairs = [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), ("a\0", "b"), ("a", "")]
    assert len({mark(*pair) for pair in pairs}) == len(pairs)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(SCOPES),
        st.sampled_from("abc"),
        st.none() | st.text(st.sampled_from("ab _\u72d7\0"), max_size=8),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(STEPS)
def test_after_any_notes_came_and_went_the_index_holds_what_the_table_does(
    steps: list[tuple[Scope, str, str | None]],
) -> None:
    with opened() as db:
        for scope, note_id, content in steps:
            if content is None:
                delete_note(db, scope, note_id)
            else:
                add_note(db, scope, Note(note_id, content, START))
        verify(db)

"""What the writer does with notes, one function for each operation, as `statements` does the rest.

The index finds the notes of a scope that share a word with a query, and `ranking` says how good they are. FTS5's own
`bm25()` would not do: it weighs a word by how many notes of all tenants hold it, so that a score would tell of others.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from argentor_asgi.protocol.schema import encode, restore
from argentor_asgi.sessions import ranking
from argentor_asgi.sessions.records import NOTES_PER_SCOPE, Note, Scope
from argentor_asgi.sessions.rows import note_of, note_values

MARK_CHARS: Final = 16
"""How many characters of a scope's digest stand in the index: two scopes that share them cost time and nothing else."""
# Only with a CROSS JOIN the index is asked once, and not once for each note of the scope.
MATCHES: Final = (
    "SELECT number, counts FROM note_words CROSS JOIN notes ON number = note_words.rowid "
    "WHERE note_words MATCH ? AND tenant = ? AND owner = ? ORDER BY created_at DESC, number DESC"
)
_NOTE: Final = "SELECT id, content, created_at, metadata FROM notes WHERE number = ?"
_INSERT: Final = (
    "INSERT INTO notes (tenant, owner, id, content, created_at, metadata, mark, words, counts) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (tenant, owner, id) DO NOTHING"
)


def mark(tenant: str, owner: str) -> str:
    """Return the word by which the index finds the notes of a scope."""
    return sha256(f"{tenant}\0{owner}".encode()).hexdigest()[:MARK_CHARS]


def words(content: str) -> str:
    """Return the different tokens of a note, as the index takes them."""
    return " ".join(ranking.counted(content))


def counts(content: str) -> bytes:
    """Return how often each token of a note occurs, as the table keeps it."""
    return encode(ranking.counted(content))


def add_note(db: sqlite3.Connection, scope: Scope, note: Note) -> bool:
    """Do what `NoteStore.add_note` says."""
    where = (scope.tenant, scope.owner)
    (kept,) = db.execute("SELECT count(*) FROM notes WHERE tenant = ? AND owner = ?", where).fetchone()
    if kept >= NOTES_PER_SCOPE:
        return False
    found = (mark(*where), words(note.content), counts(note.content))
    db.execute(_INSERT, (*where, *note_values(note), *found))
    return True


def delete_note(db: sqlite3.Connection, scope: Scope, note_id: str) -> bool:
    """Do what `NoteStore.delete_note` says."""
    where = (scope.tenant, scope.owner, note_id)
    return db.execute("DELETE FROM notes WHERE tenant = ? AND owner = ? AND id = ?", where).rowcount > 0


def search_notes(
    db: sqlite3.Connection, scope: Scope, wanted: Sequence[str], limit: int
) -> tuple[Sequence[tuple[Note, float]], int]:
    """Do what `NoteStore.search_notes` says, for terms; it reads every match, so it is not for the loop."""
    if not wanted:
        return [], 0
    found = list(_matches(db, scope, wanted))
    ranked = ranking.rank(wanted, [match for _, match in found])
    best = ranked[: max(limit, 0)]
    return [(_note(db, found[at][0]), score) for at, score in best], len(ranked)


def _matches(db: sqlite3.Connection, scope: Scope, wanted: Sequence[str]) -> Iterator[tuple[int, ranking.Match]]:
    """Yield the number of each note of the scope that holds a wanted term, newest first, with what is ranked of it."""
    # A term has no quotation mark in it, and within such marks FTS5 takes nothing for an operator.
    terms = " OR ".join(f'"{term}"' for term in wanted)
    try:
        query = f'mark : "{mark(scope.tenant, scope.owner)}" AND words : ({terms})'
        rows = db.execute(MATCHES, (query, scope.tenant, scope.owner))
    except UnicodeEncodeError:  # nothing is stored for a scope that UTF-8 cannot carry
        return
    for row in rows:
        yield row["number"], ranking.match(wanted, restore(row["counts"], dict[str, int]))


def _note(db: sqlite3.Connection, number: int) -> Note:
    return note_of(db.execute(_NOTE, (number,)).fetchone())

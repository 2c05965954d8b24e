"""What the store in memory keeps of a session and of a run, what they weigh, and its sorted lists."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message, Part
from argentor_asgi.protocol.schema import JsonObject
from argentor_asgi.sessions import ranking, rules
from argentor_asgi.sessions.records import LIVE, Note, Run, Scope, Session

ROW_BYTES: Final = 1024
"""What a row counts beside its text."""
TERM_BYTES: Final = 128
"""What a word of a note counts beside the note's text."""


@dataclass(slots=True)
class Conversation:
    """A session with all that goes when it goes, and about how many bytes that is."""

    session: Session
    messages: list[Message] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    weight: int = 0


@dataclass(slots=True)
class Log:
    """A run with its events. `is_unsaid`: its user's message is not part of the session yet."""

    run: Run
    is_unsaid: bool
    events: list[LoggedEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeptNote:
    """A note with how often each of its tokens occurs."""

    note: Note
    counts: Mapping[str, int]


def scope_of(row: Session | Run) -> Scope:
    """Return whose the row is."""
    return Scope(row.owner, row.tenant)


def behind(keys: Sequence[rules.Key], start: rules.Key, limit: int) -> list[rules.Key]:
    """Return up to `limit` of the ascending `keys` below `start`, the highest first."""
    end = bisect_left(keys, start)
    return list(reversed(keys[max(end - max(limit, 0), 0) : end]))


def unlist(lists: dict[Scope, list[rules.Key]], scope: Scope, key: rules.Key) -> None:
    """Take `key`, which is there, out of its scope's ascending list."""
    keys = lists[scope]
    del keys[bisect_left(keys, key)]
    if not keys:
        del lists[scope]


def kept_message(message: Message, session_id: str) -> Message:
    """Return the message as it is stored: its text fit for UTF-8, its JSON its own."""
    parts = schema.restore(schema.encode(message.parts), tuple[Part, ...]) if message.parts else ()
    content, metadata = schema.scrub(message.content), copied(message.metadata)
    return replace(message, session_id=session_id, content=content, parts=parts, metadata=metadata)


def kept_note(note: Note) -> KeptNote:
    """Return the note as it is stored."""
    kept = replace(note, content=schema.scrub(note.content), metadata=copied(note.metadata))
    return KeptNote(kept, ranking.counted(kept.content))


def note_weight(row: KeptNote) -> int:
    """Return about how many bytes the note takes."""
    return ROW_BYTES + len(row.note.content) + TERM_BYTES * len(row.counts)


def copied(metadata: JsonObject) -> JsonObject:
    """Return a copy that shares nothing."""
    return schema.restore(schema.encode(metadata), JsonObject) if metadata else {}


def weight_of(message: Message) -> int:
    """Return about how many bytes the message takes; what it says in parts is mostly its content again."""
    return ROW_BYTES + len(message.content) + (len(schema.encode(message.parts)) if message.parts else 0)


def event_weight(event: LoggedEvent) -> int:
    """Return about how many bytes the event takes."""
    return ROW_BYTES // 4 + len(event.data)


def ended_before(run: Run, before: datetime) -> bool:
    """Say whether the run ended before."""
    return run.status not in LIVE and run.updated_at < before


def is_over(session: Session, now: datetime) -> bool:
    """Say whether the session is past its end."""
    return session.expires_at is not None and session.expires_at <= now

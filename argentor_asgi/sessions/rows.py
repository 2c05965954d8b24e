"""Rows of the embedded database, as the values of `records.py` and back."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeAlias

from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message, Part, Usage
from argentor_asgi.protocol.schema import JsonObject
from argentor_asgi.sessions.records import Claim, Note, Run, Scope, Session, StoredKey, Used
from argentor_asgi.sessions.rules import micros, moment

Value: TypeAlias = str | int | bytes | None
"""What a column holds."""

SESSION_COLUMNS: Final = (
    "id, tenant, owner, created_at, updated_at, title, version, active_skills, metadata, expires_at"
)
MESSAGE_COLUMNS: Final = "session_id, idx, id, role, content, timestamp, channel_id, parts, metadata"
RUN_FIELDS: Final = (
    "status, model, updated_at, text, finish_reason, error_code, turns, "
    "input_tokens, output_tokens, cached_tokens, estimated, cost_micros, tool_calls, work_ms"
)
"""The columns of a run that change."""
KEY_COLUMNS: Final = (
    "id, name, digest, owner, tenant, scopes, plan, created_at, created_by, "
    "expires_at, last_used_at, revoked_at, replaced_by"
)
CLAIM_COLUMNS: Final = "key, fingerprint, run_id"
RUN_COLUMNS: Final = f"id, session_id, tenant, owner, input, created_at, last_seq, {RUN_FIELDS}"


def session_values(session: Session) -> tuple[Value, ...]:
    """Return the values of `SESSION_COLUMNS` for a session without messages."""
    return (
        session.id,
        session.tenant,
        session.owner,
        micros(session.created_at),
        micros(session.updated_at),
        schema.scrub(session.title),
        0,
        _json(session.active_skills),
        _json(session.metadata),
        _micros_or_none(session.expires_at),
    )


def session_of(row: sqlite3.Row) -> Session:
    """Return the session of a row of `SESSION_COLUMNS`."""
    return Session(
        id=row["id"],
        tenant=row["tenant"],
        owner=row["owner"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        title=row["title"],
        version=row["version"],
        active_skills=schema.restore(row["active_skills"], tuple[str, ...]) if row["active_skills"] else (),
        metadata=_object(row["metadata"]),
        expires_at=_moment_or_none(row["expires_at"]),
    )


def version_of(row: sqlite3.Row) -> int:
    """Return the version of a row that has one."""
    version: int = row["version"]
    return version


def message_values(message: Message) -> tuple[Value, ...]:
    """Return the values of `MESSAGE_COLUMNS` behind the first two."""
    return (
        message.id,
        message.role,
        schema.scrub(message.content),
        micros(message.timestamp),
        message.channel_id,
        _json(message.parts),
        _json(message.metadata),
    )


def message_of(row: sqlite3.Row) -> Message:
    """Return the message of a row of `MESSAGE_COLUMNS`."""
    return Message(
        id=row["id"],
        role=row["role"],
        content=row["content"],
        session_id=row["session_id"],
        timestamp=moment(row["timestamp"]),
        parts=schema.restore(row["parts"], tuple[Part, ...]) if row["parts"] else (),
        channel_id=row["channel_id"],
        metadata=_object(row["metadata"]),
    )


def run_changes(run: Run) -> tuple[Value, ...]:
    """Return the values of `RUN_FIELDS`."""
    usage = run.usage
    return (
        run.status,
        run.model,
        micros(run.updated_at),
        schema.scrub(run.text),
        run.finish_reason,
        run.error_code,
        run.turns,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        int(usage.estimated),
        run.cost_micros,
        run.tool_calls,
        run.work_ms,
    )


def run_values(run: Run) -> tuple[Value, ...]:
    """Return the values of `RUN_COLUMNS` for a run without events."""
    kept = (run.id, run.session_id, run.tenant, run.owner, schema.scrub(run.input), micros(run.created_at), 0)
    return kept + run_changes(run)


def run_of(row: sqlite3.Row) -> Run:
    """Return the run of a row of `RUN_COLUMNS`."""
    return Run(
        id=row["id"],
        session_id=row["session_id"],
        owner=row["owner"],
        tenant=row["tenant"],
        status=row["status"],
        model=row["model"],
        input=row["input"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        text=row["text"],
        finish_reason=row["finish_reason"],
        error_code=row["error_code"],
        turns=row["turns"],
        usage=Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"], bool(row["estimated"])),
        last_seq=row["last_seq"],
        cost_micros=row["cost_micros"],
        tool_calls=row["tool_calls"],
        work_ms=row["work_ms"],
    )


def event_of(row: sqlite3.Row) -> LoggedEvent:
    """Return the event of a row of seq, type, data."""
    return LoggedEvent(row["seq"], row["type"], row["data"])


def claim_of(row: sqlite3.Row) -> Claim:
    """Return the claim of a row of `CLAIM_COLUMNS`."""
    return Claim(row["key"], row["fingerprint"], row["run_id"])


def note_values(note: Note) -> tuple[Value, ...]:
    """Return the values of id, content, created_at, metadata."""
    return note.id, schema.scrub(note.content), micros(note.created_at), _json(note.metadata)


def note_of(row: sqlite3.Row) -> Note:
    """Return the note of a row of id, content, created_at, metadata."""
    return Note(row["id"], row["content"], moment(row["created_at"]), _object(row["metadata"]))


def key_values(key: StoredKey) -> tuple[Value, ...]:
    """Return the values of `KEY_COLUMNS`."""
    return (
        key.id,
        key.name,
        key.digest,
        key.owner,
        key.tenant,
        _json(key.scopes),
        key.plan,
        micros(key.created_at),
        key.created_by,
        _micros_or_none(key.expires_at),
        _micros_or_none(key.last_used_at),
        _micros_or_none(key.revoked_at),
        key.replaced_by,
    )


def stored_key_of(row: sqlite3.Row) -> StoredKey:
    """Return the key of a row of `KEY_COLUMNS`."""
    return StoredKey(
        id=row["id"],
        name=row["name"],
        digest=row["digest"],
        owner=row["owner"],
        tenant=row["tenant"],
        scopes=schema.restore(row["scopes"], tuple[str, ...]) if row["scopes"] else (),
        plan=row["plan"],
        created_at=moment(row["created_at"]),
        created_by=row["created_by"],
        expires_at=_moment_or_none(row["expires_at"]),
        last_used_at=_moment_or_none(row["last_used_at"]),
        revoked_at=_moment_or_none(row["revoked_at"]),
        replaced_by=row["replaced_by"],
    )


def usage_of(row: sqlite3.Row) -> tuple[Scope, Used]:
    """Return whose and what a row of tenant, owner and the fields of `Used` counts."""
    used = Used(row["tokens"], row["cost_micros"], row["work_ms"], row["tool_calls"])
    return Scope(row["owner"], row["tenant"]), used


def marks(columns: str) -> str:
    """Return as many `?` as `columns` names."""
    return ", ".join("?" * (columns.count(",") + 1))


def _json(value: Mapping[str, object] | tuple[object, ...]) -> bytes | None:
    return schema.encode(value) if value else None


def _object(data: bytes | None) -> JsonObject:
    return schema.restore(data, JsonObject) if data else {}


def _micros_or_none(when: datetime | None) -> int | None:
    return None if when is None else micros(when)


def _moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)

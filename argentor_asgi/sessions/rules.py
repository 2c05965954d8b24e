"""What every store decides the same way: page cursors, what text is kept, and what a crash leaves behind."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import uuid4

from argentor_asgi.errors import Detail, InvalidInput, RunInterrupted
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import Error, LoggedEvent, RunEvent, ToolCallEnd
from argentor_asgi.protocol.messages import Message
from argentor_asgi.sessions.records import STATUS_AFTER, Approval, Page, Run, Session, StoredKey

CURSOR_CHARS: Final = 1024
"""The longest cursor that is read."""
CALL_EVENTS: Final = ("tool_call_start", "tool_call_end")
"""The events that say which calls are open."""
Key = tuple[int, str]
"""Where a row stands in a list: its creation in microseconds, and its id between those of one microsecond."""
NEWEST: Final[Key] = (2**63 - 1, "")
"""Before every row of a list that is newest first."""
DAY_MICROS: Final = 86_400_000_000
"""A day in the unit of `micros`."""
Row = TypeVar("Row")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(when: datetime) -> int:
    """Return the microseconds from 1970 to an aware time; raises `TypeError` for a naive one."""
    return (when - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Return the time in UTC that `micros` gave."""
    return _EPOCH + timedelta(microseconds=value)


def key_of(row: Session | Run | Approval | StoredKey) -> Key:
    """Return where the row stands in its list."""
    return micros(row.created_at), row.id


def page(rows: Sequence[Row], limit: int, kind: str, key: Callable[[Row], Key]) -> Page[Row]:
    """Return the first `limit` of `rows`, which hold one row more than the page when there is a next one."""
    if len(rows) <= limit or limit < 1:
        return Page(rows[: max(limit, 0)], None)
    kept = rows[:limit]
    return Page(kept, _to_cursor(kind, key(kept[-1])))


def _to_cursor(kind: str, key: Key) -> str:
    return urlsafe_b64encode(f"{kind}.{key[0]}.{key[1]}".encode()).decode().rstrip("=")


def from_cursor(kind: str, cursor: str | None) -> Key:
    """Return the key behind which the page begins; raises `InvalidInput` unless it is a cursor of this `kind`."""
    if cursor is None:
        return NEWEST
    key = _parse_cursor(kind, cursor)
    if key is None:
        detail = Detail("/cursor", "Not a cursor of this list.")
        raise InvalidInput("The cursor is not one of this list.", details=[detail])
    return key


def _parse_cursor(kind: str, cursor: str) -> Key | None:
    """Return the key in `cursor`, None unless it is exactly what `_to_cursor` makes of that key."""
    if len(cursor) > CURSOR_CHARS:
        return None
    try:
        _, at, row_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(".", 2)
        key = (int(at), row_id)
    except ValueError:
        return None
    return key if _to_cursor(kind, key) == cursor and -(2**63) <= key[0] < 2**63 else None


def refuse_surrogates(*names: str) -> None:
    """Raise `InvalidInput` for an id, owner, tenant or key that UTF-8 cannot carry: replacing could make two equal."""
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError:
        raise InvalidInput("An id holds text that is not valid Unicode.") from None


def kept_key(key: StoredKey) -> StoredKey:
    """Return the key as it is stored: its name fit for UTF-8. Raises `InvalidInput` for its other text that is not."""
    optional = [text for text in (key.plan, key.replaced_by) if text is not None]
    refuse_surrogates(key.id, key.owner, key.tenant, key.created_by, *key.scopes, *optional)
    return replace(key, name=schema.scrub(key.name), scopes=tuple(key.scopes))


def settled(run: Run, told: Sequence[LoggedEvent], now: datetime) -> tuple[Run, Sequence[LoggedEvent]]:
    """Return a run that a crash left live as it is from now on, and the events that end it, none when it has ended.

    `told`: what is stored of types `CALL_EVENTS`, and its last event, in order. Open calls get their end first. A run
    whose terminal event was stored takes the status which that event tells.
    """
    if told and told[-1].is_terminal:
        return replace(run, status=STATUS_AFTER[told[-1].type], updated_at=now), ()
    words = RunInterrupted
    error = Error(message=words.message, code=words.code, retryable=words.retryable, run_id=run.id)
    ends: list[RunEvent] = [ToolCallEnd(call_id, name, None) for call_id, name in _open_calls(told)]
    logged = [
        LoggedEvent(seq, event.type, schema.encode(event))
        for seq, event in enumerate([*ends, error], start=run.last_seq + 1)
    ]
    ended = replace(run, status="interrupted", error_code=words.code, updated_at=now, last_seq=logged[-1].seq)
    return ended, logged


def _open_calls(told: Sequence[LoggedEvent]) -> list[tuple[str, str]]:
    """Return the id and name of each call that began and has no end, in order."""
    names: dict[str, str] = {}
    for event in told:
        if event.type in CALL_EVENTS:
            members = schema.restore(event.data, dict)
            if event.type == "tool_call_start":
                names[members["id"]] = members["name"]
            else:
                names.pop(members["id"], None)
    return list(names.items())


def unsaid(run: Run, now: datetime) -> Message:
    """Return the user message of a run that a crash ended before its turn came."""
    return Message(
        id=str(uuid4()),
        role="user",
        content=run.input,
        session_id=run.session_id,
        timestamp=now,
        metadata={"interrupted": True},
    )

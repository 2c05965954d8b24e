"""One entry of the audit log: what it may hold, how it becomes a line, and how a line is tied to the one before.

A line is JSON, and its last member is `hash`: the SHA-256, in hexadecimal, of the text of `prev` followed by the bytes
of the line as they are without that member. `prev` is the hash of the line before, so that a line cannot be changed,
taken out, put in or moved without every later one showing it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypedDict

from argentor_asgi.errors import GatewayError
from argentor_asgi.ops.audit_details import FIELD_CHARS, fitted
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.schema import JsonObject

Outcome = Literal["success", "denied", "error"]

ACTIONS: Final[Mapping[str, str]] = {
    "auth_failed": "A credential was refused.",
    "auth_throttled": "An address was refused after too many wrong credentials.",
    "forbidden": "A caller lacked the scope, or came from a host or origin that is not allowed.",
    "rate_limited": "A caller was over one of its limits.",
    "key_create": "An API key was made.",
    "key_rotate": "An API key was replaced by a new one.",
    "key_revoke": "An API key was revoked.",
    "ws_ticket": "A single-use ticket for a WebSocket was given out.",
    "session_delete": "A session was deleted with all that it held.",
    "run_start": "A run began.",
    "run_end": "A run ended; its status is in the details.",
    "tool_call": "A skill is about to be called.",
    "tool_result": "A skill returned, or failed.",
    "approval_requested": "A call waits for a person.",
    "approval_decided": "A person allowed or refused a call.",
    "guardrail_input": "A guardrail looked at a message.",
    "guardrail_output": "A guardrail looked at an answer.",
    "guardrail_tool_result": "A guardrail looked at what a skill returned.",
    "webhook": "A webhook was received or refused.",
    "drain": "The gateway began to stop.",
    "audit_opened": "The log was opened by a process.",
    "audit_closed": "The log was closed in order.",
    "audit_recovered": "The log was not as it was left; the details say what was found and done.",
    "audit_dropped": "Entries were lost since the one before: more than the queue holds, or outside of its time.",
    "audit_retention": "Files older than the retention were deleted, up to the entry `last_seq`.",
}
"""What the gateway writes down, and what each word means."""

LINE_BYTES: Final = 16 * 1024
"""No line is longer: the details, eight fields of `FIELD_CHARS` with up to six bytes a character, and the rest."""
FIRST_HASH: Final = "0" * 64
"""What stands for the hash before the first line."""

_HASH_START: Final = b',"hash":"'
_HASH_BYTES: Final = len(_HASH_START) + 64 + len(b'"}')


class Who(TypedDict, total=False):
    """What an entry says besides what happened and how it ended; each is None where there is none."""

    principal: str | None
    tenant: str | None
    session_id: str | None
    skill_name: str | None
    request_id: str | None
    address: str | None
    details: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, before it has its place in the log; made by `entry`, so that no secret and no flood is in it."""

    timestamp: datetime
    action: str
    outcome: Outcome
    principal: str | None = None
    tenant: str | None = None
    session_id: str | None = None
    skill_name: str | None = None
    request_id: str | None = None
    address: str | None = None
    details: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)  # no slots: orjson reads a `__dict__` four times as fast
class Row:
    """An entry as it stands in the log. `timestamp` is in UTC; `prev` and `hash` are hexadecimal."""

    seq: int
    timestamp: datetime
    action: str
    outcome: Outcome
    principal: str | None
    tenant: str | None
    session_id: str | None
    skill_name: str | None
    request_id: str | None
    address: str | None
    details: JsonObject
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Link:
    """Where the chain stands: the number and the hash of a line."""

    seq: int = 0
    hash: str = FIRST_HASH


def entry(
    timestamp: datetime, action: str, outcome: Outcome, details: Mapping[str, object], **who: str | None
) -> Entry:
    """Return the entry, with every text cut to its bound and every value under the name of a secret hidden."""
    cut = {name: value if value is None else value[:FIELD_CHARS] for name, value in who.items()}
    return Entry(timestamp, action[:FIELD_CHARS], outcome, details=fitted(details), **cut)


def is_violation(entry: Entry | Row) -> bool:
    """Say whether something was denied, or blocked by a guardrail."""
    return entry.outcome == "denied" or (entry.action.startswith("guardrail_") and is_blocked(entry.details))


def is_blocked(details: JsonObject) -> bool:
    """Say whether a guardrail's details tell of a block."""
    return bool(details.get("block_violations") or details.get("blocked"))


def seal(entry: Entry, last: Link) -> tuple[bytes, Link]:
    """Return the line of `entry` behind the line `last`, its newline included, and where the chain stands then."""
    body = schema.encode(
        {
            "seq": last.seq + 1,
            "timestamp": entry.timestamp,
            "action": entry.action,
            "outcome": entry.outcome,
            "principal": entry.principal,
            "tenant": entry.tenant,
            "session_id": entry.session_id,
            "skill_name": entry.skill_name,
            "request_id": entry.request_id,
            "address": entry.address,
            "details": entry.details,
            "prev": last.hash,
        }
    )
    link = Link(last.seq + 1, _digest(last.hash, body))
    return b'%s%s%s"}\n' % (body[:-1], _HASH_START, link.hash.encode()), link


def row_of(line: bytes) -> Row | None:
    """Return the entry in a line without its newline, None when it is none; its hash is not looked at."""
    if line[-_HASH_BYTES : len(_HASH_START) - _HASH_BYTES] != _HASH_START:
        return None
    try:
        return schema.restore(line, Row)
    except GatewayError:
        return None


def is_sound(line: bytes, row: Row) -> bool:
    """Say whether the hash of `line`, which `row` was read from, is that of its bytes."""
    return row.hash == _digest(row.prev, line[:-_HASH_BYTES] + b"}") and line.endswith(row.hash.encode() + b'"}')


def _digest(prev: str, body: bytes) -> str:
    return hashlib.sha256(prev.encode() + body).hexdigest()

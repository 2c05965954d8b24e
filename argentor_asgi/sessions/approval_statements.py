"""Approvals as rows, and what the writer does to them: one function for each operation, as in `statements`."""
# ruff: noqa: S608  the statements are put together from constants; every value is a parameter

import sqlite3
from collections.abc import Sequence
from typing import Final

from argentor_asgi.protocol import schema
from argentor_asgi.protocol.schema import JsonObject
from argentor_asgi.sessions.records import Approval, Run
from argentor_asgi.sessions.rows import RUN_COLUMNS, Value, marks, run_of
from argentor_asgi.sessions.rules import micros, moment

APPROVAL_COLUMNS: Final = (
    "id, run_id, session_id, tenant, owner, call_id, tool, arguments, risk_level, description, created_at, expires_at, "
    "status, reviewer, reason, edited_arguments, decided_at"
)
_LIVE_SQL: Final = "status IN ('queued', 'running', 'waiting_approval')"
WAITING_SQL: Final = (
    "status = 'waiting_approval' OR status = 'queued' AND session_id IN "
    f"(SELECT session_id FROM runs WHERE {_LIVE_SQL} AND status = 'waiting_approval')"
)
"""Which of the live runs wait for a person, themselves or behind one in their session."""

_DECISION: Final = "status, reviewer, reason, edited_arguments, decided_at"
_INSERT: Final = (
    f"INSERT INTO approvals ({APPROVAL_COLUMNS}) VALUES ({marks(APPROVAL_COLUMNS)}) ON CONFLICT (id) DO NOTHING"
)
_DECIDE: Final = f"UPDATE approvals SET ({_DECISION}) = ({marks(_DECISION)}) WHERE id = ? AND status = 'pending'"


def add_approvals(db: sqlite3.Connection, approvals: Sequence[Approval]) -> None:
    """Store the approvals of a run that is stored; raises `ValueError` for an id that is stored already."""
    for approval in approvals:
        if db.execute(_INSERT, approval_values(approval)).rowcount == 0:
            raise ValueError(f"approval {approval.id} is already stored")


def decide_approval(db: sqlite3.Connection, approval: Approval) -> bool:
    """Do what `ApprovalStore.decide_approval` says."""
    return db.execute(_DECIDE, (*_decision(approval), approval.id)).rowcount > 0


def cancel_approvals(db: sqlite3.Connection, run_id: str, now: int) -> None:
    """Mark what is still pending of a run that is over."""
    db.execute(
        "UPDATE approvals SET status = 'cancelled', decided_at = ? WHERE run_id = ? AND status = 'pending'",
        (now, run_id),
    )


def waiting_runs(db: sqlite3.Connection) -> Sequence[Run]:
    """Do what `ApprovalStore.waiting_runs` says."""
    found = db.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE {_LIVE_SQL} AND ({WAITING_SQL}) ORDER BY created_at, id")
    return [run_of(row) for row in found]


def approval_values(approval: Approval) -> tuple[Value, ...]:
    """Return the values of `APPROVAL_COLUMNS`."""
    return (
        approval.id,
        approval.run_id,
        approval.session_id,
        approval.tenant,
        approval.owner,
        schema.scrub(approval.call_id),
        schema.scrub(approval.tool),
        schema.encode(approval.arguments) if approval.arguments else None,
        approval.risk_level,
        schema.scrub(approval.description),
        micros(approval.created_at),
        micros(approval.expires_at),
        *_decision(approval),
    )


def approval_of(row: sqlite3.Row) -> Approval:
    """Return the approval of a row of `APPROVAL_COLUMNS`."""
    edited, decided_at = row["edited_arguments"], row["decided_at"]
    return Approval(
        id=row["id"],
        run_id=row["run_id"],
        session_id=row["session_id"],
        owner=row["owner"],
        tenant=row["tenant"],
        call_id=row["call_id"],
        tool=row["tool"],
        arguments=schema.restore(row["arguments"], JsonObject) if row["arguments"] else {},
        risk_level=row["risk_level"],
        description=row["description"],
        created_at=moment(row["created_at"]),
        expires_at=moment(row["expires_at"]),
        status=row["status"],
        reviewer=row["reviewer"],
        reason=row["reason"],
        edited_arguments=None if edited is None else schema.restore(edited, JsonObject),
        decided_at=None if decided_at is None else moment(decided_at),
    )


def _decision(approval: Approval) -> tuple[Value, ...]:
    """Return what a decision sets; empty edited arguments are arguments, and so are not none."""
    edited, decided_at = approval.edited_arguments, approval.decided_at
    return (
        approval.status,
        approval.reviewer,
        None if approval.reason is None else schema.scrub(approval.reason),
        None if edited is None else schema.encode(edited),
        None if decided_at is None else micros(decided_at),
    )

"""The audit log: what happened, what was refused, and how much of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from argentor_asgi.api.paging import Cursor, Limit, next_page
from argentor_asgi.asgi.response import Reply
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import InvalidInput, StorageUnavailable
from argentor_asgi.gateway.services import Services
from argentor_asgi.ops.audit_entry import Outcome, Row
from argentor_asgi.ops.audit_read import AuditPage
from argentor_asgi.ops.audit_tally import AuditStats
from argentor_asgi.protocol.schema import JsonObject, Meta
from argentor_asgi.security.identity import Principal

FewRows = Annotated[int, Meta(ge=1, le=500, description="How many rows to return.")]


@dataclass(frozen=True)
class AuditView:
    """One entry. `details` never hold a secret; `address` is the client's; `seq` is its number in the log."""

    timestamp: datetime
    session_id: str | None
    action: str
    skill_name: str | None
    details: JsonObject
    outcome: Outcome
    principal: str | None
    tenant: str | None
    request_id: str | None
    address: str | None
    seq: int


@dataclass(frozen=True)
class ViolationView:
    """Something that was refused, or blocked by a guardrail."""

    timestamp: datetime
    session_id: str | None
    rule: str
    severity: Literal["warn", "block"]
    message: str
    seq: int


@route("GET", "/api/v1/audit/logs", needs="audit:read", errors=(InvalidInput, StorageUnavailable), tags=("audit",))
async def list_logs(
    services: Services, principal: Principal, limit: Limit = 100, cursor: Cursor = None
) -> Reply[list[AuditView]]:
    """List the entries of your tenant, newest first; of every tenant with scope `admin`.

    A page may hold fewer rows than asked for, even none; there is more as long as it names a next one.
    """
    page = await services.audit.logs(limit=limit, cursor=cursor, tenant=_seen_by(principal))
    return Reply([_view(row) for row in page.rows], headers=_more(page, limit))


@route(
    "GET", "/api/v1/audit/violations", needs="audit:read", errors=(InvalidInput, StorageUnavailable), tags=("audit",)
)
async def list_violations(
    services: Services, principal: Principal, limit: FewRows = 50, cursor: Cursor = None
) -> Reply[list[ViolationView]]:
    """List what was refused or blocked in your tenant, newest first; pages as those of the logs."""
    page = await services.audit.logs(limit=limit, cursor=cursor, tenant=_seen_by(principal), violations_only=True)
    return Reply([_violation(row) for row in page.rows], headers=_more(page, limit))


@route("GET", "/api/v1/audit/stats", needs="audit:read", tags=("audit",))
async def read_stats(services: Services, principal: Principal) -> AuditStats:
    """Return how much was written and refused today (UTC), for your tenant."""
    return services.audit.stats(_seen_by(principal))


def _seen_by(principal: Principal) -> str | None:
    """Return whose entries the caller may see, None for everyone's."""
    return None if principal.may("admin") else principal.tenant


def _more(page: AuditPage, limit: int) -> list[tuple[bytes, bytes]]:
    if page.cursor is None:
        return []
    return [*next_page(limit=limit, cursor=page.cursor), (b"x-next-cursor", page.cursor.encode())]


def _view(row: Row) -> AuditView:
    return AuditView(
        row.timestamp,
        row.session_id,
        row.action,
        row.skill_name,
        row.details,
        row.outcome,
        row.principal,
        row.tenant,
        row.request_id,
        row.address,
        row.seq,
    )


def _violation(row: Row) -> ViolationView:
    told = row.details
    rule, message = told.get("rule") or told.get("rule_name"), told.get("message") or told.get("reason")
    severity: Literal["warn", "block"] = "warn" if told.get("severity") == "warn" else "block"
    return ViolationView(
        row.timestamp, row.session_id, str(rule or row.action), severity, str(message or row.action), row.seq
    )

"""Approvals: the calls of your runs that wait for a person, and your answer to them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from argentor_asgi.api.paging import Cursor, Limit, next_page
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import Reply
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import ApprovalDecided, ApprovalNotFound, InvalidInput, StorageUnavailable
from argentor_asgi.gateway.approvals import APPROVE, SEE, Decision, as_of
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.schema import JsonObject, Meta, refuse_unknown
from argentor_asgi.protocol.ws_session import Reason
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import Approval, ApprovalStatus

OfStatus = Annotated[
    Literal["pending", "approved", "denied", "expired", "cancelled", "all"],
    Meta(description="Only approvals of this status, or all."),
]
Edited = Annotated[
    JsonObject | None,
    Meta(description="What the call is made with in the place of its own arguments; only for one that may run."),
]


@dataclass(frozen=True)
class ApprovalView:
    """A call that waits, or waited, for a person. `task_id` is the older name of `approval_id`.

    `reviewer`: the principal who decided, null where nobody did.
    """

    approval_id: str
    task_id: str
    run_id: str
    session_id: str
    call_id: str
    tool: str
    arguments: JsonObject
    risk_level: RiskLevel
    description: str
    status: ApprovalStatus
    created_at: datetime
    expires_at: datetime
    reviewer: str | None
    reason: str | None
    edited_arguments: JsonObject | None
    decided_at: datetime | None


TOLD_ANYWAY = frozenset({"approval_id", "task_id", "reviewer"})
"""What clients of the original send too; who decides is told by their key, and on what by the path."""


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """Whether the call may run."""

    approved: bool
    reason: Reason | None = None
    edited_arguments: Edited = None


@route("GET", "/api/v1/approvals", needs=SEE, errors=(InvalidInput, StorageUnavailable), tags=("approvals",))
async def list_approvals(
    services: Services,
    principal: Principal,
    status: OfStatus = "pending",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Reply[list[ApprovalView]]:
    """List the approvals of your runs, newest first; those that wait, if you do not ask for others."""
    wanted: ApprovalStatus | None = None if status == "all" else status
    page = await services.store.list_approvals(scope_of(principal), status=wanted, limit=limit, cursor=cursor)
    now = services.clock.now()
    rows = [view(approval) for approval in (as_of(row, now) for row in page.rows) if wanted in {None, approval.status}]
    more = next_page(status=status, limit=limit, cursor=page.cursor) if page.cursor else ()
    return Reply(rows, headers=more)


@route(
    "GET",
    "/api/v1/approvals/{approval_id}",
    needs=SEE,
    errors=(ApprovalNotFound, StorageUnavailable),
    tags=("approvals",),
)
async def read_approval(services: Services, principal: Principal, approval_id: UUID) -> ApprovalView:
    """Return one approval as it is now."""
    found = await services.store.get_approval(scope_of(principal), str(approval_id))
    if found is None:
        raise ApprovalNotFound
    return view(as_of(found, services.clock.now()))


@route(
    "POST",
    "/api/v1/approvals/{approval_id}",
    needs=APPROVE,
    errors=(ApprovalNotFound, ApprovalDecided, InvalidInput, StorageUnavailable),
    tags=("approvals",),
)
async def decide_approval(
    request: Request, services: Services, principal: Principal, approval_id: UUID, body: DecisionRequest
) -> ApprovalView:
    """Say whether the call may run. The first answer counts; a later one hears 409 with `approval_status`.

    A member that is none of these is refused, since a misspelt edit would approve the call as it was.
    """
    refuse_unknown(await request.body(), DecisionRequest, but=TOLD_ANYWAY)
    decision = Decision(body.approved, body.reason, body.edited_arguments)
    return view(await services.runs.approvals.decide(principal, str(approval_id), decision))


def view(approval: Approval) -> ApprovalView:
    """Return the approval as a client sees it."""
    return ApprovalView(
        approval.id,
        approval.id,
        approval.run_id,
        approval.session_id,
        approval.call_id,
        approval.tool,
        approval.arguments,
        approval.risk_level,
        approval.description,
        approval.status,
        approval.created_at,
        approval.expires_at,
        approval.reviewer,
        approval.reason,
        approval.edited_arguments,
        approval.decided_at,
    )

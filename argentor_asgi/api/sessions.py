"""Sessions: list, read and delete your own conversations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from argentor_asgi.api.paging import Cursor, Limit, next_page
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import Reply
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import InvalidInput, SessionBusy, SessionNotFound, StorageUnavailable
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.messages import Role
from argentor_asgi.protocol.schema import JsonObject, Meta
from argentor_asgi.security.identity import Principal

After = Annotated[int, Meta(ge=0, le=2**53, description="Leave out this many of the oldest messages.")]


@dataclass(frozen=True)
class SessionSummary:
    """A conversation, by its head."""

    session_id: str
    created_at: datetime
    updated_at: datetime
    message_count: int
    title: str


@dataclass(frozen=True)
class MessageView:
    """One thing said."""

    id: str
    role: Role
    content: str
    timestamp: datetime


@dataclass(frozen=True)
class SessionView:
    """A conversation with its messages, oldest first."""

    session_id: str
    created_at: datetime
    updated_at: datetime
    message_count: int
    title: str
    messages: list[MessageView]
    metadata: JsonObject


@dataclass(frozen=True)
class SessionDeleted:
    """The session is gone."""

    deleted: bool
    session_id: str


@route("GET", "/api/v1/sessions", needs="sessions:read", errors=(InvalidInput, StorageUnavailable), tags=("sessions",))
async def list_sessions(
    services: Services, principal: Principal, limit: Limit = 100, cursor: Cursor = None
) -> Reply[list[SessionSummary]]:
    """List your sessions, newest first."""
    page = await services.store.list_sessions(scope_of(principal), limit=limit, cursor=cursor)
    rows = [
        SessionSummary(found.id, found.created_at, found.updated_at, found.version, found.title) for found in page.rows
    ]
    return Reply(rows, headers=next_page(limit=limit, cursor=page.cursor) if page.cursor else ())


@route(
    "GET",
    "/api/v1/sessions/{session_id}",
    needs="sessions:read",
    errors=(SessionNotFound, StorageUnavailable),
    tags=("sessions",),
)
async def read_session(
    services: Services, principal: Principal, session_id: UUID, limit: Limit = 1000, after: After = 0
) -> Reply[SessionView]:
    """Return one session with its messages, oldest first."""
    found = await services.store.get_session(scope_of(principal), str(session_id))
    if found is None:
        raise SessionNotFound
    stored = await services.store.messages(found.id, after=after, limit=limit)
    messages = [MessageView(said.id, said.role, said.content, said.timestamp) for said in stored]
    whole = SessionView(
        found.id, found.created_at, found.updated_at, found.version, found.title, messages, found.metadata
    )
    seen = after + len(messages)
    more = next_page(limit=limit, after=seen) if messages and seen < found.version else ()
    return Reply(whole, headers=more)


@route(
    "DELETE",
    "/api/v1/sessions/{session_id}",
    needs="sessions:write",
    errors=(SessionNotFound, SessionBusy, StorageUnavailable),
    tags=("sessions",),
)
async def delete_session(
    request: Request, services: Services, principal: Principal, session_id: UUID
) -> SessionDeleted:
    """Delete a session with its messages and runs; not while it works on a message."""
    scope = scope_of(principal)
    if await services.store.get_session(scope, str(session_id)) is None:
        raise SessionNotFound
    if services.runs.is_busy(scope, str(session_id)):
        raise SessionBusy(retry_after=1)
    if not await services.store.delete_session(scope, str(session_id)):
        raise SessionNotFound
    services.audit.record(
        "session_delete",
        outcome="success",
        principal=principal.id,
        tenant=principal.tenant,
        session_id=str(session_id),
        request_id=request.id,
        address=services.address_of(request),
    )
    return SessionDeleted(deleted=True, session_id=str(session_id))

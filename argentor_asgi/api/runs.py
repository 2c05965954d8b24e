"""Runs: look at one, follow it, end it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from argentor_asgi.api.chat import LastEventId, event_stream
from argentor_asgi.api.paging import Cursor, Limit, next_page
from argentor_asgi.asgi.response import EventStream, Reply
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import InvalidInput, Overloaded, ReplayExpired, RunNotFound, StorageUnavailable
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.runs import is_live
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol import sse
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import Meta
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import Run, RunStatus

OfSession = Annotated[str | None, Meta(max_length=64, description="Only runs of this session.")]
After = Annotated[int, Meta(ge=0, le=2**53, description="Begin behind the event of this number.")]


@dataclass(frozen=True)
class RunView:
    """One user message worked to its end. `last_seq` is the number of its newest event, once it has ended.

    `cost` is in the currency of the configured prices, and null where a model of the run has none.
    """

    run_id: str
    session_id: str
    status: RunStatus
    model: str
    created_at: datetime
    updated_at: datetime
    text: str
    finish_reason: str | None
    error_code: str | None
    turns: int
    usage: Usage
    last_seq: int
    cost: float | None
    tool_calls: int


@dataclass(frozen=True)
class Cancelling:
    """The run as the cancel met it: live, and ending now, or already ended."""

    run_id: str
    status: RunStatus


@route("GET", "/api/v1/runs", needs="runs:read", errors=(InvalidInput, StorageUnavailable), tags=("runs",))
async def list_runs(
    services: Services,
    principal: Principal,
    session_id: OfSession = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Reply[list[RunView]]:
    """List your runs, newest first."""
    page = await services.store.list_runs(scope_of(principal), session_id=session_id, limit=limit, cursor=cursor)
    more = next_page(session_id=session_id, limit=limit, cursor=page.cursor) if page.cursor else ()
    return Reply([view(run) for run in page.rows], headers=more)


@route("GET", "/api/v1/runs/{run_id}", needs="runs:read", errors=(RunNotFound, StorageUnavailable), tags=("runs",))
async def read_run(services: Services, principal: Principal, run_id: UUID) -> RunView:
    """Return one run as it is now."""
    return view(await services.runs.get(scope_of(principal), str(run_id)))


@route(
    "GET",
    "/api/v1/runs/{run_id}/stream",
    needs="runs:read",
    errors=(RunNotFound, ReplayExpired, Overloaded, StorageUnavailable),
    produces="text/event-stream",
    tags=("runs",),
)
async def stream_run(
    *,
    services: Services,
    principal: Principal,
    account: Account,
    run_id: UUID,
    after: After = 0,
    last_event_id: LastEventId = None,
) -> EventStream | None:
    """Replay the run's events from where you were (`Last-Event-ID`, else `after`), then follow it to its end.

    204 when you have seen all of an ended run: a browser's EventSource stops reconnecting then.
    """
    place = sse.place(last_event_id) if last_event_id else None
    if place is not None and place[0] == str(run_id):
        after = place[1]
    reader = await services.runs.reader(scope_of(principal), str(run_id), after=after)
    if reader.is_past_the_end:
        return None
    await reader.prime()
    return event_stream(services, principal, account, reader)


@route(
    "POST",
    "/api/v1/runs/{run_id}/cancel",
    needs="runs:write",
    errors=(RunNotFound, StorageUnavailable),
    status=202,
    also=(200,),
    tags=("runs",),
)
async def cancel_run(services: Services, principal: Principal, run_id: UUID) -> Reply[Cancelling]:
    """Ask the run to end: 202 while it was live, 200 when it had already ended; asking again changes nothing."""
    run = await services.runs.cancel(scope_of(principal), str(run_id), "cancelled by the client")
    return Reply(Cancelling(run.id, run.status), status=202 if is_live(run) else 200)


def view(run: Run) -> RunView:
    """Return the run as a client sees it."""
    return RunView(
        run.id,
        run.session_id,
        run.status,
        run.model,
        run.created_at,
        run.updated_at,
        run.text,
        run.finish_reason,
        run.error_code,
        run.turns,
        run.usage,
        run.last_seq,
        run.cost,
        run.tool_calls,
    )

"""How what the gateway keeps is told on a socket: a run that has ended, and a call that waits for a person."""

from argentor_asgi.errors import GatewayError, RunCancelled, RunInterrupted, RunLaidAside, by_code
from argentor_asgi.gateway.runs import is_live
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.schema import JsonObject, restore
from argentor_asgi.sessions.records import Approval, Run
from argentor_asgi.sessions.store import RunStore


def asked(approval: Approval) -> bytes:
    """Return the frame that tells of a call which waits for a person."""
    context = {
        "run_id": approval.run_id,
        "session_id": approval.session_id,
        "tool": approval.tool,
        "arguments": approval.arguments,
        "expires_at": approval.expires_at,
    }
    return ws_session.asked(approval.id, approval.description, approval.risk_level, context)


async def closing(store: RunStore, run: Run) -> bytes:
    """Return the frame that closes a run that has ended."""
    if run.status == "done":
        return ws_session.response(run.session_id, run.id, run.text)
    return ws_session.failure(run.session_id, await failure_of(store, run), run.id)


async def failure_of(store: RunStore, run: Run) -> GatewayError:
    """Return why a run that is over here has no answer, in the words of its last event as long as that is kept."""
    if run.status == "cancelled":
        return RunCancelled()
    if run.status in {"waiting_approval", "queued"}:
        return RunLaidAside()
    if run.status == "interrupted" or is_live(run):
        return RunInterrupted()
    told = await _told(store, run)
    return by_code(run.error_code or "internal")(told.get("message"), retry_after=told.get("retry_after"))


async def _told(store: RunStore, run: Run) -> JsonObject:
    """Return the run's terminal event; nothing where it cannot be read: the code says most of it."""
    try:
        found = await store.events(run.id, after=run.last_seq - 1, limit=1)
    except GatewayError:
        return {}
    return next((restore(event.data, dict) for event in found if event.type == "error"), {})

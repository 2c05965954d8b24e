"""How what the gateway keeps is told on a socket: a run that has ended, and a call that waits for a person."""

from argentor_asgi.errors import GatewayError, RunCancelled, RunInterrupted, by_code
from argentor_asgi.gateway.runs import is_live
from argentor_asgi.protocol import ws_session
from argentor_asgi.sessions.records import Approval, Run


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


def closing(run: Run) -> bytes:
    """Return the frame that closes a run that has ended."""
    if run.status == "done":
        return ws_session.response(run.session_id, run.id, run.text)
    return ws_session.failure(run.session_id, failure_of(run), run.id)


def failure_of(run: Run) -> GatewayError:
    """Return why a run that has ended has no answer."""
    if run.status == "cancelled":
        return RunCancelled()
    if run.status == "interrupted" or is_live(run):
        return RunInterrupted()
    return by_code(run.error_code or "internal")()

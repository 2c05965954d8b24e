"""How a run ends: its terminal event."""

from argentor_asgi.errors import GatewayError
from argentor_asgi.gateway.lane import LiveRun
from argentor_asgi.protocol.events import Cancelled, Done, Error
from argentor_asgi.sessions.records import in_currency


def cancelled(live: LiveRun) -> Cancelled:
    """Return the end of a run that was stopped."""
    return Cancelled(live.run.id, live.cancel_reason or "stopped", live.context.text)


def done(live: LiveRun) -> Done:
    """Return the end of a run that was answered."""
    context = live.context
    used = context.usage.input_tokens + context.usage.output_tokens
    reason = context.finish_reason or "stop"
    return Done(live.run.id, context.text, context.turns, context.usage, used, reason, in_currency(context.cost_micros))


def failed(live: LiveRun, error: GatewayError) -> Error:
    """Return the end of a run that `error` ended."""
    return Error(error.message, error.code, error.retryable, live.run.id, error.retry_after)

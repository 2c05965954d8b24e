"""How a run ends: its terminal event, and the status that goes with it."""

from collections.abc import Mapping
from typing import Final

from argentor_asgi.errors import GatewayError
from argentor_asgi.gateway.lane import LiveRun
from argentor_asgi.protocol.events import Cancelled, Done, Error
from argentor_asgi.sessions.records import RunStatus

STATUS_AFTER: Final[Mapping[str, RunStatus]] = {"done": "done", "error": "failed", "cancelled": "cancelled"}
"""The status of a run by the type of its terminal event."""
MICROS: Final = 1_000_000


def cancelled(live: LiveRun) -> Cancelled:
    """Return the end of a run that was stopped."""
    return Cancelled(live.run.id, live.cancel_reason or "stopped", live.context.text)


def done(live: LiveRun) -> Done:
    """Return the end of a run that was answered."""
    context = live.context
    used = context.usage.input_tokens + context.usage.output_tokens
    cost = None if context.cost_micros is None else context.cost_micros / MICROS
    reason = context.finish_reason or "stop"
    return Done(live.run.id, context.text, context.turns, context.usage, used, reason, cost)


def failed(live: LiveRun, error: GatewayError) -> Error:
    """Return the end of a run that `error` ended."""
    return Error(error.message, error.code, error.retryable, live.run.id)

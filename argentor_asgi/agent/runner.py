"""The agent loop: ask the model, run the skills it calls, ask again, until it answers.

One loop serves every caller, streaming or not. It decides nothing itself: `protocol.turn` says what a turn came to and
what follows; `work` awaits, stores and emits. Whoever calls `run` owns the run's first and its terminal event.
"""

import asyncio

from argentor_asgi.agent.approver import Emit
from argentor_asgi.agent.run_context import RunContext
from argentor_asgi.agent.work import Kit, Work
from argentor_asgi.errors import GatewayError, RunTimeout
from argentor_asgi.ops.spans import Spans, header, run_ended


class AgentRunner:
    """Works runs; holds no state of any of them, so that one serves them all."""

    def __init__(self, kit: Kit) -> None:
        """Work every run with this kit."""
        self._kit = kit

    @property
    def spans(self) -> Spans:
        """Where the spans of its runs go."""
        return self._kit.spans

    async def run(self, context: RunContext, emit: Emit) -> None:
        """Work one user message, already in the session, to its answer in `context.text`.

        Emits every event but the first and the terminal one. Raises a `GatewayError` when the run fails: `RunTimeout`,
        `MaxTurns`, `BudgetExceeded`, `ToolFailed`, `ContentFiltered`, `OutputBlocked`, `ContextOverflow`,
        `StreamTruncated`, `ProviderUnavailable`, what the backend, the store or `emit` raises. However it ends, open
        calls get their end, what the model said so far is stored and each stored call has a result; then a cancel goes
        on as `CancelledError`. That takes a moment, and never more than `CLEANUP_S` for each thing that hangs; a second
        cancel meanwhile cuts it short. A run that is being laid aside, to go on later, leaves its calls as they are.
        """
        kit = self._kit
        span, code = kit.spans.begin(context.trace), None
        work = Work(kit, context, emit, header(span, context.trace))
        left = None if context.deadline is None else context.deadline - kit.clock.monotonic()
        deadline = asyncio.timeout(left)
        try:
            async with deadline:
                await work.loop()
        except BaseException as error:
            is_late = isinstance(error, TimeoutError) and deadline.expired()
            code = RunTimeout.code if is_late else _code(error)
            if not context.is_laid_aside:
                await work.settle(code)
            if is_late:
                raise RunTimeout from None
            raise
        finally:
            run_ended(
                kit.spans, span, run_id=context.run_id, session_id=context.session_id, usage=context.usage, error=code
            )


def _code(error: BaseException) -> str:
    """Return the word under which metrics count a model call that `error` ended."""
    if isinstance(error, GatewayError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"

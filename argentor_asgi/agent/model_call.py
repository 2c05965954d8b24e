"""One model call of a run: its stream, what becomes of what a backend raises, and its end."""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from argentor_asgi.agent.backends import LlmBackend, close
from argentor_asgi.errors import ContextOverflow, GatewayError, ProviderUnavailable
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLEANUP_S: Final = 2.0
"""How long each part of a run that ends early may take to end: its model's stream, its skills, its last write."""

log = logging.getLogger("argentor.agent")


class ModelCall:
    """A request that is being answered. Raises `GatewayError`s only, whatever the backend does."""

    def __init__(self, backend: LlmBackend, request: LlmRequest, run_id: str) -> None:
        """Ask. Raises as `next` does."""
        self._backend = backend
        self._run_id = run_id
        try:
            self._stream: AsyncIterator[LlmEvent] = backend.stream(request)
        except Exception as error:
            raise self._declared(error) from error

    async def next(self) -> LlmEvent | None:
        """Return the model's next event, None at the end of its stream; a full context is a way to finish."""
        try:
            return await anext(self._stream, None)
        except ContextOverflow:
            return Finish("context_overflow")
        except Exception as error:
            raise self._declared(error) from error

    async def close(self) -> None:
        """End the stream now, within `CLEANUP_S`; what goes wrong there changes nothing for the run."""
        try:
            async with asyncio.timeout(CLEANUP_S):
                await close(self._stream)
        except Exception:
            log.exception("a model's stream could not be closed")

    def _declared(self, error: Exception) -> GatewayError:
        """Return what the caller is told of a backend's exception; what was not meant for callers is only logged."""
        if isinstance(error, GatewayError):
            return error
        log.error("run %s: %s raised", self._run_id, self._backend.name, exc_info=error)
        return ProviderUnavailable()

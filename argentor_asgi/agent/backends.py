"""What a model is to the loop: something that answers a request with a stream of events."""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from argentor_asgi.protocol.llm import LlmEvent, LlmRequest


class LlmBackend(Protocol):
    """A model; every backend passes `tests/contracts/llm_backend.py`.

    `name`: the provider, as in metrics. `model`: what the caller is told.
    """

    name: str
    model: str

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        """Answer one request, piece by piece; `Finish` is the last event.

        Raises a `GatewayError` (`ProviderUnavailable`, `ContextOverflow`...) when the model fails. Closing the iterator
        closes the connection to the model at once, which ends billing.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; the backend is not used afterwards."""
        ...


async def close(stream: AsyncIterator[LlmEvent]) -> None:
    """End an answer that may not be over; an iterator that cannot be closed is left as it is."""
    if isinstance(stream, _Closes):
        await stream.aclose()


@runtime_checkable
class _Closes(Protocol):
    """An iterator that can be ended early."""

    async def aclose(self) -> None: ...

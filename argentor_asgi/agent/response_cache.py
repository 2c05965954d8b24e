"""Answers that are given again: for the same question to the same model, at temperature 0 and without tools.

Off unless configured. The key covers everything that shapes the answer, and the tenant, so that nothing crosses from
one to another (agent.md 2.3 rule 9, defect D17).
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from sys import getsizeof
from typing import Final

from argentor_asgi.agent.backends import LlmBackend, close
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.llm import (
    Finish,
    LlmEvent,
    LlmRequest,
    ReasoningPiece,
    Retrying,
    TextPiece,
    ToolArgs,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Message, Usage
from argentor_asgi.protocol.schema import encode, to_builtins

ANSWER_EVENTS: Final = 10_000
"""An answer of as many events, or more, is not kept."""
ANSWER_BYTES: Final = 1024 * 1024
"""An answer that takes more memory is not kept."""
KEPT_BYTES: Final = 64 * 1024 * 1024
"""How much memory all answers may take, however many there may be."""
EVENT_BYTES: Final = 48
"""What an event takes beside its text, about."""


@dataclass(frozen=True, slots=True)
class _Kept:
    events: Sequence[LlmEvent]
    size_bytes: int
    until_s: float


class CachedBackend:
    """An `LlmBackend` that answers from memory what it may, and asks `backend` the rest.

    `entries` (>= 1): how many answers are kept, those used last, in `KEPT_BYTES` at most; `ttl_s`: for how long.
    `temperature`: what `backend` takes where a request says nothing. `hits` and `misses` count the requests that could
    be answered from memory.
    """

    def __init__(
        self, backend: LlmBackend, *, entries: int, ttl_s: float, temperature: float | None, clock: Clock
    ) -> None:
        """Begin with nothing kept."""
        self.name = backend.name
        self.model = backend.model
        self.hits = 0
        self.misses = 0
        self.kept_bytes = 0
        self._backend = backend
        self._entries = entries
        self._ttl_s = ttl_s
        self._temperature = temperature
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._kept)

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        """Answer as `backend` does; an answer from memory used no tokens."""
        temperature = self._temperature if request.temperature is None else request.temperature
        if temperature != 0 or any(message.tool_calls or message.tool_results for message in request.messages):
            return self._backend.stream(request)
        key = self._key(request)
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() < kept.until_s:
            self.hits += 1
            self._kept.move_to_end(key)
            return _replay(kept.events)
        self.misses += 1
        return self._record(key, request)

    async def aclose(self) -> None:
        """Let go of the backend's connections."""
        await self._backend.aclose()

    def _key(self, request: LlmRequest) -> bytes:
        said = [_said(message) for message in request.messages]
        tools = [to_builtins(tool) for tool in request.tools]
        asked = [request.tenant, self.name, self.model, request.system, tools, said, request.max_tokens]
        return sha256(encode(asked)).digest()

    async def _record(self, key: bytes, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        """Pass the answer on, and keep it once it is whole."""
        events: list[LlmEvent] = []
        size_bytes = 0
        stream = self._backend.stream(request)
        try:
            async for event in stream:
                if not isinstance(event, Retrying | UsageReport):
                    size_bytes += _size_bytes(event)
                    if len(events) < ANSWER_EVENTS and size_bytes <= ANSWER_BYTES:
                        events.append(event)
                if isinstance(event, Finish) and events[-1:] == [event]:
                    self._keep(key, events, size_bytes)
                yield event
        finally:
            await close(stream)

    def _keep(self, key: bytes, events: Sequence[LlmEvent], size_bytes: int) -> None:
        """Keep an answer that ends with its `Finish`, and let go of those used longest ago for want of room."""
        finish = events[-1]
        calls = any(isinstance(event, ToolStart) for event in events)
        if not isinstance(finish, Finish) or finish.reason != "stop" or calls:
            return
        self._drop(key)
        self._kept[key] = _Kept(tuple(events), size_bytes, self._clock.monotonic() + self._ttl_s)
        self.kept_bytes += size_bytes
        while len(self._kept) > self._entries or self.kept_bytes > KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        if (gone := self._kept.pop(key, None)) is not None:
            self.kept_bytes -= gone.size_bytes


async def _replay(events: Sequence[LlmEvent]) -> AsyncIterator[LlmEvent]:
    for event in events[:-1]:
        yield event
    yield UsageReport(Usage())
    yield events[-1]


def _size_bytes(event: LlmEvent) -> int:
    """Return what an event takes in memory, about."""
    match event:
        case TextPiece(text) | ReasoningPiece(text) | ToolArgs(_, text):
            return EVENT_BYTES + getsizeof(text)
        case Finish(metadata=metadata) if metadata:
            return EVENT_BYTES + 2 * len(encode(metadata))
        case _:
            return EVENT_BYTES


def _said(message: Message) -> object:
    """Return what of a message a model sees."""
    return [message.role, message.content, to_builtins(message.parts), message.metadata.get("backend")]

"""Answers that are given again: for the same question to the same model, at temperature 0 and without tools.

Off unless configured. The key covers everything that shapes the answer, and the tenant, so that nothing crosses from
one to another (agent.md 2.3 rule 9, defect D17).
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest, Retrying, ToolStart, UsageReport
from argentor_asgi.protocol.messages import Message, Usage
from argentor_asgi.protocol.schema import encode, to_builtins

ANSWER_EVENTS: Final = 10_000
"""An answer of as many events, or more, is not kept."""


@dataclass(frozen=True, slots=True)
class _Kept:
    events: Sequence[LlmEvent]
    until_s: float


class CachedBackend:
    """An `LlmBackend` that answers from memory what it may, and asks `backend` the rest.

    `entries` (>= 1): how many answers are kept, those used last; `ttl_s`: for how long. `temperature`: what `backend`
    takes where a request says nothing. `hits` and `misses` count the requests that could be answered from memory.
    """

    def __init__(
        self, backend: LlmBackend, *, entries: int, ttl_s: float, temperature: float | None, clock: Clock
    ) -> None:
        """Begin with nothing kept."""
        self.name = backend.name
        self.model = backend.model
        self.hits = 0
        self.misses = 0
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
        stream = self._backend.stream(request)
        try:
            async for event in stream:
                if isinstance(event, Finish):
                    self._keep(key, event, events)
                elif len(events) < ANSWER_EVENTS and not isinstance(event, Retrying | UsageReport):
                    events.append(event)
                yield event
        finally:
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    def _keep(self, key: bytes, finish: Finish, events: Sequence[LlmEvent]) -> None:
        calls = any(isinstance(event, ToolStart) for event in events)
        if finish.reason != "stop" or calls or len(events) >= ANSWER_EVENTS:
            return
        self._kept[key] = _Kept((*events, finish), self._clock.monotonic() + self._ttl_s)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)


async def _replay(events: Sequence[LlmEvent]) -> AsyncIterator[LlmEvent]:
    for event in events[:-1]:
        yield event
    yield UsageReport(Usage())
    yield events[-1]


def _said(message: Message) -> object:
    """Return what of a message a model sees."""
    return [message.role, message.content, to_builtins(message.parts), message.metadata.get("backend")]

"""A model that plays scripts: one list of steps for each call, for tests that say what the model does.

It passes `contracts/llm_backend.py`, as every backend does.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from argentor_asgi.protocol.llm import (
    Finish,
    FinishReason,
    LlmEvent,
    LlmRequest,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Usage


@dataclass(frozen=True, slots=True)
class Park:
    """Tell `backend.parked`, then wait for `backend.release`."""


Step: TypeAlias = LlmEvent | Exception | Park
Script: TypeAlias = Sequence[Step]
USAGE = Usage(input_tokens=3, output_tokens=2)


def answer(*pieces: str, reason: FinishReason = "stop") -> list[Step]:
    """Return the script of a whole answer, in pieces."""
    return [*(TextPiece(piece) for piece in pieces), UsageReport(USAGE), Finish(reason)]


def call(call_id: str, name: str, *pieces: str) -> list[Step]:
    """Return the steps of one call, its arguments in pieces."""
    return [ToolStart(call_id, name), *(ToolArgs(call_id, piece) for piece in pieces), ToolEnd(call_id)]


def calling(*calls: Sequence[Step], reason: FinishReason = "tool_calls") -> list[Step]:
    """Return the script of a turn that makes these calls, one after the other."""
    return [*(step for steps in calls for step in steps), UsageReport(USAGE), Finish(reason)]


class ScriptedBackend:
    """Plays its scripts in order, then what `then` makes of each further request; keeps every request.

    An exception in a script is raised, `Park` waits for the test. Each step lets other tasks run first, so that a run
    can be cancelled anywhere. `streams`: how many are open.
    """

    name = "scripted"
    model = "scripted-1"

    def __init__(self, *scripts: Script, then: Callable[[LlmRequest], Script] = lambda _request: answer("ok")) -> None:
        self.requests: list[LlmRequest] = []
        self.streams = 0
        self.is_closed = False
        self.parked = asyncio.Event()
        self.release = asyncio.Event()
        self._scripts = deque(scripts)
        self._then = then

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        self.requests.append(request)
        return self._play(self._scripts.popleft() if self._scripts else self._then(request))

    async def aclose(self) -> None:
        self.is_closed = True

    async def _play(self, script: Script) -> AsyncIterator[LlmEvent]:
        self.streams += 1
        try:
            for step in script:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, Park):
                    self.parked.set()
                    await self.release.wait()
                else:
                    yield step
        finally:
            self.streams -= 1

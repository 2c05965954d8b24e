"""A gateway whose model takes its time: `paced N` is N pieces, each its number, a moment apart; else it is repeated.

`app` is the ASGI callable. A run of it is still live while its readers come and go.
"""

import asyncio
from collections.abc import AsyncIterator

from scripted_backend import ScriptedBackend, answer

from argentor_asgi.compose import create_app
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest, TextPiece

PACE_S = 0.001


class Paced(ScriptedBackend):
    """The scripted model, which also counts when it is told to."""

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        said = next((each.content for each in reversed(request.messages) if each.role == "user"), "")
        return paced(int(said.removeprefix("paced "))) if said.startswith("paced ") else super().stream(request)


async def paced(count: int) -> AsyncIterator[LlmEvent]:
    """Yield numbered pieces, one at a time."""
    for number in range(count):
        await asyncio.sleep(PACE_S)
        yield TextPiece(f"{number} ")
    yield Finish("stop")


app = create_app(agent=Paced(then=lambda request: answer("you said ", request.messages[-1].content)))

"""The gateway as the benches press on it: with instruments, and with a model that can flood whoever listens.

What the user says is what happens: `flood RATE SIZE SECONDS` is that many pieces a second of that many characters, for
so long; anything else goes to the built-in model.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from argentor_asgi.agent.builtin.backend import BuiltinBackend
from argentor_asgi.compose import gateway
from argentor_asgi.ops.drain import Drain
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest, TextPiece
from bench.calls import App
from bench.watched import watched

FLOOD = "flood"


class Flooding(BuiltinBackend):
    """The built-in model, which also streams as much as it is told."""

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        said = next((each.content for each in reversed(request.messages) if each.role == "user"), "").split()
        if said[:1] != [FLOOD]:
            return super().stream(request)
        rate, size, seconds = (float(word) for word in said[1:])
        return flood(rate, int(size), seconds)


async def flood(rate: float, size: int, seconds: float) -> AsyncIterator[LlmEvent]:
    """Yield pieces at a steady rate; what the loop was late for comes at once."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        yield TextPiece(f"{number} ".ljust(size, "."))
    yield Finish("stop")


@dataclass(frozen=True, slots=True)
class Pressed:
    """What the launcher serves."""

    app: App
    drain: Drain


_made = gateway(agent=Flooding())
app = watched(_made.app)
made = Pressed(app, _made.drain)

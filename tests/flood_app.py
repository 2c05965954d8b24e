"""A gateway for clients that behave badly: its model can flood them, and it tells what is going on inside.

What the user says is what happens:

    flood N SIZE      N pieces of SIZE characters each
    anything else     as in `slow_app`: gates that a test opens, else it is repeated

`GET /inside` counts what is open: connections, runs, and the tasks of the gateway's own code by their names.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import slow_app

from argentor_asgi.asgi.route import route
from argentor_asgi.compose import create_app
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest, TextPiece

YIELD_EVERY = 50
"""After how many pieces the model lets others run, as a real one does between two reads of its socket."""


class Flooding(slow_app.Gated):
    """The gated model, which also streams as much as it is told."""

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        said = next((each.content for each in reversed(request.messages) if each.role == "user"), "")
        if not said.startswith("flood "):
            return super().stream(request)
        _, count, size = said.split()
        return flood(int(count), int(size))


async def flood(count: int, size: int) -> AsyncIterator[LlmEvent]:
    """Yield numbered pieces, so that a reader can tell that it has each."""
    for number in range(count):
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
        yield TextPiece(f"{number} ".ljust(size, "."))
    yield Finish("stop")


@dataclass(frozen=True, slots=True)
class Inside:
    """What is open right now."""

    connections: int
    runs: int
    tasks: dict[str, int]


@route("GET", "/inside", needs=None)
async def inside(services: Services) -> Inside:
    """Count what is open."""
    names = Counter(found.cr_code.co_qualname for found in coroutines() if "argentor_asgi" in found.cr_code.co_filename)
    return Inside(len(services.connections), len(services.runs), dict(names))


def coroutines():
    """Return what the tasks of this loop run; none of a server that is not Python."""
    return [found for task in asyncio.all_tasks() if hasattr(found := task.get_coro(), "cr_code")]


slow_app.backend = backend = Flooding()
app = create_app(agent=backend, skills=[slow_app.wait], routes=[slow_app.parked, slow_app.opened, inside])

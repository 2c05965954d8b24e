"""A gateway whose model is a hosted one, that of the environment, with a skill that never returns by itself.

`GET /held/NAME` answers when the skill `hold` works for NAME. `GET /inside` counts what is open: runs, streams, and the
tasks of the gateway and of what asks its model, by their names. `made` is what the launcher serves.
"""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from argentor_asgi.agent.skills import skill
from argentor_asgi.asgi.route import route
from argentor_asgi.compose import Gateway, gateway
from argentor_asgi.config import load
from argentor_asgi.gateway.services import Services

WATCHED = ("argentor_asgi", "httpcore2", "anyio")
held: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


@skill("hold", "Holds on for ever.")
async def hold(name: str) -> str:
    """Wait for what never comes."""
    held[name].set()
    await asyncio.get_running_loop().create_future()
    return "let go"


@dataclass(frozen=True, slots=True)
class Held:
    """Whom the skill holds."""

    name: str


@route("GET", "/held/{name}", needs=None)
async def holding(name: str) -> Held:
    """Answer when the skill holds on."""
    await held[name].wait()
    return Held(name)


@dataclass(frozen=True, slots=True)
class Inside:
    """What is open right now."""

    runs: int
    streams: int
    tasks: dict[str, int]


@route("GET", "/inside", needs=None)
async def inside(services: Services) -> Inside:
    """Count what is open."""
    return Inside(len(services.runs), len(services.streams), dict(watched()))


def watched() -> Counter[str]:
    """Count the tasks of this loop that run the gateway's code, or that of the libraries that ask its model."""
    running = [found for task in asyncio.all_tasks() if hasattr(found := task.get_coro(), "cr_code")]
    return Counter(
        found.cr_code.co_qualname for found in running if any(name in found.cr_code.co_filename for name in WATCHED)
    )


def made_of(env: Mapping[str, str]) -> Gateway:
    """Return a gateway of these settings."""
    return gateway(load(env, Path.cwd()), skills=[hold], routes=[holding, inside])


made = made_of(os.environ)
app = made.app

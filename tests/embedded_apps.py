"""A hand-written ASGI app that holds two gateways, for a server in a process of its own.

`/one` and `/two` are gateways with stores of their own in the working directory; `/one` has a route and a skill more.
The parent speaks no lifespan for them, so each starts at its first request. Whatever else is asked answers `parent`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from parent_app import parent

from argentor_asgi import create_app
from argentor_asgi.agent.skills import SkillContext, skill
from argentor_asgi.asgi.route import route, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.config import Config, Storage
from argentor_asgi.errors import SkillNotFound
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.schema import Meta


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a greeting says, and by how many skills."""

    words: str
    skills: int


@route("GET", "/greetings/{name}", needs="chat:read", errors=(SkillNotFound,))
async def greet(services: Services, name: str, times: Annotated[int, Meta(ge=1, le=3)] = 1) -> Greeting:
    """Greet somebody."""
    if name == "nobody":
        raise SkillNotFound
    return Greeting(" ".join([f"hello {name}"] * times), len(services.skills))


@socket("/echo", needs="chat:write")
async def echo(socket: WebSocket) -> None:
    """Say one message back."""
    await socket.accept()
    await socket.send(await socket.receive())


@skill("dog_years", "Turns years into a dog's years.")
def dog_years(years: int, context: SkillContext) -> dict[str, object]:
    """Return the years of a dog."""
    return {"years": years * 7, "owner": context.scope.owner}


def made(name: str, **more):
    """Return a gateway with a store of its own."""
    config = replace(Config(), storage=Storage(url=f"sqlite:///{Path.cwd() / name}.db"))
    return create_app(config, **more)


MOUNTED = {"/one": made("one", routes=[greet, echo], skills=[dog_years]), "/two": made("two")}
app = parent(MOUNTED)

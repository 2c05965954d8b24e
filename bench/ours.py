"""The gateway as the benches make it: the real one, with a key, storage in memory, and limits too high to meet."""
# ruff: noqa: PLC0415  the gateway is imported only when it is made, for it may be absent

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.calls import HEADERS, Headers
from bench.children import Served

if TYPE_CHECKING:
    from argentor_asgi.config import Config
    from bench.calls import App

NAME = "argentor"
MANY = "+2000 routes"
ROUTES = 2000
LOGGED = "+access log"
TRACED = "+traceparent"
WHOLE_PATH = "/bench/whole"

KEY = "bench-0123456789abcdef0123456789abcdef"
KEYED: Headers = (*HEADERS, (b"authorization", f"Bearer {KEY}".encode()))
KEYED_TRACED: Headers = (*KEYED, (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
KEYED_JSON: Headers = (*KEYED, (b"content-type", b"application/json"))
QUESTION = "what is 6 * 7?"
CHAT_PATH = "/api/v1/agent/chat"
CHAT_BODY = json.dumps({"message": QUESTION}).encode()

_HIGHEST = "1000000"
_WANTED: Mapping[str, str] = {
    "ARGENTOR_STORAGE_URL": "memory://",
    "ARGENTOR_AUTH_API_KEYS": f"bench:{KEY}",
    "ARGENTOR_LIMITS_CONNECTIONS": _HIGHEST,
    "ARGENTOR_LIMITS_CONNECTIONS_PER_PRINCIPAL": _HIGHEST,
    "ARGENTOR_LIMITS_REQUESTS_PER_SECOND": _HIGHEST,
    "ARGENTOR_LIMITS_BURST": _HIGHEST,
    "ARGENTOR_LIMITS_REQUESTS_PER_MINUTE": _HIGHEST,
    # As everywhere, an hour has more than a minute: otherwise each answer would tell of the hour.
    "ARGENTOR_LIMITS_REQUESTS_PER_HOUR": "1000000000",
    "ARGENTOR_LIMITS_TOKENS_PER_DAY": "1000000000",
    "ARGENTOR_LIMITS_STREAMS_PER_PRINCIPAL": _HIGHEST,
    "ARGENTOR_LIMITS_RUNS_PER_PRINCIPAL": _HIGHEST,
    "ARGENTOR_LIMITS_ENABLED": "true",
    "ARGENTOR_LOG_ACCESS": "false",
    "ARGENTOR_SHUTDOWN_READY_DELAY_S": "0",
}


def absent() -> list[str]:
    """Return the gateway's name and the reason, if it cannot be imported; else nothing."""
    try:
        import argentor_asgi.compose  # noqa: F401
    except ImportError as error:
        return [f"{NAME} ({error})"]
    return []


def present() -> bool:
    """Say whether the gateway can be made."""
    return not absent()


def environment() -> dict[str, str]:
    """Return the settings as environment variables: those of the wanted ones that this version has."""
    from argentor_asgi.config import options

    known = {option.env for option in options()}
    return {name: value for name, value in _WANTED.items() if name in known}


def config() -> "Config":
    """Return the same settings as a configuration."""
    from argentor_asgi.config import load

    return load(environment(), Path("/nonexistent"))


@dataclass(frozen=True, slots=True)
class Whole:
    """What the guarded route answers: as `/health` does."""

    status: str = "ok"
    service: str = NAME


def whole() -> Callable[..., Awaitable[Whole]]:
    """Return a guarded route that does nothing but answer, so that its row shows what stands in front of it."""
    from argentor_asgi.asgi.route import route

    answered = Whole()

    async def answer() -> Whole:
        """Answer."""
        return answered

    return route("GET", WHOLE_PATH, needs="ops:read")(answer)


def keyed() -> "App":
    """Make the gateway."""
    from argentor_asgi import create_app

    return create_app(config(), routes=[whole()])


def logged() -> "App":
    """Make the gateway that writes a line for each request."""
    from argentor_asgi import create_app

    made = config()
    return create_app(replace(made, log=replace(made.log, access=True)), routes=[whole()])


def with_many_routes() -> "App":
    """Make the gateway with `ROUTES` further routes, whose number no request should notice."""
    from argentor_asgi import create_app
    from argentor_asgi.asgi.route import route

    def handler(number: int) -> Callable[..., Awaitable[dict[str, str]]]:
        async def answer(item: str) -> dict[str, str]:
            """Answer with the item."""
            return {"item": item}

        answer.__name__ = f"answer_{number}"
        return route("GET", f"/api/v1/bench{number}/{{item}}", needs=None)(answer)

    return create_app(config(), routes=[handler(number) for number in range(ROUTES)])


def served() -> Served:
    """Return the gateway as a server loads it."""
    return Served(NAME, "argentor_asgi:app", environment())


def loops() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loops that are installed, by name."""
    made: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if find_spec("uvloop") is not None:
        import uvloop

        made["uvloop"] = uvloop.new_event_loop
    return made

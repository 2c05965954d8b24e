"""The frameworks that the gateway is measured beside: each the smallest application that answers `GET /health`.

Each is made as its own documentation makes one, with nothing added and nothing switched off, and is imported only when
it is made. A framework that is not installed is reported as absent.
"""
# ruff: noqa: PLC0415  a peer is imported only when it is made

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from bench.calls import App
    from bench.harness import Plan

OK = {"status": "ok", "service": "argentor"}
CHOSEN = "BENCH_PEER"
"""The environment variable that says which peer `bench.peers:app` is, for a server in another process."""


def starlette() -> "App":
    """Make one route with a `JSONResponse`."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse(OK)

    return cast("App", Starlette(routes=[Route("/health", health)]))


def fastapi() -> "App":
    """Make one route that returns a dict."""
    from fastapi import FastAPI

    made = FastAPI()

    @made.get("/health")
    async def health() -> dict[str, str]:
        return OK

    return cast("App", made)


def litestar() -> "App":
    """Make one handler that returns a dict."""
    from litestar import Litestar, get

    @get("/health")
    async def health() -> dict[str, str]:
        return OK

    return cast("App", Litestar([health]))


def falcon() -> "App":
    """Make one resource that sets `resp.media`."""
    from falcon import asgi

    class Health:
        async def on_get(self, _request: asgi.Request, response: asgi.Response) -> None:
            response.media = OK

    made: asgi.App[asgi.Request, asgi.Response] = asgi.App()
    made.add_route("/health", Health())
    return cast("App", made)


def blacksheep() -> "App":
    """Make one handler that returns `json(...)`."""
    from blacksheep import Application, Response, Router, json

    router = Router()
    made = Application(router=router)

    @router.get("/health")
    async def health() -> Response:
        return json(OK)

    return cast("App", made)


PEERS: Mapping[str, Callable[[], "App"]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "falcon": falcon,
    "blacksheep": blacksheep,
}
"""Every peer, by the name of its package."""


IMPORTS: Mapping[str, str] = {
    "starlette": "starlette.applications",
    "fastapi": "fastapi",
    "litestar": "litestar",
    "falcon": "falcon.asgi",
    "blacksheep": "blacksheep",
}
"""The module that holds each peer's application: what its user imports first."""


def installed() -> list[str]:
    """Return the peers that are installed."""
    return [name for name in PEERS if find_spec(name) is not None]


def present(plan: "Plan") -> list[str]:
    """Return the peers that are measured: those that are installed, if the plan wants any."""
    return installed() if plan.peers else []


def absent(plan: "Plan") -> list[str]:
    """Return the peers that are not measured, with the reason."""
    return [*missing(*PEERS), *(f"{name} (--no-peers)" for name in installed() if not plan.peers)]


def missing(*packages: str) -> list[str]:
    """Return which of these packages are not installed, as a report words it."""
    return [f"{name} (not installed)" for name in packages if find_spec(name) is None]


if CHOSEN in os.environ:
    app = PEERS[os.environ[CHOSEN]]()

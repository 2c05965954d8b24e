"""The composition root: the only module that names concrete classes and puts them together.

`gateway` builds everything that needs no I/O. The lifespan opens the store, ends what a crash left behind, listens for
the server's stop, and at the end drains and closes.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from argentor_asgi import __version__
from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.builtin.backend import BuiltinBackend
from argentor_asgi.agent.builtin_skills import default_skills, with_help
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import Skill, SkillRegistry
from argentor_asgi.api import chat as chat_api
from argentor_asgi.api import ops as ops_api
from argentor_asgi.api import runs as runs_api
from argentor_asgi.api import sessions as sessions_api
from argentor_asgi.api import skills as skills_api
from argentor_asgi.asgi.app import build
from argentor_asgi.asgi.bind import Constant
from argentor_asgi.asgi.openapi import document
from argentor_asgi.asgi.route import Handler, Route, Socket, routes_in, rows_of, unmatched
from argentor_asgi.asgi.types import App, Middleware, Receive, Scope, Send
from argentor_asgi.config import Config, check, load
from argentor_asgi.errors import ConfigError
from argentor_asgi.gateway.connections import Connections
from argentor_asgi.gateway.dispatch import Dispatch
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.gateway.services import Services
from argentor_asgi.ops.clock import Clock, SystemClock
from argentor_asgi.ops.drain import Drain, running_loop
from argentor_asgi.ops.health import Health
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.schema import JsonObject, encode
from argentor_asgi.security.guard import Authenticator, http_guard, socket_guard
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.session import Store

TITLE: Final = "argentor"
REPLAY_KEPT_H: Final = 24
"""How long the events of an ended run and its idempotency key are kept."""
PRUNE_EVERY_S: Final = 600.0
DRAIN_RESERVE_S: Final = 0.5
"""What the drain keeps of its time for ending what did not finish, and for saying goodbye."""

log = logging.getLogger("argentor")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is ready to be served: the ASGI 3 callable, and the drain that stops it."""

    app: App
    drain: Drain


def create_app(
    config: Config | None = None,
    *,
    agent: LlmBackend | None = None,
    sessions: Store | None = None,
    skills: Sequence[Skill] = (),
    routes: Sequence[Handler] = (),
    middleware: Sequence[Middleware] = (),
) -> App:
    """Return the gateway as an ASGI 3 callable.

    `config`: else read from `argentor.toml` and the environment. `agent`: the model behind the agent, else the one that
    `llm.provider` names. `sessions`: where everything is kept, else what `storage.url` names. `skills`: made by
    `@skill`, beside the built-in ones. `routes`: handlers made by `@route` or `@socket`, beside the built-in ones.
    `middleware`: ASGI closures around the whole, outermost first. Raises `ConfigError` for what cannot work.
    """
    made = gateway(config, agent=agent, sessions=sessions, skills=skills, routes=routes, middleware=middleware)
    return made.app


def gateway(
    config: Config | None = None,
    *,
    agent: LlmBackend | None = None,
    sessions: Store | None = None,
    skills: Sequence[Skill] = (),
    routes: Sequence[Handler] = (),
    middleware: Sequence[Middleware] = (),
) -> Gateway:
    """Return what `create_app` does, with the drain beside it, for who serves it."""
    if config is None:
        config = load(os.environ, Path.cwd())
    check(config)
    clock = SystemClock()
    declared, rest = rows(*routes), unmatched()
    store = _store(config, clock) if sessions is None else sessions
    backend = BuiltinBackend() if agent is None else agent
    services = _services(config, clock, backend, store, skills, declared=declared, rest=rest)
    authenticator = Authenticator(config.auth, public_url=config.public_url)
    app = build(
        declared,
        provide={Services: Constant(services), Principal: lambda incoming: incoming.principal},
        guards=(http_guard(authenticator),),
        socket_guards=(socket_guard(authenticator),),
        lifespan=lambda: _lifespan(services),
        middleware=middleware,
        body_bytes=config.limits.body_bytes,
        request_timeout_s=config.limits.request_timeout_s,
        rest=rest,
        log=log,
    )
    return Gateway(app, services.drain)


def configured_app() -> App:
    """Return the gateway that the environment describes, or one that refuses to start and says why in one line."""
    try:
        return create_app()
    except ConfigError as error:
        return _refusal(error)


def rows(*extra: Handler) -> Sequence[Route | Socket]:
    """Return every declared route and socket: the built-in ones, then those of `extra` handlers."""
    builtin = routes_in(chat_api, sessions_api, runs_api, skills_api, ops_api)
    return (*builtin, *(row for handler in extra for row in rows_of(handler)))


def openapi(*extra: Handler) -> JsonObject:
    """Return the OpenAPI document of the same rows, as a gateway with keys serves it."""
    return document(rows(*extra), title=TITLE, version=__version__)


def _document(declared: Sequence[Route | Socket], config: Config) -> JsonObject:
    """Return the document that this gateway serves: it says where it is, and whether it asks for a key."""
    anonymous = config.auth.allow_anonymous or not config.auth.api_keys
    found = document(declared, title=TITLE, version=__version__, anonymous=anonymous)
    if config.public_url is not None:
        found["servers"] = [{"url": config.public_url}]
    return found


def _store(config: Config, clock: Clock) -> Store:
    if config.storage.path is None:
        return MemoryStore(clock=clock)
    from argentor_asgi.sessions.sqlite import SqliteStore  # noqa: PLC0415  only where it is used

    return SqliteStore(config.storage.path, clock=clock)


def _services(
    config: Config,
    clock: Clock,
    backend: LlmBackend,
    store: Store,
    skills: Sequence[Skill],
    *,
    declared: Sequence[Route | Socket],
    rest: Route,
) -> Services:
    metrics, drain = Metrics(clock=clock), Drain(clock=clock, drain_s=config.shutdown.drain_s)
    registry = with_help(SkillRegistry([*default_skills(store), *skills]))
    runner = AgentRunner(
        backend=backend,
        skills=registry,
        sessions=store,
        metrics=metrics,
        clock=clock,
        system_prompt=config.agent.system_prompt,
        max_turns=config.agent.max_turns,
    )
    limits = config.limits
    runs = Runs(
        store=store,
        runner=runner,
        metrics=metrics,
        clock=clock,
        limit=limits.runs,
        timeout_s=config.agent.run_timeout_s,
    )
    connections = Connections(limit=limits.connections, per_principal=limits.connections_per_principal)
    dispatch = Dispatch(
        runs=runs,
        store=store,
        clock=clock,
        drain=drain,
        message_bytes=limits.message_bytes,
        model=backend.model,
    )
    metrics.watch([*declared, rest])
    drain.on_drain("runs", lambda: runs.drain(max(0.0, drain.drain_s - DRAIN_RESERVE_S)))
    drain.on_drain("connections", lambda: connections.drain(drain.remaining_s()))
    mounted = {"rest_api": True, "control_plane": False}
    return Services(
        config=config,
        clock=clock,
        store=store,
        backend=backend,
        skills=registry,
        runs=runs,
        dispatch=dispatch,
        connections=connections,
        metrics=metrics,
        health=Health(probes={"store": store.check}, drain=drain, clock=clock, mounted=mounted),
        drain=drain,
        started_s=clock.monotonic(),
        started_at=clock.now(),
        openapi=encode(_document(declared, config)),
    )


@asynccontextmanager
async def _lifespan(services: Services) -> AsyncIterator[None]:
    """Open what needs opening, and after the drain close it again."""
    running_loop()  # says why there is none, before anything else stumbles over it
    drain = services.drain
    async with services.store:
        left = await services.store.interrupt_live(services.clock.now())
        if left:
            log.warning("%d runs were interrupted when the gateway stopped last", left)
        pruning = asyncio.create_task(_prune(services.store, services.clock, every_s=PRUNE_EVERY_S), name="prune")
        try:
            async with drain.install():
                yield
        finally:
            pruning.cancel()
            with suppress(asyncio.CancelledError):
                await pruning
            await services.backend.aclose()


async def _prune(store: Store, clock: Clock, *, every_s: float) -> None:
    """Drop what nobody can ask for any more, now and then, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await store.prune(clock.now() - timedelta(hours=REPLAY_KEPT_H))
        except Exception:  # whatever the store raised, there is a next time
            log.exception("old events could not be dropped")


def _refusal(error: ConfigError) -> App:
    """Return an application whose lifespan fails with the error's one line."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise error
        await receive()
        await send({"type": "lifespan.startup.failed", "message": str(error)})

    return refuse

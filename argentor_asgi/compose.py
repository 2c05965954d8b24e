"""The composition root: with its parts `assembly` and `equipment`, all that names concrete classes and joins them.

`gateway` builds everything that needs no I/O; `lifecycle` opens and closes it.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from argentor_asgi import __version__
from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.permissions import Custom
from argentor_asgi.agent.skills import Skill
from argentor_asgi.api import admin as admin_api
from argentor_asgi.api import approvals as approvals_api
from argentor_asgi.api import audit as audit_api
from argentor_asgi.api import chat as chat_api
from argentor_asgi.api import keys as keys_api
from argentor_asgi.api import ops as ops_api
from argentor_asgi.api import runs as runs_api
from argentor_asgi.api import sessions as sessions_api
from argentor_asgi.api import skills as skills_api
from argentor_asgi.asgi.app import build
from argentor_asgi.asgi.bind import Constant
from argentor_asgi.asgi.openapi import document
from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.route import Handler, Route, Socket, routes_in, rows_of, unmatched
from argentor_asgi.asgi.types import App, Middleware, Receive, Scope, Send
from argentor_asgi.assembly import Agency, assemble
from argentor_asgi.config import Config, check, load
from argentor_asgi.equipment import Equipment, authenticator, equip, gate, publish
from argentor_asgi.errors import ConfigError
from argentor_asgi.gateway.approvals import Approvals
from argentor_asgi.gateway.connections import Connections
from argentor_asgi.gateway.dispatch import Dispatch
from argentor_asgi.gateway.keyring import Keyring
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.gateway.services import Services
from argentor_asgi.gateway.stopping import Stopping, Streams
from argentor_asgi.lifecycle import Parts, living
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.health import Health
from argentor_asgi.ops.hooks import DrainHook
from argentor_asgi.ops.log import configure
from argentor_asgi.ops.metric_families import Rows
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.reporter import Reporter
from argentor_asgi.protocol.schema import JsonObject, encode
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.store import Store

TITLE: Final = "argentor"
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
    hooks: Sequence[DrainHook] = (),
    permissions: Custom | None = None,
) -> App:
    """Return the gateway as an ASGI 3 callable.

    `config`: else read from `argentor.toml` and the environment. `agent`: the model behind the agent, else the one that
    `llm.provider` names. `sessions`: where everything is kept, else what `storage.url` names. `skills`: made by
    `@skill`, beside the built-in ones. `routes`: handlers made by `@route` or `@socket`, beside the built-in ones.
    `middleware`: ASGI closures around the whole, outermost first. `hooks`: what runs when the gateway stops.
    `permissions`: what says whether a skill may be called where `agent.permission_mode` is `custom`. Raises
    `ConfigError` for what cannot work.
    """
    made = gateway(
        config,
        agent=agent,
        sessions=sessions,
        skills=skills,
        routes=routes,
        middleware=middleware,
        hooks=hooks,
        permissions=permissions,
    )
    return made.app


def gateway(
    config: Config | None = None,
    *,
    agent: LlmBackend | None = None,
    sessions: Store | None = None,
    skills: Sequence[Skill] = (),
    routes: Sequence[Handler] = (),
    middleware: Sequence[Middleware] = (),
    hooks: Sequence[DrainHook] = (),
    permissions: Custom | None = None,
) -> Gateway:
    """Return what `create_app` does, with the drain beside it, for who serves it."""
    if config is None:
        config = load(os.environ, Path.cwd())
    check(config)
    tools = equip(config, version=__version__)
    declared, rest = rows(*routes), unmatched()
    store = _store(config, tools.clock) if sessions is None else sessions
    agency = assemble(config, tools, store, agent=agent, skills=skills, permissions=permissions)
    by = authenticator(config, tools)
    described = encode(_document(declared, config))
    services = _services(config, tools, agency, store, openapi=described, address_of=by.address_of)
    tools.metrics.watch([*declared, rest])
    for hook in hooks:
        tools.drain.add(hook)
    access = AccessLog(config.log.format) if config.log.access else None
    publish(tools, store, access)
    guard = gate(config, tools, by)
    parts = Parts(services, tools.keys, by, access, agency.opted, agency.mcp, agency.budgets.days)
    app = build(
        declared,
        provide={
            Services: Constant(services),
            Principal: lambda incoming: incoming.principal,
            Account: lambda incoming: incoming.account,
        },
        guards=(guard.http,),
        socket_guards=(guard.socket,),
        lifespan=lambda: living(parts),
        middleware=middleware,
        body_bytes=config.limits.body_bytes,
        request_timeout_s=config.limits.request_timeout_s,
        rest=rest,
        log=log,
        witness=Reporter(tools.metrics, access, tools.spans, by.address_of),
        closing=tools.drain,
    )
    return Gateway(app, tools.drain)


def configured_app() -> App:
    """Return the gateway that the environment describes, or one that refuses to start and says why in one line.

    It logs as configured; an embedded gateway leaves logging to its host.
    """
    try:
        config = load(os.environ, Path.cwd())
        configure(config.log.format, config.log.level)
        return create_app(config)
    except ConfigError as error:
        return _refusal(error)


def rows(*extra: Handler) -> Sequence[Route | Socket]:
    """Return every declared route and socket: the built-in ones, then those of `extra` handlers."""
    builtin = routes_in(
        chat_api, sessions_api, runs_api, approvals_api, skills_api, keys_api, audit_api, admin_api, ops_api
    )
    return (*builtin, *(row for handler in extra for row in rows_of(handler)))


def openapi(*extra: Handler) -> JsonObject:
    """Return the OpenAPI document of the same rows, as a gateway with keys serves it."""
    return document(rows(*extra), title=TITLE, version=__version__)


def _document(declared: Sequence[Route | Socket], config: Config) -> JsonObject:
    """Return the document that this gateway serves: it says where it is, and whether it asks for a key."""
    anonymous = config.auth.allow_anonymous or not config.auth.held
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
    tools: Equipment,
    agency: Agency,
    store: Store,
    *,
    openapi: bytes,
    address_of: Callable[[Incoming], str | None],
) -> Services:
    clock, metrics, drain, limits = tools.clock, tools.metrics, tools.drain, config.limits
    connections = Connections(limit=limits.connections, heartbeat_s=limits.heartbeat_s, clock=clock)
    runs = _runs(config, tools, agency, store, connections)
    streams = Streams()
    drain.hook("drain", "work", Stopping(runs=runs, streams=streams, connections=connections, drain=drain))
    drain.hook("cleanup", "audit", tools.audit.flush)
    drain.hook("final", "metrics", partial(_drained, metrics, drain))
    probes = agency.probes | {"store": store.check} | ({"audit": tools.audit.check} if config.audit.enabled else {})
    return Services(
        config=config,
        clock=clock,
        store=store,
        backend=agency.backend,
        skills=agency.skills,
        runs=runs,
        dispatch=_dispatch(config, tools, agency, store, runs),
        connections=connections,
        streams=streams,
        keyring=_keyring(config, tools, store),
        tickets=tools.tickets,
        limiter=tools.limiter,
        audit=tools.audit,
        metrics=metrics,
        health=Health(probes=probes, drain=drain, clock=clock, mounted={"rest_api": True, "control_plane": False}),
        drain=drain,
        address_of=address_of,
        started_s=clock.monotonic(),
        started_at=clock.now(),
        openapi=openapi,
    )


def _runs(config: Config, tools: Equipment, agency: Agency, store: Store, connections: Connections) -> Runs:
    """Return the runs of this process, which ask persons on the connections of their owners."""
    approvals = Approvals(
        store=store,
        audit=tools.audit,
        clock=tools.clock,
        timeout_s=config.agent.approval_timeout_s,
        announce=connections.announce,
        fault=agency.skills.fault,
    )
    tools.metrics.provide(partial(_approval_rows, approvals))
    return Runs(
        store=store,
        runner=agency.runner,
        metrics=tools.metrics,
        audit=tools.audit,
        clock=tools.clock,
        limit=config.limits.runs,
        timeout_s=config.agent.run_timeout_s,
        approvals=approvals,
        budgets=agency.budgets,
        lays_aside=not isinstance(store, MemoryStore),
    )


def _dispatch(config: Config, tools: Equipment, agency: Agency, store: Store, runs: Runs) -> Dispatch:
    return Dispatch(
        runs=runs,
        store=store,
        clock=tools.clock,
        drain=tools.drain,
        message_bytes=config.limits.message_bytes,
        model=agency.backend.model,
        metrics=tools.metrics,
        audit=tools.audit,
        guardrails=agency.guardrails,
        budgets=agency.budgets,
        limiter=tools.limiter,
    )


def _keyring(config: Config, tools: Equipment, store: Store) -> Keyring:
    return Keyring(
        store=store,
        keys=tools.keys,
        tickets=tools.tickets,
        clock=tools.clock,
        plans=config.plans,
        configured=config.auth.held,
    )


def _approval_rows(approvals: Approvals) -> Mapping[str, Rows]:
    """Return what is published of the calls that wait, or waited, for a person."""
    outcomes: Rows = {(str(status),): float(count) for status, count in approvals.outcomes.items()}
    return {"argentor_approvals_pending": {(): float(len(approvals))}, "argentor_approvals_total": outcomes}


async def _drained(metrics: Metrics, drain: Drain) -> None:
    metrics.drained(drain.total_s - drain.left_s())


def _refusal(error: ConfigError) -> App:
    """Return an application whose lifespan fails with the error's one line."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise error
        await receive()
        await send({"type": "lifespan.startup.failed", "message": str(error)})

    return refuse

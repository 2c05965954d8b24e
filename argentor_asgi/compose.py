"""The composition root: the only module that names concrete classes and puts them together.

`gateway` builds everything that needs no I/O; `lifecycle` opens and closes it.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from argentor_asgi import __version__
from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.builtin.backend import BuiltinBackend
from argentor_asgi.agent.builtin_skills import default_skills, with_help
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import Skill, SkillRegistry
from argentor_asgi.api import admin as admin_api
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
from argentor_asgi.config import Config, check, load
from argentor_asgi.errors import ConfigError
from argentor_asgi.gateway.connections import Connections
from argentor_asgi.gateway.dispatch import Dispatch
from argentor_asgi.gateway.keyring import Keyring
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.gateway.services import Services
from argentor_asgi.gateway.stopping import Stopping, Streams
from argentor_asgi.lifecycle import Parts, living
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock, SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.health import Health
from argentor_asgi.ops.hooks import DrainHook
from argentor_asgi.ops.log import configure
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.reporter import Reporter
from argentor_asgi.ops.spans import NO_SPANS, Spans
from argentor_asgi.protocol.schema import JsonObject, encode
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.gate import Gate
from argentor_asgi.security.guard import Authenticator
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.keys import Keys
from argentor_asgi.security.limits import Limiter
from argentor_asgi.security.refusals import Refusals
from argentor_asgi.security.tickets import Tickets
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.session import Store

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
) -> App:
    """Return the gateway as an ASGI 3 callable.

    `config`: else read from `argentor.toml` and the environment. `agent`: the model behind the agent, else the one that
    `llm.provider` names. `sessions`: where everything is kept, else what `storage.url` names. `skills`: made by
    `@skill`, beside the built-in ones. `routes`: handlers made by `@route` or `@socket`, beside the built-in ones.
    `middleware`: ASGI closures around the whole, outermost first. `hooks`: what runs when the gateway stops. Raises
    `ConfigError` for what cannot work.
    """
    made = gateway(
        config, agent=agent, sessions=sessions, skills=skills, routes=routes, middleware=middleware, hooks=hooks
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
) -> Gateway:
    """Return what `create_app` does, with the drain beside it, for who serves it."""
    if config is None:
        config = load(os.environ, Path.cwd())
    check(config)
    tools = _tools(config)
    declared, rest = rows(*routes), unmatched()
    store = _store(config, tools.clock) if sessions is None else sessions
    backend = BuiltinBackend() if agent is None else agent
    authenticator = _authenticator(config, tools)
    described = encode(_document(declared, config))
    services = _services(config, tools, backend, store, skills, openapi=described, address_of=authenticator.address_of)
    tools.metrics.watch([*declared, rest])
    for hook in hooks:
        tools.drain.add(hook)
    access = AccessLog(config.log.format) if config.log.access else None
    _publish(tools.metrics, tools, store, access)
    gate = _gate(config, tools, authenticator)
    app = build(
        declared,
        provide={
            Services: Constant(services),
            Principal: lambda incoming: incoming.principal,
            Account: lambda incoming: incoming.account,
        },
        guards=(gate.http,),
        socket_guards=(gate.socket,),
        lifespan=lambda: living(Parts(services, tools.keys, authenticator, access)),
        middleware=middleware,
        body_bytes=config.limits.body_bytes,
        request_timeout_s=config.limits.request_timeout_s,
        rest=rest,
        log=log,
        witness=Reporter(tools.metrics, access, tools.spans, authenticator.address_of),
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
    builtin = routes_in(chat_api, sessions_api, runs_api, skills_api, keys_api, audit_api, admin_api, ops_api)
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


@dataclass(frozen=True, slots=True)
class _Tools:
    """What everything else is made with."""

    clock: Clock
    metrics: Metrics
    audit: Audit
    spans: Spans
    drain: Drain
    keys: Keys
    tickets: Tickets
    refusals: Refusals
    limiter: Limiter


def _tools(config: Config) -> _Tools:
    clock = SystemClock()
    metrics, audit = Metrics(clock=clock), _audit(config, clock)
    stop = config.shutdown
    drain = Drain(clock=clock, drain_s=stop.drain_s, total_s=stop.total_s, ready_delay_s=stop.ready_delay_s)
    spans = _spans(config, clock, metrics, drain)
    keys, refusals = Keys(config.auth.held), Refusals(metrics, audit)
    limiter = Limiter(
        config.limits,
        config.plans,
        clock=clock.monotonic,
        now=clock.now,
        enabled=_limits_enabled(config, keys),
        on_reject=refusals.limited,
    )
    return _Tools(
        clock=clock,
        metrics=metrics,
        audit=audit,
        spans=spans,
        drain=drain,
        keys=keys,
        tickets=Tickets(),
        refusals=refusals,
        limiter=limiter,
    )


def _limits_enabled(config: Config, keys: Keys) -> bool:
    """Say whether callers are limited: as configured, else when there are keys, since then the gateway is shared."""
    return len(keys) > 0 if config.limits.enabled is None else config.limits.enabled


def _audit(config: Config, clock: Clock) -> Audit:
    """Return the audit log; where nothing is kept, it goes with the process."""
    found = config.audit
    return Audit(
        config.audit_directory,
        clock=clock,
        file_bytes=found.file_bytes,
        retention_days=found.retention_days,
        enabled=found.enabled,
    )


def _spans(config: Config, clock: Clock, metrics: Metrics, drain: Drain) -> Spans:
    """Return where spans go; those that wait are sent at the end of the drain."""
    if config.otel.endpoint is None:
        return NO_SPANS
    from argentor_asgi.ops.tracing import Tracing  # noqa: PLC0415  an extra, and heavy: only where it is configured

    made = Tracing(
        endpoint=config.otel.endpoint, service_name=config.otel.service_name, version=__version__, clock=clock
    )
    metrics.counter("argentor_spans_dropped_total", "Spans that nobody will see.", lambda: made.dropped)
    drain.hook("final", "spans", made.close)
    return made


def _authenticator(config: Config, tools: _Tools) -> Authenticator:
    return Authenticator(
        config.auth,
        tools.keys,
        tickets=tools.tickets,
        on_refused=tools.refusals.unknown,
        on_throttled=tools.refusals.throttled,
        public_url=config.public_url,
    )


def _gate(config: Config, tools: _Tools, authenticator: Authenticator) -> Gate:
    return Gate(
        authenticator,
        tools.limiter,
        tools.refusals,
        tools.drain,
        tools.clock.monotonic,
        limits_enabled=lambda: _limits_enabled(config, tools.keys),
    )


def _services(
    config: Config,
    tools: _Tools,
    backend: LlmBackend,
    store: Store,
    skills: Sequence[Skill],
    *,
    openapi: bytes,
    address_of: Callable[[Incoming], str | None],
) -> Services:
    clock, metrics, drain, limits = tools.clock, tools.metrics, tools.drain, config.limits
    registry = with_help(SkillRegistry([*default_skills(store), *skills]))
    runs = Runs(
        store=store,
        runner=_runner(config, tools, backend, store, registry),
        metrics=metrics,
        audit=tools.audit,
        clock=clock,
        limit=limits.runs,
        timeout_s=config.agent.run_timeout_s,
    )
    connections = Connections(limit=limits.connections, heartbeat_s=limits.heartbeat_s, clock=clock)
    streams = Streams()
    dispatch = Dispatch(
        runs=runs,
        store=store,
        clock=clock,
        drain=drain,
        message_bytes=limits.message_bytes,
        model=backend.model,
        metrics=metrics,
        limiter=tools.limiter,
    )
    drain.hook("drain", "work", Stopping(runs=runs, streams=streams, connections=connections, drain=drain))
    drain.hook("cleanup", "audit", tools.audit.flush)
    drain.hook("final", "metrics", partial(_drained, metrics, drain))
    probes = {"store": store.check} | ({"audit": tools.audit.check} if config.audit.enabled else {})
    return Services(
        config=config,
        clock=clock,
        store=store,
        backend=backend,
        skills=registry,
        runs=runs,
        dispatch=dispatch,
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


def _runner(config: Config, tools: _Tools, backend: LlmBackend, store: Store, registry: SkillRegistry) -> AgentRunner:
    return AgentRunner(
        backend=backend,
        skills=registry,
        sessions=store,
        metrics=tools.metrics,
        audit=tools.audit,
        clock=tools.clock,
        system_prompt=config.agent.system_prompt,
        max_turns=config.agent.max_turns,
        spans=tools.spans,
    )


def _keyring(config: Config, tools: _Tools, store: Store) -> Keyring:
    return Keyring(
        store=store,
        keys=tools.keys,
        tickets=tools.tickets,
        clock=tools.clock,
        plans=config.plans,
        configured=config.auth.held,
    )


async def _drained(metrics: Metrics, drain: Drain) -> None:
    metrics.drained(drain.total_s - drain.left_s())


def _publish(metrics: Metrics, tools: _Tools, store: Store, access: AccessLog | None) -> None:
    """Publish what others count."""
    audit = tools.audit
    metrics.counter("argentor_audit_events_total", "Audit entries written.", lambda: audit.written)
    metrics.counter("argentor_audit_dropped_total", "Audit entries lost.", lambda: audit.dropped)
    metrics.counter("argentor_audit_errors_total", "Failures to write the audit log.", lambda: audit.errors)
    metrics.gauge("argentor_audit_queue_depth", "Audit entries that wait for the disk.", lambda: audit.depth)
    if access is not None:
        lines = access
        metrics.counter("argentor_access_lines_dropped_total", "Access lines lost.", lambda: lines.dropped)
    metrics.gauge("argentor_store_queue_depth", "Writes that wait for the disk.", lambda: store.queue_depth)


def _refusal(error: ConfigError) -> App:
    """Return an application whose lifespan fails with the error's one line."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise error
        await receive()
        await send({"type": "lifespan.startup.failed", "message": str(error)})

    return refuse

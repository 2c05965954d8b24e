"""The ASGI callable, put together from declared rows: router, guards, binder, middleware, sockets and the lifespan.

A request passes the middleware, its head is judged, then the router, the guards of its route (each list outermost
first) and the binder; `serve` has the rest of its life.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from argentor_asgi.asgi.bind import Constant, Endpoint, Provide, Provider, SocketEndpoint, endpoint, socket_endpoint
from argentor_asgi.asgi.deadline import Sweeper
from argentor_asgi.asgi.head import head_reader, joined
from argentor_asgi.asgi.lifespan import Context, Lifespan
from argentor_asgi.asgi.request import request_ids, sane_id
from argentor_asgi.asgi.route import METHODS, Route, Socket, unmatched
from argentor_asgi.asgi.router import Router
from argentor_asgi.asgi.serve import Served, serving
from argentor_asgi.asgi.shell import WRITE_TIMEOUT_S, Closing, Shell, Witness
from argentor_asgi.asgi.types import App, Middleware, Receive, Scope, Send
from argentor_asgi.asgi.websocket import Disconnected, WebSocket
from argentor_asgi.errors import ConfigError, GatewayError, Internal
from argentor_asgi.protocol.trace import parse, prefix

__all__ = ["Constant", "Endpoint", "Guard", "Provide", "Provider", "SocketEndpoint", "SocketGuard", "build", "compose"]

Guard: TypeAlias = Callable[[Route, Endpoint], Endpoint]
"""Wraps the endpoint of a route, once, at start; may refuse by raising, or change the answer's headers."""

SocketGuard: TypeAlias = Callable[[Socket, SocketEndpoint], SocketEndpoint]
"""Wraps the endpoint of a socket, once, at start; a refusal raised before `accept` refuses the handshake."""

Row = TypeVar("Row")
Inner = TypeVar("Inner")

_SOCKET = "WEBSOCKET"


def build(
    rows: Sequence[Route | Socket],
    *,
    provide: Provide,
    lifespan: Context,
    body_bytes: int,
    request_timeout_s: float,
    log: logging.Logger,
    guards: Sequence[Guard] = (),
    socket_guards: Sequence[SocketGuard] = (),
    middleware: Sequence[Middleware] = (),
    write_timeout_s: float = WRITE_TIMEOUT_S,
    rest: Route | None = None,
    witness: Witness | None = None,
    closing: Closing | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> App:
    """Compose the ASGI callable of `rows`.

    `rest`: the row, made by `route.unmatched`, that counts what no route answers. `witness`: told of what ends.
    `closing`: while it is draining, no connection is kept. `clock`: monotonic seconds. Raises `ConfigError` for a
    declaration that cannot work, naming the handler or the path.
    """
    shell = Shell(
        lifespan=Lifespan(lifespan, log),
        sweeper=Sweeper(clock, min(request_timeout_s, write_timeout_s)),
        ids=request_ids(),
        head=head_reader(),
        trace_prefix=prefix(os.urandom(8)),
        log=log,
        body_bytes=body_bytes,
        request_timeout_s=request_timeout_s,
        write_timeout_s=write_timeout_s,
        witness=witness,
        closing=closing,
    )
    routes: Router[Served] = Router()
    sockets: Router[tuple[Socket, SocketEndpoint]] = Router()
    for row in rows:
        if isinstance(row, Route):
            _check(row)
            bound, plain = endpoint(row, provide)
            guarded = _guarded(row, bound, guards)
            if plain is not None and guarded is bound:
                routes.add(row.method, row.template, (row, plain, True))
            else:
                routes.add(row.method, row.template, (row, guarded, False))
        else:
            serve = _guarded(row, socket_endpoint(row, provide), socket_guards)
            sockets.add(_SOCKET, row.template, (row, serve))
    return compose(serving(shell, routes, rest or unmatched(), _others(shell, sockets)), middleware)


def compose(app: App, middleware: Sequence[Middleware]) -> App:
    """Wrap `app` in each middleware; the first of the list is the outermost."""
    for layer in reversed(middleware):
        app = layer(app)
    return app


def _check(row: Route) -> None:
    if row.method not in METHODS:
        raise ConfigError(f"{row.method} {row.template}: the method must be one of {', '.join(sorted(METHODS))}")


def _guarded(row: Row, inner: Inner, guards: Sequence[Callable[[Row, Inner], Inner]]) -> Inner:
    for guard in reversed(guards):
        inner = guard(row, inner)
    return inner


def _others(shell: Shell, sockets: Router[tuple[Socket, SocketEndpoint]]) -> App:
    websocket, life, sweeper = _websocket(shell, sockets), shell.lifespan, shell.sweeper

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection that is no request. Raises `ValueError` for a type that ASGI does not have."""
        kind = scope["type"]
        if kind == "websocket":
            await websocket(scope, receive, send)
        elif kind == "lifespan":
            await life.serve(receive, send)
            sweeper.close()
        else:
            raise ValueError(f"unknown ASGI scope type {kind!r}")

    return other


def _websocket(shell: Shell, sockets: Router[tuple[Socket, SocketEndpoint]]) -> App:
    life, sweeper, log, witness = shell.lifespan, shell.sweeper, shell.log, shell.witness

    async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
        began = sweeper.clock()
        socket = _incoming(shell, scope, receive, send)
        try:
            if not life.started:
                await life.start()
            shell.head(scope)
            (socket.row, serve), socket.captures = sockets.find(_SOCKET, scope)
            await serve(socket)
            await socket.close()
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001  the error boundary
            await _fail(socket, error, log)
        finally:
            if socket.accepted and socket.row is not None:
                socket.row.closed += 1
            if witness is not None:
                witness.closed(socket, sweeper.clock() - began)

    return websocket


def _incoming(shell: Shell, scope: Scope, receive: Receive, send: Send) -> WebSocket:
    """Return the socket of a handshake, with its ids."""
    fields, span = joined(scope["headers"]), next(shell.ids)
    socket = WebSocket(
        scope, receive, send, fields, sane_id(fields, span), shell.sweeper, shell.write_timeout_s, shell.witness
    )
    outer = parse(fields.get(b"traceparent", b""), fields.get(b"tracestate", b""))
    socket.span_id, socket.outer = span, outer
    socket.trace_id = shell.trace_prefix + span if outer is None else outer.trace_id
    socket.answer_headers = ((b"x-trace-id", socket.trace_id),)
    return socket


async def _fail(socket: WebSocket, error: Exception, log: logging.Logger) -> None:
    """Tell the client why its socket ends, if it can still hear it."""
    if not isinstance(error, GatewayError):
        log.error("socket %s failed", socket.id, exc_info=error)
        error = Internal()
    with contextlib.suppress(Disconnected):
        await socket.fail(error)

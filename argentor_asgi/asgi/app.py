"""The ASGI callable: from the scope to the route's endpoint and back, with an id, a deadline and an error boundary.

A request passes the middleware, the router, the guards of its route (each list outermost first) and the binder. What
it raises becomes a problem; a bug becomes a 500 that says nothing, and one traceback in the log under the request id.

Once an answer has started there is no second one. A whole answer is two events with nothing in between, so only `send`
itself can fail there: a client that is gone or does not read ends the connection without a word, and any other failure
of `send` is the server's own and is raised to it. A stream that fails ends its body cleanly (`stream`).
"""

import contextlib
import logging
import time
from asyncio import CancelledError, current_task
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import coroutine
from typing import NamedTuple, TypeAlias

from argentor_asgi.asgi.bind import (
    Constant,
    Endpoint,
    Provide,
    Provider,
    SocketEndpoint,
    endpoint,
    rendered,
    socket_endpoint,
)
from argentor_asgi.asgi.deadline import Sweeper
from argentor_asgi.asgi.lifespan import Context, Lifespan
from argentor_asgi.asgi.request import ClientDisconnected, Request, request_ids
from argentor_asgi.asgi.response import EventStream, Response, header_fields, problem
from argentor_asgi.asgi.route import METHODS, Route, Socket, unmatched
from argentor_asgi.asgi.router import Router
from argentor_asgi.asgi.stream import Streaming
from argentor_asgi.asgi.types import App, Middleware, Receive, Scope, Send
from argentor_asgi.asgi.websocket import Disconnected, WebSocket
from argentor_asgi.errors import ConfigError, GatewayError, Internal, RequestTimeout

__all__ = ["Constant", "Endpoint", "Guard", "Provide", "Provider", "SocketEndpoint", "SocketGuard", "build", "compose"]

Guard: TypeAlias = Callable[[Route, Endpoint], Endpoint]
"""Wraps the endpoint of a route, once, at start; may refuse by raising, or change the answer's headers."""

SocketGuard: TypeAlias = Callable[[Socket, SocketEndpoint], SocketEndpoint]
"""Wraps the endpoint of a socket, once, at start; a refusal raised before `accept` refuses the handshake."""

Work: TypeAlias = Coroutine[object, object, None]
"""A request being served."""

WRITE_TIMEOUT_S = 10.0
"""How long one send may block on a client that does not read."""
_SOCKET = "WEBSOCKET"


@dataclass(frozen=True, slots=True)
class _Left:
    """Stands where an answer would, for a client that left before it; `status` is what it is counted under."""

    status: int = 499


class Shell(NamedTuple):
    """What every connection of one app shares."""

    lifespan: Lifespan
    sweeper: Sweeper
    ids: Iterator[bytes]
    log: logging.Logger
    body_bytes: int
    request_timeout_s: float
    write_timeout_s: float


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
    clock: Callable[[], float] = time.perf_counter,
) -> App:
    """Compose the ASGI callable of `rows`.

    `rest`: the row, made by `route.unmatched`, that counts what no route answers. `clock`: monotonic seconds. Raises
    `ConfigError` for a declaration that cannot work, naming the handler or the path.
    """
    sweeper = Sweeper(clock, min(request_timeout_s, write_timeout_s))
    life = Lifespan(lifespan, log)
    shell = Shell(life, sweeper, request_ids(), log, body_bytes, request_timeout_s, write_timeout_s)
    routes: Router[tuple[Route, Endpoint]] = Router()
    sockets: Router[tuple[Socket, SocketEndpoint]] = Router()
    for row in rows:
        if isinstance(row, Route):
            _check(row)
            routes.add(row.method, row.template, (row, _guarded(row, endpoint(row, provide), guards)))
        else:
            serve = _guarded_socket(row, socket_endpoint(row, provide), socket_guards)
            sockets.add(_SOCKET, row.template, (row, serve))
    return compose(_app(shell, routes, rest or unmatched(), _others(shell, sockets)), middleware)


def compose(app: App, middleware: Sequence[Middleware]) -> App:
    """Wrap `app` in each middleware; the first of the list is the outermost."""
    for layer in reversed(middleware):
        app = layer(app)
    return app


def _check(row: Route) -> None:
    if row.method not in METHODS:
        raise ConfigError(f"{row.method} {row.template}: the method must be one of {', '.join(sorted(METHODS))}")


def _guarded(row: Route, inner: Endpoint, guards: Sequence[Guard]) -> Endpoint:
    for guard in reversed(guards):
        inner = guard(row, inner)
    return inner


def _guarded_socket(row: Socket, inner: SocketEndpoint, guards: Sequence[SocketGuard]) -> SocketEndpoint:
    for guard in reversed(guards):
        inner = guard(row, inner)
    return inner


def _app(shell: Shell, routes: Router[tuple[Route, Endpoint]], rest: Route, other: App) -> App:
    ids, body_bytes = shell.ids, shell.body_bytes
    serve = _server(shell, routes, rest)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection: a request here, what is not one in `other`."""
        if scope["type"] != "http":
            await other(scope, receive, send)
            return
        request = Request(scope, receive, ids, body_bytes)
        work = serve(request, send)
        # PERF: begun by hand: most requests are answered without waiting for anything, and only one that waits needs
        # its task and a deadline. Worth 1 us of a request's 4 on Python 3.11; `bench inproc` measures it.
        try:
            waiting = work.send(None)
        except StopIteration:
            return
        await _watched(shell, request, work, waiting)

    return app


def _server(shell: Shell, routes: Router[tuple[Route, Endpoint]], rest: Route) -> Callable[[Request, Send], Work]:
    life, log, clock, write_timeout_s = shell.lifespan, shell.log, shell.sweeper.clock, shell.write_timeout_s
    find = routes.find

    async def serve(request: Request, send: Send) -> None:
        """Answer one request."""
        began = clock()
        scope = request.scope
        row = rest
        try:
            if not life.started:
                await life.start()
            (row, answer), request.captures = find(scope["method"], scope)
            response: Response | EventStream | _Left = rendered(await answer(request), row)
        except (Exception, CancelledError) as error:  # noqa: BLE001  the error boundary
            response = _recovered(error, request, log)
        ended = clock()
        row.count(response.status, ended - began)
        request.deadline = ended + write_timeout_s
        try:
            if isinstance(response, Response):
                fields = header_fields(response, request)
                body = response.body if scope["method"] != "HEAD" else b""
                await send({"type": "http.response.start", "status": response.status, "headers": fields})
                await send({"type": "http.response.body", "body": body})
            else:
                await _sent_otherwise(response, request, send, shell)
        except (OSError, CancelledError) as error:
            _unsent(error, request)

    return serve


async def _watched(shell: Shell, request: Request, work: Work, waiting: object) -> None:
    """Go on with a request that waits, under its deadline: the one for its answer, unless it already sends that.

    A request that waits for the first time in its stream has none: `stream` bounds its sends.
    """
    sweeper = shell.sweeper
    now = sweeper.clock()
    request.task = current_task()
    if not request.is_streaming:
        request.deadline = min(request.deadline, now + shell.request_timeout_s)
        sweeper.watching.add(request)
    if now >= sweeper.awake_until:
        sweeper.wake(now)
    try:
        await _resumed(work, waiting)
    finally:
        sweeper.watching.discard(request)
        if request.fired:
            request.settle()


@coroutine
def _resumed(work: Work, waiting: object) -> Generator[object, object, None]:
    """Await the rest of a coroutine that was begun by hand and now waits for `waiting` (PEP 380)."""
    while True:
        try:
            sent = yield waiting
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001  whatever is thrown in is the coroutine's to handle
            step = partial(work.throw, error)
        else:
            step = partial(work.send, sent)
        try:
            waiting = step()
        except StopIteration:
            return


async def _sent_otherwise(response: EventStream | _Left, request: Request, send: Send, shell: Shell) -> None:
    """Send a stream to its end; whoever left is sent nothing."""
    if isinstance(response, EventStream):
        request.is_streaming = True
        shell.sweeper.watching.discard(request)
        await Streaming(request, response, send, shell.sweeper, shell.write_timeout_s).run(shell.log)


def _unsent(error: BaseException, request: Request) -> None:
    """Take it that the client is gone or does not read; raises a cancellation that came from outside."""
    if isinstance(error, CancelledError) and not request.settle():
        raise error


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


def _recovered(error: BaseException, request: Request, log: logging.Logger) -> Response | _Left:
    """Return the answer to what a request raised; raises a cancellation that came from outside."""
    match error:
        case CancelledError():
            if not request.settle():
                raise error
            return problem(RequestTimeout(), request.id)
        case GatewayError():
            if error.__cause__ is not None:
                log.warning("request %s was refused: %s", request.id, error.code, exc_info=error)
            return problem(error, request.id)
        case ClientDisconnected():
            return _Left()
        case _:
            log.error("request %s failed", request.id, exc_info=error)
            return problem(Internal(), request.id)


def _websocket(shell: Shell, sockets: Router[tuple[Socket, SocketEndpoint]]) -> App:
    life, sweeper, ids, log, _, _, write_timeout_s = shell

    async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
        began = sweeper.clock()
        socket = WebSocket(scope, receive, send, ids, sweeper, write_timeout_s)
        try:
            if not life.started:
                await life.start()
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
                socket.row.seconds += sweeper.clock() - began

    return websocket


async def _fail(socket: WebSocket, error: Exception, log: logging.Logger) -> None:
    """Tell the client why its socket ends, if it can still hear it."""
    if not isinstance(error, GatewayError):
        log.error("socket %s failed", socket.id, exc_info=error)
        error = Internal()
    with contextlib.suppress(Disconnected):
        await socket.fail(error)

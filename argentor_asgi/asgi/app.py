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
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from functools import partial
from types import coroutine
from typing import NamedTuple, TypeAlias, TypeVar

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
from argentor_asgi.asgi.deadline import Sweeper, Watched
from argentor_asgi.asgi.lifespan import Context, Lifespan
from argentor_asgi.asgi.request import ClientDisconnected, Request, request_id, request_ids
from argentor_asgi.asgi.response import Answered, EventStream, problem, whole
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

Steps: TypeAlias = Generator[object, object, None]
"""A request being served, from one wait to the next."""

Served: TypeAlias = tuple[Route, Callable[..., Awaitable[object]], bool]
"""A row and its guarded endpoint; the flag says that it is called without the request, since it asks nothing of it."""

Row = TypeVar("Row")
Inner = TypeVar("Inner")

WRITE_TIMEOUT_S = 10.0
"""How long one send may block on a client that does not read."""
_SOCKET = "WEBSOCKET"


CLIENT_LEFT = 499
"""What a request is counted under whose client left before its answer."""


_ANSWERED = object()
"""What a request that never waited has come to."""
_SENDING = Watched()
"""Stands for a request that has not waited yet and sends its answer: should it wait there, that is what is watched."""


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
    return compose(_app(shell, routes, rest or unmatched(), _others(shell, sockets)), middleware)


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


def _app(shell: Shell, routes: Router[Served], rest: Route, other: App) -> App:
    serve = _server(shell, routes, rest)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection: a request here, what is not one in `other`."""
        if scope["type"] != "http":
            await other(scope, receive, send)
            return
        watched: list[Watched] = []
        steps = serve(scope, receive, send, watched).__await__()
        # PERF: begun by hand: most requests are answered without waiting for anything, and only one that waits needs
        # its task and a deadline, which cost 1 us on Python 3.11 where a bare answer costs half. See `bench inproc`.
        waiting = next(steps, _ANSWERED)
        if waiting is not _ANSWERED:
            await _watch(shell, watched, steps, waiting)

    return app


def _server(  # noqa: C901  one path a request, kept in one piece for its speed
    shell: Shell, routes: Router[Served], rest: Route
) -> Callable[..., Coroutine[object, object, None]]:
    life, ids, log, clock = shell.lifespan, shell.ids, shell.log, shell.sweeper.clock
    find, body_bytes, write_timeout_s = routes.find, shell.body_bytes, shell.write_timeout_s

    async def serve(scope: Scope, receive: Receive, send: Send, watched: list[Watched]) -> None:
        """Answer one request; `watched` has its deadline as soon as it waits."""
        began = clock()
        row, request, method = rest, None, scope["method"]
        try:
            if not life.started:
                await life.start()
            (row, answer, is_plain), captures = find(method, scope)
            # PERF: a route that asks nothing of its request is answered without one.
            if is_plain:
                answered = rendered(await answer(), row, request_id(scope["headers"], ids), ())
            else:
                request = Request(scope, receive, ids, body_bytes)
                request.captures = captures
                answered = rendered(await answer(request), row, request.id_bytes, request.answer_headers)
        except (Exception, CancelledError) as error:  # noqa: BLE001  the error boundary
            request = request or Request(scope, receive, ids, body_bytes)
            answered = _recovered(error, request, watched, log)
        ended = clock()
        status, fields, body, stream = answered
        row.count(status, ended - began)
        if watched:
            watched[0].deadline = ended + write_timeout_s
        else:
            watched.append(_SENDING)
        try:
            if fields is None:
                request = request or Request(scope, receive, ids, body_bytes)
                await _sent_otherwise(stream, request, send, watched, shell)
                return
            if method == "HEAD":
                body = b""
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send({"type": "http.response.body", "body": body})
        except (OSError, CancelledError) as error:
            _unsent(error, watched)

    return serve


async def _watch(shell: Shell, watched: list[Watched], steps: Steps, waiting: object) -> None:
    """Go on with a request that waits, from now on under its deadline: for its answer, or for sending that.

    A stream that has begun has deadlines of its own.
    """
    sweeper = shell.sweeper
    if not watched or watched[0] is _SENDING:
        seconds = shell.write_timeout_s if watched else shell.request_timeout_s
        watched[:] = [Watched()]
        sweeper.watch(watched[0], seconds)
    try:
        await _resumed(steps, waiting)
    finally:
        sweeper.watching.discard(watched[0])
        watched[0].settle()


@coroutine
def _resumed(steps: Steps, waiting: object) -> Generator[object, object, None]:
    """Await the rest of a coroutine that was begun by hand and now waits for `waiting` (PEP 380)."""
    while True:
        try:
            sent = yield waiting
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001  whatever is thrown in is the coroutine's to handle
            step = partial(steps.throw, error)
        else:
            step = partial(steps.send, sent)
        try:
            waiting = step()
        except StopIteration:
            return


async def _sent_otherwise(
    stream: EventStream | None, request: Request, send: Send, watched: list[Watched], shell: Shell
) -> None:
    """Send a stream to its end, under deadlines of its own; whoever left is sent nothing."""
    if stream is None:
        return
    if watched:
        shell.sweeper.watching.discard(watched[0])
    streaming = Streaming(request, stream, send, shell.sweeper, shell.write_timeout_s)
    watched[:] = [streaming]
    await streaming.run(shell.log)


def _unsent(error: BaseException, watched: list[Watched]) -> None:
    """Take it that the client is gone or does not read; raises a cancellation that came from outside."""
    if isinstance(error, CancelledError) and not (watched and watched[0].settle()):
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


def _recovered(error: BaseException, request: Request, watched: list[Watched], log: logging.Logger) -> Answered:
    """Return the answer to what a request raised; raises a cancellation that came from outside."""
    match error:
        case CancelledError():
            if not (watched and watched[0].settle()):
                raise error
            refusal: GatewayError = RequestTimeout()
        case GatewayError():
            if error.__cause__ is not None:
                log.warning("request %s was refused: %s", request.id, error.code, exc_info=error)
            refusal = error
        case ClientDisconnected():
            return CLIENT_LEFT, None, b"", None
        case _:
            log.error("request %s failed", request.id, exc_info=error)
            refusal = Internal()
    return whole(problem(refusal, request.id), request.id_bytes, request.answer_headers)


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

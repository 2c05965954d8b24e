"""One HTTP request from its head to the last byte of its answer, with ids, a deadline and an error boundary.

What a request raises becomes a problem; a bug becomes a 500 that says nothing, and one traceback in the log under the
request id. Once an answer has started there is no second one. A whole answer is two events with nothing in between but
what is left of a body that nobody read (`unread`), so only `send` itself can fail there: a client that is gone or does
not read ends the connection without a word, and any other failure of `send` is the server's own and is raised to it. A
stream that fails ends its body cleanly (`stream`).
"""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeAlias

from argentor_asgi.asgi.bind import rendered
from argentor_asgi.asgi.deadline import Watched
from argentor_asgi.asgi.head import CLOSE, Fields, announces_body, is_http1
from argentor_asgi.asgi.request import ClientDisconnected, Request, sane_id
from argentor_asgi.asgi.response import Answered, EventStream, problem, whole
from argentor_asgi.asgi.route import Route
from argentor_asgi.asgi.router import Router
from argentor_asgi.asgi.shell import Ids, Shell
from argentor_asgi.asgi.steps import Steps, resumed
from argentor_asgi.asgi.stream import CLIENT_LEFT, Streaming
from argentor_asgi.asgi.types import App, Headers, Receive, Scope, Send
from argentor_asgi.asgi.unread import Unread
from argentor_asgi.errors import GatewayError, Internal, RequestTimeout
from argentor_asgi.protocol.trace import Trace, parse

Served: TypeAlias = tuple[Route, Callable[..., Awaitable[object]], bool]
"""A row and its guarded endpoint; the flag says that it is called without the request, since it asks nothing of it."""

_ANSWERED = object()
"""What a request that never waited has come to."""
_SENDING = Watched()
"""Stands for a request that has not waited yet and sends its answer: should it wait there, that is what is watched."""


def serving(shell: Shell, routes: Router[Served], rest: Route, other: App) -> App:
    """Return what serves requests here, and what is none in `other`; `rest` counts what no route answers."""
    serve = _server(shell, routes, rest)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
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


def _server(  # noqa: C901, PLR0915  as the one function in it
    shell: Shell, routes: Router[Served], rest: Route
) -> Callable[..., Coroutine[object, object, None]]:
    life, ids, log, clock, head = shell.lifespan, shell.ids, shell.log, shell.sweeper.clock, shell.head
    find, body_bytes, write_timeout_s, prefix = routes.find, shell.body_bytes, shell.write_timeout_s, shell.trace_prefix
    closing, sweeper = shell.closing, shell.sweeper
    witness = shell.witness if shell.witness is not None and shell.witness.hears_answers else None

    async def serve(  # noqa: C901, PLR0912, PLR0915  one path a request, kept in one piece for its speed
        scope: Scope, receive: Receive, send: Send, watched: list[Watched]
    ) -> None:
        """Answer one request; `watched` has its deadline as soon as it waits."""
        began = clock()
        id_bytes = span = next(ids)
        row, request, outer, trace_id = rest, None, None, prefix + span
        try:
            if not life.started:
                await life.start()
            fields, has_body = head(scope)
            # PERF: `in` before anything is called for what hardly any request has.
            if b"x-request-id" in fields:
                id_bytes = sane_id(fields, span)
            if b"traceparent" in fields:
                outer, trace_id = _traced(fields, trace_id)
            more: Headers = ((b"x-trace-id", trace_id),)
            if closing is not None and closing.draining and is_http1(scope):
                more += (CLOSE,)
            (row, answer, is_plain), captures = find(scope["method"], scope)
            # PERF: a route that asks nothing of its request is answered without one.
            if is_plain:
                answered = rendered(await answer(), row, id_bytes, more)
            else:
                request = Request(scope, receive, fields, id_bytes, body_bytes, sweeper)
                request.captures, request.answer_headers = captures, more
                request.trace_id, request.span_id, request.outer = trace_id, span, outer
                answered = rendered(await answer(request), row, id_bytes, request.answer_headers)
        except (Exception, CancelledError) as error:  # noqa: BLE001  the error boundary
            fields, has_body, id_bytes = _head_again(scope, id_bytes)
            more = ((b"x-trace-id", trace_id),) if request is None else request.answer_headers
            answered = _recovered(error, id_bytes, more, watched, log)
        ended = clock()
        status, out, body, stream = answered
        row.count(status, ended - began)
        if watched:
            watched[0].deadline = ended + write_timeout_s
        else:
            watched.append(_SENDING)
        try:
            if stream is not None:
                request = request or Request(scope, receive, fields, id_bytes, body_bytes, sweeper)
                status = await _streamed(stream, request, send, watched, shell)
            elif out is not None:
                body = b"" if scope["method"] == "HEAD" else body
                if has_body and (request is None or request.is_unread):
                    await Unread(receive, sweeper).answer(scope, fields, send, status, out, body)
                else:
                    await send({"type": "http.response.start", "status": status, "headers": out})
                    await send({"type": "http.response.body", "body": body})
        except (OSError, CancelledError) as error:
            status = CLIENT_LEFT
            _unsent(error, watched, shell)
        finally:
            if witness is not None:
                took = (ended if stream is None else clock()) - began
                witness.answered(row, scope, request, status, took, Ids(id_bytes, trace_id, span, outer))

    return serve


def _head_again(scope: Scope, own: bytes) -> tuple[Fields, bool, bytes]:
    """Return the fields of a head that may have been refused, whether a body is announced, and the request's id."""
    fields = dict(scope["headers"])
    return fields, announces_body(scope, fields), sane_id(fields, own)


def _traced(fields: Fields, own: bytes) -> tuple[Trace | None, bytes]:
    """Return the trace that the caller named, if it is sound, and the id of the request's trace."""
    outer = parse(fields[b"traceparent"], fields.get(b"tracestate", b""))
    return outer, own if outer is None else outer.trace_id


async def _watch(shell: Shell, watched: list[Watched], steps: Steps[None], waiting: object) -> None:
    """Go on with a request that waits, from now on under its deadline: for its answer, or for sending that.

    A stream that has begun has deadlines of its own.
    """
    sweeper = shell.sweeper
    if not watched or watched[0] is _SENDING:
        seconds = shell.write_timeout_s if watched else shell.request_timeout_s
        watched[:] = [Watched()]
        sweeper.watch(watched[0], seconds)
    try:
        await resumed(steps, waiting)
    finally:
        sweeper.leave(watched[0])


async def _streamed(stream: EventStream, request: Request, send: Send, watched: list[Watched], shell: Shell) -> int:
    """Send a stream to its end, under deadlines of its own; return its status, 499 when its client left."""
    if watched:
        shell.sweeper.watching.discard(watched[0])
    streaming = Streaming(request, stream, send, shell.sweeper, shell.write_timeout_s, shell.witness)
    watched[:] = [streaming]
    return await streaming.run(shell.log)


def _unsent(error: BaseException, watched: list[Watched], shell: Shell) -> None:
    """Take it that the client is gone or does not read; raises a cancellation that came from outside."""
    if not isinstance(error, CancelledError):
        return
    if not (watched and watched[0].settle()):
        raise error
    if shell.witness is not None:
        shell.witness.consumer_cut("http_write")


def _recovered(
    error: BaseException, id_bytes: bytes, more: Headers, watched: list[Watched], log: logging.Logger
) -> Answered:
    """Return the answer to what a request raised; raises a cancellation that came from outside."""
    request_id = id_bytes.decode()
    match error:
        case CancelledError():
            if not (watched and watched[0].settle()):
                raise error
            refusal: GatewayError = RequestTimeout()
        case GatewayError():
            if error.__cause__ is not None:
                log.warning("request %s was refused: %s", request_id, error.code, exc_info=error)
            refusal = error
        case ClientDisconnected():
            return CLIENT_LEFT, None, b"", None
        case _:
            log.error("request %s failed", request_id, exc_info=error)
            refusal = Internal()
    return whole(problem(refusal, request_id), id_bytes, more)

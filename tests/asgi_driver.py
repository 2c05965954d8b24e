"""An ASGI server in memory, for tests: HTTP exchanges, WebSocket sessions and the lifespan, no socket and no clock.

It behaves as hypercorn does where ASGI leaves room: `receive` waits for ever once the body is delivered, until the
client leaves; `send` after that does nothing. `test_asgi_driver.py` holds it to a real server. Whatever waits, waits
at most `PATIENCE_S`, so that a test which would hang fails.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from argentor_asgi.asgi.app import build
from argentor_asgi.asgi.head import Fields, joined
from argentor_asgi.asgi.request import request_ids, sane_id
from argentor_asgi.asgi.route import Handler, rows_of
from argentor_asgi.asgi.types import App, Message, Scope

PATIENCE_S = 5.0
"""How long anything may take before its test fails."""

T = TypeVar("T")


LOG = logging.getLogger("argentor.test")


@asynccontextmanager
async def nothing_to_start() -> AsyncIterator[None]:
    """The lifespan of an app that has nothing to open."""
    yield


def head_of(scope: Scope) -> tuple[Fields, bytes]:
    """Return what the app reads off a head before it makes a request or a socket: its fields, and its id."""
    fields = joined(scope["headers"])
    return fields, sane_id(fields, next(request_ids()))


def app_of(*handlers: Handler, **options: Any) -> App:
    """Build an app of handlers made by `@route` or `@socket`, with the smallest settings that work."""
    rows = [row for handler in handlers for row in rows_of(handler)]
    settings: dict[str, Any] = {
        "provide": {},
        "lifespan": nothing_to_start,
        "body_bytes": 1000,
        "request_timeout_s": 60.0,
        "log": LOG,
    }
    return build(rows, **(settings | options))


async def soon(waiting: Awaitable[T]) -> T:
    """Wait for something that must come."""
    return await asyncio.wait_for(waiting, PATIENCE_S)


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until `condition` holds; for what no event announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  there is no event to wait for: that is what this is for
            await asyncio.sleep(0)


def pairs(headers: dict[str, str] | Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them: lower-case names, bytes."""
    items = headers.items() if isinstance(headers, dict) else headers
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in items]


def scope_of(kind: str, target: str, headers: list[tuple[bytes, bytes]], **others: Any) -> Scope:
    """Return a scope as hypercorn makes it, with a Host; `target` is the raw path and, after a `?`, the query."""
    if all(name != b"host" for name, _ in headers):
        headers = [*headers, (b"host", b"127.0.0.1:8000")]
    path, _, query = target.partition("?")
    made = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": unquote(path, errors="replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
        "state": {},
    }
    return {name: value for name, value in (made | others).items() if value is not None}


@dataclass
class Answer:
    """What the app sent: `body` is all of it, `chunks` are its pieces; `complete` when the app said that it ended."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """Return a header, repeated ones joined."""
        values = [value.decode("latin-1") for key, value in self.headers if key == name.encode()]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One request under way. `leave` is the client going; `fail_sends` and `block_sends` are what a send may meet."""

    def __init__(self, app: App, scope: Scope, pieces: Sequence[bytes]) -> None:
        self.answer = Answer()
        self.gone = asyncio.Event()
        self.fail_sends: type[Exception] | None = None
        self.block_sends = False
        self.sends = 0
        self.asked = 0
        self._app = app
        self._scope = scope
        self._pieces = list(pieces)
        self._changed = asyncio.Event()
        self.task: asyncio.Task[None] = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._app(self._scope, self.receive, self.send)

    def leave(self) -> None:
        self.gone.set()

    async def receive(self) -> Message:
        self.asked += 1
        if self._pieces and not self.gone.is_set():
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sends += 1
        if self.fail_sends is not None:
            raise self.fail_sends("the client is gone")
        while self.block_sends:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        self._take(message)
        self._changed.set()

    def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert self.answer.status == 0, "a second start"
            self.answer.status, self.answer.headers = message["status"], list(message["headers"])
            return
        assert message["type"] == "http.response.body", message
        assert self.answer.status, "a body before its start"
        assert not self.answer.complete, "a body after its end"
        if body := message.get("body", b""):
            self.answer.chunks.append(body)
        self.answer.complete = not message.get("more_body", False)

    async def seen(self, condition: Callable[[Answer], object]) -> Answer:
        """Wait until what was sent so far fulfils `condition`."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(self.answer):
                self._changed.clear()
                waits = {self.task, asyncio.ensure_future(self._changed.wait())}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                assert not self.task.done() or condition(self.answer), "the app ended first"
        return self.answer

    async def end(self) -> Answer:
        """Wait for the app to return; raises what it raised."""
        await soon(asyncio.shield(self.task))
        return self.answer


def begin(
    app: App,
    method: str = "GET",
    target: str = "/",
    *,
    headers: dict[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes | Sequence[bytes] = b"",
    **others: Any,
) -> Exchange:
    """Start a request. `body`: bytes come with their Content-Length, a list in pieces. `others` go to the scope."""
    fields = pairs(headers)
    if isinstance(body, bytes):
        pieces: Sequence[bytes] = [body]
        if body and not any(name == b"content-length" for name, _ in fields):
            fields.append((b"content-length", b"%d" % len(body)))
    else:
        pieces = [*body] or [b""]
    return Exchange(app, scope_of("http", target, fields, method=method, **others), pieces)


async def http(app: App, method: str = "GET", target: str = "/", **others: Any) -> Answer:
    """Make one request and return its complete answer; the arguments are those of `begin`."""
    exchange = begin(app, method, target, **others)
    try:
        answer = await exchange.end()
    finally:
        exchange.leave()
        exchange.task.cancel()
    assert answer.complete, "the app returned before its answer was complete"
    return answer


class Peer:
    """The client's end of a WebSocket. `refusal` is the HTTP answer that the app refused with, if it did."""

    def __init__(self, app: App, scope: Scope) -> None:
        self.accepted: Message | None = None
        self.closed: Message | None = None
        self.refusal = Answer()
        self.block_sends = False
        self.fail_sends: type[Exception] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self.task: asyncio.Task[None] = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: App, scope: Scope) -> None:
        try:
            await app(scope, self._inbox.get, self._send)
        finally:
            self._outbox.put_nowait({"type": "end"})

    async def _send(self, message: Message) -> None:
        if self.fail_sends is not None:
            raise self.fail_sends("the client is gone")
        while self.block_sends:
            await asyncio.get_running_loop().create_future()
        self._outbox.put_nowait(message)

    def put(self, data: str | bytes) -> None:
        """Send one message to the app."""
        text, raw = (data, None) if isinstance(data, str) else (None, data)
        self._inbox.put_nowait({"type": "websocket.receive", "text": text, "bytes": raw})

    def leave(self, code: int = 1006, reason: str = "") -> None:
        """Go away; the app is told as servers tell it."""
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def opened(self) -> "Peer":
        """Wait for the handshake's outcome: `accepted`, `closed` (a plain 403) or a `refusal` is set."""
        message = await soon(self._outbox.get())
        match message["type"]:
            case "websocket.accept":
                self.accepted = message
            case "websocket.close":
                self.closed = message
            case "websocket.http.response.start":
                self.refusal.status, self.refusal.headers = message["status"], list(message["headers"])
                body = await soon(self._outbox.get())
                self.refusal.chunks.append(body["body"])
                self.refusal.complete = not body["more_body"]
        return self

    async def get(self) -> str:
        """Wait for the next text of the app; fails if the app closes or ends instead."""
        message = await soon(self._outbox.get())
        assert message["type"] == "websocket.send", message
        return str(message["text"])

    async def end(self) -> Message | None:
        """Wait until the app has returned; returns its close, None when it sent none. Raises what the app raised."""
        await soon(asyncio.wait({self.task}))
        while not self._outbox.empty():
            message = self._outbox.get_nowait()
            self.closed = message if message["type"] == "websocket.close" else self.closed
        self.task.result()
        return self.closed


@asynccontextmanager
async def websocket(
    app: App,
    target: str = "/",
    *,
    headers: dict[str, str] | Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    can_refuse: bool = True,
    **others: Any,
) -> AsyncIterator[Peer]:
    """Open a WebSocket, through its handshake; at the end the client leaves and the app must return.

    `can_refuse`: whether the server has the extension for HTTP answers to a handshake.
    """
    extensions = {"websocket.http.response": {}} if can_refuse else {}
    scope = scope_of(
        "websocket", target, pairs(headers), subprotocols=list(subprotocols), extensions=extensions, **others
    )
    peer = Peer(app, scope)
    try:
        yield await peer.opened()
        peer.leave()
        await peer.end()
    finally:
        peer.task.cancel()
        await asyncio.wait({peer.task})


class StartupFailed(Exception):
    """The app refused to start; the text is what it told the server."""


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
    """Hold an app between its startup and its shutdown. Raises `StartupFailed`."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}

    async def run() -> None:
        await app(scope, inbox.get, outbox.put)

    task = asyncio.create_task(run())
    try:
        inbox.put_nowait({"type": "lifespan.startup"})
        started = await soon(outbox.get())
        if started["type"] != "lifespan.startup.complete":
            await soon(task)
            raise StartupFailed(started["message"])
        yield state
        inbox.put_nowait({"type": "lifespan.shutdown"})
        ended = await soon(outbox.get())
        assert ended["type"] == "lifespan.shutdown.complete", ended
        await soon(task)
    finally:
        task.cancel()
        await asyncio.wait({task})

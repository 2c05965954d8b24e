"""The caller's side of ASGI 3, as a server is at its least: one exchange per request, and the lifespan around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

LIFESPAN_S = 30.0
"""How long an application may take to start, and again to stop."""

HEADERS: Headers = ((b"host", b"127.0.0.1:8000"), (b"user-agent", b"bench/1"), (b"accept", b"*/*"))
"""What every request carries."""


class Exchange:
    """One request and its answer; `receive` and `send` are what the application is given."""

    __slots__ = ("_asked", "_gone", "body", "chunks", "done", "status")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.chunks = b""
        self.status = 0
        self.done = False
        self._asked = False
        self._gone: asyncio.Event | None = None

    async def receive(self) -> Message:
        """Give the whole body at once, then, when the answer is complete, the disconnect."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        if not self.done:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.chunks += message.get("body", b"")
        if not message.get("more_body", False):
            self.done = True
            if self._gone is not None:
                self._gone.set()


def http_scope(method: str, path: str, headers: Headers, state: dict[str, Any]) -> Scope:
    """Return a fresh scope, as a server builds one for each request (ASGI 3.0, HTTP 2.4)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [*headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
        "state": state,
    }


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
    """Hold an application between its startup and its shutdown, in one task as servers do; gives the lifespan state.

    Raises `RuntimeError` if it refuses to start, `TimeoutError` if either takes more than `LIFESPAN_S`.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue(2)
    outbox: asyncio.Queue[Message] = asyncio.Queue(2)
    state: dict[str, Any] = {}
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    task = asyncio.create_task(_run(app, scope, inbox.get, outbox.put))
    try:
        await _ask(task, inbox, outbox, "startup")
        yield state
        await _ask(task, inbox, outbox, "shutdown")
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=LIFESPAN_S)


async def _run(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _ask(
    task: asyncio.Task[None], inbox: asyncio.Queue[Message], outbox: asyncio.Queue[Message], what: str
) -> None:
    """Say `lifespan.<what>` and wait until it is complete; to have returned instead, with no lifespan, is legal."""
    inbox.put_nowait({"type": f"lifespan.{what}"})
    answer = asyncio.create_task(outbox.get())
    waiting: set[asyncio.Task[Any]] = {answer, task}
    done, _ = await asyncio.wait(waiting, timeout=LIFESPAN_S, return_when=asyncio.FIRST_COMPLETED)
    if answer not in done:
        answer.cancel()
        if not done:
            raise TimeoutError(f"lifespan.{what} took more than {LIFESPAN_S} s")
        task.result()
    elif answer.result()["type"] != f"lifespan.{what}.complete":
        raise RuntimeError(f"lifespan.{what} failed: {answer.result().get('message', '')}")

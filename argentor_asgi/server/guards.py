"""What hypercorn lacks against hostile clients, put in while a server runs and taken out after it.

Each guard replaces one class of hypercorn 0.18 by a subclass of it, by the name under which hypercorn makes it:

| guard | without it |
|---|---|
| `GuardedServer` | a client that does not read what was sent holds its connection and a task for ever |
| `GuardedTasks` | so does an answer given before the request's body was read, once the body has filled the queue |
| `Http1` | clear-text HTTP/2 by upgrade or prior knowledge, which goes past the rules of the proxy in front |
| `GuardedWebSocket`, `PlainHandshake` | see `websocket_guard` |

They know hypercorn and wsproto from the inside, so other versions than those of `UPSTREAM` are left as they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any, Final

import h11
import hypercorn.asyncio.run
import hypercorn.asyncio.tcp_server
import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
from hypercorn.asyncio.task_group import TaskGroup, _handle
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from argentor_asgi.server.websocket_guard import LINGER_S, GuardedWebSocket, PlainHandshake

UPSTREAM: Final[Mapping[str, Sequence[str]]] = {"hypercorn": ("0.18",), "wsproto": ("1.3",)}
"""The versions that the guards were made for."""
STALL_S: Final = 15.0
"""How long a client may read next to nothing of what waits for it."""
LOOKS: Final = 3
"""How often that is looked at in this time."""
LEAST_BYTES_PER_S: Final = 1024
"""What next to nothing is less than."""
DISCONNECTS: Final = frozenset({"http.disconnect", "websocket.disconnect"})


class GuardedServer(TCPServer):
    """A connection that is cut when what waits to be read does not get less.

    Looks only while something waits; a fast client costs one comparison a write.
    """

    def __init__(self, *arguments: Any, stall_s: float = STALL_S) -> None:  # noqa: ANN401  hypercorn's, passed on
        """Take over hypercorn's arguments; `stall_s`: seconds that a client may stall, > 0."""
        super().__init__(*arguments)
        self._every_s = stall_s / LOOKS
        self._least_bytes = LEAST_BYTES_PER_S * self._every_s
        self._look: asyncio.TimerHandle | None = None
        self._written = self._taken = self._strikes = 0

    async def protocol_send(self, event: Event) -> None:
        """Write and wait until the client has taken enough of it, as hypercorn does; from now on watch that it does."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                self.writer.write(event.data)
                self._written += len(event.data)
                if self._look is None and self._backlog():
                    self._taken, self._strikes = self._written - self._backlog(), 0
                    self._look = self.loop.call_later(self._every_s, self._judge)
                await self.writer.drain()
            except (OSError, RuntimeError):  # a dead peer is ETIMEDOUT or EHOSTUNREACH, which hypercorn does not expect
                await self.protocol.handle(Closed())

    def _backlog(self) -> int:
        return self.writer.transport.get_write_buffer_size()

    def _judge(self) -> None:
        """Cut a client that has stalled for `LOOKS` looks; go on looking while something waits."""
        self._look = None
        backlog = self._backlog()
        if not backlog:
            return
        taken = self._written - backlog
        self._strikes = 0 if taken - self._taken >= self._least_bytes else self._strikes + 1
        self._taken = taken
        if self._strikes < LOOKS:
            self._look = self.loop.call_later(self._every_s, self._judge)
        else:
            self.writer.transport.abort()

    async def _read_data(self) -> None:
        """Read to the end, and then wait no longer for the next request: hypercorn does, with the connection open."""
        await super()._read_data()
        await self.idle_task.stop()

    async def _close(self) -> None:
        """Close as hypercorn does; whoever has not read all by then is watched on, even if the wait is cancelled."""
        with suppress(OSError):
            await super()._close()
        if self._look is not None and not self._backlog():
            self._look.cancel()


class Mailbox(asyncio.Queue[ASGIReceiveEvent]):
    """What the app is to receive: bounded, but a disconnect finds room, and nobody waits once the app has ended."""

    over = closed = False

    def full(self) -> bool:
        """Say whether a sender must wait."""
        return not self.over and super().full()

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Add an event, the last of them without waiting."""
        if event["type"] in DISCONNECTS:
            self.over = True
        await super().put(event)
        if self.closed:
            self._drop()

    def close(self) -> None:
        """Let go whoever waits for the app to receive, which it will not do any more."""
        self.over = self.closed = True
        self._drop()

    def _drop(self) -> None:
        while not self.empty():
            self.get_nowait()


class GuardedTasks(TaskGroup):
    """The tasks of a connection, whose app may end without having received everything."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the app, and return how to give it an event."""
        mailbox = Mailbox(config.max_app_queue_size)
        self.spawn(self._run, mailbox, app, config, scope, send)
        return mailbox.put

    async def _run(self, mailbox: Mailbox, app: AppWrapper, config: Config, scope: Scope, send: Any) -> None:  # noqa: ANN401  as above
        in_thread = partial(self._loop.run_in_executor, None)
        try:
            await _handle(app, config, scope, mailbox.get, send, in_thread, self._call_soon)
        finally:
            mailbox.close()

    def _call_soon(self, work: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401  hypercorn's, for WSGI
        return asyncio.run_coroutine_threadsafe(work(*arguments), self._loop).result()


class Http1(H11Protocol):
    """HTTP/1.1 that stays HTTP/1.1: an upgrade to h2c is ignored (RFC 9110 section 7.8), a PRI is a request."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Change nothing."""


def unknown(made_for: Mapping[str, Sequence[str]] = UPSTREAM) -> str:
    """Return which installed libraries the guards were not made for, such as `hypercorn 0.19.0`; empty when none."""
    from importlib.metadata import version  # noqa: PLC0415  milliseconds that only a start pays

    found = {name: version(name) for name in made_for}
    strange = (name for name, known in made_for.items() if ".".join(found[name].split(".")[:2]) not in known)
    return ", ".join(f"{name} {found[name]}" for name in strange)


@contextmanager
def installed(*, stall_s: float = STALL_S, linger_s: float = LINGER_S) -> Iterator[None]:
    """Guard what hypercorn serves in this process while the context is open; must not be entered where `unknown`."""
    with ExitStack() as taken_out:
        for module, name, guard in _guards(stall_s, linger_s):
            taken_out.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, guard)
        yield


def _guards(stall_s: float, linger_s: float) -> tuple[tuple[ModuleType, str, object], ...]:
    return (
        (hypercorn.asyncio.run, "TCPServer", partial(GuardedServer, stall_s=stall_s)),
        (hypercorn.asyncio.tcp_server, "TaskGroup", GuardedTasks),
        (hypercorn.protocol, "H11Protocol", Http1),
        (hypercorn.protocol.h11, "WSStream", partial(GuardedWebSocket, linger_s=linger_s)),
        (hypercorn.protocol.ws_stream, "Handshake", PlainHandshake),
    )

"""`argentor serve`: hypercorn in this one process, with settings in code that its command line has no flag for.

Its advantage over `hypercorn argentor_asgi:app`: the server goes on answering (503, readiness off) until the gateway
has drained and only then closes; the stop has an end on every Python; a second Ctrl-C is obeyed.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

import hypercorn.asyncio
from hypercorn.config import Config
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from argentor_asgi.asgi.types import App
from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.drain import SIGNALS, Drain

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

BACKLOG = 2048
KEEP_ALIVE_S = 5
WEBSOCKET_MESSAGE_BYTES = 1024 * 1024
GRACEFUL_S = 2.0
"""What hypercorn waits for answers in flight after the drain; its asyncio worker ignores it on Python >= 3.12."""
STOP_S = 5.0
"""How long after the drain's deadline the server may take to close and the lifespan to end; then both are cut."""
CUT_S = 3
"""How long what was cancelled may take to clean up, whole seconds, before SIGALRM ends the process."""

OK, CUT, CANNOT_START = 0, 1, 2
"""Exit codes: stopped cleanly; stopped by cutting off what did not end; never started. A second signal: 128 + it."""


class Gateway(Protocol):
    """What is served: an ASGI 3 callable, and the drain that its lifespan installs."""

    @property
    def app(self) -> App:
        """The ASGI callable."""
        ...

    @property
    def drain(self) -> Drain:
        """Begins when the process is to stop; `finished` lets the server close."""
        ...


def serve(gateway: Gateway, *, bind: Sequence[str] = ("127.0.0.1:8000",)) -> int:
    """Serve until the gateway has drained, and return the process's exit code.

    `bind`: `host:port`, `[v6]:port` or `unix:path`. Uses uvloop where it is installed. Once it accepts connections it
    writes one line with its URLs to stderr; where it cannot start, one line with the reason. To be called on the main
    thread of a process that does nothing else.
    """
    try:
        sockets = listen(bind)
    except ConfigError as error:
        _say(f"argentor cannot start: {error}")
        return CANNOT_START
    serving = _Serving(gateway, " ".join(_url(bound) for bound in sockets), settings(sockets))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serving.run())


def listen(bind: Sequence[str]) -> list[socket.socket]:
    """Bind every address, before the gateway opens anything; raises `ConfigError` with the address and the reason."""
    sockets: list[socket.socket] = []
    for address in bind:
        bound = _bind(address)
        if isinstance(bound, str):
            for unused in sockets:
                unused.close()
            raise ConfigError(f"cannot listen on {address}: {bound}")
        sockets += bound
    return sockets


def _bind(address: str) -> list[socket.socket] | str:
    """Have hypercorn read and bind one address; return its sockets, or why it cannot."""
    config = Config()
    config.bind = [address]
    try:
        bound: list[socket.socket] = config.create_sockets().insecure_sockets
    except (OSError, OverflowError, ValueError) as error:
        return str(error)
    return bound


def settings(sockets: Sequence[socket.socket]) -> Config:
    """Return hypercorn's settings, of which half have no flag on its command line; it owns the sockets from here."""
    config = Config()
    config.bind = [f"fd://{bound.detach()}" for bound in sockets]
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.graceful_timeout = GRACEFUL_S
    config.websocket_max_message_size = WEBSOCKET_MESSAGE_BYTES
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    return config


class _Serving:
    """One life of the server: from its start to its exit code.

    What is left when it returns is cancelled by the runner, all at once: cancelling hypercorn alone makes it wait for
    its connections again.
    """

    def __init__(self, gateway: Gateway, where: str, config: Config) -> None:
        self._gateway = gateway
        self._where = where
        self._config = config
        self._accepting = False
        self._heard: list[int] = []
        self._insisted = asyncio.Event()

    async def run(self) -> int:
        """Serve until drained, within the bounds of a stop; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_without_cancelled)
        for number in SIGNALS:
            loop.add_signal_handler(number, self._hear, number)
        server = loop.create_task(self._serve(), name="server")
        too_late = loop.create_task(self._too_late(), name="too-late")
        await asyncio.wait({server, too_late}, return_when=asyncio.FIRST_COMPLETED)
        too_late.cancel()
        if server.done():
            return server.result()
        signal.alarm(CUT_S)
        return 128 + self._heard[-1] if self._insisted.is_set() else CUT

    async def _serve(self) -> int:
        """Run hypercorn; a lifespan that failed has its line, and no traceback."""
        try:
            app = cast("ASGIFramework", self._gateway.app)  # ours says mappings where hypercorn says TypedDicts
            await hypercorn.asyncio.serve(app, self._config, shutdown_trigger=self._drained, mode="asgi")
        except (LifespanFailureError, LifespanTimeoutError) as error:
            _say(f"argentor {'did not stop cleanly' if self._accepting else 'cannot start'}: {error}")
            return CUT if self._accepting else CANNOT_START
        return OK

    async def _drained(self) -> None:
        """Be hypercorn's shutdown trigger: awaited first when it accepts connections, over when the drain is."""
        self._accepting = True
        _say(f"argentor listens on {self._where}")
        await self._gateway.drain.finished.wait()

    async def _too_late(self) -> None:
        """Return when the server must go as it is: at a second signal, or `STOP_S` after the drain's deadline."""
        await self._gateway.drain.begun.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._gateway.drain.drain_s + STOP_S):
                await self._insisted.wait()

    def _hear(self, number: int) -> None:
        """Drain at the first signal, cut at the second; from then on a signal does what it does by default."""
        self._heard.append(number)
        self._gateway.drain.begin(signal.Signals(number).name)
        if len(self._heard) > 1:
            self._insisted.set()
            for handled in SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(handled)


def _url(bound: socket.socket) -> str:
    """Return where the socket is reached, with the port that it really has."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if bound.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def _without_cancelled(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Report what the loop found, but not that connections were cancelled, which Python 3.11 takes for an error."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  an extra, and 20 ms that only the launcher pays
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

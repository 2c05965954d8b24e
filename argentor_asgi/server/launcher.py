"""`argentor serve`: hypercorn in this one process, with settings in code that its command line has no flag for.

Its advantage over `hypercorn argentor_asgi:app`: the `guards` against hostile clients, the kernel's help against dead
ones; the server goes on answering (503, readiness off) until the gateway has drained and only then closes; the stop has
an end on every Python; a second Ctrl-C is obeyed.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol, cast

import hypercorn.asyncio
from hypercorn.config import Config as ServerConfig
from hypercorn.config import SocketTypeError
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from argentor_asgi.asgi.head import HEADER_BYTES, TARGET_BYTES
from argentor_asgi.asgi.types import App
from argentor_asgi.config import Config
from argentor_asgi.errors import ConfigError
from argentor_asgi.gateway.conversation import ESCAPED, FRAME_OVERHEAD_BYTES
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.signals import SIGNALS
from argentor_asgi.server import guards
from argentor_asgi.server.system import allow_files, harden

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

BACKLOG = 2048
KEEP_ALIVE_S = 5
HEAD_BYTES = TARGET_BYTES + HEADER_BYTES + 8 * 1024
"""What a head may grow to before the server refuses it: more than the gateway takes, whose refusal has words."""
APP_QUEUE = 4
"""How many events of one client wait for the gateway; each may be a whole message."""
START_S = 120
"""How long the lifespan may take to start, which may bring an old database up to date."""
READY_DELAY_S = 1.5
"""How long to go on serving after readiness is off, where nothing is configured: balancers look about once a second."""
GRACEFUL_S = 2.0
"""What hypercorn waits for answers in flight after the drain; its asyncio worker ignores it on Python >= 3.12."""
STOP_S = 5.0
"""How long after the drain the server may take to close and the lifespan to end; then both are cut."""
CUT_S = 1.0
"""How long what was cancelled may take to clean up, before SIGALRM ends the process."""

OK, CUT, CANNOT_START = 0, 1, 2
"""Exit codes: stopped cleanly; stopped by cutting off what did not end; never started. A second signal: 128 + it."""

log = logging.getLogger("argentor.server")


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


def serve(gateway: Gateway, *, bind: Sequence[str] = ("127.0.0.1:8000",), config: Config | None = None) -> int:
    """Serve until the gateway has drained, and return the process's exit code.

    `bind`: `host:port`, `[v6]:port`, `unix:path` or `fd://number` for a socket that a supervisor has opened. `config`:
    what the gateway was made from, by default nothing. Uses uvloop where it is installed. Once it accepts connections
    it writes one line with its URLs to stderr; where it cannot start, one line with the reason. To be called on the
    main thread of a process that does nothing else.
    """
    try:
        sockets = listen(bind)
    except ConfigError as error:
        _say(f"argentor cannot start: {error}")
        return CANNOT_START
    if config is None:
        config = Config()
    elif "shutdown.ready_delay_s" not in config.sources:
        gateway.drain.ready_delay_s = config.shutdown.ready_delay_s or READY_DELAY_S
    allow_files(config.limits.connections)
    where, served = " ".join(_url(bound) for bound in sockets), settings(sockets, config)
    with _guarded(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_Serving(gateway, where, served).run())


def _guarded() -> AbstractContextManager[None]:
    """Return the guards, or nothing where they do not fit what is installed."""
    if strange := guards.unknown():
        log.warning("the guards against hostile clients were not made for %s, and are left out", strange)
        return nullcontext()
    return guards.installed()


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
    config = ServerConfig()
    config.bind = [address]
    try:
        bound: list[socket.socket] = config.create_sockets().insecure_sockets
    except (OSError, OverflowError, ValueError, SocketTypeError) as error:
        return str(error)
    for each in bound:
        harden(each)
    return bound


def settings(sockets: Sequence[socket.socket], config: Config) -> ServerConfig:
    """Return hypercorn's settings, of which half have no flag on its command line; it owns the sockets from here."""
    made = ServerConfig()
    made.bind = [f"fd://{bound.detach()}" for bound in sockets]
    made.backlog = BACKLOG
    made.keep_alive_timeout = KEEP_ALIVE_S
    made.graceful_timeout = GRACEFUL_S
    made.startup_timeout = START_S
    made.shutdown_timeout = config.shutdown.total_s
    made.h11_max_incomplete_size = HEAD_BYTES
    made.max_app_queue_size = APP_QUEUE
    made.websocket_max_message_size = config.limits.message_bytes * ESCAPED + FRAME_OVERHEAD_BYTES
    made.include_server_header = False
    made.accesslog = None
    made.errorlog = logging.getLogger("hypercorn.error")
    made.errorlog.setLevel(logging.WARNING)
    return made


class _Serving:
    """One life of the server: from its start to its exit code.

    What is left when it returns is cancelled by the runner, all at once: cancelling hypercorn alone makes it wait for
    its connections again.
    """

    def __init__(self, gateway: Gateway, where: str, config: ServerConfig) -> None:
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
        signal.setitimer(signal.ITIMER_REAL, CUT_S)
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
        """Return when the server must go as it is: at a second signal, `STOP_S` after the drain, or out of time."""
        drain = self._gateway.drain
        await drain.begun.wait()
        waits = {asyncio.create_task(self._insisted.wait()), asyncio.create_task(self._stuck())}
        within_s = max(0.0, drain.left_s() - CUT_S)
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)

    async def _stuck(self) -> bool:
        await self._gateway.drain.finished.wait()
        await asyncio.sleep(STOP_S)
        return True

    def _hear(self, number: int) -> None:
        """Drain at the first signal, cut at the second; from then on a signal does what it does by default.

        An interrupt comes from a person, who waits for no balancer.
        """
        self._heard.append(number)
        self._gateway.drain.begin(signal.Signals(number).name, at_once=number == signal.SIGINT)
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

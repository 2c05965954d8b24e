"""The connection to one server: made by one task, which alone opens and closes it, and made again when it is lost."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from argentor_asgi.agent.mcp.content import text_of
from argentor_asgi.agent.mcp.sdk import (
    CallRefused,
    ConnectionGone,
    RemoteTool,
    Session,
    Unreachable,
    connected,
    scope,
)
from argentor_asgi.agent.mcp.stderr import stderr_log
from argentor_asgi.agent.skills import SkillOutput
from argentor_asgi.agent_sections import McpServer
from argentor_asgi.api_keys import HIDDEN
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.schema import JsonObject

if TYPE_CHECKING:
    from anyio import CancelScope

TOOLS: Final = 128
"""How many tools of one server become skills."""
CALLS: Final = 16
"""How many calls of one server go on at the same time; the others wait, within their time."""
STABLE_S: Final = 30.0
"""How long a connection must have lasted for the next one to be tried at once."""
PAUSE_MAX_S: Final = 60.0
"""How long the longest pause between two tries is."""
WAIT_S: Final = 5.0
"""How long a call waits for a connection that is not there."""
RELIST_S: Final = 1.0
"""How long the word that tools have changed is left lying, so that many such words are one new list."""
GOODBYE_S: Final = 1.0
"""How long a connection may take to end in good order; from then on nothing is waited for but the end of a process."""
STOP_S: Final = 9.0
"""How long all of its end may take: the SDK gives a process half a second, and then two three times."""
REASON_CHARACTERS: Final = 300

log = logging.getLogger("argentor.mcp")

Listed = Callable[[Sequence[RemoteTool]], None]


def pause_s(failures: int, first_s: float) -> float:
    """Return the seconds to wait before the next try, after so many `failures` in a row."""
    return 0.0 if failures == 0 else min(first_s * 2 ** min(failures - 1, 16), PAUSE_MAX_S)


class Link:
    """One server. `start` and `stop` frame its life; calls may come from any task."""

    def __init__(self, server: McpServer, *, clock: Clock, on_tools: Listed, first_pause_s: float) -> None:
        """Prepare. `on_tools` hears the server's tools whenever they were listed, before any call of them."""
        self.server = server
        self._clock = clock
        self._on_tools = on_tools
        self._first_pause_s = first_pause_s
        self._session: Session | None = None
        self._scope: CancelScope | None = None
        self._is_stopping = self._is_lost = False
        self._places = asyncio.Semaphore(CALLS)
        self._up = asyncio.Event()
        self._tried = asyncio.Event()
        self._wake = asyncio.Event()
        self._relist: asyncio.TimerHandle | None = None
        self._owner: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the server is connected and its tools are known."""
        return self._up.is_set()

    def start(self) -> None:
        """Begin to connect, and keep connected until `stop`."""
        self._owner = asyncio.create_task(self._own(), name=f"MCP server {self.server.name}")

    async def tried(self) -> None:
        """Wait for the end of the first try, whatever came of it."""
        await self._tried.wait()

    async def stop(self) -> None:
        """Disconnect. Takes `STOP_S` at most; a process that outlasts that is told in the log."""
        self._is_stopping = True
        self._wake.set()
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, scope(GOODBYE_S).deadline)
        if self._owner is None:
            return
        if (await asyncio.wait((self._owner,), timeout=STOP_S))[1]:
            log.error("MCP server %s does not end; it is left behind", self.server.name)
            self._owner.cancel()
            await asyncio.wait((self._owner,), timeout=1)

    async def call(self, tool: str, arguments: JsonObject, trace_parent: str | None) -> SkillOutput:
        """Call a tool; what goes wrong is an output with `is_error`. Cancelled, the server is told so."""
        name, timeout_s = self.server.name, self.server.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._asked(tool, arguments, trace_parent)
        except TimeoutError:
            return SkillOutput(f"The MCP server {name} did not answer within {timeout_s:g} s.", is_error=True)
        except ConnectionGone:
            words = "was lost before it answered; what it was asked to do may have happened"
            return SkillOutput(f"The connection to the MCP server {name} {words}.", is_error=True)
        except Unreachable as failure:
            self._change()  # to know whether it was this request or is the server
            return SkillOutput(f"The MCP server {name} was not reached: {failure}", is_error=True)
        except CallRefused as refusal:
            return SkillOutput(f"The MCP server {name} refused the call: {refusal}", is_error=True)

    async def _asked(self, tool: str, arguments: JsonObject, trace_parent: str | None) -> SkillOutput:
        session = await self._present()
        if session is None:
            words = "is not connected; the gateway goes on trying"
            return SkillOutput(f"The MCP server {self.server.name} {words}.", is_error=True)
        try:
            async with self._places:
                answered = await session.call(tool, arguments, trace_parent)
        except ConnectionGone:
            if session is self._session:
                self._lose()
            raise
        return SkillOutput(text_of(answered.parts, answered.structured), answered.is_error)

    async def _present(self) -> Session | None:
        """Return the session, waiting a little for one that is being made."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._up.wait()
        except TimeoutError:
            return None
        return self._session

    async def _own(self) -> None:
        """Connect again and again until told to stop."""
        failures = 0
        while not self._is_stopping:
            began = self._clock.monotonic()
            await self._connect()
            failures = 0 if self._clock.monotonic() - began >= STABLE_S else failures + 1
            self._tried.set()
            await self._pause(pause_s(failures, self._first_pause_s))

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        if self._is_stopping:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _connect(self) -> None:
        """Hold one connection from its making to its end, whatever ends it."""
        self._is_lost = False
        name, within = self.server.name, scope(self.server.timeout_s)
        self._scope = within
        try:
            with within:
                async with self._connected() as session:
                    await self._serve(session, within)
            if within.cancelled_caught and not self._is_stopping:
                log.warning("MCP server %s did not answer within %g s", name, self.server.timeout_s)
        except Exception as error:  # noqa: BLE001  whatever the SDK or the server does, the gateway goes on
            log.warning("MCP server %s: %s", name, self._reason(error))
        finally:
            self._session = None
            self._up.clear()
            if self._relist is not None:
                self._relist.cancel()
                self._relist = None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Session]:
        secrets = tuple(self.server.env.values())
        async with (
            stderr_log(self.server.name, secrets, self._clock) as stderr,
            connected(self.server, stderr=stderr, on_change=self._change, on_end=self._lose) as session,
        ):
            yield session

    async def _serve(self, session: Session, within: "CancelScope") -> None:
        """List the tools, then lie still until the connection is lost, or not wanted any more."""
        self._on_tools(await session.tools(TOOLS))
        self._session = session
        self._up.set()
        self._tried.set()
        log.info("MCP server %s is connected", self.server.name)
        within.deadline = math.inf
        while not self._is_stopping and not self._is_lost:
            await self._wake.wait()
            self._wake.clear()
            if self._relist is not None and not self._is_lost:
                self._relist = None
                await self._list_again(session, within)
        within.deadline = min(within.deadline, scope(GOODBYE_S).deadline)

    async def _list_again(self, session: Session, within: "CancelScope") -> None:
        within.deadline = scope(self.server.timeout_s).deadline
        self._on_tools(await session.tools(TOOLS))
        within.deadline = math.inf

    def _change(self) -> None:
        """List the tools again, soon; if that fails, the connection is made anew."""
        if self._relist is None:
            self._relist = asyncio.get_running_loop().call_later(RELIST_S, self._wake.set)

    def _lose(self) -> None:
        self._is_lost = True
        self._up.clear()
        self._wake.set()

    def _reason(self, error: BaseException) -> str:
        """Return what went wrong in one line, with no secret of the server's in it."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        words = f"{type(error).__name__}: {error}"
        for secret in (*self.server.headers.values(), *self.server.env.values()):
            words = words.replace(secret.reveal(), HIDDEN) if secret.reveal() else words
        return words[:REASON_CHARACTERS]

"""The one door to the `mcp` SDK: a connection to a server, its list of tools, and a call of one.

Both eras of the protocol are spoken, as the SDK finds out: the stateless one of 2026-07-28 (`server/discover`), else
the handshake (`initialize`). The gateway offers servers nothing of its own: no sampling, no elicitation, no roots.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from argentor_asgi.agent_sections import McpServer
from argentor_asgi.errors import ConfigError
from argentor_asgi.protocol.schema import JsonObject, JsonValue

if TYPE_CHECKING:
    from anyio import CancelScope
    from mcp import Client
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.client.session import IncomingMessage
    from mcp.shared.message import SessionMessage

PAGES: Final = 100
"""How many pages of tools one server is asked for."""

UNREACHABLE: Final = -32097
"""The JSON-RPC code of the error in the place of an answer that did not come, of those that servers may make up."""

_LOST: Final = ("Connection closed", "SSE stream ended", "SSE stream failed")
"""How the SDK begins to say that a connection is lost, or the stream that an answer would have come by."""

log = logging.getLogger("argentor.mcp")


class ConnectionGone(Exception):
    """The server, or the session that it had with us, is there no more."""


class CallRefused(Exception):
    """The server did not run the tool; the text says why, in its words."""


class Unreachable(CallRefused):
    """The request could not be sent, or its answer did not come; the text says why."""


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server tells of it; nothing of that is to be trusted."""

    name: str
    description: str
    schema: JsonObject


@dataclass(frozen=True, slots=True)
class Answered:
    """What a tool answered: its parts as they came over the wire, and its structured content, None for none."""

    parts: Sequence[JsonObject]
    structured: JsonValue
    is_error: bool


def load() -> None:
    """Import the SDK, which takes a second. Raises `ConfigError` where it is not installed."""
    try:
        import mcp  # noqa: F401, PLC0415  an extra, and heavy
    except ImportError as error:
        raise ConfigError("mcp.servers is set, which needs an extra: pip install 'argentor-asgi[mcp]'") from error


def scope(seconds: float) -> "CancelScope":
    """Return a scope that is cancelled after `seconds`; a connection must be opened and closed within one.

    Not `asyncio.timeout`: the SDK shields the end of a server's process from its own kind of cancelling alone.
    """
    from anyio import CancelScope, current_time  # noqa: PLC0415  comes with the extra

    return CancelScope(deadline=current_time() + seconds)


@asynccontextmanager
async def connected(
    server: McpServer, *, stderr: TextIO, on_change: Callable[[], None], on_end: Callable[[], None]
) -> AsyncIterator["Session"]:
    """Connect, agree on a version, and disconnect at the end, all in one task and within one `scope`.

    `on_change`: called when the server says that its tools are others now; `on_end`: when it is gone. A command runs
    without a shell, in a process group of its own, with the environment that the SDK hands on (`HOME`, `LOGNAME`,
    `PATH`, `SHELL`, `TERM`, `USER`), `LANG` and the configured one; at the end its stdin is closed, after 2 s its group
    gets SIGTERM, after 2 s more SIGKILL. Raises whatever the SDK raises.
    """
    from anyio import create_task_group  # noqa: PLC0415  comes with the extra
    from mcp import Client, Implementation  # noqa: PLC0415  see `load`
    from mcp.types import ToolListChangedNotification  # noqa: PLC0415  see `load`

    async def heard(message: "IncomingMessage") -> None:
        if isinstance(message, ToolListChangedNotification):
            on_change()

    transport = _watched(_url(server) if server.url else _process(server, stderr), server.name, on_end)
    info = Implementation(name="argentor-asgi", version="1")
    async with (
        Client(transport, client_info=info, message_handler=heard, cache=None) as client,
        create_task_group() as beside,
    ):
        beside.start_soon(_listen, client, on_change)
        yield Session(client)
        beside.cancel_scope.cancel()


async def _listen(client: "Client", on_change: Callable[[], None]) -> None:
    """Hear of other tools from a server of the stateless era, which tells only who asks; the others tell unasked.

    Ends when the server does not tell, or no more: the next connection asks again.
    """
    try:
        async with client.listen(tools_list_changed=True) as news:
            async for _ in news:
                on_change()
    except Exception as error:  # noqa: BLE001  what is missing is news, and nothing depends on it
        log.debug("an MCP server tells of no changes: %s", type(error).__name__)


class Session:
    """A server that is connected. Its calls may be made from any task, many at the same time."""

    def __init__(self, client: "Client") -> None:
        """Wrap the SDK's client, which is open."""
        self._client = client

    async def tools(self, limit: int) -> list[RemoteTool]:
        """Return the server's tools, at most `limit`, from at most `PAGES` pages. Raises whatever the SDK raises."""
        from mcp.types import PaginatedRequestParams  # noqa: PLC0415  see `load`

        found: list[RemoteTool] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await self._client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            found += (RemoteTool(each.name, each.description or "", each.input_schema) for each in page.tools)
            cursor = page.next_cursor
            if cursor is None or len(found) >= limit:
                break
        return found[:limit]

    async def call(self, tool: str, arguments: JsonObject, trace_parent: str | None) -> Answered:
        """Call a tool and wait for its answer; cancelled, the server is told. Raises `ConnectionGone`, `CallRefused`.

        The answer is not held against the tool's output schema, which is the server's as the answer is.
        """
        from mcp import MCPError  # noqa: PLC0415  see `load`
        from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult  # noqa: PLC0415  see `load`
        from pydantic import ValidationError  # noqa: PLC0415  comes with the extra

        meta = None if trace_parent is None else {"traceparent": trace_parent}
        params = CallToolRequestParams.model_validate({"name": tool, "arguments": arguments, "_meta": meta})
        try:
            result = await self._client.session.send_request(CallToolRequest(params=params), CallToolResult)
        except MCPError as error:
            raise _failure(error.code, error.message) from error
        except ValidationError as error:
            raise CallRefused("its answer is none that the protocol has") from error
        parts = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]
        return Answered(parts, result.structured_content, result.is_error)


def _failure(code: int, message: str) -> Exception:
    """Return what an error in the place of a result means, some of which are made up on this side."""
    from mcp.types import CONNECTION_CLOSED, INVALID_REQUEST  # noqa: PLC0415  see `load`

    # The SDK's code for a lost connection is one that servers choose for errors of their own, -32000; it has none for
    # a session that an HTTP server has forgotten (404).
    is_lost = code == CONNECTION_CLOSED and message.startswith(_LOST)
    if is_lost or (code == INVALID_REQUEST and message == "Session terminated"):
        return ConnectionGone()
    return Unreachable(message) if code == UNREACHABLE else CallRefused(message)


def _is_tool(listed: JsonValue) -> bool:
    """Whether the SDK takes this for a tool, in each version of the protocol: all want an object for its arguments."""
    from mcp.types import Tool  # noqa: PLC0415  see `load`
    from pydantic import ValidationError  # noqa: PLC0415  comes with the extra

    try:
        return Tool.model_validate(listed, by_name=False).input_schema.get("type") == "object"
    except ValidationError:
        return False


def _process(server: McpServer, stderr: TextIO) -> AbstractAsyncContextManager["TransportStreams"]:
    from mcp import StdioServerParameters, stdio_client  # noqa: PLC0415  see `load`

    own = {name: secret.reveal() for name, secret in server.env.items()}
    language = {"LANG": os.environ["LANG"]} if "LANG" in os.environ else {}
    command, *arguments = server.command
    parameters = StdioServerParameters(
        command=command, args=arguments, env={**language, **own}, encoding_error_handler="replace"
    )
    return stdio_client(parameters, errlog=stderr)


@asynccontextmanager
async def _url(server: McpServer) -> AsyncIterator["TransportStreams"]:
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415  see `load`

    from argentor_asgi.agent.mcp.bridge import http_client  # noqa: PLC0415  needs the extra

    headers = {name: secret.reveal() for name, secret in server.headers.items()}
    async with (
        http_client(headers, server.timeout_s, unreachable=UNREACHABLE) as client,
        streamable_http_client(str(server.url), http_client=client) as streams,
    ):
        yield streams


@asynccontextmanager
async def _watched(
    transport: AbstractAsyncContextManager["TransportStreams"], name: str, on_end: Callable[[], None]
) -> AsyncIterator["TransportStreams"]:
    async with transport as (reading, writing):
        yield _Watched(reading, name, on_end), writing


class _Watched:
    """A transport's incoming messages, which says when they end: the SDK tells only whoever waits for one.

    What is listed among tools and is none is taken out: the SDK would refuse the whole list for it.
    """

    def __init__(self, stream: "ReadStream[SessionMessage | Exception]", name: str, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._name = name
        self._on_end = on_end

    @property
    def last_context(self) -> object:
        """Who sent the newest message, as the SDK's own streams say it."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> "SessionMessage | Exception":
        return self._taken(await self._stream.receive())

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "SessionMessage | Exception":
        try:
            return self._taken(await anext(self._stream))
        except StopAsyncIteration:
            self._on_end()
            raise

    def _taken(self, message: "SessionMessage | Exception") -> "SessionMessage | Exception":
        result = None if isinstance(message, Exception) else getattr(message.message, "result", None)
        listed = result.get("tools") if isinstance(result, dict) else None
        if isinstance(result, dict) and isinstance(listed, list):
            result["tools"] = [each for each in listed if _is_tool(each)]
            if len(result["tools"]) < len(listed):
                odd = len(listed) - len(result["tools"])
                log.warning("MCP server %s: %d of what it lists are no tools", self._name, odd)
        return message

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)

"""The configured servers' tools as skills in the registry, there as soon as their server has told of them."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

from argentor_asgi.agent.mcp.arguments import ArgumentCheck, SchemaRefused
from argentor_asgi.agent.mcp.link import Link
from argentor_asgi.agent.mcp.names import ambiguous, skill_names
from argentor_asgi.agent.mcp.sdk import RemoteTool, load
from argentor_asgi.agent.permissions import matches_any
from argentor_asgi.agent.skills import Effect, SkillContext, SkillDescriptor, SkillOutput, SkillRegistry
from argentor_asgi.agent_sections import McpServer
from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.schema import JsonObject, encode

START_S: Final = 5.0
"""How long the gateway's start waits for servers; who answers later is there later."""
FIRST_PAUSE_S: Final = 1.0
"""How long after a first failure a server is tried again; after each further one twice as long."""
DESCRIPTION_CHARACTERS: Final = 2000
"""How much of what a server says of a tool is told to models."""
SCHEMA_BYTES: Final = 32 * 1024
"""How long a tool's schema may be as JSON; every request to a model carries it."""
CANCEL_S: Final = 6.0
"""How long a call may take beyond its time while its server is told that nobody waits any more."""

log = logging.getLogger("argentor.mcp")


class McpSkill:
    """A tool of a server as a skill; satisfies `Skill`."""

    __slots__ = ("_check", "_link", "_tool", "descriptor")

    def __init__(self, link: Link, tool: RemoteTool, descriptor: SkillDescriptor) -> None:
        """Prepare the tool's checks. Raises `SchemaRefused`."""
        self.descriptor = descriptor
        self._check = ArgumentCheck(descriptor.parameters_schema)
        self._link = link
        self._tool = tool.name

    def wrong(self, arguments: JsonObject) -> str | None:
        """Return what is wrong with the arguments by the tool's schema; None if nothing is."""
        found = self._check.wrong(arguments)
        return None if found is None else f"argument validation failed for {self.descriptor.name}: {found}"

    async def execute(self, arguments: JsonObject, context: SkillContext) -> SkillOutput:
        """Check the arguments by the tool's schema and call it; cancelled, the server is told so."""
        wrong = self.wrong(arguments)
        if wrong is not None:
            return SkillOutput(wrong, is_error=True)
        return await self._link.call(self._tool, arguments, context.trace_parent)


class McpSource:
    """The configured servers. Open, it keeps them connected and their tools in the registry."""

    def __init__(
        self,
        servers: Sequence[McpServer],
        *,
        registry: SkillRegistry,
        clock: Clock,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """Load the SDK, unless there are no servers.

        Raises `ConfigError` when it is not installed, or two servers have one name.
        """
        names = [server.name for server in servers]
        if len(set(names)) < len(names):
            raise ConfigError("mcp.servers: two servers have the same name")
        if servers:
            load()
        self._registry = registry
        self._marked = ambiguous(names)
        self._names: dict[str, frozenset[str]] = {name: frozenset() for name in names}
        self._links = [
            Link(server, clock=clock, on_tools=partial(self._listed, server.name), first_pause_s=first_pause_s)
            for server in servers
        ]

    @property
    def connected(self) -> Mapping[str, bool]:
        """Whether each server is connected, by its name."""
        return {link.server.name: link.is_up for link in self._links}

    async def __aenter__(self) -> Self:
        """Begin to connect; return when every server was tried once, or after `START_S`, whatever came of it."""
        for link in self._links:
            link.start()
        try:
            async with asyncio.timeout(START_S):
                await asyncio.gather(*(link.tried() for link in self._links))
        except TimeoutError:
            log.warning("MCP servers that do not answer yet: %s", ", ".join(self._missing()))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect from all at the same time and end the processes; the skills stay, and refuse."""
        await self._stop()

    async def _stop(self) -> None:
        await asyncio.gather(*(link.stop() for link in self._links))

    def _missing(self) -> list[str]:
        return [name for name, is_up in self.connected.items() if not is_up]

    def _listed(self, server: str, tools: Sequence[RemoteTool]) -> None:
        """Put a server's tools in the place of those that it had before."""
        link = next(each for each in self._links if each.server.name == server)
        mine = self._names[server]
        taken = frozenset(each.name for each in self._registry.descriptors()) - mine
        names = skill_names(server, (tool.name for tool in tools), taken=taken, is_marked=server in self._marked)
        skills = [made for tool in tools if (made := _skill(link, tool, names.get(tool.name))) is not None]
        skills = list({made.descriptor.name: made for made in skills}.values())
        self._registry.exchange(mine, skills)
        self._names[server] = frozenset(made.descriptor.name for made in skills)
        log.info("MCP server %s: %d of its %d tools are skills", server, len(skills), len(tools))


def _skill(link: Link, tool: RemoteTool, name: str | None) -> McpSkill | None:
    """Return the tool as a skill; None, which the log explains, for one that cannot be offered to a model."""
    if name is None:
        log.warning("MCP server %s: there is no name left for its tool %.100s", link.server.name, tool.name)
        return None
    effect = effect_of(link.server, tool.name)
    descriptor = SkillDescriptor(
        name,
        tool.description[:DESCRIPTION_CHARACTERS],
        tool.schema,
        effect=effect,
        parallel_safe=effect == "read",
        risk_level="low" if effect == "read" else "medium",
        timeout_s=link.server.timeout_s + CANCEL_S,
    )
    try:
        _measure(tool.schema)
        return McpSkill(link, tool, descriptor)
    except SchemaRefused as refusal:
        log.warning("MCP server %s: the schema of its tool %.100s: %s", link.server.name, tool.name, refusal)
        return None


def _measure(schema: JsonObject) -> None:
    """Raise `SchemaRefused` for a schema that nobody would pay for: each model call has all of them."""
    if len(encode(schema)) > SCHEMA_BYTES:
        raise SchemaRefused(f"it is longer than {SCHEMA_BYTES} bytes")


def effect_of(server: McpServer, tool: str) -> Effect:
    """Return what the tool is taken to do: as the operator says, whatever the server says of it."""
    return "read" if matches_any(server.read_only, tool) else server.effect

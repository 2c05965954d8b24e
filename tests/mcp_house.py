"""MCP servers in processes of their own, and a source of skills from them, for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from processes import START_S, STOP_S, eventually, free_port
from skillcalls import context_of

from argentor_asgi.agent.mcp.source import McpSource
from argentor_asgi.agent.skills import Skill, SkillContext, SkillOutput, SkillRegistry
from argentor_asgi.agent_sections import McpServer
from argentor_asgi.ops.clock import SystemClock

TESTS = Path(__file__).parent
DEMO = (sys.executable, str(TESTS / "mcp_demo_server.py"))
OLD = (sys.executable, str(TESTS / "mcp_old_server.py"))
WAIT_S = 30.0
"""How long tests wait for what other processes do, on a busy machine."""


def process(*command: str, name: str = "demo", **settings) -> McpServer:
    return McpServer(name, command=command or DEMO, **{"timeout_s": WAIT_S, **settings})


class Sourced:
    """A registry, and a source open in it: `async with Sourced(process()) as sourced`."""

    def __init__(self, *servers: McpServer, skills: tuple[Skill, ...] = ()):
        self.registry = SkillRegistry(skills)
        self.source = McpSource(servers, registry=self.registry, clock=SystemClock(), first_pause_s=0.05)

    async def __aenter__(self) -> Self:
        await self.source.__aenter__()
        return self

    async def __aexit__(self, *error) -> None:
        await self.source.__aexit__(*error)

    async def up(self, name: str = "demo") -> None:
        await eventually(lambda: self.source.connected[name])

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.registry.descriptors()]

    async def call(self, skill: str, context: SkillContext | None = None, **arguments) -> SkillOutput:
        return await self.registry.call(skill, arguments, context or context_of())


class HttpServer:
    """The demo server behind `url`; `start` and `kill` as often as wanted. `how`: its further arguments."""

    def __init__(self, *how: str):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._how = how
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter, our own arguments
            [*DEMO, str(self.port), *self._how], stdin=subprocess.DEVNULL, start_new_session=True
        )
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the MCP server did not begin to listen")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self.kill()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

"""An MCP server made with the SDK's server side, for tests: over stdio, or over streamable HTTP on a given port.

python mcp_demo_server.py                     # stdio
python mcp_demo_server.py 8123                # http://127.0.0.1:8123/mcp
python mcp_demo_server.py 8123 json           # the same, with JSON answers in the place of streams
"""

import asyncio
import os
import signal
import sys
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer

server = MCPServer("demo", log_level="CRITICAL")
sleepers: set[object] = set()


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("nothing works")


@server.tool(structured_output=False)
async def slow(path: str) -> str:
    """Tell in the file what becomes of the call, and wait for a minute."""
    await asyncio.to_thread(_tell, path, "begun\n")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        _tell(path, "cancelled\n")
        raise
    return "done"


@server.tool(structured_output=False)
async def nap(seconds: float) -> str:
    """Sleep a little, and say how many slept when this one fell asleep."""
    sleepers.add(sleeper := object())
    asleep = len(sleepers)
    await asyncio.sleep(seconds)
    sleepers.discard(sleeper)
    return str(asleep)


@server.tool(structured_output=False)
def big(size: int) -> str:
    """Say a lot."""
    return "x" * size


@server.tool()
def structured() -> dict[str, Any]:
    """Answer with a structure."""
    return {"x": 1, "y": [2, 3]}


@server.tool()
def picture() -> Image:
    """Show a picture."""
    return Image(data=b"\x89PNG", format="png")


@server.tool(structured_output=False)
def variable(name: str) -> str:
    """Read a variable of this process's environment."""
    return os.environ.get(name, "(none)")


@server.tool(structured_output=False)
def pid() -> str:
    """Say which process this is."""
    return str(os.getpid())


@server.tool(structured_output=False)
def mutter(text: str) -> str:
    """Complain on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    return "muttered"


@server.tool()
def die() -> str:
    """End at once, without an answer."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool(structured_output=False)
async def grow(context: Context) -> str:
    """Get another tool, and say so."""
    server.add_tool(echo, name="echo_again")
    await context.notify_tools_changed()  # whoever listens, in the stateless era
    await context.session.send_tool_list_changed()  # every session of the handshake era
    return "grown"


def _tell(path: str, words: str) -> None:
    with open(path, "a") as file:  # noqa: PTH123  as short as it gets
        file.write(words)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response="json" in sys.argv)
    else:
        server.run("stdio")

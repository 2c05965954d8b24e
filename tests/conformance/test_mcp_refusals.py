"""What an MCP server says in the place of a result reaches the model, with a real gateway and a real process."""

import json
import time
from asyncio import sleep

import pytest
from hosted_env import hosted_env
from mcp_house import OLD
from processes import server
from raw_server import raw_server
from recording import client
from told_model import results, script, told

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0


async def listed(http, name):
    """Wait until the gateway has this skill."""
    until = time.monotonic() + PATIENCE_S
    while name not in [each["name"] for each in (await http.get("/api/v1/skills")).json()]:
        assert time.monotonic() < until, name
        await sleep(0.05)


async def test_an_error_of_a_servers_own_is_told_in_its_words_and_ends_no_connection(tmp_path):
    """-32000 is the first code that servers may choose (JSON-RPC 2.0 section 5.1), and the SDK's for a lost one."""
    servers = json.dumps([{"name": "shop", "command": [*OLD, "refusing"]}])
    async with raw_server(told) as raw:
        env = hosted_env(raw.url, mcp_servers=servers)
        async with server("serve", cwd=tmp_path, env=env) as running, client(running.port) as http:
            await listed(http, "shop_get_item")
            calls = [("shop_get_item", {}), ("shop_get_item", {"again": 1})]
            answer = await http.post("/api/v1/agent/chat", json={"message": script(calls)})
            first, second = results(answer.json()["response"])
    assert "refused the call: out of stock, says " in first
    assert second == first  # by the same process

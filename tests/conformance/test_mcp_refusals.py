"""What an MCP server says that it should not costs no more than that, with a real gateway and a real process."""

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


async def test_what_is_no_tool_takes_none_of_the_others_along(tmp_path):
    servers = json.dumps([{"name": "shop", "command": [*OLD, "odd"]}])
    async with raw_server(told) as raw:
        env = hosted_env(raw.url, mcp_servers=servers)
        async with server("serve", cwd=tmp_path, env=env) as running, client(running.port) as http:
            await listed(http, "shop_get_item")
            names = [each["name"] for each in (await http.get("/api/v1/skills")).json()]
            calls = [("shop_get_item", {"at": 1})]
            answer = await http.post("/api/v1/agent/chat", json={"message": script(calls)})
            assert "MCP server shop: 7 of what it lists are no tools" in running.log
    shops = {name for name in names if name.startswith("shop_") and not name.startswith("shop_get_item_")}
    assert shops == {"shop_get_item", "shop_other"}
    assert json.loads(results(answer.json()["response"])[0])["arguments"] == {"at": 1}

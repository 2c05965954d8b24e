"""An MCP server of the first era (2024-11-05) over stdio, by hand: what the SDK's own server would never do.

    python mcp_old_server.py                 # some tools on two pages, odd ones among them
    python mcp_old_server.py endless         # another page behind each page
    python mcp_old_server.py noisy           # words on stdout that are no messages, before each answer
    python mcp_old_server.py odd             # tools among the others that are none
    python mcp_old_server.py refusing        # an error of its own (-32000) in the place of every result of a tool

`other` makes it offer one tool more and say so, unasked.
"""

import json
import os
import sys

ANY = {"type": "object"}
TOOLS = [
    {"name": "get.item", "description": "Get.", "inputSchema": ANY, "annotations": {"readOnlyHint": True}},
    {"name": "get_item", "description": "Get too.", "inputSchema": ANY},
    {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "nonsense"}}}},
    {"name": "long", "inputSchema": {"type": "object", "description": "x" * 40_000}},
    {"name": "other", "description": "x" * 5000, "inputSchema": ANY},
]
NO_TOOLS = [
    {"name": "typeless", "inputSchema": {}},
    {"name": "text", "inputSchema": {"type": "string"}},
    {"name": "bare"},
    {"name": 5, "inputSchema": ANY},
    {"name": "described", "description": ["?"], "inputSchema": ANY},
    "no tool",
    None,
]


def main(how: str) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        if how == "noisy":
            sys.stdout.write("Welcome! {\n")
        send({"jsonrpc": "2.0", "id": message["id"], **answer(message["method"], message.get("params") or {}, how)})


def answer(method: str, params: dict, how: str) -> dict:
    if method == "initialize":
        told = {"protocolVersion": "2024-11-05", "serverInfo": {"name": "old", "version": "1"}}
        return {"result": {**told, "capabilities": {"tools": {"listChanged": True}}}}
    if method == "tools/list":
        return {"result": page(int(params.get("cursor", "0")), how)}
    if method == "tools/call" and how == "refusing":
        return {"error": {"code": -32000, "message": f"out of stock, says {os.getpid()}"}}
    if method == "tools/call" and params["name"] == "other":
        TOOLS.append({"name": "new", "description": "New.", "inputSchema": ANY})
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": json.dumps(params)}]}}
    return {"error": {"code": -32601, "message": "no such method"}}


def page(at: int, how: str) -> dict:
    if how == "endless":
        tools = [{"name": f"tool{at}_{number}", "inputSchema": ANY} for number in range(10)]
        return {"tools": tools, "nextCursor": str(at + 1)}
    if how == "odd":
        return {"tools": [*NO_TOOLS, *TOOLS]}
    return {"tools": TOOLS[:2], "nextCursor": "2"} if at == 0 else {"tools": TOOLS[2:]}


def send(message: dict) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

"""The smallest ASGI callable that passes a model's stream on: the yardstick of `bench sse`, with its instruments.

The model server is where the environment says. Each chunk of its answer is sent on as it is, as one server-sent event.
"""

import asyncio
import json
import os

from bench import bare
from bench.calls import App, Receive, Scope, Send
from bench.modelled import MODEL
from bench.watched import watched

MODELS = "BENCH_MODELS_PORT"
"""The variable that names the model server's port."""
PATH = "/api/v1/chat/stream"
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]


async def passing(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask the model what the client says, and pass its answer on."""
    if scope["type"] != "http" or scope["path"] != PATH:
        await bare.app(scope, receive, send)
        return
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body, is_more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await _pass_on(json.loads(body)["input"], send)
    await send({"type": "http.response.body", "body": b""})


async def _pass_on(said: str, send: Send) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[MODELS]))
    asked = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": said}], "stream": True}).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n" % len(asked) + asked)
    try:
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readline(), 16):
            event = await reader.readexactly(size + 2)
            await send({"type": "http.response.body", "body": event[:-2], "more_body": True})
    finally:
        writer.close()


app: App = watched(passing)

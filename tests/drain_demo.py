"""The smallest app that obeys a drain: `/` answers, `/sse` never ends by itself, a socket echoes until it must go.

`app` is the ASGI callable, `drain` and `app` together what the launcher serves. The lifespan writes `stopped` into the
working directory when the server ended it, so that a test sees that releasing resources had its turn.
"""

import asyncio
import logging
import os
from pathlib import Path

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain

TIMES = {"drain_s": 2, "total_s": 60}

logging.basicConfig(level=logging.INFO)
seconds = {name: float(os.environ.get(f"DEMO_{name.upper()}", default)) for name, default in TIMES.items()}
drain = Drain(clock=SystemClock(), **seconds)
open_streams: set[asyncio.Task] = set()


async def end_streams() -> None:
    while open_streams:
        await asyncio.wait(open_streams)


async def hang() -> None:
    await asyncio.Event().wait()


drain.hook("drain", "streams", hang if os.environ.get("DEMO_HANG") else end_streams)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "http" and scope["path"] != "/sse":
        return await answer(send, b"draining" if drain.draining else b"ok")
    task = asyncio.current_task()
    open_streams.add(task)
    task.add_done_callback(open_streams.discard)
    try:
        await (stream(send) if scope["type"] == "http" else socket(receive, send))
    finally:
        open_streams.discard(task)
    return None


async def lifespan(receive, send):
    await receive()
    if refusal := os.environ.get("DEMO_REFUSE"):
        return await send({"type": "lifespan.startup.failed", "message": refusal})
    try:
        async with drain.install():
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except ConfigError as refused:
        return await send({"type": "lifespan.startup.failed", "message": str(refused)})
    await asyncio.to_thread(Path("stopped").touch)
    await send({"type": "lifespan.shutdown.complete"})
    return None


async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def stream(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"event: open\ndata: {}\n\n", "more_body": True})
    await (hang() if os.environ.get("DEMO_HANG") else drain.begun.wait())
    await send({"type": "http.response.body", "body": b"event: shutdown\ndata: {}\n\n"})


async def socket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    reader = asyncio.create_task(echo(receive, send))
    drained = asyncio.create_task(drain.begun.wait())
    await asyncio.wait({reader, drained}, return_when=asyncio.FIRST_COMPLETED)
    drained.cancel()
    if not reader.done():
        await send({"type": "websocket.close", "code": 1012, "reason": "restart"})
        await asyncio.wait({reader}, timeout=1)
        reader.cancel()


async def echo(receive, send):
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


class Gateway:
    app = staticmethod(app)
    drain = drain


gateway = Gateway()

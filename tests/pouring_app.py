"""A gateway with a socket `/pour` that sends without end, and an event stream `/silence` that never sends anything.

`made` is what the launcher serves. `GET /poured` tells how many of both are open.
"""

import asyncio
from collections.abc import AsyncIterator

from argentor_asgi.asgi.response import EventStream
from argentor_asgi.asgi.route import route, socket
from argentor_asgi.asgi.websocket import Disconnected, WebSocket
from argentor_asgi.compose import gateway
from argentor_asgi.config import Auth, Config, Storage

PIECE = "x" * 16 * 1024
PER_S = 20
"""How many pieces a second each client is sent."""
opened: set[object] = set()


@socket("/pour", needs=None)
async def pour(incoming: WebSocket) -> None:
    """Send until the client has gone or does not read."""
    await incoming.accept()
    opened.add(incoming)
    reading = asyncio.create_task(gone(incoming))
    try:
        while not reading.done():
            await incoming.send(PIECE)
            await asyncio.sleep(1 / PER_S)
    except Disconnected:
        pass
    finally:
        opened.discard(incoming)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def gone(incoming: WebSocket) -> None:
    """Wait until the client has left."""
    try:
        while True:
            await incoming.receive()
    except Disconnected:
        return


async def silence() -> AsyncIterator[bytes]:
    """Begin, and send nothing for ever."""
    opened.add(asyncio.current_task())
    try:
        yield b": begun\n\n"
        await asyncio.get_running_loop().create_future()
    finally:
        opened.discard(asyncio.current_task())


@route("GET", "/silence", needs=None)
async def silent() -> EventStream:
    """Open a stream that says nothing."""
    return EventStream(silence())


@route("GET", "/poured", needs=None)
async def poured() -> dict[str, int]:
    """Count what is open."""
    return {"open": len(opened)}


made = gateway(Config(storage=Storage("memory://"), auth=Auth(allow_anonymous=True)), routes=[pour, silent, poured])
app = made.app

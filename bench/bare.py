"""The smallest ASGI callables that answer what the gateway answers: the yardstick that every ratio divides by.

It imports nothing, so that a server with it shows what the server alone costs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.calls import Receive, Scope, Send

BODY = b'{"status":"ok","service":"argentor"}'
HELLO = '{"type":"connected","session_id":"-","connection_id":"-"}'
PONG = '{"type":"pong"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Answer every request with the health body, every text frame with a pong, and the lifespan with its due."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": BODY})
    elif scope["type"] == "websocket":
        await _socket(receive, send)
    else:
        await _lifespan(receive, send)


async def _socket(receive: "Receive", send: "Send") -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": HELLO})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": PONG})


async def _lifespan(receive: "Receive", send: "Send") -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def nothing(scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Answer nothing: what is left is the cost of the one who calls."""

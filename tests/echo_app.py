"""A socket that says back what it hears, for WebSocket test suites; run, it is served as `argentor serve` serves.

    PYTHONPATH=tests python tests/echo_app.py 127.0.0.1:9001

The socket is `/echo`. Its messages may be as large as the largest of the Autobahn suite, 16 MiB.
"""

import sys

from argentor_asgi.asgi.route import socket
from argentor_asgi.asgi.websocket import Disconnected, WebSocket
from argentor_asgi.compose import gateway
from argentor_asgi.config import Config, Limits, Storage
from argentor_asgi.server.launcher import serve

CONFIG = Config(storage=Storage("memory://"), limits=Limits(message_bytes=6 * 1024 * 1024))


@socket("/echo", needs=None)
async def echo(incoming: WebSocket) -> None:
    """Say back each message until the client leaves."""
    await incoming.accept()
    try:
        while True:
            said = await incoming.receive()
            kind = "text" if isinstance(said, str) else "bytes"  # the gateway itself sends text only
            await incoming._write({"type": "websocket.send", kind: said})
    except Disconnected:
        return


made = gateway(CONFIG, routes=[echo])
app = made.app

if __name__ == "__main__":
    sys.exit(serve(made, bind=sys.argv[1:2], config=CONFIG))

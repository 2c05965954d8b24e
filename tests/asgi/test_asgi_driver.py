"""The driver against a real server: the same requests to the same app give the same answers."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgi_driver import app_of, websocket
from asgi_driver import http as driven
from processes import server
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import EventStream, Response
from argentor_asgi.asgi.route import route, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import Forbidden


@route("GET", "/seen/{text}", needs=None)
async def seen(request: Request, text: str, q: str | None = None) -> list[object]:
    return [request.method, request.path, text, q, request.header("x-many"), request.client]


@route("POST", "/echo", needs=None)
async def echo(request: Request) -> Response:
    return Response(201, await request.body(), "text/plain", [(b"x-own", b"1")])


@route("GET", "/stream", needs=None)
async def stream() -> EventStream:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    return EventStream(pieces())


@route("DELETE", "/nothing", needs=None)
async def nothing() -> None:
    pass


@socket("/ws", needs=None)
async def talk(websocket: WebSocket, allowed: bool = True) -> None:
    if not allowed:
        raise Forbidden
    await websocket.accept("b")
    await websocket.send(await websocket.receive())


app = app_of(seen, echo, stream, nothing, talk)
ID = ("x-request-id", "r-1")


async def really(port: int, method: str, target: str, headers: Any = (), body: Any = b"") -> Any:
    """Make the request over a socket; return status, headers and body."""

    def ask() -> tuple[int, list[tuple[str, str]], bytes]:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        link.putrequest(method, target)
        for name, value in headers:
            link.putheader(name, value)
        chunked = not isinstance(body, bytes)
        if chunked:
            link.putheader("transfer-encoding", "chunked")
        elif body:
            link.putheader("content-length", str(len(body)))
        link.endheaders(iter(body) if chunked else body or None, encode_chunked=chunked)
        answer = link.getresponse()
        read = answer.status, answer.getheaders(), answer.read()
        link.close()
        return read

    return await asyncio.to_thread(ask)


REQUESTS: list[tuple[str, str, Any, Any]] = [
    ("GET", "/seen/a%2Fb%20c?q=%C3%BC", [("x-many", "1"), ("x-many", "2")], b""),
    ("HEAD", "/seen/x", [], b""),
    ("GET", "/seen/%ff", [], b""),
    ("GET", "/nowhere", [], b""),
    ("PUT", "/seen/x", [], b""),
    ("POST", "/echo", [], b"hello"),
    ("POST", "/echo", [], [b"hel", b"lo"]),
    ("POST", "/echo", [], b"x" * 1001),
    ("POST", "/echo", [], b""),
    ("GET", "/stream", [], b""),
    ("DELETE", "/nothing", [], b""),
]
OF_THE_SERVER = {"date", "server", "connection", "transfer-encoding", "alt-svc", "keep-alive", "x-trace-id"}


@pytest.mark.slow
async def test_the_driver_answers_as_a_real_server_does(tmp_path: Path):
    async with server(
        "hypercorn-asyncio", "test_asgi_driver:app", cwd=tmp_path, env={"PYTHONPATH": paths()}
    ) as running:
        for method, target, headers, body in REQUESTS:
            status, fields, read = await really(running.port, method, target, [*headers, ID], body)
            expected = await driven(app, method, target, headers=[*headers, ID], body=body)
            kept = sorted((name.lower(), value) for name, value in fields if name.lower() not in OF_THE_SERVER)
            sent = [(name.decode(), value.decode()) for name, value in expected.headers]
            wanted = sorted((name, value) for name, value in sent if name not in OF_THE_SERVER)
            assert (status, kept, read) == (expected.status, wanted, expected.body), target
        await compare_sockets(running.port)


async def compare_sockets(port: int) -> None:
    async with (
        connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["a", "b"], additional_headers=[ID]) as real,
        websocket(app, "/ws", headers=[ID], subprotocols=["a", "b"]) as peer,
    ):
        await real.send("hi")
        peer.put("hi")
        assert await real.recv() == await peer.get() == "hi"
        assert real.subprotocol == peer.accepted["subprotocol"]
        assert real.response.headers["x-request-id"] == dict(peer.accepted["headers"])[b"x-request-id"].decode()
        await real.wait_closed()
        assert real.close_code == (await peer.end())["code"]
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{port}/ws?allowed=0", additional_headers=[ID])
    async with websocket(app, "/ws?allowed=0", headers=[ID]) as peer:
        response = refused.value.response
        assert (response.status_code, response.body) == (peer.refusal.status, peer.refusal.body)


def paths() -> str:
    here = Path(__file__).parent
    return f"{here}:{here.parent}"

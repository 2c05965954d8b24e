"""The SDK's HTTP through the gateway's own door: its client builds the requests, `net.http` sends them.

So they are under the gateway's policy for addresses and its deadlines, and what a server answers is bounded. A request
that fails is answered with an error of its own: the SDK would give up the connection, and with it every other call.
Imported only to connect to a URL, since it needs `argentor-asgi[mcp]`.
"""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from httpx2 import AsyncBaseTransport, AsyncByteStream, AsyncClient, Request, Response, StreamError

from argentor_asgi.net.http import Answer, Client, HttpFailed, Timeouts
from argentor_asgi.protocol.schema import encode

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""How long an answer may be that is one message; the SDK itself bounds the events of a stream, to 1 MiB each."""
BEYOND_S: Final = 10.0
"""How much longer the wire waits for an answer than whoever asked."""
SILENCE_S: Final = 3600.0
"""How long a stream may be silent on which a server tells news of its own accord."""
CONNECTIONS: Final = 32

_SENDERS = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "user-agent"})
"""Headers that are the business of whoever sends the request."""


@asynccontextmanager
async def http_client(headers: Mapping[str, str], timeout_s: float, *, unreachable: int) -> AsyncIterator[AsyncClient]:
    """Open an HTTP client for the SDK that sends `headers` too. Private addresses are allowed: an operator set them.

    `timeout_s`: how long a call may take, for which the caller sees to it. `unreachable`: the JSON-RPC code of the
    error that a request which failed is answered with.
    """
    timeouts = Timeouts(first_byte_s=timeout_s + BEYOND_S, idle_s=SILENCE_S)
    door = Client(timeouts=timeouts, allow_private=True, connections=CONNECTIONS)
    transport = _Transport(door, unreachable)
    try:
        async with AsyncClient(headers=dict(headers), transport=transport, timeout=None, trust_env=False) as client:
            yield client
    finally:
        await door.aclose()


class _Transport(AsyncBaseTransport):
    """Sends each request through the door."""

    def __init__(self, door: Client, unreachable: int) -> None:
        self._door = door
        self._unreachable = unreachable

    async def handle_async_request(self, request: Request) -> Response:
        """Return the answer as soon as its head is here."""
        headers = {name: value for name, value in request.headers.items() if name not in _SENDERS}
        body = await request.aread() or None
        opened = self._door.open(request.method, str(request.url), headers=headers, body=body)
        try:
            answer = await opened.__aenter__()
        except HttpFailed as failure:
            error = {"code": self._unreachable, "message": str(failure)}
            said = encode({"jsonrpc": "2.0", "id": None, "error": error})
            return Response(502, headers={"content-type": "application/json"}, content=said)
        told = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        return Response(answer.status, headers=told, stream=_Body(opened, answer))


class _Body(AsyncByteStream):
    """An answer's body, bounded unless it is a stream of events. Closed early, it closes the connection."""

    def __init__(self, opened: AbstractAsyncContextManager[Answer], answer: Answer) -> None:
        self._opened = opened
        self._answer = answer
        is_stream = answer.headers.get("content-type", "").lower().startswith("text/event-stream")
        self._left = math.inf if is_stream else MESSAGE_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the body, decoded. Raises `StreamError`, which the SDK takes for the failure of one request."""
        try:
            async for piece in self._answer.chunks():
                self._left -= len(piece)
                if self._left < 0:
                    raise StreamError(f"the answer is longer than {MESSAGE_BYTES} bytes")
                yield piece
        except HttpFailed as failure:
            raise StreamError(str(failure)) from failure

    async def aclose(self) -> None:
        """Leave the answer."""
        await self._opened.__aexit__(None, None, None)

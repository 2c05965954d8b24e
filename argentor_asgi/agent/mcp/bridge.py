"""The SDK's HTTP through the gateway's own door: its client builds the requests, `net.http` sends them.

So they are under the gateway's policy for addresses and its deadlines, and what a server answers is bounded. A request
that fails is answered with an error of its own: the SDK would give up the connection, and with it every other call.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final

from argentor_asgi.net.http import Client, HttpFailed, Timeouts
from argentor_asgi.protocol.schema import encode

if TYPE_CHECKING:
    from httpx2 import AsyncBaseTransport, AsyncClient, Request, Response

    from argentor_asgi.net.http import Answer

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""How long an answer may be that is one message; the SDK itself bounds the events of a stream, to 1 MiB each."""
BEYOND_S: Final = 10.0
"""How much longer the wire waits for an answer than whoever asked."""
SILENCE_S: Final = 3600.0
"""How long a stream may be silent on which a server tells news of its own accord."""
CONNECTIONS: Final = 32
UNREACHABLE: Final = -32097
"""The JSON-RPC code of the error that a request which failed is answered with."""

_WIRE = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "user-agent"})
"""Headers that are the sender's business."""


@asynccontextmanager
async def http_client(headers: Mapping[str, str], timeout_s: float) -> AsyncIterator["AsyncClient"]:
    """Open an HTTP client for the SDK that sends `headers` too. Private addresses are allowed: an operator set them.

    `timeout_s`: how long a call may take, for which the caller sees to it.
    """
    from httpx2 import AsyncClient  # noqa: PLC0415  an extra

    timeouts = Timeouts(first_byte_s=timeout_s + BEYOND_S, idle_s=SILENCE_S)
    door = Client(timeouts=timeouts, allow_private=True, connections=CONNECTIONS)
    try:
        async with AsyncClient(
            headers=dict(headers), transport=_transport(door), timeout=None, trust_env=False
        ) as client:
            yield client
    finally:
        await door.aclose()


def _transport(door: Client) -> "AsyncBaseTransport":
    from httpx2 import AsyncBaseTransport, AsyncByteStream, Response, StreamError  # noqa: PLC0415  an extra

    class Body(AsyncByteStream):
        """An answer's body, bounded unless it is a stream of events. Closed early, it closes the connection."""

        def __init__(self, opened: AbstractAsyncContextManager["Answer"], answer: "Answer") -> None:
            self._opened = opened
            self._answer = answer
            is_stream = answer.headers.get("content-type", "").lower().startswith("text/event-stream")
            self._left = float("inf") if is_stream else MESSAGE_BYTES

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._answer.chunks():
                    self._left -= len(piece)
                    if self._left < 0:
                        raise StreamError(f"the answer is longer than {MESSAGE_BYTES} bytes")
                    yield piece
            except HttpFailed as failure:
                raise StreamError(str(failure)) from failure

        async def aclose(self) -> None:
            await self._opened.__aexit__(None, None, None)

    class Transport(AsyncBaseTransport):
        """Sends each request through the door."""

        async def handle_async_request(self, request: "Request") -> "Response":
            headers = {name: value for name, value in request.headers.items() if name not in _WIRE}
            opened = door.open(request.method, str(request.url), headers=headers, body=await request.aread() or None)
            try:
                answer = await opened.__aenter__()
            except HttpFailed as failure:
                error = {"code": UNREACHABLE, "message": str(failure)}
                said = {"content-type": "application/json"}
                return Response(502, headers=said, content=encode({"jsonrpc": "2.0", "id": None, "error": error}))
            told = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
            return Response(answer.status, headers=told, stream=Body(opened, answer))

    return Transport()

"""Connections of outbound HTTP/1.1: the door to httpx2's own pool. Needs `argentor-asgi[llm]`.

Importing this module raises `ConfigError` where the extra is missing. The pool asks `_Pinned` for every connection,
which goes to an address that was judged, while `Host`, SNI and the certificate keep the name: what a name says later
changes nothing. The layer of httpx2 above the pool is left out because it keeps cookies, follows the environment's
proxies and decodes bodies without a bound, none of which may happen here.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from argentor_asgi.errors import ConfigError
from argentor_asgi.net.dialling import Resolve, reachable
from argentor_asgi.net.failures import HttpFailed, Phase, Timeouts

try:
    import httpcore2
except ImportError as error:
    raise ConfigError(
        "something outside is to be asked, which needs an extra: pip install 'argentor-asgi[llm]'"
    ) from error

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from argentor_asgi.net.addresses import Target

IDLE_CONNECTIONS: Final = 20
"""How many connections are kept for a next request."""
IDLE_S: Final = 15.0
"""How long; below what servers and balancers wait before they close them."""
READ_BYTES: Final = 16 * 1024
"""How much is taken from a connection at a time: what the library makes of it, it makes without letting go."""
PIECES: Final = 64
"""How many pieces of a body are given before others have a turn: they may all be there, of one byte each."""
_WRITES: Final = "http11.send_request_headers.started"
_READS: Final = "http11.receive_response_headers.started"
"""What the library calls the steps of a request at which a phase begins."""
_LIBRARY: Final = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError)
_LATE: Final[Mapping[Phase, str]] = {
    "connect": "no connection came about in time",
    "write": "the request was not taken in time",
    "first_byte": "no answer came in time",
    "idle": "the answer paused for too long",
    "total": "all of it took too long",
}
_CUT: Final = "peer closed connection"
"""How h11 begins what it says of a body that ended early."""
_SILENT: Final = "Server disconnected"
"""How httpcore2 begins what it says of a connection that ended without an answer."""


class Pool:
    """At most `connections` connections. `send` may be used from many tasks of one event loop."""

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        allow_private: bool,
        connections: int,
        trust: "Path | None",
        resolve: Resolve,
    ) -> None:
        """Make no connection yet; raises `ConfigError` where `trust` is a file that holds no certificate."""
        self._timeouts = timeouts
        self._core = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # or it reads the system's for each connection
            max_connections=connections,
            max_keepalive_connections=min(connections, IDLE_CONNECTIONS),
            keepalive_expiry=IDLE_S,
            network_backend=_Pinned(_Trust(trust), allow_private=allow_private, resolve=resolve),
        )

    async def send(
        self,
        method: str,
        target: "Target",
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | None,
        *,
        until: float | None,
    ) -> "Reply":
        """Send a request and return the head of its answer; raises `HttpFailed`. `until`: loop time, None for ever.

        When it raises or is cancelled, the connection is closed.
        """
        wait, times = _Wait(target.host, until), self._timeouts

        async def watch(name: str, _info: object) -> None:
            if name == _WRITES:
                wait.allow("write", times.write_s)
            elif name == _READS:
                wait.allow("first_byte", times.first_byte_s)

        request = httpcore2.Request(
            method,
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers=headers,
            content=body,
            extensions={"timeout": {"connect": times.connect_s}, "trace": watch},
        )
        try:
            async with wait:
                wait.allow("connect", times.connect_s)
                response = await self._core.handle_async_request(request)
        except _LIBRARY as error:
            raise _head_failure(error, target.host) from error
        return Reply(response, target.host, times.idle_s, until)

    async def aclose(self) -> None:
        """Close every connection, those in use too."""
        await self._core.aclose()


class Reply:
    """The head of an answer, and its body as it comes. `headers`: lower-case names, repeated ones joined by a comma."""

    def __init__(self, response: httpcore2.Response, host: str, idle_s: float, until: float | None) -> None:
        self.status = response.status
        self.headers = _joined(response.headers)
        self._response, self._host = response, host
        self._idle_s, self._until = idle_s, until
        self._pieces = response.aiter_stream()
        self._given = 0

    async def piece(self) -> bytes | None:
        """Return the next bytes of the body, undecoded, None at its end; raises `HttpFailed`."""
        self._given += 1
        if not self._given % PIECES:
            await asyncio.sleep(0)
        wait = _Wait(self._host, self._until)
        try:
            async with wait:
                wait.allow("idle", self._idle_s)
                return await anext(self._pieces, None)
        except _LIBRARY as error:
            raise _body_failure(error, self._host) from error

    async def aclose(self) -> None:
        """Give the connection back when the body was read to its end, else close it at once."""
        try:
            await self._pieces.aclose()
        finally:  # a second cancel may come in between, and the place among the connections is to be free
            await self._response.aclose()


class _Wait:
    """`async with` a deadline that knows its phase: at first that of the whole request, loop time or None."""

    def __init__(self, host: str, until: float | None) -> None:
        self._host, self._until = host, until
        self._phase: Phase = "total"
        self._timeout = asyncio.timeout_at(until)

    def allow(self, phase: Phase, seconds: float) -> None:
        """End the wait so many seconds from now, or with the whole request when that ends before."""
        at = asyncio.get_running_loop().time() + seconds
        if self._until is None or at < self._until:
            self._phase = phase
            self._timeout.reschedule(at)
        else:
            self._phase = "total"
            self._timeout.reschedule(self._until)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise HttpFailed(self._phase, f"{self._host}: {_LATE[self._phase]}") from None


class _Trust:
    """What certificates are held against: what the system trusts, and this file too; raises `ConfigError` for it.

    The system's are read by a thread when the first certificate is to be judged: 20 ms that plain HTTP does without.
    """

    def __init__(self, more: "Path | None") -> None:
        self._context = None if more is None else _context(more)

    async def context(self) -> ssl.SSLContext:
        """Return the context to speak TLS with; the same one each time."""
        if self._context is None:
            self._context = await asyncio.to_thread(_context, None)
        return self._context


def _context(more: "Path | None") -> ssl.SSLContext:
    context = httpcore2.default_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        if more is not None:
            context.load_verify_locations(more)
    except OSError as error:
        raise ConfigError(f"{more} holds no certificates that could be trusted") from error
    return context


class _Pinned(httpcore2.AsyncNetworkBackend):
    """Connects to judged addresses only, one after the other."""

    def __init__(self, trust: _Trust, *, allow_private: bool, resolve: Resolve) -> None:
        self._trust, self._allow_private, self._resolve = trust, allow_private, resolve
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the pool's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect within `timeout`, of which each address has its share; raises `HttpFailed`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (timeout or 0)
        found = await reachable(host, port, resolve=self._resolve, allow_private=self._allow_private)
        for left, address in zip(range(len(found), 0, -1), found, strict=True):
            share_s = max(until - loop.time(), 0) / left
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                made = await self._sockets.connect_tcp(address, port, share_s, local_address, socket_options)
                return _Stream(made, self._trust)
        raise HttpFailed("connect", f"{host}: no connection could be made")


class _Stream(httpcore2.AsyncNetworkStream):
    """A plain connection that is closed when TLS does not come about, whatever the reason: a cancel too."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, trust: _Trust) -> None:
        self._stream, self._trust = stream, trust

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,  # noqa: ARG002  the pool's, which trusts nobody
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  the pool's signature
    ) -> httpcore2.AsyncNetworkStream:
        """Speak TLS from here on with who has a certificate for this name."""
        try:
            made = await self._stream.start_tls(await self._trust.context(), server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise
        return _Stream(made, self._trust)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  as above
        """Return what has come, at most `READ_BYTES` of it."""
        return await self._stream.read(min(max_bytes, READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  as above
        """Send all of this."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close at once."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> object:
        """Return what the pool asks of a connection, such as whether it was closed meanwhile."""
        return self._stream.get_extra_info(info)


def _head_failure(error: Exception, host: str) -> HttpFailed:
    """Return what an error of the library means that came before the head of an answer was there."""
    match error:
        case httpcore2.ConnectError():
            return HttpFailed("connect", f"{host}: no connection could be made safe: {error}")
        case httpcore2.ReadError():
            return HttpFailed("first_byte", f"{host}: the connection ended before an answer")
        case httpcore2.RemoteProtocolError() if str(error).startswith(_SILENT):
            return HttpFailed("first_byte", f"{host}: the connection ended before an answer")
        case _:
            return HttpFailed("protocol", f"{host}: what was said is not HTTP/1.1")


def _body_failure(error: Exception, host: str) -> HttpFailed:
    """Return what an error of the library means that came within the body."""
    if isinstance(error, httpcore2.NetworkError) or str(error).startswith(_CUT):
        return HttpFailed("truncated", f"{host}: the answer was cut off")
    return HttpFailed("protocol", f"{host}: what was said is not HTTP/1.1")


def _joined(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found

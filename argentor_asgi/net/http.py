"""Outbound HTTP/1.1: every request that the gateway makes of others goes through here (agent.md 7.3).

    client = Client(timeouts=Timeouts(first_byte_s=20))
    async with client.open("POST", url, headers=headers, body=body) as answer:    # leaving closes the connection,
        async for piece in answer.chunks(): ...                                   # unless the body was read to its end
    page = await client.fetch("GET", url, limit_bytes=1_000_000, redirects=3)

A `Client` belongs to the event loop that first uses it; make it when the application starts and close it with
`aclose`. It asks the environment for no proxy, keeps no cookies, and speaks to judged addresses alone. Whoever waits
may be cancelled at any point: the connection is then closed at once. This module needs no extra, a `Client` does.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from argentor_asgi.net.decoding import ACCEPTED, Decoder
from argentor_asgi.net.dialling import Resolve, resolve
from argentor_asgi.net.failures import HttpFailed, Phase, Timeouts
from argentor_asgi.net.redirects import Hop, judged, next_hop

if TYPE_CHECKING:
    from pathlib import Path

    from argentor_asgi.net.pool import Reply

__all__ = ["Answer", "Client", "Fetched", "HttpFailed", "Phase", "Timeouts"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Names of header fields, and methods (RFC 9110 section 5.6.2)."""
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""What a value may hold (RFC 9110 section 5.5): no CR, LF or NUL, with which one request becomes two."""
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
"""Header fields that say where the request goes and how it is framed."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods of which a request without a body says so (RFC 9110 section 8.6)."""
_SHOWN: Final = 40
"""How much of a wrong name is told."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer. `url`: where it came from in the end. `truncated`: `body` is only its first `limit_bytes`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    truncated: bool


class Answer:
    """An answer whose head is here. `headers`: lower-case names, repeated ones joined by a comma."""

    def __init__(self, reply: "Reply") -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._reply = reply

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the body, decoded, as it comes; call this or `read`, once.

        Raises `HttpFailed` (`idle`, `total`, `truncated`, `protocol`). A body that neither has a length nor is chunked
        ends with its connection, whoever cut that: only what the body says can tell (RFC 9112 section 8).
        """
        return _Chunks(self._reply)

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body, decoded; raises `HttpFailed`, with `too_large` as soon as it is longer than that."""
        body, is_whole = await self.begin(limit_bytes)
        if not is_whole:
            raise HttpFailed("too_large", f"the answer is longer than {limit_bytes} bytes")
        return body

    async def begin(self, limit_bytes: int) -> tuple[bytes, bool]:
        """Return the first bytes of the body, decoded, and whether that is all of it; raises `HttpFailed`."""
        body = bytearray()
        async for piece in self.chunks():
            body += piece
            if len(body) > limit_bytes:
                return bytes(body[:limit_bytes]), False
        return bytes(body), True


class _Chunks:
    """The pieces of a body. No generator: one that is left half-way would be ended by a task of the loop's own."""

    def __init__(self, reply: "Reply") -> None:
        self._reply = reply
        self._decoder = Decoder(reply.headers.get("content-encoding", ""))
        self._decoded: Iterator[bytes] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            for piece in self._decoded:
                return piece
            data = await self._reply.piece()
            if data is None:
                self._decoder.end()
                raise StopAsyncIteration
            self._decoded = self._decoder.feed(data)


class Client:
    """Outbound requests with one set of timeouts and one address policy, on at most `connections` connections.

    `allow_private`: loopback and private addresses too, for what the operator has set; never for what a user or a
    model names. `trust`: a file of further certificates to trust. `resolve`: how names become addresses. Raises
    `ConfigError` without `argentor-asgi[llm]`, or when `trust` cannot be read.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  frozen
        allow_private: bool = False,
        connections: int = 100,
        trust: "Path | None" = None,
        resolve: Resolve = resolve,
    ) -> None:
        from importlib.metadata import version  # noqa: PLC0415  the library below loads it too

        from argentor_asgi.net.pool import Pool  # noqa: PLC0415  loaded when something is to be asked

        self._total_s = timeouts.total_s
        self._ours = {"user-agent": f"argentor-asgi/{version('argentor-asgi')}"}
        self._pool = Pool(timeouts, allow_private=allow_private, connections=connections, trust=trust, resolve=resolve)

    @asynccontextmanager
    async def open(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> AsyncIterator[Answer]:
        """Ask, and give the answer as soon as its head is here; any status, no redirect followed.

        Raises `HttpFailed`. Leaving the block, by whatever way, closes the connection at once, unless the body was
        read to its end. Unless `headers` ask for another, the body comes without a content coding.
        """
        hop = Hop(method, judged(url), headers or {}, body)
        async with self._asked(hop, self._until(), coding="identity") as answer:
            yield answer

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit_bytes: int,
        redirects: int = 0,
        allowed: Callable[[str], bool] | None = None,
    ) -> Fetched:
        """Ask, follow at most so many redirects, and return the whole answer, or its first `limit_bytes`, decoded.

        With `redirects` 0 a redirect is the answer. `allowed` is asked about the host of every hop, in the form of
        `Target.host`; where it says no, and for a hop that the policy forbids, `HttpFailed` (`address`) is raised. A
        hop from https to http, and one too many, is `HttpFailed` (`redirect`). `total_s` is for all hops together.
        """
        until, hop = self._until(), Hop(method, judged(url), headers or {}, body)
        for left in range(redirects, -1, -1):
            if allowed is not None and not allowed(hop.target.host):
                raise HttpFailed("address", f"{hop.target.host} is not among the allowed hosts")
            async with self._asked(hop, until, coding=ACCEPTED) as answer:
                following = next_hop(hop, answer.status, answer.headers.get("location")) if redirects else None
                if following is None:
                    start, is_whole = await answer.begin(limit_bytes)
                    return Fetched(answer.status, answer.headers, start, hop.target.url, truncated=not is_whole)
                if left:
                    hop = following
        raise HttpFailed("redirect", f"{hop.target.host} redirects once more than {redirects} times")

    async def aclose(self) -> None:
        """Close every connection, those in use too; whoever waits for one is told that it ended."""
        await self._pool.aclose()

    def _until(self) -> float | None:
        return None if self._total_s is None else asyncio.get_running_loop().time() + self._total_s

    @asynccontextmanager
    async def _asked(self, hop: Hop, until: float | None, *, coding: str) -> AsyncIterator[Answer]:
        fields = _fields(hop, {**self._ours, "accept-encoding": coding})
        reply = await self._pool.send(hop.method, hop.target, fields, hop.body, until=until)
        try:
            yield Answer(reply)
        finally:
            await reply.aclose()


def _fields(hop: Hop, ours: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a request, `ours` first; raises `HttpFailed` (`protocol`) for what may not be sent.

    The words of that error hold the name of a field and never its value, which may be a key.
    """
    if not _TOKEN.fullmatch(hop.method) or hop.method == "CONNECT":
        raise HttpFailed("protocol", "the method is none that asks for something")
    sent = {"host": hop.target.authority, **ours}
    for name, value in hop.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS or not _VALUE.fullmatch(value):
            raise HttpFailed("protocol", f"the header field {name[:_SHOWN]!r} cannot be sent")
        sent[name.lower()] = value.strip()
    if hop.body is not None or hop.method in _WITH_BODY:
        sent["content-length"] = str(len(hop.body or b""))
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()]

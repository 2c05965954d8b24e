"""From a host to the addresses that may be connected to: resolved once, every one of them judged (agent.md 7.3)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from argentor_asgi.net.addresses import is_literal, refusal
from argentor_asgi.net.failures import HttpFailed

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a name and a port to its addresses, best first; raises OSError where there are none."""
ADDRESSES: Final = 8
"""How many addresses of one name are tried; all that it has are judged."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of this name as the operating system finds them, each once; raises OSError for none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


async def reachable(host: str, port: int, *, resolve: Resolve, allow_private: bool) -> Sequence[str]:
    """Return the addresses of this host, at most `ADDRESSES`; raises `HttpFailed` unless all that it has may be used.

    One refused address refuses the name: who answers a public and a private one plays for time.
    """
    found = [host] if is_literal(host) else await _resolved(host, port, resolve)
    for address in found:
        if word := refusal(address, allow_private=allow_private):
            where = host if host == address else f"{host}, at {address},"
            raise HttpFailed("address", f"{where} is {word}")
    return found[:ADDRESSES]


async def _resolved(host: str, port: int, resolve: Resolve) -> Sequence[str]:
    try:
        found = await resolve(host, port)
    except OSError as error:
        raise HttpFailed("connect", f"{host} has no address") from error
    if not found:
        raise HttpFailed("connect", f"{host} has no address")
    return found

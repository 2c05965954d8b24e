"""Where a request really comes from, when trusted proxies stand before the gateway.

Each proxy adds who spoke to it at the right end of a header. So the walk begins at the peer and goes left as long as
who reports is trusted; the first one who is not is the client, and what stands left of it is its own invention.
Source: RFC 7239 sections 4 to 7, and the custom of `X-Forwarded-For`.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

HOPS: Final = 32
"""How many hops are looked at, from the right."""
HEADER_BYTES: Final = 2048
"""How much of a header is looked at, from the right."""
ANSWERS: Final = 512
"""How many recent answers are remembered."""
BLOCKS: Final = 1024
"""How many IPv6 addresses' blocks are remembered."""
UNIX: Final = "unix"
"""What stands in the list of trusted proxies for those that come in by a Unix socket."""
_ADDRESS_CHARS = 45
_NODE = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5}|:_[a-z0-9._-]+)?|([0-9a-f:.]+)", re.IGNORECASE)
_WORD = r"[!#$%&'*+.^_`|~0-9a-z-]+"  # a token of RFC 9110 section 5.6.2
_PAIR = re.compile(rf'[ \t]*({_WORD})=(?:"([^"\\]*)"|({_WORD}))[ \t]*', re.IGNORECASE)


class Networks:
    """The addresses and networks of trusted proxies."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Parse them once; raises `ValueError` for one that is no address, no network and not `unix`."""
        named = tuple(entries)
        self.has_unix = UNIX in named
        self._networks = tuple(_network(entry) for entry in named if entry != UNIX)

    def __bool__(self) -> bool:
        return self.has_unix or bool(self._networks)

    def __contains__(self, address: "str | None") -> bool:
        """Say whether the address is of a trusted proxy; None is a Unix socket."""
        if address is None:
            return self.has_unix
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)


def _network(entry: str) -> "IPv4Network | IPv6Network":
    from ipaddress import ip_network  # noqa: PLC0415  only where proxies are configured

    try:
        return ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{entry!r} is no address or network of a proxy: {error}") from None


def client_address(
    peer: str | None, forwarded: bytes | None, forwarded_for: bytes | None, trusted: Networks
) -> str | None:
    """Return the address of the client, None for an unnamed one on a Unix socket.

    `peer`: who spoke to the server, None for a Unix socket. `forwarded`, `forwarded_for`: the values of `Forwarded` and
    `X-Forwarded-For`, believed only from a trusted peer. A hop that is no address, or hidden, ends the walk: then the
    client is the last one that was trusted. When both headers came and disagree, one of them is the client's own
    invention that a proxy let through, and nobody can say which: then it is the peer.
    """
    # PERF: without proxies, no call and no lookup.
    if not (forwarded or forwarded_for) or not trusted:
        return peer
    return _client(peer, _tail(forwarded), _tail(forwarded_for), trusted)


def _tail(value: bytes | None) -> bytes:
    """Return the end of the header, whole hops only."""
    if value is None or len(value) <= HEADER_BYTES:
        return value or b""
    return value[-HEADER_BYTES:].partition(b",")[2]


@lru_cache(maxsize=ANSWERS)
def _client(peer: str | None, forwarded: bytes, forwarded_for: bytes, trusted: Networks) -> str | None:
    if peer not in trusted:
        return peer
    answers = {
        _walk(peer, hops, trusted)
        for value, hops in ((forwarded, _forwarded(forwarded)), (forwarded_for, _hops(forwarded_for)))
        if value
    }
    return answers.pop() if len(answers) == 1 else peer


def _walk(peer: str | None, hops: Iterable[str], trusted: Networks) -> str | None:
    """Follow the hops, nearest first, until one is not trusted or says nothing."""
    client = peer
    for hop in hops:
        address = _address(hop)
        if address is None:
            return client
        client = address
        if client not in trusted:
            return client
    return client


def _hops(value: bytes) -> Iterator[str]:
    """Yield the elements of the list that are not empty, from the right."""
    parts = value.decode("latin-1").rsplit(",", HOPS)
    whole = parts if len(parts) <= HOPS else parts[1:]
    return (part.strip(" \t") for part in reversed(whole) if part.strip(" \t"))


def _forwarded(value: bytes) -> Iterator[str]:
    """Yield what each element of a `Forwarded` says about who it is for, from the right; empty when nothing.

    A comma or semicolon within quotes makes the element one that says nothing: no address has any.
    """
    return (_for(element) for element in _hops(value))


def _for(element: str) -> str:
    pairs = [_PAIR.fullmatch(pair) for pair in element.split(";")]
    found = [pair[2] or pair[3] or "" for pair in pairs if pair and pair[1].lower() == "for"]
    return found[0] if None not in pairs and len(found) == 1 else ""


def _address(node: str) -> str | None:
    """Return the address of a node in its one spelling, without its port; None for any other node."""
    found = _NODE.fullmatch(node)
    parsed = _parsed(found[1] or found[2] or found[3]) if found else None
    if found is None or parsed is None or (found[1] and ":" not in found[1]):
        return None
    return str(parsed)


def _parsed(text: str) -> "IPv4Address | IPv6Address | None":
    """Return the address, an IPv4 one that is mapped into IPv6 as itself; None for a text that is none."""
    from ipaddress import IPv6Address, ip_address  # noqa: PLC0415  only where proxies are configured or IPv6 comes in

    try:
        found = ip_address(text) if len(text) <= _ADDRESS_CHARS else None
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def block_of(address: str) -> str:
    """Return what callers at an address are counted by: the IPv4 address, or the IPv6 /64 that one customer has.

    RFC 6177 section 2: a site gets at least a /64, so single IPv6 addresses cost nothing.
    """
    return _block(address) if ":" in address else address[:_ADDRESS_CHARS]


@lru_cache(maxsize=BLOCKS)
def _block(address: str) -> str:
    from ipaddress import IPv6Address, ip_network  # noqa: PLC0415  only where IPv6 comes in

    found = _parsed(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return address[:_ADDRESS_CHARS] if found is None else str(found)

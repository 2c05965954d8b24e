"""Which addresses the gateway may connect to, and what a URL says, decided in plain functions (agent.md 7.3).

A name is resolved once, every address it has is judged here, and the connection goes to an address that was judged:
what a name says a moment later matters to nobody. The tables are those of IANA's special-purpose address registries
(RFC 6890), written out because the standard library's differ from one Python to the next.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Ip = IPv4Address | IPv6Address
    Network = IPv4Network | IPv6Network

URL_CHARACTERS: Final = 8192
"""The longest URL that is taken."""
HOST_CHARACTERS: Final = 253
"""The longest name that DNS has (RFC 1035 section 3.1, less the length bytes)."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_NEVER: Final = {
    "0.0.0.0/8": "unspecified",  # RFC 1122 section 3.2.1.3; Linux takes it for this host
    "169.254.0.0/16": "link-local",  # RFC 3927; the metadata of most clouds
    "100.100.100.200/32": "metadata",  # Alibaba Cloud, within what carriers share
    "168.63.129.16/32": "metadata",  # Azure, within what is public
    "192.0.0.0/24": "reserved",  # RFC 6890; Oracle Cloud's metadata
    "192.0.2.0/24": "reserved",  # RFC 5737
    "192.88.99.0/24": "reserved",  # RFC 7526
    "198.51.100.0/24": "reserved",  # RFC 5737
    "203.0.113.0/24": "reserved",  # RFC 5737
    "224.0.0.0/4": "multicast",  # RFC 5771
    "255.255.255.255/32": "broadcast",  # RFC 919 section 7
    "240.0.0.0/4": "reserved",  # RFC 1112 section 4
    "::/128": "unspecified",  # RFC 4291 section 2.5.2
    "fe80::/10": "link-local",  # RFC 4291 section 2.5.6
    "fec0::/10": "reserved",  # RFC 3879
    "ff00::/8": "multicast",  # RFC 4291 section 2.7
    "fd00:ec2::/32": "metadata",  # AWS
    "fd20:ce::/32": "metadata",  # Google Cloud
    "2001::/23": "reserved",  # RFC 2928; Teredo, which lies in it, is looked into before
    "2001:db8::/32": "reserved",  # RFC 3849
    "3fff::/20": "reserved",  # RFC 9637
}
"""What nobody may connect to, most telling word first where two networks hold an address."""
_PRIVATE: Final = {
    "10.0.0.0/8": "private",  # RFC 1918
    "172.16.0.0/12": "private",  # RFC 1918
    "192.168.0.0/16": "private",  # RFC 1918
    "127.0.0.0/8": "loopback",  # RFC 1122 section 3.2.1.3
    "100.64.0.0/10": "private",  # RFC 6598
    "198.18.0.0/15": "private",  # RFC 2544
    "::1/128": "loopback",  # RFC 4291 section 2.5.3
    "fc00::/7": "private",  # RFC 4193
}
"""What only an operator may send the gateway to."""
_GLOBAL: Final = "2000::/3"
"""All of IPv6 that is given out; the rest is reserved (RFC 4291 section 2.4)."""
_INVERTED: Final = -1
_WRAPPERS: Final = {
    "::ffff:0:0/96": (0,),  # IPv4-mapped: RFC 4291 section 2.5.5.2
    "::/96": (0,),  # IPv4-compatible: RFC 4291 section 2.5.5.1
    "64:ff9b::/96": (0,),  # NAT64: RFC 6052 section 2.1
    "64:ff9b:1::/96": (0,),  # local NAT64: RFC 8215; the other forms in its /48 are reserved here
    "2002::/16": (80,),  # 6to4: RFC 3056 section 2
    "2001::/32": (64, _INVERTED),  # Teredo: RFC 4380 section 4: its server, and the client, inverted
}
"""Networks whose addresses hold IPv4 addresses, and how many bits from the right these lie.

`_INVERTED`: at the right, with all bits flipped.
"""

_URL: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?")
_UNWELCOME: Final = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEVIATIONS: Final = re.compile("[\u00df\u03c2\u200c\u200d]")
"""Letters that the two standards for international names read differently (UTS 46 section 1.3.2)."""
_TARGET_SAFE: Final = "/?:@!$&'()*+,;=-._~%[]"


def refusal(address: str, *, allow_private: bool = False) -> str | None:
    """Say in a word why nobody may connect to this IP address; None where one may.

    `address`: as a resolver gives it, IPv4 or IPv6; what is neither is refused too. `allow_private`: loopback and
    private networks are let through, as for what an operator has set; nothing else is. An IPv6 address that only wraps
    IPv4 addresses is judged by each of them.
    """
    from ipaddress import ip_address  # noqa: PLC0415  a gateway without outbound calls does not pay for it

    try:
        ip = ip_address(address)
    except ValueError:
        return "not an IP address"
    words = (_word(inner, allow_private=allow_private) for inner in _innermost(ip))
    return next((word for word in words if word), None)


def is_literal(host: str) -> bool:
    """Say whether this is an IP address and no name."""
    from ipaddress import ip_address  # noqa: PLC0415  as in `refusal`

    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _innermost(ip: "Ip") -> "Iterator[Ip]":
    """Yield the IPv4 addresses that this one wraps, or itself."""
    from ipaddress import IPv4Address  # noqa: PLC0415  as in `refusal`

    value = int(ip)
    if ip.version == 4 or value <= 1:  # noqa: PLR2004  the unspecified address and loopback only look like wrappers
        yield ip
        return
    shifts = next((shifts for network, shifts in _tables().wrappers.items() if ip in network), None)
    if shifts is None:
        yield ip
    for shift in shifts or ():
        part = ~value if shift == _INVERTED else value >> shift
        yield IPv4Address(part & 0xFFFF_FFFF)


def _word(ip: "Ip", *, allow_private: bool) -> str | None:
    tables = _tables()
    if word := _listed(ip, tables.never):
        return word
    if word := _listed(ip, tables.private):
        return None if allow_private else word
    return None if ip.version == 4 or ip in tables.given_out else "reserved"  # noqa: PLR2004  IPv4 is all listed


def _listed(ip: "Ip", table: "Mapping[Network, str]") -> str | None:
    return next((word for network, word in table.items() if ip in network), None)


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables above with their networks parsed."""

    never: "Mapping[Network, str]"
    private: "Mapping[Network, str]"
    wrappers: "Mapping[Network, tuple[int, ...]]"
    given_out: "Network"


@cache
def _tables() -> _Tables:
    from ipaddress import ip_network  # noqa: PLC0415  as in `refusal`

    return _Tables(
        never={ip_network(text): word for text, word in _NEVER.items()},
        private={ip_network(text): word for text, word in _PRIVATE.items()},
        wrappers={ip_network(text): shifts for text, shifts in _WRAPPERS.items()},
        given_out=ip_network(_GLOBAL),
    )


# --- URLs --------------------------------------------------------------------------------------------------------


class UrlRefused(ValueError):
    """The gateway asks nothing of this URL; the text says why and holds nothing of the URL but its host."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, read in one way only.

    `host`: a name in lower case as DNS has it (A-labels, no dot at its end), or an address without brackets. `port`:
    1 to 65535. `path`: path and query as they are sent, percent-encoded, never empty. There is no fragment.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What `Host` says (RFC 9110 section 7.2): the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454): whom credentials are for."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The URL that this is, written in the one way that this module writes it."""
        return self.origin + self.path


def target(url: str) -> Target:
    """Read an absolute `http` or `https` URL; raises `UrlRefused` for all that two programs might read differently.

    Refused are user information, white space and control characters, backslashes, a host with percent signs, and any
    number that is no IPv4 address of four decimal parts, such as `2130706433`, `0x7f.1` or `0177.0.0.1`, which
    resolvers take for one (inet_aton(3)). Source: RFC 3986 section 3; WHATWG URL section 3.5.
    """
    if len(url) > URL_CHARACTERS:
        raise UrlRefused(f"the URL has more than {URL_CHARACTERS} characters")
    if _UNWELCOME.search(url):
        raise UrlRefused("the URL holds white space, a control character or a backslash")
    found = _URL.fullmatch(url)
    if found is None:
        raise UrlRefused("the URL is not an absolute http or https URL")
    scheme = found[1].lower()
    host, port = _authority(found[2])
    return Target(scheme, host, DEFAULT_PORTS[scheme] if port is None else port, _path(found[3]))


def _authority(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise UrlRefused("the URL holds user information")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise UrlRefused("the URL has no host, or one that is none")
    port = int(found[3]) if found[3] else None
    if port is not None and not 1 <= port <= 65535:  # noqa: PLR2004  the ports that TCP has
        raise UrlRefused("the URL's port is none")
    return _ipv6(found[1]) if found[1] else host_name(found[2]), port


def host_name(text: str) -> str:
    """Return a host as `Target.host` has it: an IPv4 address or a name; raises `UrlRefused` for what is neither."""
    name = (text if text.isascii() else _a_labels(text)).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused("the URL's host is no name that DNS has")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(name)
    return name


def _a_labels(text: str) -> str:
    """Return an international name in ASCII, as the resolver would write it (RFC 3490 section 4)."""
    if _DEVIATIONS.search(text):
        raise UrlRefused("the URL's host has letters that are read in two ways; write its A-labels")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise UrlRefused("the URL's host is no international name") from error


def _ipv4(text: str) -> str:
    from ipaddress import AddressValueError, IPv4Address  # noqa: PLC0415  as in `refusal`

    try:
        return str(IPv4Address(text))
    except AddressValueError as error:
        raise UrlRefused("the URL's host is a number; write an IPv4 address as four decimal parts") from error


def _ipv6(text: str) -> str:
    from ipaddress import AddressValueError, IPv6Address  # noqa: PLC0415  as in `refusal`

    try:
        ip = IPv6Address(text)
    except AddressValueError as error:
        raise UrlRefused("the URL's host is no IPv6 address") from error
    # Python writes these in two ways, by its version.
    return f"::ffff:{ip.ipv4_mapped}" if ip.ipv4_mapped else str(ip)


def _path(text: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415  as in `refusal`

    path = quote(text, safe=_TARGET_SAFE)
    return path if path.startswith("/") else f"/{path}"

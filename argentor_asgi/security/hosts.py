"""What names this machine, and what is a web origin: rules on the text of `Host`, `Origin` and addresses."""

import re
from functools import lru_cache

from argentor_asgi.settings import origin_of

DECISIONS = 1024
"""How many recent answers each of the questions about hosts and origins remembers."""
HEADER_BYTES = 512
"""How long a `Host` or `Origin` may be before it is refused unread."""
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?")
_HIGHEST_PORT = 65_535


@lru_cache(maxsize=DECISIONS)
def is_loopback(address: str) -> bool:
    """Say whether a text is an address in 127.0.0.0/8, ::1, or one of the former mapped into IPv6."""
    from ipaddress import IPv6Address, ip_address  # noqa: PLC0415  not needed where keys are configured

    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


@lru_cache(maxsize=DECISIONS)
def is_local_name(host: bytes) -> bool:
    """Say whether a `Host` names this machine: `localhost`, a name under it, or a loopback address, with any port."""
    found = _AUTHORITY.fullmatch(host.decode("latin-1").lower()) if len(host) <= HEADER_BYTES else None
    if found is None or int(found[3] or 0) > _HIGHEST_PORT:
        return False
    v6, name, _ = found.groups()
    if v6:
        return ":" in v6 and is_loopback(v6)
    labels = name.split(".")
    return is_loopback(name) or (labels[-1] == "localhost" and "" not in labels)


@lru_cache(maxsize=DECISIONS)
def page_origin(origin: bytes) -> str | None:
    """Return an `Origin` in its one spelling; None for what is not one: `null`, a list, a text too long."""
    try:
        return origin_of(origin.decode("latin-1")) if len(origin) <= HEADER_BYTES else None
    except ValueError:
        return None

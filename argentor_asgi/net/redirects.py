"""What the next request is when an answer points elsewhere, decided in one plain function (RFC 9110 section 15.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from argentor_asgi.net.addresses import Target, UrlRefused, target
from argentor_asgi.net.failures import HttpFailed

SEE_OTHER: Final = 303
REDIRECTS: Final = frozenset({301, 302, SEE_OTHER, 307, 308})
_KEEP_METHOD: Final = frozenset({307, 308})
_HARMLESS: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "cache-control", "content-language", "content-type"),
        *("if-modified-since", "if-none-match", "range", "user-agent"),
    }
)
"""All that is told to another origin: whatever else a caller sends may be a credential, whatever its name."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One request on the way. `headers`: the caller's own."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes | None


def judged(url: str) -> Target:
    """Read a URL; raises `HttpFailed` (`address`) for one that `target` refuses."""
    try:
        return target(url)
    except UrlRefused as error:
        raise HttpFailed("address", str(error)) from error


def next_hop(hop: Hop, status: int, location: str | None) -> Hop | None:
    """Return the request that an answer of this status and `Location` sends a client to, None where to nowhere.

    303 becomes a GET, as does a POST by 301 and 302, without its body. Raises `HttpFailed`: `redirect` from https to
    http, `address` for a location that is no URL of the web. The caller counts the hops and judges the host.
    """
    if status not in REDIRECTS or not location:
        return None
    there = judged(_joined(hop.target.url, location))
    if hop.target.scheme == "https" and there.scheme == "http":
        raise HttpFailed("redirect", f"{hop.target.host} redirects from https to http")
    headers = hop.headers
    if there.origin != hop.target.origin:
        headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
    if _is_kept(hop.method, status):
        return Hop(hop.method, there, headers, hop.body)
    headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    return Hop("GET", there, headers, None)


def _is_kept(method: str, status: int) -> bool:
    return method in ("GET", "HEAD") or status in _KEEP_METHOD or (status != SEE_OTHER and method != "POST")


def _joined(url: str, location: str) -> str:
    from urllib.parse import urljoin  # noqa: PLC0415  most answers lead nowhere

    try:
        return urljoin(url, location)
    except ValueError as error:
        raise HttpFailed("address", "the location is no URL") from error

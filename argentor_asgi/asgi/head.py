"""The head of a request or handshake, judged before anything is routed: what the server below lets through.

Two readers of one head that disagree about it are how requests are smuggled (RFC 9112 section 11.2), so whatever has
two readings is refused, and the connection with it. What is refused here and why no server does it: HTTP servers for
ASGI take heads of any size, both framings at once, any `Host`, and paths with control characters or dot segments.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from argentor_asgi.asgi.types import Scope
from argentor_asgi.errors import BadRequest, GatewayError, HeadersTooLarge, HttpVersionRefused, TargetTooLong

Fields: TypeAlias = dict[bytes, bytes]
"""Header fields by lower-case name, repeated ones joined."""

TARGET_BYTES: Final = 8 * 1024
"""How long path and query may be together."""
HEADER_FIELDS: Final = 100
"""How many header fields there may be."""
HEADER_BYTES: Final = 16 * 1024
"""How long their names and values may be together."""
REMEMBERED: Final = 1024
"""How many good paths, and how many good hosts, are known again without being read."""
REMEMBERED_BYTES: Final = 256
"""How long a path or host may be to be remembered."""
CLOSE: Final = (b"connection", b"close")
"""What goes with every refusal of a head or body in HTTP/1: where the next request begins is not certain."""

_QUERY_BYTES: Final = TARGET_BYTES - REMEMBERED_BYTES
_DIGITS: Final = 18
_ORDINARY_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STREAMED: Final = frozenset({"2", "3"})
"""The major versions that carry many requests side by side."""

_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_length = re.compile(rb"[0-9]{1,%d}" % _DIGITS).fullmatch
_is_plain_path = re.compile(rb"/[A-Za-z0-9_~!$&'()*+,;=:@/-]*").fullmatch
_never_in_path = re.compile(rb"[\x00-\x1f\x7f\\]").search
_never_in_value = re.compile(rb"[\x00\r\n]").search
_LABEL: Final = r"(?:[A-Za-z0-9_~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+"
_authority = re.compile(
    rf"(?:\[(?:[0-9A-Fa-f:.]+|v[0-9A-Fa-f]+\.[A-Za-z0-9_~!$&'()*+,;=:.-]+)\]|{_LABEL}(?:\.{_LABEL})*\.?)"
    r"(?::([0-9]{0,5}))?".encode()
).fullmatch
_HIGHEST_PORT: Final = 65_535


def joined(headers: Sequence[tuple[bytes, bytes]]) -> Fields:
    """Return header fields by name, repeated ones joined: cookies by "; " (RFC 6265), others by ", " (RFC 9110 5.3)."""
    fields = dict(headers)
    if len(fields) == len(headers):
        return fields
    fields = {}
    for name, value in headers:
        before = fields.get(name)
        glue = b"; " if name == b"cookie" else b", "
        fields[name] = value if before is None else before + glue + value
    return fields


def announces_body(scope: Scope, fields: Fields) -> bool:
    """Say whether a body may follow the head: HTTP/1 has to announce one, later versions need not."""
    length = fields.get(b"content-length")
    if length is None:
        return b"transfer-encoding" in fields or not is_http1(scope)
    return length != b"0"


def head_reader() -> Callable[[Scope], tuple[Fields, bool]]:
    """Return the function that judges heads: it returns their fields, and whether a body may follow (`announces_body`).

    It remembers good paths and hosts, within bounds. It raises `TargetTooLong`, `HeadersTooLarge`, `HttpVersionRefused`
    and `BadRequest`, in HTTP/1 with `CLOSE`.
    """
    paths: set[bytes] = set()
    hosts: set[bytes] = set()
    join = b"".join

    def head(scope: Scope) -> tuple[Fields, bool]:
        # PERF: a few calls into C settle an ordinary head. Its path and host were met before, and its length is told by
        # joining it, where a list is half the price of the dictionary's views. Line breaks and NUL are not looked for,
        # since no server lets them through in HTTP/1.1.
        headers = scope["headers"]
        fields = dict(headers)
        try:
            if (
                ((path := scope["raw_path"]) in paths or _is_new(path, paths))
                and fields[b"host"] in hosts
                and scope["http_version"] == "1.1"
                and scope["method"] in _ORDINARY_METHODS
                and len(scope["query_string"]) <= _QUERY_BYTES
                and len(fields) == len(headers) <= HEADER_FIELDS
                and b"transfer-encoding" not in fields
                and ((length := fields.get(b"content-length")) is None or (length.isdigit() and len(length) <= _DIGITS))
                and len(join([*fields, *fields.values()])) <= HEADER_BYTES
            ):
                return fields, length is not None and length != b"0"
        except KeyError:
            pass
        return _examined(scope, paths, hosts)

    return head


def _examined(scope: Scope, paths: set[bytes], hosts: set[bytes]) -> tuple[Fields, bool]:
    """Look at everything, and remember a good path and host."""
    fields = joined(scope["headers"])
    raw_path = scope.get("raw_path") or b""
    version = _version(scope)
    try:
        _check_size(scope)
        _check_start(scope)
        _check_values(fields)
        _check_path(raw_path or scope["path"].encode("utf-8", "surrogatepass"))
        _check_framing(fields, version)
        _check_host(fields.get(b"host"), version)
    except GatewayError as error:
        if is_http1(scope):
            error.headers = (*error.headers, CLOSE)
        raise
    _remember(paths, raw_path)
    _remember(hosts, fields.get(b"host", b""))
    return fields, announces_body(scope, fields)


def is_http1(scope: Scope) -> bool:
    """Say whether the connection speaks HTTP/1, or what passes for it, where one bad request spoils what follows it."""
    return _major(scope) not in _STREAMED


def _version(scope: Scope) -> str:
    """Return the HTTP version, which ASGI lets a server leave out of a handshake."""
    return scope.get("http_version", "1.1")  # type: ignore[no-any-return]  # ASGI: a text


def _major(scope: Scope) -> str:
    return _version(scope).partition(".")[0]


def _is_new(path: bytes, paths: set[bytes]) -> bool:
    """Say whether a path is good at first sight, and remember it."""
    if len(path) > REMEMBERED_BYTES or not _is_plain_path(path):
        return False
    _remember(paths, path)
    return True


def _remember(known: set[bytes], text: bytes) -> None:
    if not text or len(text) > REMEMBERED_BYTES:
        return
    if len(known) >= REMEMBERED:
        known.clear()
    known.add(text)


def _check_size(scope: Scope) -> None:
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    target_bytes = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
    if target_bytes > TARGET_BYTES:
        raise TargetTooLong(f"Path and query may have {TARGET_BYTES} bytes.")
    if len(headers) > HEADER_FIELDS:
        raise HeadersTooLarge(f"A request may have {HEADER_FIELDS} header fields.")
    if sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
        raise HeadersTooLarge(f"The header fields may have {HEADER_BYTES} bytes.")


def _check_start(scope: Scope) -> None:
    """Refuse versions that nobody speaks, HTTP/2 in clear text, which proxies tunnel unseen, and odd methods.

    Those are the ones that only proxies serve, or that echo. A later minor version is the one that is known (RFC 9110
    section 2.5); a handshake has at least HTTP/1.1 (RFC 6455 section 4.1).
    """
    major = _major(scope)
    if major != "1" and major not in _STREAMED:
        raise HttpVersionRefused("The versions of HTTP that are served are 1.0, 1.1, 2 and 3.")
    if major == "2" and scope.get("scheme") in {"http", "ws"}:
        raise HttpVersionRefused
    if scope["type"] == "websocket" and _version(scope) == "1.0":
        raise BadRequest("A handshake is made in HTTP/1.1 or later.")
    method = scope.get("method", "GET")
    if method == "CONNECT" or not _is_token(method):
        raise BadRequest("The method is not one that the gateway takes.")


def _check_values(fields: Fields) -> None:
    if any(_never_in_value(value) for value in fields.values()):
        raise BadRequest("A header field has a line break or NUL in it.")


def _check_path(path: bytes) -> None:
    """Refuse what a proxy and its origin may read differently: control characters, backslashes, dot segments."""
    if _is_plain_path(path):
        return
    plain = unquote_to_bytes(path)
    if _never_in_path(plain):
        raise BadRequest("The path has a control character or a backslash in it.")
    if not {b".", b".."}.isdisjoint(plain.split(b"/")):
        raise BadRequest("The path has a dot segment in it.")


def _check_framing(fields: Fields, http_version: str) -> None:
    """Refuse a body whose end is told in two ways or in none that is sure (RFC 9112 sections 6.1 and 6.3)."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if length is not None and not _is_length(length):
        raise BadRequest("Content-Length is not one whole number.")
    if coding is None:
        return
    if length is not None:
        raise BadRequest("A request has either a Content-Length or a Transfer-Encoding.")
    if http_version != "1.1" or coding.strip(b" \t").lower() != b"chunked":
        raise BadRequest("The only Transfer-Encoding is chunked, in HTTP/1.1.")


def _check_host(host: bytes | None, http_version: str) -> None:
    """Refuse a `Host` that is missing or malformed (RFC 9112 section 3.2); only HTTP/1.1 has to have one."""
    if not host:
        if http_version == "1.1":
            raise BadRequest("A request has to name its Host.")
        return
    found = _authority(host)
    if found is None or int(found[1] or 0) > _HIGHEST_PORT:
        raise BadRequest("Host is not one name or address, with a port or without.")

"""Paths to what answers them: a dictionary of literal paths in front of a trie of segments.

A path is split before it is decoded, so that `%2F` stays inside its segment (RFC 3986 section 2.2). A literal wins over
a capture; a capture takes one segment and never an empty one; `/a` and `/a/` are two paths. What a path answers does
not depend on the order of declaration, nor its cost on how many routes there are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote, unquote_to_bytes

from argentor_asgi.asgi.types import Scope
from argentor_asgi.errors import BadRequest, ConfigError, MethodNotAllowed, RouteNotFound

T = TypeVar("T")
_CAPTURE = re.compile(r"\{([a-z_][a-z0-9_]*)\}").fullmatch
_ABSOLUTE = re.compile(rb"https?://[^/?]*", re.IGNORECASE).match
_SAFE = "/:@!$&'()*+,;=~-._"


@dataclass(slots=True)
class Node(Generic[T]):
    """A place in the trie. `methods`: what is there, with empty captures; `template`: the first path declared here."""

    literals: dict[str, "Node[T]"] = field(default_factory=dict)
    capture: "Node[T] | None" = None
    methods: dict[str, tuple[T, tuple[str, ...]]] = field(default_factory=dict)
    template: str = ""


class Router(Generic[T]):
    """What answers a method on a path."""

    def __init__(self) -> None:
        """Start with no route."""
        self._root: Node[T] = Node()
        self._literals: dict[bytes, dict[str, tuple[T, tuple[str, ...]]]] = {}
        self._depth = 0

    def add(self, method: str, template: str, value: T) -> None:
        """Declare a route; one for GET answers HEAD as well.

        Raises `ConfigError` for a template that is not one, that is taken, or that another spells differently.
        """
        parts = template_parts(template)
        node = _grow(self._root, parts)
        if node.template and node.template != template:
            raise ConfigError(
                f"{method} {template}: {node.template} is the same path; give their captures the same names"
            )
        if method in node.methods and not _is_implied(node, method):
            raise ConfigError(f"{method} {template} is declared twice; remove one or change its method or path")
        node.template = template
        node.methods[method] = hit = (value, ())
        if method == "GET":
            node.methods.setdefault("HEAD", hit)
        self._depth = max(self._depth, len(parts))
        if not captures_of(template):
            self._literals[quote(template, safe=_SAFE).encode()] = node.methods

    def find(self, method: str, scope: Scope) -> tuple[T, tuple[str, ...]]:
        """Return what answers `method` on the scope's path, and the decoded values of its captures, in order.

        Raises `RouteNotFound`, `MethodNotAllowed` with `Allow`, or `BadRequest` for a path that is not UTF-8.
        """
        # PERF: nearly all literal paths end here, after two look-ups.
        path = scope.get("raw_path")
        if not path or scope.get("root_path"):
            path = own_path(scope)
        methods = self._literals.get(path)
        if methods is not None:
            hit = methods.get(method)
            if hit is not None:
                return hit
        return self.search(method, path)

    def search(self, method: str, path: bytes) -> tuple[T, tuple[str, ...]]:
        """Do what `find` does, for a raw path that may be in any form."""
        if not path.startswith(b"/") or b"?" in path:
            path = origin_form(path)
        if path.count(b"/") > self._depth:
            raise RouteNotFound
        values: list[str] = []
        node = walk(self._root, path_parts(path), 0, values)
        if node is None:
            raise RouteNotFound
        found = node.methods.get(method)
        if found is None:
            raise MethodNotAllowed(headers=[(b"allow", ", ".join(sorted(node.methods)).encode())])
        return found[0], tuple(values)


def template_parts(template: str) -> Sequence[str]:
    """Split a template into segments. Raises `ConfigError` with the way to write it."""
    if not template.startswith("/") or "//" in template:
        raise ConfigError(f"the path {template!r} must start with one '/' and have no empty segment")
    parts = template[1:].split("/")
    for part in parts:
        if ("{" in part or "}" in part) and not _CAPTURE(part):
            raise ConfigError(f"the path {template!r}: write a capture as a whole segment, such as '/{{name}}'")
    names = captures_of(template)
    if len(set(names)) != len(names):
        raise ConfigError(f"the path {template!r} captures the same name twice; rename one")
    return parts


def captures_of(template: str) -> Sequence[str]:
    """Return the names that a template captures, in order."""
    return [found[1] for part in template.split("/") if (found := _CAPTURE(part))]


def walk(node: Node[T], parts: Sequence[str], at: int, values: list[str]) -> Node[T] | None:
    """Walk from `node` to that of `parts[at:]`, adding what is captured to `values`; None when nothing is there.

    A literal wins over a capture; where both lead on, the literal is tried first, then back up.
    """
    for index in range(at, len(parts)):
        part = parts[index]
        literal, capture = node.literals.get(part), node.capture if part else None
        if literal is not None and capture is not None:
            kept = len(values)
            found = walk(literal, parts, index + 1, values)
            if found is not None:
                return found
            del values[kept:]
            literal = None
        if literal is not None:
            node = literal
        elif capture is not None:
            values.append(part)
            node = capture
        else:
            return None
    return node if node.methods else None


def origin_form(target: bytes) -> bytes:
    """Return a request target as a path: without scheme and authority (RFC 9112 section 3.2.2), without a query."""
    if absolute := _ABSOLUTE(target):
        target = target[absolute.end() :] or b"/"
    path, _, _ = target.partition(b"?")
    if not path.startswith(b"/"):
        raise BadRequest("The request target is not a path.")
    return path


def path_parts(path: bytes) -> Sequence[str]:
    """Split a raw path into its decoded segments. Raises `BadRequest` for one that is not UTF-8."""
    try:
        if b"%" not in path:
            return path[1:].decode().split("/")
        return [unquote_to_bytes(part).decode() for part in path[1:].split(b"/")]
    except UnicodeDecodeError:
        raise BadRequest("The path is not UTF-8.") from None


def own_path(scope: Scope) -> bytes:
    """Return the percent-encoded path below the prefix that the gateway is mounted under.

    A server that leaves `raw_path` out has decoded the path; a slash in a segment is lost then.
    """
    path = scope.get("raw_path") or quote(scope["path"], safe=_SAFE).encode()
    return without_prefix(path, scope.get("root_path") or "")


def without_prefix(path: bytes, prefix: str) -> bytes:
    """Return a raw path without the decoded `prefix`, compared by segments; a path outside of it stays as it is."""
    path = origin_form(path)
    expected = [part for part in prefix.split("/") if part]
    parts = path_parts(path)
    if not expected or list(parts[: len(expected)]) != expected:
        return path
    return b"/" + b"/".join(path[1:].split(b"/")[len(expected) :])


def _grow(node: Node[T], parts: Sequence[str]) -> Node[T]:
    for part in parts:
        if not _CAPTURE(part):
            node = node.literals.setdefault(part, Node())
            continue
        if node.capture is None:
            node.capture = Node()
        node = node.capture
    return node


def _is_implied(node: Node[T], method: str) -> bool:
    """Say whether `method` is the HEAD that a GET brought along."""
    return method == "HEAD" and "GET" in node.methods and node.methods["HEAD"] is node.methods["GET"]

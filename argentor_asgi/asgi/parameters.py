"""What a handler's signature asks for: the one reading of it that binder and OpenAPI share.

By the annotation, then by the name: `Request` and `WebSocket` are themselves; `Annotated[T, Header("x")]` is a header;
a name that the template captures is a path parameter; `body` is the JSON body; a scalar is a query parameter; any
other class is provided by the app.
"""

import inspect
import types
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Literal, Optional, Union, get_args, get_origin, get_type_hints

from argentor_asgi.asgi.request import Incoming, Request
from argentor_asgi.asgi.route import Handler, Header, Route, Socket
from argentor_asgi.asgi.router import captures_of
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import ConfigError

Source = Literal["self", "header", "path", "body", "query", "provided"]
REQUIRED = inspect.Parameter.empty
"""The default of a parameter that has none."""
_SCALARS = (str, int, float, bool, types.NoneType)
_IN_PATH = (str, int, uuid.UUID)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: where its value comes from, under which name there, of which type, and its default."""

    name: str
    source: Source
    alias: str
    kind: object
    default: object

    @property
    def is_optional(self) -> bool:
        """Whether None is a value that it takes."""
        return types.NoneType in members_of(self.kind)


def parameters_of(row: Route | Socket) -> Sequence[Parameter]:
    """Return what the row's handler asks for, in order.

    Raises `ConfigError` naming the handler for one that is not async, lacks an annotation, or does not fit its
    template.
    """
    handler, captured = row.handler, captures_of(row.template)
    if not inspect.iscoroutinefunction(handler):
        raise ConfigError(f"{name_of(handler)} must be declared with 'async def'")
    hints = hints_of(handler)
    found = []
    for name, parameter in inspect.signature(handler).parameters.items():
        if name not in hints:
            raise ConfigError(f"{name_of(handler)}: parameter {name!r} needs an annotation")
        found.append(_parameter(name, hints[name], parameter.default, captured))
    _check(row, found)
    return found


def hints_of(handler: Handler) -> dict[str, object]:
    """Return the handler's annotations, evaluated. Raises `ConfigError` for one that names nothing."""
    try:
        return get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise ConfigError(f"{name_of(handler)}: {error}; import what its signature names at run time") from None


def name_of(handler: Handler) -> str:
    """Return the handler's name as a start-up error gives it: with its module."""
    return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"


def members_of(kind: object) -> Sequence[object]:
    """Return the members of a union, annotations off; of any other type, the type itself."""
    if get_origin(kind) is Annotated:
        return members_of(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return [member for part in get_args(kind) for member in members_of(part)]
    return [kind]


def _parameter(name: str, kind: object, default: object, captured: Sequence[str]) -> Parameter:
    inner, *marks = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    headers = [mark for mark in marks if isinstance(mark, Header)]
    kind = _marked(inner, tuple(mark for mark in marks if not isinstance(mark, Header)))
    if headers:
        return Parameter(name, "header", headers[0].name.lower(), kind, default)
    return Parameter(name, _source(name, kind, captured), name, kind, default)


def _marked(inner: object, marks: tuple[object, ...]) -> object:
    """Return a type with its marks, such as bounds, moved past `| None`: a bound is one of the value that is there."""
    if not marks:
        return inner
    values = [member for member in members_of(inner) if member is not types.NoneType]
    bounded: object = Annotated[(reduce(or_, values), *marks)]
    return bounded if types.NoneType not in members_of(inner) else Optional[bounded]  # noqa: UP045  at run time


def _source(name: str, kind: object, captured: Sequence[str]) -> Source:
    if isinstance(kind, type) and issubclass(kind, Incoming):
        return "self"
    if name in captured:
        return "path"
    if name == "body":
        return "body"
    return "query" if all(map(_is_scalar, members_of(kind))) else "provided"


def _is_scalar(kind: object) -> bool:
    return kind in _SCALARS or get_origin(kind) is Literal


def _check(row: Route | Socket, found: Sequence[Parameter]) -> None:
    """Raise `ConfigError` for a signature that does not fit its row."""
    where = name_of(row.handler)
    missing = set(captures_of(row.template)) - {item.name for item in found}
    if missing:
        raise ConfigError(f"{where}: {row.template} captures {sorted(missing)}, which its signature lacks")
    mine: type[Incoming] = Request if isinstance(row, Route) else WebSocket
    for item in found:
        if item.source == "self" and item.kind not in {mine, Incoming}:
            raise ConfigError(f"{where}: parameter {item.name!r} must be a {mine.__name__} here")
        if item.source == "path" and item.kind not in _IN_PATH:
            raise ConfigError(f"{where}: path parameter {item.name!r} must be str, int or uuid.UUID")
        if item.source == "body" and isinstance(row, Socket):
            raise ConfigError(f"{where}: a socket has no body")

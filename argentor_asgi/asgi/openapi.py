"""The API described by its own rows: OpenAPI 3.1.0 from the declarations that also route, bind and guard.

Nothing here is written by hand twice: parameters come from the binder's reading of a signature, schemas from the
dataclasses, errors from their classes. WebSockets are not in `paths`, which OpenAPI has for HTTP exchanges alone: they
stand under the extension `x-websockets`, with the same summary and security.
"""

import types
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import get_args, get_origin

from argentor_asgi.asgi.parameters import REQUIRED, Parameter, hints_of, members_of, parameters_of
from argentor_asgi.asgi.response import JSON, PROBLEM, EventStream, Reply, Response
from argentor_asgi.asgi.route import Route, Socket
from argentor_asgi.errors import (
    BadRequest,
    BodyTimeout,
    BodyTooLarge,
    Detail,
    Draining,
    Forbidden,
    GatewayError,
    HeadersTooLarge,
    HttpVersionRefused,
    Internal,
    InvalidInput,
    InvalidPath,
    MalformedJson,
    Overloaded,
    RateLimited,
    RequestTimeout,
    TargetTooLong,
    TooManyFailures,
    Unauthenticated,
    UnsupportedMediaType,
)
from argentor_asgi.protocol.schema import JsonObject, schemas, to_builtins

REF = "#/components/schemas/{name}"
_NO_CONTENT = 204
_ALWAYS = (
    *(Internal, Overloaded, Draining, RequestTimeout),
    *(BadRequest, TargetTooLong, HeadersTooLarge, HttpVersionRefused),
)
_GUARDED = (Unauthenticated, Forbidden, RateLimited, TooManyFailures)
_BODY = (MalformedJson, BodyTooLarge, BodyTimeout, UnsupportedMediaType, InvalidInput)
_SECURITY: Sequence[JsonObject] = ({"bearerAuth": []}, {"apiKey": []})
_SECURITY_SCHEMES: JsonObject = {
    "bearerAuth": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_IN = {"path": "path", "query": "query", "header": "header"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal (RFC 9457). `code` is stable; `error` is the text that clients of the original gateway look for."""

    type: str
    title: str
    status: int
    code: str
    error: str
    message: str
    request_id: str
    details: list[Detail] | None = None
    retry_after: int | None = None


class _Kinds:
    """The types met on the way, and their schemas, made together at the end so that they share components."""

    def __init__(self) -> None:
        self._kinds: list[object] = [Problem]
        self._places: list[JsonObject] = []

    def place(self, kind: object) -> JsonObject:
        """Return where the schema of `kind` will stand."""
        self._kinds.append(kind)
        self._places.append({})
        return self._places[-1]

    def fill(self) -> JsonObject:
        """Fill every place; return the named components."""
        found, components = schemas(self._kinds, REF)
        for place, schema in zip(self._places, found[1:], strict=True):
            place.update(schema)
        return components


def document(
    rows: Sequence[Route | Socket], *, title: str, version: str, description: str = "", anonymous: bool = False
) -> JsonObject:
    """Return the OpenAPI document of `rows`. Raises `ConfigError` for a signature that cannot be bound.

    `anonymous`: a caller without a key is served too, so that no operation requires one.
    """
    kinds, names = _Kinds(), _Names()
    security = [*([{}] if anonymous else []), *_SECURITY]
    paths: JsonObject = {}
    sockets: JsonObject = {}
    for row in rows:
        if isinstance(row, Socket):
            sockets[row.template] = {**_words(row), "security": security if row.needs else []}
        else:
            paths.setdefault(row.template, {})[row.method.lower()] = {
                **_operation(row, kinds, names),
                "security": security if row.needs else [],
            }
    components = {"schemas": kinds.fill(), "securitySchemes": _SECURITY_SCHEMES}
    info = {"title": title, "version": version} | ({"description": description} if description else {})
    made: JsonObject = {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
    return made | ({"x-websockets": sockets} if sockets else {})


class _Names:
    """Operation ids: the handler's name, with a number from the second operation of that name on."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def unique(self, name: str) -> str:
        self._seen[name] = number = self._seen.get(name, 0) + 1
        return name if number == 1 else f"{name}_{number}"


def _operation(row: Route, kinds: _Kinds, names: _Names) -> JsonObject:
    asked = parameters_of(row)
    made: JsonObject = {"operationId": names.unique(row.handler.__name__), **_words(row)}
    if parameters := [_parameter(item, kinds) for item in asked if item.source in _IN]:
        made["parameters"] = parameters
    for item in asked:
        if item.source == "body":
            content = {JSON: {"schema": kinds.place(item.kind)}}
            made["requestBody"] = {"required": not item.is_optional, "content": content}
    made["responses"] = _merged(_successes(row, kinds), _problems(errors_of(row, asked)))
    return made


def _merged(answers: JsonObject, problems: JsonObject) -> JsonObject:
    """Return both by status; one that has both, such as a 503 with a report, lists both media types."""
    merged = {**answers, **problems}
    for status in answers.keys() & problems.keys():
        merged[status] = {
            "description": f"{answers[status]['description']}\n\n{problems[status]['description']}",
            "content": {**answers[status]["content"], **problems[status]["content"]},
        }
    return merged


def _words(row: Route | Socket) -> JsonObject:
    words: JsonObject = {"summary": row.summary, "description": row.description, "tags": list(row.tags)}
    return {name: value for name, value in words.items() if value}


def _parameter(item: Parameter, kinds: _Kinds) -> JsonObject:
    schema = kinds.place(item.kind)
    if item.default is not REQUIRED and item.default is not None:
        # The places are filled by `update`, which leaves what is there and is not in the schema.
        schema["default"] = to_builtins(item.default)
    required = item.source == "path" or (item.default is REQUIRED and not item.is_optional)
    return {"name": item.alias, "in": _IN[item.source], "required": required, "schema": schema}


def _successes(row: Route, kinds: _Kinds) -> JsonObject:
    found = [kind for kind in members_of(hints_of(row.handler).get("return", object)) if kind is not object]
    described = [kind for kind in found if kind not in {Response, EventStream, types.NoneType}]
    media = "text/event-stream" if EventStream in found else row.produces
    answers: JsonObject = {}
    if described or Response in found or EventStream in found or not found:
        content: JsonObject = {media: {}}
        if described:
            content = {row.produces: {"schema": _any_of(described, kinds)}}
            if EventStream in found:
                content["text/event-stream"] = {}
        answers = {str(status): _answer(status, content) for status in (row.status, *row.also)}
    if types.NoneType in found:
        answers[str(_NO_CONTENT)] = {"description": HTTPStatus(_NO_CONTENT).phrase}
    return answers


def _answer(status: int, content: JsonObject) -> JsonObject:
    return {"description": HTTPStatus(status).phrase, "content": content}


def _any_of(described: Sequence[object], kinds: _Kinds) -> JsonObject:
    """Return the schema of an answer of one of several types, apart because msgspec takes one dataclass in a union."""
    places = [kinds.place(get_args(kind)[0] if get_origin(kind) is Reply else kind) for kind in described]
    return places[0] if len(places) == 1 else {"anyOf": places}


def errors_of(row: Route, asked: Sequence[Parameter]) -> Sequence[type[GatewayError]]:
    """Return every error that a route can answer with: its own, its guard's, its binder's, and those of any request."""
    sources = {item.source for item in asked}
    found: list[type[GatewayError]] = list(row.errors)
    if any(item.source == "path" and item.kind in {int, uuid.UUID} for item in asked):
        found.append(InvalidPath)
    if "path" in sources:
        found.append(BadRequest)
    if "body" in sources:
        found += _BODY
    if "query" in sources:
        found += [BadRequest, InvalidInput]
    if "header" in sources:
        found.append(BadRequest)
    if row.needs is not None:
        found += _GUARDED
    return list(dict.fromkeys([*found, *_ALWAYS]))


def _problems(errors: Iterable[type[GatewayError]]) -> JsonObject:
    by_status: dict[int, list[type[GatewayError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {str(status): _problem(by_status[status]) for status in sorted(by_status)}


def _problem(errors: Sequence[type[GatewayError]]) -> JsonObject:
    words = [f"`{error.code}`: {' '.join((error.__doc__ or '').split())}" for error in errors]
    return {
        "description": "\n\n".join(words),
        "content": {PROBLEM: {"schema": {"$ref": REF.format(name=Problem.__name__)}}},
    }

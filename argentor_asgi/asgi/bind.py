"""Handlers as endpoints: arguments from a request by the signature, an answer from the return value.

Everything that can be decided at start is: a request meets a list of getters and one call.
"""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import TypeAlias, cast

from argentor_asgi.asgi.parameters import REQUIRED, Parameter, name_of, parameters_of
from argentor_asgi.asgi.request import Incoming, Request
from argentor_asgi.asgi.response import (
    Answered,
    EventStream,
    Reply,
    Response,
    length_field,
    whole,
)
from argentor_asgi.asgi.route import Handler, Route, Socket
from argentor_asgi.asgi.router import captures_of
from argentor_asgi.asgi.types import Headers
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import BadRequest, ConfigError, Detail, InvalidInput, InvalidPath
from argentor_asgi.protocol.schema import convert_text, encode

Endpoint: TypeAlias = Callable[[Request], Awaitable[object]]
"""Answers a request with what its handler returns, which the app turns into bytes; may raise any `GatewayError`."""

SocketEndpoint: TypeAlias = Callable[[WebSocket], Awaitable[None]]
"""Serves a socket from before its acceptance to its end."""

Provider: TypeAlias = Callable[[Incoming], object]
"""Makes the value of a parameter; called once for each request."""

Provide: TypeAlias = Mapping[type, Provider]
"""Providers by the annotation that they serve."""

_UUID = re.compile(
    r"[0-9a-f]{32}|(?P<open>\{|urn:uuid:)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?P<close>\})?", re.IGNORECASE
).fullmatch
_ANSWERS = frozenset({Response, EventStream, Reply, type(None)})
_NO_CONTENT = 204
_INT = re.compile(r"-?[0-9]{1,18}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Constant:
    """A provider whose value never changes; it is bound at start and costs a request nothing."""

    value: object

    def __call__(self, incoming: Incoming) -> object:
        """Return the value."""
        del incoming
        return self.value


@dataclass(frozen=True, slots=True)
class Call:
    """A handler with its constants bound: what is left to get for each request, by name, and the body's parameter."""

    handler: Handler
    getters: Sequence[tuple[str, Provider]]
    body: Parameter | None


def endpoint(row: Route, provide: Provide) -> tuple[Endpoint, Handler | None]:
    """Return the endpoint of a route's handler, and the bound handler itself where it asks nothing of its request.

    Raises `ConfigError` naming the handler for a wrong signature.
    """
    call = _call(row, provide)
    return _endpoint(call), None if call.body or call.getters else call.handler


def _endpoint(call: Call) -> Endpoint:
    if call.body is not None:
        return _with_body(call, call.body)
    handler, getters = call.handler, call.getters
    # PERF: no coroutine of its own; what the handler returns is awaited in its place.
    if not getters:
        return lambda _: handler()
    if len(getters) == 1:
        ((name, get),) = getters
        return lambda request: handler(**{name: get(request)})
    return lambda request: handler(**{name: get(request) for name, get in getters})


def socket_endpoint(row: Socket, provide: Provide) -> SocketEndpoint:
    """Return the endpoint of a socket's handler. Raises `ConfigError` as `endpoint` does."""
    call = _call(row, provide)
    handler, getters = call.handler, call.getters
    return lambda socket: handler(**{name: get(socket) for name, get in getters})


def rendered(result: object, row: Route, id_bytes: bytes, more: Headers) -> Answered:
    """Turn a handler's result into an answer: None is 204, an answer is itself, all else is JSON.

    `id_bytes`: the request's id; `more`: header fields that go out with whatever its answer is.
    """
    if type(result) not in _ANSWERS:
        # PERF: the usual answer, without a `Response` in between.
        body = encode(result)
        fields = [(b"x-request-id", id_bytes), length_field(body), row.type_field]
        if more:
            fields += more
        return row.status, fields, body, None
    if isinstance(result, Reply):
        value = Response(result.status or row.status, encode(result.value), row.produces, result.headers)
        return whole(value, id_bytes, more)
    if isinstance(result, Response):
        return whole(result, id_bytes, more)
    if isinstance(result, EventStream):
        return result.status, None, b"", result
    return whole(Response(_NO_CONTENT, b"", None), id_bytes, more)


def _with_body(call: Call, body: Parameter) -> Endpoint:
    handler, getters, optional = call.handler, call.getters, body.is_optional
    # A union is no `type` to a type checker, but it is one to the decoder.
    kind = cast("type[object]", body.kind)

    async def answer(request: Request) -> object:
        arguments = {name: get(request) for name, get in getters}
        arguments["body"] = await request.read(kind, optional=optional)
        return await handler(**arguments)

    return answer


def _call(row: Route | Socket, provide: Provide) -> Call:
    getters: list[tuple[str, Provider]] = []
    constants: dict[str, object] = {}
    body = None
    for parameter in parameters_of(row):
        if parameter.source == "body":
            body = parameter
            continue
        get = _getter(row, parameter, provide)
        if isinstance(get, Constant):
            constants[parameter.name] = get.value
        else:
            getters.append((parameter.name, get))
    return Call(_with_constants(row.handler, constants, alone=not getters and body is None), getters, body)


def _with_constants(handler: Handler, constants: Mapping[str, object], *, alone: bool) -> Handler:
    # PERF: where there is nothing else to pass, by position: half the price of by name.
    if alone and all(found.kind is found.POSITIONAL_OR_KEYWORD for found in signature(handler).parameters.values()):
        return partial(handler, *constants.values()) if constants else handler
    return partial(handler, **constants) if constants else handler


def _getter(row: Route | Socket, parameter: Parameter, provide: Provide) -> Provider:
    match parameter.source:
        case "self":
            return _itself
        case "path":
            return _from_path(parameter, captures_of(row.template).index(parameter.name))
        case "header":
            return _from_header(_readable(row, parameter))
        case "query":
            return _from_query(_readable(row, parameter))
        case _:
            return _provided(row, parameter, provide)


def _itself(incoming: Incoming) -> object:
    return incoming


def _provided(row: Route | Socket, parameter: Parameter, provide: Provide) -> Provider:
    if isinstance(parameter.kind, type) and parameter.kind in provide:
        return provide[parameter.kind]
    raise ConfigError(
        f"{name_of(row.handler)}: parameter {parameter.name!r} is of type {parameter.kind}, which nothing provides; "
        f"query parameters are str, int, float or bool"
    )


def _readable(row: Route | Socket, parameter: Parameter) -> Parameter:
    """Return the parameter; raises `ConfigError` when its type cannot be read from text, before a request meets it."""
    try:
        convert_text("", cast("type[object]", parameter.kind))
    except InvalidInput:
        pass
    except TypeError as error:
        raise ConfigError(f"{name_of(row.handler)}: parameter {parameter.name!r}: {error}") from None
    return parameter


def _from_path(parameter: Parameter, index: int) -> Provider:
    if parameter.kind is str:
        return lambda incoming: incoming.captures[index]
    read = uuid_of if parameter.kind is uuid.UUID else int_of
    return lambda incoming: read(incoming.captures[index])


def uuid_of(text: str) -> uuid.UUID:
    """Read a UUID in its hyphenated, simple, braced or URN form (RFC 9562 section 4). Raises `InvalidPath`."""
    found = _UUID(text)
    if found is None or (found["open"] == "{") != (found["close"] == "}"):
        raise InvalidPath("The id in the path is not a UUID.")
    return uuid.UUID(text)


def int_of(text: str) -> int:
    """Read a whole number of at most 18 digits. Raises `InvalidPath`."""
    if not _INT(text):
        raise InvalidPath("The number in the path is not a whole number.")
    return int(text)


def _from_header(parameter: Parameter) -> Provider:
    name, default, kind = parameter.alias, parameter.default, cast("type[object]", parameter.kind)

    def get(incoming: Incoming) -> object:
        text = incoming.header(name)
        if text is None and default is REQUIRED and not parameter.is_optional:
            raise BadRequest(f"The header {name} is required.")
        if text is None:
            return None if default is REQUIRED else default
        try:
            return convert_text(text, kind)
        except InvalidInput as error:
            raise BadRequest(f"The header {name}: {error.message}") from None

    return get


def _from_query(parameter: Parameter) -> Provider:
    name, default, kind = parameter.alias, parameter.default, cast("type[object]", parameter.kind)
    pointer = f"/{name}"

    def get(incoming: Incoming) -> object:
        values = incoming.query.get(name, ())
        if len(values) > 1:
            raise InvalidInput(details=[Detail(pointer, "Give this parameter once.")])
        if values:
            return _converted(values[0], kind, pointer)
        if default is REQUIRED and not parameter.is_optional:
            raise InvalidInput(details=[Detail(pointer, "This parameter is required.")])
        return None if default is REQUIRED else default

    return get


def _converted(text: str, kind: type[object], pointer: str) -> object:
    try:
        return convert_text(text, kind)
    except InvalidInput as error:
        raise InvalidInput(details=[Detail(pointer, error.message)]) from None

"""The door to msgspec and orjson: JSON in is decoded, checked and described from plain dataclasses; JSON out is bytes.

A body is decoded and checked in one step. JSON that two parsers could read differently is refused: a name twice in one
object (RFC 8259 section 4: "the names within an object SHOULD be unique"), nesting deeper than `DEPTH`, NaN.
"""

import inspect
import json
import re
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from typing import Any, TypeAlias, TypeVar

import msgspec
import orjson
from msgspec import Meta

from argentor_asgi.errors import Detail, GatewayError, InvalidInput, MalformedJson

__all__ = [
    "DEPTH",
    "VALUES",
    "JsonObject",
    "JsonValue",
    "Meta",
    "arguments_type",
    "convert",
    "convert_text",
    "decode",
    "decode_input",
    "decode_value",
    "encode",
    "field_names",
    "refuse_unknown",
    "restore",
    "schemas",
    "scrub",
    "to_builtins",
]

JsonValue: TypeAlias = Any
"""Any JSON value: None, bool, int, float, str, list or dict. `Any`, since msgspec and mypy share no recursive type."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object."""

DEPTH = 64
"""How many levels of arrays and objects a document may nest."""
VALUES = 20_000
"""How many arrays and objects, and how many members in all, a document may have."""

_dumps, _UTC_Z = orjson.dumps, orjson.OPT_UTC_Z
T = TypeVar("T")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A string, ended or not: whatever follows a quote matches, so that no input makes the search start over."""
_INT_BITS = 14_000
"""How long an integer may be to be written as a number: Python refuses to print more than 4,300 digits."""
_RANGE = re.compile(r"(?:Number|Integer value) out of range")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_LONG_INT = b"0" * 19
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?([0-9]++)(?![.eE])")
_INT64_DIGITS = 20
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_SURROGATES = re.compile("[\ud800-\udfff]")
_PATH = re.compile(r" - at (?:`key` in )?`([^`]*)`$")
_MISSING = re.compile(r"missing required field `(.*?)`")
_UNKNOWN = re.compile(r"contains unknown field `(.*?)`")


@lru_cache(maxsize=512)
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(data: bytes, kind: type[T]) -> T:
    """Decode one JSON document into `kind`, checking its shape.

    Raises `MalformedJson` for what is not (unambiguous) JSON, `InvalidInput` with a JSON Pointer for a wrong shape.
    Unknown members are ignored.
    """
    _refuse_deep(data)
    try:
        if not data.isascii():
            data.decode()
        value = _decoder(kind).decode(data)  # type: ignore[arg-type]  # mypy takes no `type[T]` for hashable
    except msgspec.ValidationError as error:
        raise _misfit(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"The body is not valid JSON: {error}.") from None
    _refuse_duplicates(data)
    return value  # type: ignore[no-any-return]  # the cached decoder forgets its type


def decode_input(data: bytes, kind: type[T]) -> T:
    """Decode what a client sent: as `decode`, and an integer beyond 64 bits, which many parsers round, is refused."""
    # PERF: most documents have no run of digits so long, which two calls into C settle.
    if _LONG_INT in data.translate(_DIGITS_AS_ZERO):
        _refuse_long_integers(data)
    return decode(data, kind)


def refuse_unknown(data: bytes, kind: type[Any], *, but: Container[str] = ()) -> None:
    """Raise `InvalidInput` for a member that `kind`, a dataclass, does not have, unless its name is in `but`.

    `data` was decoded as `kind` before: for input where a misspelt member would mean something else than was meant.
    """
    known = {each.name for each in fields(kind)}
    for name in restore(data, dict):
        if name not in known and name not in but:
            detail = Detail("/" + _escaped(name), f"unknown; there are {', '.join(sorted(known))}")
            raise InvalidInput("The input has a member that means nothing here.", details=[detail])


def decode_value(data: bytes) -> JsonValue:
    """Decode one JSON document of any shape; raises `MalformedJson` as `decode` does."""
    return decode(data, object)


def restore(data: bytes, kind: type[T]) -> T:
    """Decode what `encode` made and this gateway kept: neither depth nor doubled names are looked at.

    A tool call's arguments may be `DEPTH` deep by themselves, and are kept inside other values. Raises as `decode`.
    """
    try:
        return _decoder(kind).decode(data)  # type: ignore[arg-type, no-any-return]  # as in `decode`
    except msgspec.ValidationError as error:
        raise _misfit(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"What was kept is not valid JSON: {error}.") from None


def convert(value: JsonValue, kind: type[T]) -> T:
    """Check an already decoded JSON value against `kind`; raises `InvalidInput` with a JSON Pointer."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _misfit(error) from None


def convert_text(text: str, kind: type[T]) -> T:
    """Read a query parameter or header as `kind`, a scalar; numbers and booleans in their JSON form, or 0 and 1.

    Raises `InvalidInput` without a pointer, since the caller knows the parameter's name. NaN and infinity are refused.
    """
    try:
        value = msgspec.convert(text, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidInput(f"{error}.") from None
    if isinstance(value, float) and not isfinite(value):
        raise InvalidInput("Expected a finite number.")
    return value


def to_builtins(value: object) -> JsonValue:
    """Return `value` (a dataclass, or a nest of them) as JSON values."""
    return msgspec.to_builtins(value)


def encode(value: object) -> bytes:
    """Return `value` (JSON values, dataclasses, datetimes in UTC) as compact JSON; times end in Z, NaN is null.

    Text with lone surrogates, which JSON text in UTF-8 cannot carry, has them replaced by U+FFFD. Integers are written
    whole, but beyond `_INT_BITS` as hexadecimal text.
    """
    try:
        return _dumps(value, None, _UTC_Z)
    except TypeError:
        return msgspec.json.encode(_sendable(msgspec.to_builtins(value)))


def scrub(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot carry, replaced by U+FFFD; as long as before."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _sendable(value: JsonValue) -> JsonValue:
    """Return `value` with what no encoder takes replaced: lone surrogates, integers too long to print."""
    match value:
        case str():
            return scrub(value)
        case int() if value.bit_length() > _INT_BITS:
            return hex(value)
        case list() | tuple():
            return [_sendable(item) for item in value]
        case dict():
            return {_sendable(str(name)): _sendable(item) for name, item in value.items()}
        case _:
            return value


def schemas(kinds: Iterable[Any], ref_template: str) -> tuple[Sequence[JsonObject], JsonObject]:
    """Return the JSON Schema (2020-12) of each kind and the named components that they refer to."""
    found, components = msgspec.json.schema_components(tuple(kinds), ref_template=ref_template)
    return found, components


def arguments_type(function: Callable[..., object], *, without: frozenset[str]) -> type[msgspec.Struct]:
    """Return a record type with one field for each parameter of `function` but those named in `without`.

    A record made from JSON refuses unknown names. Raises `TypeError` for a parameter that has no annotation.
    """
    hints = inspect.get_annotations(function, eval_str=True)
    fields: list[Any] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in without:
            continue
        if name not in hints:
            raise TypeError(f"{function.__qualname__}: parameter {name!r} needs an annotation")
        required = parameter.default is inspect.Parameter.empty
        fields.append((name, hints[name]) if required else (name, hints[name], parameter.default))
    return msgspec.defstruct(f"{function.__name__}_arguments", fields, kw_only=True, forbid_unknown_fields=True)


def field_names(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of a record's fields, as declared."""
    return kind.__struct_fields__


def _refuse_deep(data: bytes) -> None:
    """Raise `MalformedJson` for nesting deeper than `DEPTH`, or for more than `VALUES` arrays, objects or members.

    Linear, and free for a document with few brackets. The second bound keeps a large body from holding the loop.
    """
    if data.count(b"[") + data.count(b"{") <= DEPTH and data.count(b":") <= VALUES:
        return
    outside = _STRING.sub(b"", data)
    if outside.count(b"[") + outside.count(b"{") > VALUES or outside.count(b":") > VALUES:
        raise MalformedJson(f"The body has more than {VALUES} arrays, objects or members.")
    brackets = outside.translate(_STEPS, _NOT_BRACKETS)
    if max(accumulate(memoryview(brackets).cast("b")), default=0) > DEPTH:
        raise MalformedJson(f"The body nests deeper than {DEPTH} levels.")


def _refuse_long_integers(data: bytes) -> None:
    """Raise `MalformedJson` for an integer that neither a signed nor an unsigned one of 64 bits can be."""
    for found in _INTEGER.finditer(_STRING.sub(b"", data)):
        if len(found[1]) > _INT64_DIGITS or not _SMALLEST <= int(found[0]) <= _LARGEST:
            raise MalformedJson("A number in the body is an integer of more than 64 bits.")


def _refuse_duplicates(data: bytes) -> None:
    """Raise `MalformedJson` when an object names a member twice; `data` is known to be JSON."""
    if data.count(b":") > 1:
        _PAIRS.decode(data.decode())


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise MalformedJson("An object in the body names a member twice.")


_PAIRS = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len)
"""PERF: `json.loads` makes such a decoder anew for each document, which takes as long as to read a short one."""


def _misfit(error: msgspec.ValidationError) -> GatewayError:
    """Return the refusal: a number that Python cannot hold is not the JSON we take, all else is a wrong shape."""
    kind = MalformedJson if _RANGE.match(str(error)) else InvalidInput
    return kind(_sentence(error), details=[_detail(error)])


def _sentence(error: msgspec.ValidationError) -> str:
    return f"{_PATH.sub('', str(error))}."


def _detail(error: msgspec.ValidationError) -> Detail:
    """Turn msgspec's `$.a[0]` into the JSON Pointer `/a/0` (RFC 6901), of the member itself when it is missing.

    msgspec does not say which value of a mapping is wrong (`$.a[...]`): then it is the pointer of the mapping.
    """
    text = str(error)
    path = _PATH.search(text)
    known, is_cut, _ = path[1].partition("[...]") if path else ("", "", "")
    steps = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", known)
    parts = [name or index for name, index in steps]
    if not is_cut and (member := _MISSING.search(text) or _UNKNOWN.search(text)):
        parts.append(member[1])
    pointer = "".join("/" + _escaped(part) for part in parts)
    return Detail(pointer, _PATH.sub("", text))


def _escaped(name: str) -> str:
    """Return a step of a JSON Pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")

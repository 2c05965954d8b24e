"""The skill `json_query`: reading, changing and comparing JSON values by dotted paths such as `users.0.name`.

Values are never changed in place. Input is at most 1 MiB and 64 levels deep, and so is what an operation makes of it.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills.comparing import Comparison, Order, compares, kind_of, same, sort_key
from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present, refuse_longer
from argentor_asgi.agent.skills import SkillRefused, skill
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import DEPTH, JsonObject, JsonValue, Meta, decode_value

DATA_BYTES = 1024 * 1024
"""The most data, as compact JSON in UTF-8, in and out."""

Operation = Literal[
    "get", "set", "delete", "keys", "values", "length", "flatten", "merge", "diff", "filter", "sort", "pick", "omit",
    "type_of", "validate",
]  # fmt: skip
_TEXT_WILL_DO = frozenset({"type_of", "length", "validate"})


@skill(
    "json_query",
    "Reads and changes JSON: get, set, delete by path (a.0.b); keys, values, length, type; filter, sort, pick, omit; "
    "flatten, merge, diff; validate JSON text.",
    thread=True,
)
def json_query(
    *,
    operation: Annotated[Operation, Meta(description="What to do.")],
    data: Annotated[JsonValue, Meta(description="The JSON to work on, as JSON or as JSON text.")],
    path: Annotated[
        str | None, Meta(description="Names and array indexes with dots between; empty is the whole.")
    ] = None,
    value: Annotated[
        JsonValue, Meta(description="What set writes or filter compares with; left out it is null.")
    ] = None,
    other: Annotated[JsonValue, Meta(description="The second JSON of merge and diff.")] = None,
    field: Annotated[str | None, Meta(description="Path, in each element, that filter and sort look at.")] = None,
    op: Annotated[Comparison, Meta(description="How filter compares.")] = "eq",
    fields: Annotated[list[str] | None, Meta(description="Names of pick and omit.")] = None,
    order: Annotated[Order, Meta(description="The direction of sort.")] = "asc",
) -> JsonObject:
    """Return `{"result": ...}`; refuses data that does not fit the operation, and paths that lead nowhere."""
    if operation == "validate":
        return _validate(data)
    given = present(path=path, field=field, op=op, fields=fields, order=order)
    given |= {"data": _read(data, operation), "value": value}
    if other is not None:
        given["other"] = _read(other, operation)
    result = perform(_OPERATIONS, operation, given)
    refuse_longer(_text(result), DATA_BYTES, "The result")
    return {"result": result}


def _read(data: JsonValue, operation: str) -> JsonValue:
    """Return `data` within bounds; text that is JSON is read, other text is a string where that will do."""
    text = data if isinstance(data, str) else _text(data)
    refuse_longer(text, DATA_BYTES, "data")
    try:
        return decode_value(text.encode("utf-8", "replace"))
    except GatewayError as error:
        if isinstance(data, str) and operation in _TEXT_WILL_DO:
            return data
        raise SkillRefused(f"data cannot be read: {error.message}") from None


def _validate(data: JsonValue) -> JsonObject:
    try:
        decode_value((data if isinstance(data, str) else _text(data)).encode("utf-8", "replace"))
    except GatewayError as error:
        return {"result": False, "error": error.message}
    return {"result": True}


def _get(data: JsonValue, path: str = "") -> JsonValue:
    for step in _steps(path):
        data = _child(data, step)
    return data


def _set(data: JsonValue, path: str, value: JsonValue) -> JsonValue:
    """Return `data` with `value` at `path`; objects on the way are made, an array grows by one at its end."""
    steps = _steps(path)
    if not steps:
        return value
    head, rest = steps[0], ".".join(steps[1:])
    if isinstance(data, list):
        at = _index(data, head, extra=1)
        below = data[at] if at < len(data) else {}
        return [*data[:at], _set(below, rest, value), *data[at + 1 :]]
    if not isinstance(data, dict):
        raise SkillRefused(f"There is nothing to set {head!r} in: it is of type {kind_of(data)}.")
    return {**data, head: _set(data.get(head, {}), rest, value)}


def _delete(data: JsonValue, path: str) -> JsonValue:
    steps = _steps(path)
    if not steps:
        raise SkillRefused("delete needs a path that is not empty.")
    head, rest = steps[0], ".".join(steps[1:])
    below = _child(data, head)
    if isinstance(data, list):
        at = _index(data, head)
        return [*data[:at], *([_delete(below, rest)] if rest else []), *data[at + 1 :]]
    return {name: _delete(below, rest) if name == head else item for name, item in data.items() if rest or name != head}


def _keys(data: JsonValue, path: str = "") -> JsonValue:
    return list(_object(_get(data, path), "keys"))


def _values(data: JsonValue, path: str = "") -> JsonValue:
    found = _get(data, path)
    return found if isinstance(found, list) else list(_object(found, "values").values())


def _length(data: JsonValue, path: str = "") -> JsonValue:
    found = _get(data, path)
    if not isinstance(found, str | list | dict):
        raise SkillRefused(f"What is of type {kind_of(found)} has no length.")
    return len(found)


def _flatten(data: JsonValue) -> JsonValue:
    """Return one object whose names are the paths of the leaves; empty objects and arrays are leaves."""
    room, found = DATA_BYTES, {}
    for path, leaf in _leaves(data, ""):
        room -= len(path)
        if room < 0:
            raise SkillRefused(f"The result is too long: at most {DATA_BYTES} bytes are made.")
        found[path] = leaf
    return found


def _merge(data: JsonValue, other: JsonValue) -> JsonValue:
    """Return `data` with `other` laid over it: objects are merged member by member, anything else is replaced."""
    if not isinstance(data, dict) or not isinstance(other, dict):
        return other
    merged = {name: _merge(data[name], item) if name in data else item for name, item in other.items()}
    return {**data, **merged}


def _diff(data: JsonValue, other: JsonValue) -> JsonValue:
    """Return what to add, remove and change, by path, to make `other` of `data`."""
    room = DATA_BYTES
    found: JsonObject = {"added": {}, "removed": {}, "changed": {}}
    for kind, steps, item in _differences(data, other, ()):
        room -= sum(map(len, steps))
        if room < 0:
            raise SkillRefused(f"The result is too long: at most {DATA_BYTES} bytes are made.")
        found[kind][".".join(steps)] = item
    return found


def _filter(data: JsonValue, op: str, value: JsonValue, path: str = "", field: str = "") -> JsonValue:
    kept = []
    for item in _array(_get(data, path), "filter"):
        try:
            found = _get(item, field)
        except SkillRefused:
            continue
        if compares(found, op, value):
            kept.append(item)
    return kept


def _sort(data: JsonValue, order: str, path: str = "", field: str = "") -> JsonValue:
    """Return the elements in order, those without the field first."""
    items = _array(_get(data, path), "sort")
    return sorted(items, key=lambda item: sort_key(_get_or_null(item, field)), reverse=order == "desc")


def _pick(data: JsonValue, fields: list[str], path: str = "") -> JsonValue:
    return _each(_get(data, path), "pick", frozenset(fields), keep=True)


def _omit(data: JsonValue, fields: list[str], path: str = "") -> JsonValue:
    return _each(_get(data, path), "omit", frozenset(fields), keep=False)


def _type_of(data: JsonValue, path: str = "") -> JsonValue:
    return kind_of(_get(data, path))


_OPERATIONS: Operations = {
    "get": _get,
    "set": _set,
    "delete": _delete,
    "keys": _keys,
    "values": _values,
    "length": _length,
    "flatten": _flatten,
    "merge": _merge,
    "diff": _diff,
    "filter": _filter,
    "sort": _sort,
    "pick": _pick,
    "omit": _omit,
    "type_of": _type_of,
}


def _steps(path: str) -> list[str]:
    """Return the steps of `a.0.b`; a leading `$` and indexes in brackets are read too."""
    plain = path.strip().removeprefix("$").replace("[", ".").replace("]", "")
    steps = [step for step in plain.split(".") if step]
    if len(steps) > DEPTH:
        raise SkillRefused(f"The path is deeper than {DEPTH} levels.")
    return steps


def _child(data: JsonValue, step: str) -> JsonValue:
    if isinstance(data, list):
        return data[_index(data, step)]
    if isinstance(data, dict) and step in data:
        return data[step]
    known = f"it has: {', '.join(list(data)[:20])}" if isinstance(data, dict) else f"it is of type {kind_of(data)}"
    raise SkillRefused(f"There is no {step!r} there; {known[:500]}.")


def _index(data: list[JsonValue], step: str, *, extra: int = 0) -> int:
    """Return `step` as an index of `data`, negative ones counting from the end; `extra`: how far beyond it may be."""
    try:
        at = int(step[:20])
    except ValueError:
        raise SkillRefused(f"{step[:100]!r} is no index of an array.") from None
    at = at + len(data) if at < 0 else at
    if not 0 <= at < len(data) + extra:
        raise SkillRefused(f"The array has {len(data)} elements; {step} is not one of them.")
    return at


def _get_or_null(data: JsonValue, path: str) -> JsonValue:
    try:
        return _get(data, path)
    except SkillRefused:
        return None


def _leaves(data: JsonValue, prefix: str) -> Iterator[tuple[str, JsonValue]]:
    members = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    if not members or not data:
        yield prefix, data
        return
    for name, item in members:
        yield from _leaves(item, f"{prefix}.{name}" if prefix else str(name))


def _differences(
    data: JsonValue, other: JsonValue, steps: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...], JsonValue]]:
    """Yield (added, removed or changed; path; value). Paths are joined by the reader: those of equal values never."""
    if not isinstance(data, dict) or not isinstance(other, dict):
        if not same(data, other):
            yield "changed", steps, {"from": data, "to": other}
        return
    for name, item in data.items():
        if name in other:
            yield from _differences(item, other[name], (*steps, name))
        else:
            yield "removed", (*steps, name), item
    for name in (name for name in other if name not in data):
        yield "added", (*steps, name), other[name]


def _each(data: JsonValue, operation: str, names: frozenset[str], *, keep: bool) -> JsonValue:
    """Return the object, or each object of the array, with only or without these names."""
    if isinstance(data, list):
        return [_each(item, operation, names, keep=keep) for item in data]
    return {name: item for name, item in _object(data, operation).items() if (name in names) == keep}


def _object(data: JsonValue, operation: str) -> JsonObject:
    if not isinstance(data, dict):
        raise SkillRefused(f"{operation} needs an object there; this is of type {kind_of(data)}.")
    return data


def _array(data: JsonValue, operation: str) -> list[JsonValue]:
    if not isinstance(data, list):
        raise SkillRefused(f"{operation} needs an array there; this is of type {kind_of(data)}.")
    return data


def _text(value: JsonValue) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise SkillRefused(f"The data nests deeper than {DEPTH} levels.") from None

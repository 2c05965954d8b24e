"""Comparing and ordering values, the same for JSON and CSV."""

import operator
from collections.abc import Callable, Mapping
from typing import Literal

from argentor_asgi.protocol.schema import JsonValue

Comparison = Literal["eq", "ne", "gt", "lt", "gte", "lte", "contains"]
Order = Literal["asc", "desc"]

_ORDERED: Mapping[str, Callable[[JsonValue, JsonValue], bool]] = {
    "gt": operator.gt,
    "lt": operator.lt,
    "gte": operator.ge,
    "lte": operator.le,
}


def compares(left: JsonValue, op: str, right: JsonValue) -> bool:
    """Say whether `left op right`. Numbers are compared with numbers, texts with texts; other pairs are just not equal.

    `contains`: a text holds a text, a list an equal element, an object a member of that name.
    """
    if op in {"eq", "ne"}:
        return same(left, right) == (op == "eq")
    if op == "contains":
        return _contains(left, right)
    return kind_of(left) == kind_of(right) and kind_of(left) in {"number", "string"} and _ORDERED[op](left, right)


def same(left: JsonValue, right: JsonValue) -> bool:
    """Say whether two values are the same JSON: true is not 1, 1 is 1.0."""
    if kind_of(left) != kind_of(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[name]) for name, value in left.items())
    return bool(left == right)


def kind_of(value: JsonValue) -> str:
    """Return the JSON type of `value`: null, boolean, number, string, array or object."""
    kinds = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def sort_key(value: JsonValue) -> tuple[int, JsonValue]:
    """Return a key that orders any values: null, false, true, numbers, texts, then arrays and objects as they came."""
    kind = kind_of(value)
    rank = ("null", "boolean", "number", "string", "array", "object").index(kind)
    return rank, value if kind in {"boolean", "number", "string"} else 0


def _contains(left: JsonValue, right: JsonValue) -> bool:
    if isinstance(left, list):
        return any(same(item, right) for item in left)
    return isinstance(left, str | dict) and isinstance(right, str) and right in left

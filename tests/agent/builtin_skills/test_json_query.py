import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skillcalls import answer, context_of, refusal

from argentor_asgi.agent.builtin_skills.comparing import compares, kind_of, same, sort_key
from argentor_asgi.agent.builtin_skills.json_query import (
    _OPERATIONS,
    DATA_BYTES,
    Operation,
    _diff,
    _flatten,
    _get,
    _merge,
    _set,
    json_query,
)

names = st.text("abc", min_size=1, max_size=2)
leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text("xyz", max_size=3)
values = st.recursive(leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3))
objects = st.dictionaries(names, values, max_size=4)

PEOPLE = [{"name": "Ann", "age": 30, "tags": ["a"]}, {"name": "Bob", "age": 25, "tags": ["b", "c"]}, {"name": "Cy"}]


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == {*_OPERATIONS, "validate"}


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"operation": "get", "data": {"a": [1, 2]}, "path": "a.1"}, 2),
        ({"operation": "get", "data": {"a": [1, 2]}, "path": "$.a[-1]"}, 2),
        ({"operation": "get", "data": '{"a": {"b": null}}', "path": "a.b"}, None),
        ({"operation": "get", "data": [1]}, [1]),
        ({"operation": "set", "data": {"a": 1}, "path": "b.c", "value": 2}, {"a": 1, "b": {"c": 2}}),
        ({"operation": "set", "data": {"a": [1, 2]}, "path": "a.2", "value": None}, {"a": [1, 2, None]}),
        ({"operation": "set", "data": {"a": [1, 2]}, "path": "a.0", "value": 9}, {"a": [9, 2]}),
        ({"operation": "set", "data": {"a": 1}, "path": "", "value": 2}, 2),
        ({"operation": "delete", "data": {"a": {"b": 1, "c": 2}}, "path": "a.b"}, {"a": {"c": 2}}),
        ({"operation": "delete", "data": {"a": [1, {"b": 2}]}, "path": "a.1.b"}, {"a": [1, {}]}),
        ({"operation": "delete", "data": [1, 2, 3], "path": "1"}, [1, 3]),
        ({"operation": "keys", "data": {"b": 1, "a": 2}}, ["b", "a"]),
        ({"operation": "values", "data": {"x": {"b": 1, "a": 2}}, "path": "x"}, [1, 2]),
        ({"operation": "values", "data": [1, 2]}, [1, 2]),
        ({"operation": "length", "data": [1, 2, 3]}, 3),
        ({"operation": "length", "data": "hello"}, 5),
        ({"operation": "flatten", "data": {"a": {"b": [1, {}]}}}, {"a.b.0": 1, "a.b.1": {}}),
        ({"operation": "merge", "data": {"a": {"b": 1}}, "other": {"a": {"c": 2}}}, {"a": {"b": 1, "c": 2}}),
        (
            {"operation": "diff", "data": {"a": 1, "b": 2}, "other": {"a": True, "c": 3}},
            {"added": {"c": 3}, "removed": {"b": 2}, "changed": {"a": {"from": 1, "to": True}}},
        ),
        ({"operation": "filter", "data": PEOPLE, "field": "age", "op": "gt", "value": 26}, PEOPLE[:1]),
        ({"operation": "filter", "data": PEOPLE, "field": "tags", "op": "contains", "value": "c"}, PEOPLE[1:2]),
        ({"operation": "filter", "data": [1, 2, "1"], "value": 1}, [1]),
        ({"operation": "sort", "data": PEOPLE, "field": "age"}, [PEOPLE[2], PEOPLE[1], PEOPLE[0]]),
        ({"operation": "sort", "data": [3, 1, 2], "order": "desc"}, [3, 2, 1]),
        ({"operation": "pick", "data": PEOPLE, "fields": ["name"]}, [{"name": "Ann"}, {"name": "Bob"}, {"name": "Cy"}]),
        ({"operation": "omit", "data": {"a": 1, "b": 2}, "fields": ["a"]}, {"b": 2}),
        ({"operation": "type_of", "data": {"a": 1.5}, "path": "a"}, "number"),
        ({"operation": "type_of", "data": "plain text"}, "string"),
        ({"operation": "type_of", "data": None}, "null"),
        ({"operation": "validate", "data": '{"a": 1}'}, True),
        ({"operation": "validate", "data": {"a": 1}}, True),
    ],
)
async def test_every_operation_answers(arguments: dict[str, object], result: object) -> None:
    assert await answer(json_query, **arguments) == {"result": result}


async def test_validate_says_why_not() -> None:
    got = await answer(json_query, operation="validate", data='{"a": 1, "a": 2}')
    assert got["result"] is False
    assert "twice" in got["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"operation": "get", "data": {"a": 1}, "path": "b"}, "it has: a"),
        ({"operation": "get", "data": {"a": 1}, "path": "a.b"}, "of type number"),
        ({"operation": "get", "data": [1], "path": "1"}, "1 elements"),
        ({"operation": "get", "data": [1], "path": "x"}, "no index"),
        ({"operation": "get", "data": [1], "path": "9" * 5000}, "1 elements"),
        ({"operation": "get", "data": "not json", "path": "a"}, "cannot be read"),
        ({"operation": "get", "data": {}, "path": ".".join("a" * 65)}, "deeper"),
        ({"operation": "get", "data": "[" * 65 + "]" * 65}, "deeper"),
        ({"operation": "set", "data": {}, "value": 1}, "also needs: path"),
        ({"operation": "set", "data": {"a": 1}, "path": "a.b", "value": 1}, "of type number"),
        ({"operation": "set", "data": [1], "path": "2", "value": 1}, "1 elements"),
        ({"operation": "delete", "data": {}, "path": ""}, "not empty"),
        ({"operation": "keys", "data": [1]}, "of type array"),
        ({"operation": "length", "data": 5}, "no length"),
        ({"operation": "merge", "data": {}}, "also needs: other"),
        ({"operation": "filter", "data": {}}, "of type object"),
        ({"operation": "pick", "data": {}}, "also needs: fields"),
        ({"operation": "get"}, "/data"),
    ],
)
async def test_what_does_not_fit_is_refused_in_words(arguments: dict[str, object], words: str) -> None:
    assert words in await refusal(json_query, **arguments)


async def test_values_that_nest_beyond_any_stack_are_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    got = await json_query.execute({"operation": "type_of", "data": deep}, context_of())
    assert got.is_error
    assert "deeper" in got.content


async def test_the_data_is_bounded_to_the_byte() -> None:
    assert await answer(json_query, operation="length", data="x" * DATA_BYTES) == {"result": DATA_BYTES}
    assert "too long" in await refusal(json_query, operation="length", data="x" * (DATA_BYTES + 1))
    half = {"a": "x" * (DATA_BYTES // 2)}
    assert "result is too long" in await refusal(json_query, operation="merge", data=half, other={"b": half["a"]})


@pytest.mark.slow
async def test_long_names_above_many_leaves_do_not_multiply() -> None:
    deep: object = {f"k{number}": number for number in range(19_000)}
    for _ in range(20):
        deep = {"n" * 30_000: deep}
    assert len(json.dumps(deep)) < DATA_BYTES
    assert "too long" in await refusal(json_query, operation="flatten", data=deep)
    assert (await answer(json_query, operation="diff", data=deep, other=deep))["result"]["changed"] == {}
    changed = json.loads(json.dumps(deep).replace(": 1", ": 9"))
    assert "too long" in await refusal(json_query, operation="diff", data=deep, other=changed)


@settings(max_examples=25)
@given(objects)
def test_every_path_of_a_flattened_object_leads_to_its_leaf(data: dict[str, object]) -> None:
    for path, leaf in _flatten(data).items():
        assert same(_get(data, path), leaf)


@settings(max_examples=25)
@given(objects, objects)
def test_a_diff_tells_all_there_is_and_a_merge_takes_the_other(
    data: dict[str, object], other: dict[str, object]
) -> None:
    found = _diff(data, other)
    assert (found == {"added": {}, "removed": {}, "changed": {}}) == same(data, other)
    merged = _merge(data, other)
    assert _merge(merged, other) == merged
    assert set(merged) == set(data) | set(other)


@settings(max_examples=25)
@given(objects, st.lists(names, min_size=1, max_size=3), leaves)
def test_what_is_set_is_got_and_nothing_is_changed_in_place(
    data: dict[str, object], path: list[str], leaf: object
) -> None:
    before = json.dumps(data)
    clean = {name: item for name, item in data.items() if name != path[0]}
    assert same(_get(_set(clean, ".".join(path), leaf), ".".join(path)), leaf)
    assert json.dumps(data) == before


@settings(max_examples=25)
@given(values, values)
def test_comparing_is_total_and_consistent(left: object, right: object) -> None:
    assert compares(left, "eq", right) != compares(left, "ne", right)
    assert not (compares(left, "gt", right) and compares(left, "lte", right))
    if kind_of(left) == kind_of(right) == "number":
        assert compares(left, "lt", right) == (left < right)  # type: ignore[operator]  # both are numbers
    sorted([left, right], key=sort_key)


def test_true_is_not_one() -> None:
    assert not same(True, 1)
    assert same(1, 1.0)
    assert not same([True], [1])

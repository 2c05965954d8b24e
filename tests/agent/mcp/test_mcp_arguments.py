"""Arguments held against schemas that come from elsewhere."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from argentor_asgi.agent.mcp.arguments import ERRORS, REFERENCES, ArgumentCheck, SchemaRefused


def an_object(**properties):
    return {"type": "object", "properties": properties}


def test_arguments_that_fit_have_nothing_wrong():
    check = ArgumentCheck({**an_object(a={"type": "integer"}), "required": ["a"]})
    assert check.wrong({"a": 1}) is None


def test_what_is_wrong_names_the_field_and_all_the_right_ones():
    """agent.md 1.10 D12: arguments are checked before a tool is called."""
    check = ArgumentCheck({**an_object(a={"type": "integer"}, b={"enum": ["x", "y"]}), "required": ["a"]})
    assert check.wrong({"b": "z"}) == (
        "/b: 'z' is not one of ['x', 'y']; /: 'a' is a required property. Its fields: a (required), b."
    )


def test_a_nested_field_is_named_by_its_pointer():
    check = ArgumentCheck(an_object(list={"type": "array", "items": {"type": "integer"}}))
    assert check.wrong({"list": [1, "two"]}) == "/list/1: 'two' is not of type 'integer'. Its fields: list."


def test_only_the_first_errors_are_told():
    check = ArgumentCheck(an_object(list={"type": "array", "items": {"type": "integer"}}))
    assert check.wrong({"list": ["x"] * 100}).count("is not of type") == ERRORS


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"required": 3}, {"$schema": {}}, {"properties": {"a": 1}}])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(SchemaRefused):
        ArgumentCheck(schema)


def test_a_regular_expression_from_a_server_is_not_run():
    """It could hold the loop for hours: `re` backtracks without a bound."""
    evil = "^(a+)+$"
    check = ArgumentCheck(
        {
            "type": "object",
            "properties": {"text": {"type": "string", "pattern": evil}, "pattern": {"type": "integer"}},
            "patternProperties": {evil: {"type": "integer"}},
            "propertyNames": {"pattern": evil},
            "additionalProperties": False,
            "unevaluatedProperties": False,
        }
    )
    assert check.wrong({"text": "a" * 50 + "!", "a" * 50 + "!": 1}) is None
    assert check.wrong({"pattern": "x"}) == "/pattern: 'x' is not of type 'integer'. Its fields: text, pattern."


def test_a_reference_is_followed_within_the_schema():
    check = ArgumentCheck({**an_object(a={"$ref": "#/$defs/number"}), "$defs": {"number": {"type": "integer"}}})
    assert check.wrong({"a": 1}) is None
    assert "is not of type 'integer'" in check.wrong({"a": "x"})


@pytest.mark.parametrize(
    "schema",
    [
        an_object(a={"$ref": "http://127.0.0.1:1/schema.json"}),
        an_object(a={"$ref": "file:///etc/passwd"}),
        an_object(a={"$ref": "#/$defs/none"}),
        {"type": "object", "$ref": "#"},
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error_and_nothing_is_fetched(schema):
    assert "cannot be applied" in ArgumentCheck(schema).wrong({"a": 1})


def test_references_that_double_and_double_are_stopped():
    doubling = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)}
    schema = {**an_object(a={"$ref": "#/$defs/0"}), "$defs": {**doubling, "40": {}}}
    assert "cannot be applied" in ArgumentCheck(schema).wrong({"a": 1})


def test_the_bound_on_references_is_for_each_check():
    check = ArgumentCheck(
        {**an_object(a={"type": "array", "items": {"$ref": "#/$defs/n"}}), "$defs": {"n": {"type": "integer"}}}
    )
    for _ in range(2):
        assert check.wrong({"a": [1] * REFERENCES}) is None
    assert "cannot be applied" in check.wrong({"a": [1] * (REFERENCES + 1)})


fields = st.sampled_from([{"type": "integer"}, {"type": "string"}, {"enum": [1, "x"]}, {"minimum": 3}, {}, True, False])
schemas = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abc"), fields)},
    optional={"required": st.lists(st.sampled_from("abc"), unique=True), "additionalProperties": st.booleans()},
)


@settings(max_examples=50)
@given(schemas, st.dictionaries(st.sampled_from("abcd"), st.integers() | st.text(max_size=3)))
def test_a_schema_without_patterns_is_followed_as_the_library_follows_it(schema, arguments):
    assert (ArgumentCheck(schema).wrong(arguments) is None) == Draft202012Validator(schema).is_valid(arguments)

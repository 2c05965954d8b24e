"""What a tool's answer is as text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.mcp.content import NOTHING, text_of


def text(words):
    return {"type": "text", "text": words}


def test_text_parts_are_lines():
    assert text_of([text("one"), text("two")]) == "one\ntwo"


def test_a_structure_is_told_where_there_is_no_text():
    assert text_of([], {"x": [1, "é"]}) == '{"x":[1,"é"]}'
    assert text_of([text("said")], {"x": 1}) == "said"


def test_an_answer_without_anything_says_so():
    assert text_of([]) == NOTHING


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
            "[an image of type image/png, 4 bytes, not shown]",
        ),
        (
            {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
            "[an audio of type audio/wav, 3 bytes, not shown]",
        ),
        ({"type": "resource_link", "name": "n", "uri": "file:///n"}, "[a resource: n at file:///n]"),
        ({"type": "resource", "resource": {"uri": "file:///t", "text": "inside"}}, "inside"),
        (
            {"type": "resource", "resource": {"uri": "file:///b", "blob": "AA", "mimeType": "x/y"}},
            "[a resource at file:///b, of type x/y, which is no text]",
        ),
        ({"type": "hologram"}, "[a part of type hologram, not shown]"),
        ({}, "[a part of type unknown, not shown]"),
    ],
)
def test_what_is_no_text_is_described(part, words):
    assert text_of([text("see:"), part]) == f"see:\n{words}"


short = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | short,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3),
    max_leaves=5,
)
parts_of_any_kind = st.lists(
    st.dictionaries(st.sampled_from(["type", "text", "resource", "uri", "data"]), json_values, max_size=3), max_size=3
)


@settings(max_examples=50)
@given(parts_of_any_kind)
def test_whatever_a_server_sends_becomes_text(parts):
    assert isinstance(text_of(parts), str)


@settings(max_examples=50)
@given(json_values.filter(lambda value: value is not None))
def test_a_structure_comes_back_as_it_was(structured):
    assert json.loads(text_of([], structured)) == structured

"""What the wires share."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_cases import message, text_part

from argentor_asgi.protocol.llm import LlmRequest
from argentor_asgi.protocol.wires import shared


@given(st.text() | st.none())
def test_a_call_id_is_one_that_every_provider_takes_and_always_the_same(given_id):
    made = shared.call_id(given_id)
    assert re.fullmatch("[a-zA-Z0-9_-]{1,40}", made)
    assert shared.call_id(given_id) == shared.call_id(made) == made


@pytest.mark.parametrize("given_id", ["call_abc", "toolu_01A09q90qw90lq917835lq9", "x" * 40])
def test_an_id_that_every_provider_takes_stays(given_id):
    assert shared.call_id(given_id) == given_id


@given(st.sets(st.sampled_from(["call_0", "call_1", "call_2", "a"])), st.sampled_from([None, "", "a", "call_0", "b"]))
def test_a_fresh_id_is_free_and_the_given_one_if_that_is(taken, given_id):
    made = shared.fresh_id(given_id, taken)
    assert made not in taken
    assert made == given_id or not given_id or given_id in taken


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.dictionaries(st.just("a"), inner),
    )
)
def test_a_count_is_a_whole_number_in_bounds(usage):
    for path in ((), ("a",), ("a", "a")):
        found = shared.count(usage, *path)
        assert isinstance(found, int)
        assert 0 <= found <= shared.TOKENS


def test_blank_prompts_are_no_part_of_the_system_text():
    assert (
        shared.system_text(LlmRequest(" ", [message("system", content="a"), message("system", text_part("\n"))])) == "a"
    )


@pytest.mark.parametrize(
    "metadata", [{}, {"backend": None}, {"backend": []}, {"backend": {"other": {}}}, {"backend": {"mine": 1}}]
)
def test_what_another_wire_kept_is_nothing(metadata):
    assert shared.kept(message("assistant", metadata=metadata), "mine") == {}


def test_neighbours_of_one_role_are_one_turn():
    turns = [("user", [{"a": 1}]), ("user", []), ("model", []), ("user", [{"b": 2}]), ("model", [{"c": 3}])]
    assert shared.merged(turns) == [("user", [{"a": 1}, {"b": 2}]), ("model", [{"c": 3}])]


def test_an_id_as_long_as_the_bound_is_kept_and_a_longer_one_is_replaced():
    assert shared.fresh_id("i" * shared.ID_CHARS, ()) == "i" * shared.ID_CHARS
    assert shared.fresh_id("i" * (shared.ID_CHARS + 1), ()) == "call_0"
    assert shared.short_id("i" * (shared.ID_CHARS + 1)) is None


@pytest.mark.parametrize(
    ("given_name", "sent"),
    [
        ("memory_store-2", "memory_store-2"),
        ("functions.add", "functions_add"),
        ("add\n\0é", "add___"),
        ("n" * 65, "n" * 64),
        ("", "_"),
        (None, "_"),
    ],
)
def test_a_name_that_a_model_made_up_is_sent_as_one_that_providers_take(given_name, sent):
    assert shared.call_name(given_name) == sent

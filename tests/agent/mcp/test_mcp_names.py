"""What tools are called as skills."""

import re

from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.mcp.names import NAME_CHARACTERS, ambiguous, skill_names, slug

texts = st.text(max_size=80)


def test_a_skill_is_named_after_its_server_and_its_tool():
    assert skill_names("files", ["read", "write"]) == {"read": "files_read", "write": "files_write"}


def test_what_no_provider_takes_in_a_name_is_replaced():
    assert skill_names("my.files", ["read/all it"]) == {"read/all it": "my_files_read_all_it"}


def test_of_two_tools_the_one_that_needs_no_replacing_keeps_its_name():
    names = skill_names("files", ["get.item", "get_item"])
    assert names["get_item"] == "files_get_item"
    assert re.fullmatch(r"files_get_item_[0-9a-f]{8}", names["get.item"])


def test_a_taken_name_and_a_long_one_carry_a_mark():
    names = skill_names("s", ["add", "x" * 63], taken={"s_add"})
    assert re.fullmatch(r"s_add_[0-9a-f]{8}", names["add"])
    assert len(names["x" * 63]) == NAME_CHARACTERS
    assert skill_names("s", ["x" * 62]) == {"x" * 62: "s_" + "x" * 62}


def test_servers_whose_names_run_into_each_other_are_told_apart_whoever_answers_first():
    assert ambiguous(["a", "b", "a_b", "ab"]) == {"a_b"}
    assert ambiguous(["a_b", "a"]) == {"a"}
    assert ambiguous(["a.b", "a_b"]) == {"a_b"}
    first = skill_names("a", ["b_c"])
    second = skill_names("a_b", ["c"], is_marked=True)
    assert not set(first.values()) & set(second.values())


@given(texts, st.lists(texts, max_size=20), st.booleans())
def test_names_are_what_providers_take_and_differ_and_do_not_depend_on_the_order(server, tools, is_marked):
    names = skill_names(server, tools, is_marked=is_marked)
    assert set(names) == set(tools)
    assert len(set(names.values())) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names.values())
    assert names == skill_names(server, reversed(tools), is_marked=is_marked)


@given(st.text(alphabet="ab._-", min_size=1, max_size=50), st.lists(st.text(max_size=80), max_size=5))
def test_every_name_begins_with_its_server_so_that_a_pattern_denies_them_all(server, tools):
    assert all(name.startswith(f"{slug(server)}_") for name in skill_names(server, tools).values())

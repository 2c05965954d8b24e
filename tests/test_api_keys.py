"""`argentor_asgi.api_keys`: what a key may be called and may do, by itself."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.api_keys import SCOPES, ApiKey, Key, Secret, check_name, check_scopes, refuse_twins

PARTS = st.sampled_from(["chat", "Chat", "a-b_1", "1a", "", ":", "read", "write", "*", "admin", " ", "\n", "é"])


@given(st.lists(PARTS, max_size=4).map("".join) | st.text(max_size=10))
def test_a_scope_is_all_or_admin_or_reads_or_writes_something(scope: str):
    right = scope in {"*", "admin"} or re.fullmatch(r"[a-z][a-z0-9_-]*:(read|write)", scope) is not None
    with suppress(ValueError):
        check_scopes([scope])
        assert right
        return
    assert not right


@pytest.mark.parametrize(("count", "right"), [(0, False), (1, True), (SCOPES, True), (SCOPES + 1, False)])
def test_a_key_has_some_scopes_and_not_too_many(count: int, right: bool):
    with suppress(ValueError):
        check_scopes([f"a{n}:read" for n in range(count)])
        assert right
        return
    assert not right


@given(st.text(max_size=6) | st.sampled_from(["anonymous", "sha256", "a" * 64, "a" * 65, "a.b-c_d", "a\n"]))
def test_a_name_is_plain_and_no_reserved_word(name: str):
    right = re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is not None and name not in {"anonymous", "sha256"}
    with suppress(ValueError):
        check_name(name)
        assert right
        return
    assert not right


@given(st.none() | st.text(max_size=80), st.none() | st.text(max_size=80))
def test_a_row_is_held_as_its_digest_or_refused_without_showing_it(key: str | None, digest: str | None):
    row = Key("ci", key=None if key is None else Secret(key), sha256=None if digest is None else Secret(digest))
    try:
        held = row.held
    except ValueError as error:
        shown = str(error)
    else:
        assert len(held.digest) == 32
        shown = repr(held)
    shown += repr(row)
    assert not any(text and len(text) > 12 and text in shown for text in (key, digest))


def test_a_name_and_a_key_are_one_keys_alone():
    one, namesake, twin = ApiKey("a", b"1"), ApiKey("a", b"2"), ApiKey("b", b"1")
    refuse_twins([one, ApiKey("b", b"2")])
    with pytest.raises(ValueError, match="two API keys are named `a`"):
        refuse_twins([one, namesake])
    with pytest.raises(ValueError, match="under two names"):
        refuse_twins([one, twin])

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.ops.audit_details import DETAILS_BYTES, HIDDEN, ITEMS, LEVELS, VALUE_CHARS, fitted, is_secret
from argentor_asgi.protocol import schema

QUICK = settings(max_examples=40, deadline=None)
NAMES = st.text(max_size=6) | st.sampled_from(["password", "API-Key", "tokens", "note"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "Authorization", "proxy-authorization", "Cookie", "set_cookie", "password", "db.Passwd"),
        *("client_secret", "token", "ACCESS_TOKEN", "refreshToken", "api_key", "X-API-Key", "apikey", "key", "keys"),
        *("private key", "passphrase", "credentials", "signature", "jwt", "pin", "pwd", "ws_ticket_token", "ticket"),
    ],
)
def test_a_value_under_the_name_of_a_secret_is_hidden_at_any_depth(name):
    assert is_secret(name)
    assert fitted({name: "s3cret", "in": [{"deeper": {name: ["s3cret"]}}]}) == {
        name: HIDDEN,
        "in": [{"deeper": {name: HIDDEN}}],
    }


@pytest.mark.parametrize(
    "name", ["key_id", "by_key", "public_key", "author", "note", "session_id", "name", "monkeys_eat"]
)
def test_other_names_are_not(name):
    assert fitted({name: "x"}) == {name: "x"}


def test_a_count_of_tokens_is_no_secret_and_a_token_is():
    assert fitted({"input_tokens": 5, "tokens": "abc"}) == {"input_tokens": 5, "tokens": HIDDEN}


def test_what_json_has_not_is_named_and_not_quoted():
    class Odd:
        def __repr__(self):
            return "s3cret"

    at, number = datetime(2026, 3, 1, tzinfo=UTC), UUID(int=1)
    found = fitted({"a": Odd(), "b": b"s3cret", "c": at, "d": number, "e": 2**64, "f": {1: (1, None)}})
    assert found == {
        "a": "<Odd>",
        "b": "<6 bytes>",
        "c": "2026-03-01 00:00:00+00:00",
        "d": str(number),
        "e": "<65 bits>",
        "f": {"1": [1, None]},
    }


def test_a_long_text_is_cut_and_says_so():
    whole = "x" * VALUE_CHARS[0]
    assert fitted({"a": whole, "b": whole + "yy"}) == {"a": whole, "b": f"{whole}... (2 more)"}


def test_many_long_texts_are_cut_shorter():
    found = fitted({f"n{number}": "x" * 5000 for number in range(20)})
    assert found["n7"] == f"{'x' * VALUE_CHARS[1]}... ({5000 - VALUE_CHARS[1]} more)"


def test_at_the_bound_of_items_the_rest_is_left_out():
    assert len(fitted({f"{number}": 1 for number in range(ITEMS)})) == ITEMS
    assert fitted({f"{number}": 1 for number in range(ITEMS + 3)})["omitted"] == 3
    assert fitted({"a": [1] * (ITEMS + 3)})["a"][-1] == "..."


def test_at_the_bound_of_levels_the_rest_is_left_out():
    deep = "end"
    for _ in range(LEVELS + 2):
        deep = {"a": deep}
    found = fitted(deep)
    for _ in range(LEVELS - 1):
        found = found["a"]
    assert found == {"a": "..."}


def test_what_cannot_be_made_short_is_left_out_whole():
    found = fitted({str(number) + "\x01" * 128: "\x01" * 40 for number in range(200)})
    assert set(found) == {"omitted_bytes"}


@given(details=st.dictionaries(NAMES, VALUES, max_size=8))
@QUICK
def test_any_details_fit_as_json_and_fit_again(details):
    found = fitted(details)
    data = schema.encode(found)
    assert len(data) <= DETAILS_BYTES
    assert isinstance(json.loads(data), dict)


@given(details=st.dictionaries(NAMES, VALUES, max_size=4), name=st.sampled_from(["token", "Cookie", "x-api-key"]))
@QUICK
def test_no_secret_is_left_wherever_it_stands(details, name):
    found = fitted({"a": {"b": [details, {name: "NEVER-SHOWN"}]}, name: {"c": "NEVER-SHOWN"}})
    assert b"NEVER-SHOWN" not in schema.encode(found)

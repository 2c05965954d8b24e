"""JSON in and out: what is refused, with which pointer, and that nothing else ever comes out of a body."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Literal, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.errors import Detail, InvalidInput, MalformedJson
from argentor_asgi.protocol.schema import (
    DEPTH,
    VALUES,
    Meta,
    arguments_type,
    convert,
    convert_text,
    decode,
    decode_input,
    decode_value,
    encode,
    field_names,
    restore,
    schemas,
    scrub,
    to_builtins,
)


@dataclass
class Leaf:
    size: int
    name: Annotated[str, Meta(max_length=3)] = ""
    kind: Literal["a", "b"] = "a"


@dataclass
class Tree:
    leaf: Leaf | None = None
    leaves: list[Leaf] = field(default_factory=list)
    by_name: dict[str, Leaf] = field(default_factory=dict)


Odd = TypedDict("Odd", {"a/b~c": int})


def nested(levels, opening=b"[", closing=b"]"):
    return opening * levels + closing * levels


# --- what is not JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b'{"a":1',
        b'{"a" 1}',
        b"{a:1}",
        b"{'a':1}",
        b"[1,]",
        b'{"a":1,}',
        b"{} x",
        b"{}{}",
        b"01",
        b"+1",
        b".5",
        b"0x1",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"nul",
        b"// hi\n1",
        b'"a\nb"',
        b'"\x00"',
        b"\x00",
        b'"\\x41"',
        b'"\\',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-32-le"),
    ],
)
def test_what_is_not_json_is_refused(body):
    with pytest.raises(MalformedJson):
        decode_value(body)


@pytest.mark.parametrize(
    "body", [b'"\xff"', b'"\xc3"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'{"z":"\xff"}', b'{"\xff":1}']
)
@pytest.mark.parametrize("kind", [object, Tree])
def test_what_is_not_utf8_is_refused_even_in_members_that_nobody_reads(body, kind):
    with pytest.raises(MalformedJson):
        decode(body, kind)


@pytest.mark.parametrize("body", [b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\ud800"', b'"\\ud800x"', b'{"\\udfff":1}'])
def test_a_lone_surrogate_is_refused(body):
    with pytest.raises(MalformedJson):
        decode_value(body)


def test_a_pair_of_surrogates_is_one_character():
    assert decode_value(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"b":{"a":1,"a":2}}',
        b'[{"a":1,"b":2,"a":3}]',
        b'{"":1,"":2}',
    ],
)
@pytest.mark.parametrize("kind", [object, dict[str, object] | list[object] | None])
def test_a_member_that_is_named_twice_is_refused(body, kind):
    with pytest.raises(MalformedJson, match="twice"):
        decode(body, kind)


def test_a_member_that_nobody_reads_may_not_be_named_twice_either():
    with pytest.raises(MalformedJson, match="twice"):
        decode(b'{"unread":{"a":1,"a":2},"leaf":null}', Tree)


def test_the_same_name_in_different_objects_is_fine():
    assert decode_value(b'{"a":{"a":1},"b":[{"a":1},{"a":2}]}') == {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_to_the_bound_is_read_and_one_level_more_is_not(brackets):
    opening, closing = brackets
    for levels in (DEPTH, DEPTH + 1):
        body = opening * levels + b"1" + closing * levels
        if levels == DEPTH:
            assert json.loads(body) == decode_value(body)
        else:
            with pytest.raises(MalformedJson, match="deeper than 64"):
                decode_value(body)


@pytest.mark.parametrize("levels", [1000, 100_000])
@pytest.mark.parametrize("closing", [b"]", b""])
def test_absurd_nesting_is_refused_before_anything_recurses(levels, closing):
    with pytest.raises(MalformedJson, match="deeper than 64" if levels < VALUES else f"more than {VALUES}"):
        decode_value(nested(levels, b"[", closing))


def test_nesting_in_members_that_nobody_reads_counts():
    with pytest.raises(MalformedJson, match="deeper than 64"):
        decode(b'{"z":' + nested(DEPTH) + b"}", Tree)


def test_many_brackets_side_by_side_or_in_text_are_no_nesting():
    assert len(decode_value(b"[" + b",".join([b"[]"] * 1000) + b"]")) == 1000
    assert decode_value(b'{"a":"' + b"[" * 1000 + b'","b":"\\"' + b"{" * 1000 + b'"}')["a"] == "[" * 1000


def test_a_text_without_end_is_read_once_and_not_from_every_quote():
    with pytest.raises(MalformedJson):
        decode_value(b"[" * 65 + b'"' + b'\\"' * 500_000)


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"1e400", b"-1e400", b"[1e999]", b'{"a":1e400}', b"1" * 5000, b"[-" + b"1" * 5000 + b"]"]
)
def test_a_number_that_python_cannot_hold_is_refused(body):
    with pytest.raises(MalformedJson, match="out of range"):
        decode_value(body)


def test_a_number_that_is_skipped_may_be_of_any_length():
    assert decode(b'{"z":' + b"1" * 5000 + b',"y":1e999,"size":1}', Leaf) == Leaf(1)


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**64), 10**400])
def test_an_integer_is_read_exactly_and_never_as_a_float(number):
    body = b'{"size":%d}' % number
    found = decode(body, Leaf)
    assert (type(found.size), found.size) == (int, number)
    assert decode(encode(found), Leaf) == found


@pytest.mark.parametrize("text", ["1.0", "1.5", "1e2", "true", '"1"', "null", "[]"])
def test_what_is_no_integer_does_not_pass_for_one(text):
    with pytest.raises(InvalidInput) as raised:
        decode(b'{"size":%s}' % text.encode(), Leaf)
    assert raised.value.details[0].pointer == "/size"


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, -(2**63), 2**63, 2**64 - 1])
def test_a_client_may_send_any_integer_of_64_bits(number):
    assert decode_input(b'{"size":%d}' % number, Leaf) == Leaf(number)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**19 * 2, -(10**40), 10**400, int("9" * 4000)])
@pytest.mark.parametrize("body", [b"%d", b"[%d]", b'{"unread":%d,"size":1}', b'{"a":["x\\"", {"b":  %d }]}'])
def test_a_client_may_send_no_integer_beyond_it_since_many_parsers_round_those(number, body):
    with pytest.raises(MalformedJson, match="64 bits"):
        decode_input(body % number, object)


@pytest.mark.parametrize(
    "body", [b"0.1234567890123456789012", b"12345678901234567890e-5", b"1.5E+0000000000000000000001", b'"%d"' % 10**40]
)
def test_digits_that_are_no_integer_may_be_many(body):
    assert decode_input(b'{"size":1,"unread":%b}' % body, Leaf) == Leaf(1)


@given(st.recursive(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
@settings(max_examples=40)
def test_only_integers_beyond_64_bits_are_refused_of_any_document(value):
    def longs(value):
        if isinstance(value, list):
            return any(map(longs, value))
        return isinstance(value, int) and not -(2**63) <= value < 2**64

    body = json.dumps(value).encode()
    try:
        assert decode_input(body, object) == json.loads(body)
    except MalformedJson:
        assert longs(value) or "\\ud" in body.decode()
    else:
        assert not longs(value)


# --- hostile documents (what parsers disagree about) --------------------------------------------------------------


HOSTILE = {
    "100,000 levels": nested(100_000),
    "1,100 levels": nested(1_100),
    "1,000 levels": nested(1_000),
    "100,000 levels of objects": b'{"a":' * 100_000,
    "an integer of 65 bits": str(2**64).encode(),
    "an integer of 5,000 digits": b"1" * 5_000,
    "1e400": b"1e400",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "invalid UTF-8": b'"\xff\xfe"',
    "a lone surrogate": b'"\\ud800"',
    "a byte order mark": b"\xef\xbb\xbf1",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "trailing text": b"1 x",
    "two documents": b"{}{}",
    "nothing": b"",
    "a name twice": b'{"a":1,"a":2}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("wrap", [b"%b", b'{"unread":%b}'])
def test_what_parsers_disagree_about_is_refused(name, wrap):
    if wrap == b"%b" or name not in {"nothing", "1e400", "trailing text", "a byte order mark", "UTF-16"}:
        with pytest.raises(MalformedJson):
            decode_input(wrap % HOSTILE[name], object)


def test_a_nul_in_a_text_is_a_character():
    assert decode_input(b'"\\u0000"', str) == "\0"


@pytest.mark.slow
def test_a_very_long_text_is_read():
    assert len(decode_input(b'"' + b"9" * 3_000_000 + b'"', str)) == 3_000_000


def depth_of(data):
    """How deep brackets nest, read one byte after the other."""
    depth = deepest = 0
    in_text = escaped = False
    for byte in data.decode("latin-1"):
        if in_text:
            in_text, escaped = escaped or byte != '"', not escaped and byte == "\\"
        elif byte == '"':
            in_text = True
        elif byte in "[{":
            deepest = max(deepest, depth := depth + 1)
        elif byte in "]}":
            depth -= 1
    return deepest


PIECES = [b"[" * 30, b"{" * 7, b"]" * 20, b"}", b'"', b"\\", b'\\"', b"a", b"["]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join))
@settings(max_examples=200)
def test_depth_is_what_a_slow_reader_of_every_byte_says(data):
    try:
        decode_value(data)
        is_deep = False
    except MalformedJson as error:
        is_deep = "deeper" in error.message
    assert is_deep == (depth_of(data) > DEPTH)


# --- shapes -------------------------------------------------------------------------------------------------------


def test_members_that_are_not_known_are_ignored():
    assert decode(b'{"size":1,"colour":[1,{"deep":2}]}', Leaf) == Leaf(1)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"5", ""),
        (b"[]", ""),
        (b'{"leaf":{}}', "/leaf/size"),
        (b'{"leaf":5}', "/leaf"),
        (b'{"leaf":{"size":"x"}}', "/leaf/size"),
        (b'{"leaf":{"size":1,"name":"long"}}', "/leaf/name"),
        (b'{"leaves":5}', "/leaves"),
        (b'{"leaves":[{"size":1},{}]}', "/leaves/1/size"),
        (b'{"leaves":[{"size":1},{"size":null}]}', "/leaves/1/size"),
        (b'{"by_name":{"x":{"size":"s"}}}', "/by_name"),
        (b'{"by_name":{"x":{}}}', "/by_name"),
        (b'{"leaf":{"size":1,"kind":"c - at `$.leaf.size`"}}', "/leaf/kind"),
        (b'{"leaf":{"size":1,"kind":"- at `key` in `$"}}', "/leaf/kind"),
    ],
)
def test_a_wrong_shape_is_refused_with_a_pointer_to_it(body, pointer):
    with pytest.raises(InvalidInput) as raised:
        decode(body, Tree)
    assert [detail.pointer for detail in raised.value.details] == [pointer]


@pytest.mark.parametrize("body", [b"{}", b'{"a/b~c":"x"}'])
def test_a_pointer_escapes_tilde_and_slash(body):
    with pytest.raises(InvalidInput) as raised:
        decode(body, Odd)
    assert raised.value.details[0].pointer == "/a~1b~0c"


def test_a_wrong_key_of_a_mapping_is_told_without_the_librarys_path():
    with pytest.raises(InvalidInput) as raised:
        decode(b'{"x":1}', dict[int, int])
    assert raised.value.message == "Expected `int`, got `str`."
    assert raised.value.details == (Detail("", "Expected `int`, got `str`"),)


def test_values_are_checked_like_bodies():
    assert convert({"leaf": {"size": 2}}, Tree) == Tree(Leaf(2))
    with pytest.raises(InvalidInput) as raised:
        convert({"leaves": [{"size": 1.5}]}, Tree)
    assert raised.value.details[0].pointer == "/leaves/0/size"


@pytest.mark.parametrize(
    ("text", "kind", "value"), [("5", int, 5), ("x", str, "x"), ("true", bool, True), ("0", bool, False)]
)
def test_a_parameter_is_read_as_its_type(text, kind, value):
    assert convert_text(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"), [("x", int), ("1.5", int), ("", int), ("nan", float), ("inf", float), ("2", bool)]
)
def test_a_parameter_of_another_type_is_refused(text, kind):
    with pytest.raises(InvalidInput):
        convert_text(text, kind)


def test_what_was_kept_is_restored_however_deep_it_is():
    body = b'{"z":' + nested(500) + b',"z":1,"size":1}'
    assert restore(body, Leaf) == Leaf(1)
    with pytest.raises(MalformedJson):
        restore(b"{", Leaf)
    with pytest.raises(InvalidInput):
        restore(b"[]", Leaf)


# --- out ----------------------------------------------------------------------------------------------------------


def test_times_end_in_z():
    moment = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    assert encode(moment) == b'"2026-01-02T03:04:05.000600Z"'
    assert encode([moment, "\ud800"]) == '["2026-01-02T03:04:05.000600Z","�"]'.encode()
    assert encode(moment.astimezone(timezone(timedelta(hours=2)))) == b'"2026-01-02T05:04:05.000600+02:00"'


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("a\ud800b", '"a�b"'),
        ({"\udfff": ["\ud83d\ude00"]}, '{"�":["��"]}'),
        (Leaf(1, "\ud800"), '{"size":1,"name":"�","kind":"a"}'),
        ((1, 2), "[1,2]"),
        ({1: 2}, '{"1":2}'),
        ([float("nan"), float("inf"), 2**64], "[null,null,18446744073709551616]"),
        (-(2**63) - 1, "-9223372036854775809"),
        ([True, 2**70], "[true,1180591620717411303424]"),
        ("é\u2028", '"é\u2028"'),
    ],
)
def test_what_json_cannot_carry_is_replaced(value, body):
    assert encode(value) == body.encode()


def test_an_integer_that_python_will_not_print_is_hexadecimal_text():
    assert encode([10**4000]) == b"[1" + b"0" * 4000 + b"]"
    assert encode([10**5000]) == b'["%s"]' % hex(10**5000).encode()
    assert encode(-(10**5000)).startswith(b'"-0x')


def test_scrubbing_keeps_whole_characters_and_the_length():
    assert scrub("plain") == "plain"
    assert scrub("\U0001f600\ud83d") == "\U0001f600�"


def test_a_dataclass_becomes_json_values():
    assert to_builtins(Tree(Leaf(1))) == {
        "leaf": {"size": 1, "name": "", "kind": "a"},
        "leaves": [],
        "by_name": {},
    }


# --- descriptions -------------------------------------------------------------------------------------------------


def test_the_arguments_of_a_function_are_a_record_that_takes_no_unknown_names():
    def move(x: int, me: object, y: int = 2) -> None:
        """Move."""

    kind = arguments_type(move, without=frozenset({"me"}))
    assert field_names(kind) == ("x", "y")
    assert convert({"x": 1}, kind).y == 2
    with pytest.raises(InvalidInput) as raised:
        convert({"x": 1, "z/": 2}, kind)
    assert raised.value.details[0].pointer == "/z~1"
    with pytest.raises(TypeError, match="'y' needs an annotation"):
        arguments_type(lambda y: y, without=frozenset())


def test_schemas_refer_to_components():
    found, components = schemas([Tree], "#/c/{name}")
    assert found == ({"$ref": "#/c/Tree"},)
    assert set(components) == {"Tree", "Leaf"}
    assert components["Leaf"]["properties"]["name"]["maxLength"] == 3


# --- properties ---------------------------------------------------------------------------------------------------


ANY_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner)
    ),
    max_leaves=8,
)
TOKENS = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" "),
        *(b'"size"', b'"leaf"', b'"by_name"', b'"z"', b'{"z":1,"size":2}'),
        *(b"1", b"-", b"1.5", b"1e400", b"null", b"NaN", b"1" * 4400),
        *(b"\xff", b"\\ud800", b'"\xc3\xa9"', b"\xef\xbb\xbf"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=20) | st.lists(TOKENS, max_size=14).map(b"".join), st.sampled_from([object, dict, Leaf, Tree])
)
def test_any_bytes_are_read_or_refused_and_nothing_else(body, kind):
    try:
        value = decode(body, kind)
    except (MalformedJson, InvalidInput):
        return
    assert kind is object or isinstance(value, kind)
    json.loads(body.decode(), parse_int=str)


@settings(max_examples=80, deadline=None)
@given(ANY_VALUE)
def test_what_is_written_is_read_as_it_was(value):
    assert decode_value(encode(value)) == value
    assert json.loads(encode(value)) == value


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.text(max_size=3) | st.integers() | st.floats(), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_is_written_is_json_in_utf8(value):
    json.loads(encode(value).decode())


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**80), 2**80), st.text(st.characters(codec="utf-8"), max_size=3), st.sampled_from("ab"))
def test_a_record_survives_the_wire(size, name, kind):
    assert decode(encode(Leaf(size, name, kind)), Leaf) == Leaf(size, name, kind)


@pytest.mark.parametrize(
    "many",
    [
        lambda count: b"[" + b",".join([b"[]"] * (count - 1)) + b"]",
        lambda count: b"[" + b",".join([b"{}"] * (count - 1)) + b"]",
        lambda count: b"{" + b",".join(b'"%d":1' % number for number in range(count)) + b"}",
    ],
    ids=["arrays", "objects", "members"],
)
def test_a_document_has_so_many_arrays_objects_and_members_and_no_more(many):
    decode_value(many(VALUES))
    with pytest.raises(MalformedJson, match=f"more than {VALUES}"):
        decode_value(many(VALUES + 1))


def test_what_stands_in_a_text_is_not_counted():
    text = '[{":' * VALUES
    assert decode_value(json.dumps([text]).encode()) == [text]

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills.text_transform import (
    _OPERATIONS,
    REPEAT,
    TEXT_BYTES,
    Operation,
    _camel,
    _slug,
    text_transform,
    words,
)


def did(operation: str, **arguments: object) -> object:
    return _OPERATIONS[operation](**arguments)


def test_the_operations_offered_are_the_26_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_OPERATIONS)
    assert len(_OPERATIONS) == 26


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"operation": "uppercase", "text": "straße"}, "STRASSE"),
        ({"operation": "lowercase", "text": "ABC"}, "abc"),
        ({"operation": "title_case", "text": "it's a dog's LIFE"}, "It's A Dog's Life"),
        ({"operation": "capitalize", "text": "hELLO world"}, "Hello world"),
        ({"operation": "trim", "text": " a b \n"}, "a b"),
        ({"operation": "reverse", "text": "abc"}, "cba"),
        ({"operation": "slug", "text": "¡Hola, Señor Ñandú! It's 100%"}, "hola-senor-nandu-its-100"),
        ({"operation": "split", "text": "a, b,c", "separator": ","}, ["a", " b", "c"]),
        ({"operation": "split", "text": " a  b "}, ["a", "b"]),
        ({"operation": "join", "parts": ["a", "b"], "separator": "-"}, "a-b"),
        ({"operation": "join", "parts": []}, ""),
        ({"operation": "replace", "text": "a.b.c", "find": ".", "replacement": "+"}, "a+b+c"),
        ({"operation": "replace", "text": "a.b", "find": "."}, "ab"),
        ({"operation": "pad_left", "text": "7", "width": 3, "fill": "0"}, "007"),
        ({"operation": "pad_right", "text": "7", "width": 3}, "7  "),
        ({"operation": "truncate", "text": "hello", "length": 3}, "he…"),
        ({"operation": "truncate", "text": "hello", "length": 5}, "hello"),
        ({"operation": "truncate", "text": "hello", "length": 0}, ""),
        ({"operation": "char_count", "text": "ñandú"}, 5),
        ({"operation": "word_count", "text": "one two\nthree"}, 3),
        ({"operation": "line_count", "text": "one\ntwo\n"}, 2),
        ({"operation": "repeat", "text": "ab", "count": 3}, "ababab"),
        ({"operation": "contains", "text": "abc", "find": "b"}, True),
        ({"operation": "starts_with", "text": "abc", "find": "b"}, False),
        ({"operation": "ends_with", "text": "abc", "find": "c"}, True),
        ({"operation": "extract_between", "text": "a [b] c", "start": "[", "end": "]"}, "b"),
        ({"operation": "camel_case", "text": "hello big-world"}, "helloBigWorld"),
        ({"operation": "pascal_case", "text": "hello_world"}, "HelloWorld"),
        ({"operation": "snake_case", "text": "helloWorld again"}, "hello_world_again"),
        ({"operation": "kebab_case", "text": "Hello World"}, "hello-world"),
        ({"operation": "remove_whitespace", "text": " a b\tc\n"}, "abc"),
    ],
)
async def test_every_operation_answers(arguments: dict[str, object], result: object) -> None:
    assert await answer(text_transform, **arguments) == {"result": result}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"operation": "uppercase"}, "also needs: text"),
        ({"operation": "join"}, "also needs: parts"),
        ({"operation": "replace", "text": "a", "find": ""}, "find is empty"),
        ({"operation": "extract_between", "text": "a", "start": "[", "end": "]"}, "does not have both"),
        ({"operation": "pad_left", "text": "a", "width": 3, "fill": "ab"}, "/fill"),
        ({"operation": "repeat", "text": "a", "count": REPEAT + 1}, "/count"),
        ({"operation": "repeat", "text": "a" * 2000, "count": REPEAT}, "too long"),
        ({"operation": "replace", "text": "a" * 10**6, "find": "a", "replacement": "b" * 10**6}, "too long"),
        ({"operation": "join", "parts": ["a"] * 10**5, "separator": "b" * 1000}, "too long"),
        ({"operation": "pad_left", "text": "a", "width": TEXT_BYTES, "fill": "é"}, "too long"),
        ({"operation": "uppercase", "text": "ΐ" * (TEXT_BYTES // 2)}, "too long"),
        ({"operation": "trim", "text": "a" * (TEXT_BYTES + 1)}, "too long"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(arguments: dict[str, object], words: str) -> None:
    assert words in await refusal(text_transform, **arguments)


async def test_the_bounds_are_reached() -> None:
    assert len((await answer(text_transform, operation="repeat", text="a" * 1000, count=REPEAT))["result"]) == 10**6
    assert len((await answer(text_transform, operation="pad_right", text="", width=TEXT_BYTES))["result"]) == TEXT_BYTES


@given(st.text(max_size=60))
def test_plain_operations_are_those_of_str(text: str) -> None:
    assert did("uppercase", text=text) == text.upper()
    assert did("lowercase", text=text) == text.lower()
    assert did("trim", text=text) == text.strip()
    assert did("reverse", text=did("reverse", text=text)) == text
    assert did("char_count", text=text) == len(text)
    assert did("word_count", text=text) == len(text.split())
    assert did("split", text=text) == text.split()
    assert did("remove_whitespace", text=text) == "".join(text.split())


@given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=2), st.text("abc", max_size=3))
def test_replacing_searching_and_joining_are_those_of_str(text: str, find: str, replacement: str) -> None:
    assert did("replace", text=text, find=find, replacement=replacement) == text.replace(find, replacement)
    assert did("contains", text=text, find=find) == (find in text)
    assert did("join", parts=did("split", text=text, separator=find), separator=find) == text


@given(st.text(max_size=40), st.integers(0, 50))
def test_padding_and_truncating_have_the_length_asked_for(text: str, width: int) -> None:
    assert did("pad_left", text=text, width=width, fill="*") == text.rjust(width, "*")
    assert did("pad_right", text=text, width=width, fill="*") == text.ljust(width, "*")
    assert len(did("truncate", text=text, length=width)) == min(width, len(text))


@given(st.text(max_size=40))
def test_a_slug_is_a_slug_of_itself(text: str) -> None:
    slug = _slug(text)
    assert _slug(slug) == slug
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_cases_of_names_turn_into_each_other(parts: list[str]) -> None:
    text = " ".join(parts)
    assert did("snake_case", text=_camel(text)).replace("_", "") == "".join(parts)
    assert words(did("kebab_case", text=did("snake_case", text=text))) == parts

# ruff: noqa: RUF001  letters that look like others are what is tested
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.guardrails.pii import DOMAIN_CHARS, LOCAL_CHARS, PersonalData
from argentor_asgi.agent.guardrails.views import view

PII = PersonalData()
SIZE = 100_000


def found(text: str) -> list[tuple[str, str]]:
    return [(text[each.start : each.end], each.replacement) for each in PII.look(view(text))[0]]


@pytest.mark.parametrize(
    "address",
    [
        "jo@example.com",
        "Jo.Doe+tag@mail.example.co.uk",
        "a_b%c-d@x-y.example",
        "1@2.museum",
        "jo@xn--bcher-kva.example",
        "josé@exámple.com",
        "ｊｏ＠ｅｘａｍｐｌｅ．ｃｏｍ",
        "j\u200bo@exam\u00adple.com",
        "jо@exаmple.com",  # Cyrillic letters
    ],
)
def test_an_address_is_found(address: str) -> None:
    for text in (address, f"mailto:{address}", f"<{address}>", f"Write to {address}.", f"邮箱{address}。"):
        assert found(text) == [(address, "[EMAIL]")]


@pytest.mark.parametrize(
    "text", ["@example.com", "jo@", "jo@example", "jo@.com", "jo@-.com", "a @ b.com", "@jo said", "x@1.2.3", "jo@a..b"]
)
def test_what_is_no_address_stays(text: str) -> None:
    assert found(text) == []


def test_every_address_of_a_text_is_found() -> None:
    assert found("a@b.com,c@d.org;e@f@g.net") == [
        ("a@b.com", "[EMAIL]"),
        ("c@d.org", "[EMAIL]"),
        ("f@g.net", "[EMAIL]"),
    ]


def test_what_stands_before_the_sign_counts_as_far_as_an_address_may_be_long() -> None:
    text = "x" * (LOCAL_CHARS + 10) + "@example.com"
    assert found(text) == [("x" * LOCAL_CHARS + "@example.com", "[EMAIL]")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("some words and a la", len("some words and a la") - 48),
        ("and " * 20 + "jo@exam", 80 + 7 - 48),
        ("and " * 20 + "jo.doe", 80 + 6 - 48),
        ("and " * 20 + "x" * 60, 80),
        ("and " * 20 + "x" * 90, 80 + 90 - LOCAL_CHARS),
        ("and " * 20 + "jo@" + "a." * 100, 80),
        ("and " * 20 + "jo@" + "a" * (DOMAIN_CHARS + 50), 80 + 3 + DOMAIN_CHARS + 50 - LOCAL_CHARS),
    ],
)
def test_a_text_is_open_where_an_address_or_a_number_may_begin(text: str, place: int) -> None:
    assert PII.look(view(text))[1] == max(0, place)


@settings(max_examples=100)
@given(st.text("a1@.- +\u200b", max_size=80), st.text("a1@.- +\u200b", max_size=80))
def test_what_begins_before_the_open_place_is_there_whatever_follows(text: str, more: str) -> None:
    now, open_from = PII.look(view(text))
    later, _ = PII.look(view(text + more))
    assert [each for each in later if each.start < open_from] == [each for each in now if each.start < open_from]


SLOW = [pytest.param("4 ", marks=pytest.mark.slow), pytest.param("41 ", marks=pytest.mark.slow)]


@pytest.mark.parametrize("piece", ["4", "a@", "a.", "@a.", "+1 ", "de89 ", "012 ", "123-", "a@b.", "\u200b", *SLOW])
def test_a_hostile_text_costs_each_place_a_constant(piece: str) -> None:
    """Every pattern is bounded: with one that is not, this takes minutes."""
    text = (piece * SIZE)[:SIZE]
    assert len(PII.look(view(text))[0]) <= SIZE

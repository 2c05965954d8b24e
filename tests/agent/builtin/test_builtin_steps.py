"""The step splitter and how text is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.builtin.steps import pieces
from argentor_asgi.agent.builtin.text import bare, courtesy, language, normalise, spans, unquote


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a; b;c", ["a", "b", "c"]),
        ("a and then b, then c", ["a", "b", "c"]),
        ("a y luego b y después c", ["a", "b", "c"]),
        ("- a\n- b\n* c", ["a", "b", "c"]),
        ("1. a\n2) b", ["a", "b"]),
        ("- “a\n- b”", ["- “a\n- b”"]),
        ("do this:\n- a; b", ["do this:\n- a; b"]),
        ("say \"a; b\" then 'c; d'", ['say "a; b"', "'c; d'"]),
        ('/tool x {"a":"b; then c"}; y', ['/tool x {"a":"b; then c"}', "y"]),
        ("45 días después de hoy", ["45 días después de hoy"]),
        ("what's a; what's b", ["what's a", "what's b"]),
        ('an unclosed "a; b', ['an unclosed "a', "b"]),
        ("strengthen the athens", ["strengthen the athens"]),
        (" ; ;; ", []),
        ("", []),
    ],
)
def test_a_message_is_cut_outside_of_quotes_and_brackets(text, expected):
    assert [piece.text for piece in pieces(text)] == expected


soup = st.lists(
    st.sampled_from([*"ab ;\n\"'“”«»`{}[](),-1.\\", "then ", " and then ", "luego ", "- "]), max_size=40
).map("".join)


@given(soup)
def test_pieces_are_in_order_and_apart_and_never_blank(text):
    at = 0
    for piece in pieces(text):
        assert at <= piece.start < piece.end
        assert text[piece.start : piece.end] == piece.text == piece.text.strip()
        at = piece.end


@given(soup)
def test_a_literal_span_is_never_cut(text):
    cuts = [(one.end, two.start) for one, two in zip(pieces(text), pieces(text)[1:], strict=False)]
    for start, end in spans(text):
        assert not any(start < one and two < end for one, two in cuts)


@given(soup)
def test_spans_are_in_order_and_apart(text):
    ranges = [0, *(edge for span in spans(text) for edge in span)]
    assert ranges == sorted(ranges)


@given(st.text(max_size=60))
def test_normalising_a_second_time_changes_nothing_of_what_is_quoted(text):
    quoted = '"' + text.replace("\\", "").replace('"', "") + '"'
    assert normalise(f"sha256 of {quoted}") == f"sha256 of {quoted}"


def test_what_is_not_quoted_is_normalised():
    assert normalise(" \uff12\uff0b\uff12 ") == "2+2"
    assert normalise("5² “５²”") == "5^2 “５²”"


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('"a b"', "a b"),
        ("“a”", "a"),
        ("«a»", "a"),
        ("'a'", "a"),
        ('"a \\" b"', 'a " b'),
        ('"a" "b"', None),
        ("a", None),
        ('"', None),
        ("", None),
    ],
)
def test_quotes_are_taken_off_one_quoted_piece(text, inside):
    assert unquote(text) == inside


@pytest.mark.parametrize(
    ("texts", "found"),
    [(["what is this"], "en"), (["¿cuánto es?"], "es"), (["2+2", "qué hora es"], "es"), (["2+2"], "en"), ([], "en")],
)
def test_the_language_is_that_of_the_first_text_that_shows_one(texts, found):
    assert language(texts) == found


def test_courtesy_is_not_part_of_a_request():
    assert courtesy("Please, could you calculate 2+2 please?") == "calculate 2+2"
    assert courtesy("¿puedes calcular 2+2, por favor?") == "calcular 2+2"
    assert courtesy("please") == "please"


def test_words_are_compared_without_case_and_accents():
    assert bare("DÍA") == "dia"

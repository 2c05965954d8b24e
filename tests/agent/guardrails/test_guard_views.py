# ruff: noqa: RUF001  letters that look like others are what is tested
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.guardrails.views import CONTEXT, context, fold, folded_letter, view

texts = st.text(st.characters(codec="utf-8") | st.sampled_from("aB1\u200b\u0301ßİﬁ４\x00\n "), max_size=30)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Hello, World\n", "hello, world\n"),
        ("ÀÉîõü Ñ ø Ł", "aeiou n o l"),
        ("ＡＢＣ１２３＠．", "abc123@."),
        ("𝐇𝒊 ⓞⓚ", "hi ok"),
        ("Сору раgе", "copy page"),
        ("Ταρρυ", "tappu"),
        ("٤२४", "424"),
        ("a\u200bb\u00adc\u2060d\ufeffe\U000e0041f\ufe0f", "abcdef"),
        ("e\u0301\u0308", "e"),
        ("a\x00b\x08c\x7fd\te\r\nf", "abcd\te\r\nf"),
        ("a\u00a0b\u3000c\u2009d\u2028e", "a b c d\ne"),
        ("1‑2–3—4−5", "1-2-3-4-5"),
        ("\u115f\u3164x", "x"),
        ("漢字", "漢字"),
    ],
)
def test_a_text_is_folded_to_what_a_reader_takes_it_for(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(texts, texts)
def test_a_stream_folds_to_its_pieces_folded(first: str, second: str) -> None:
    assert fold(first + second) == fold(first) + fold(second)


@given(texts)
def test_every_folded_character_knows_its_place(text: str) -> None:
    seen = view(text)
    assert seen.folded == fold(text)
    for at, letter in enumerate(seen.folded):
        assert folded_letter(text[seen.begin(at)]) == letter
        assert seen.end(at + 1) == seen.begin(at) + 1
        assert seen.folded_at(seen.begin(at)) == at
    assert seen.begin(len(seen.folded)) == len(text)
    assert seen.folded_at(len(text)) == len(seen.folded)


@given(texts, texts)
def test_the_context_of_a_text_is_enough_to_look_back_at(text: str, more: str) -> None:
    kept = context(text)
    assert len(kept) <= CONTEXT + 1
    assert fold(kept) == fold(text)[-CONTEXT:]
    assert kept[-1:] == text[-1:]
    assert context(kept + more) == context(text + more)

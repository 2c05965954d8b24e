from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills.summarizer import (
    _OPERATIONS,
    SENTENCES,
    TEXT_BYTES,
    WORDS,
    Operation,
    _summarize,
    _syllables,
    split_sentences,
    summarizer,
)

TEXT = (
    "The gateway runs agents. Agents call skills, and skills answer agents. It rained on Tuesday. "
    "A gateway that runs agents needs limits on agents!"
)


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_OPERATIONS)


async def test_a_summary_keeps_the_telling_sentences_in_order() -> None:
    got = await answer(summarizer, operation="summarize", text=TEXT, sentences=2)
    assert got["summary"] == "The gateway runs agents. A gateway that runs agents needs limits on agents!"
    assert (got["sentences"], got["original_sentences"]) == (2, 4)


async def test_keywords_are_counted_over_their_forms() -> None:
    got = await answer(summarizer, operation="extract_keywords", text="A dog. Dogs dogs! The cat.", count=2)
    assert got["keywords"] == [
        {"word": "dogs", "count": 3, "score": 0.5},
        {"word": "cat", "count": 1, "score": 0.1667},
    ]


async def test_word_frequencies_count_every_word() -> None:
    got = await answer(summarizer, operation="word_frequency", text="b a B the", count=2)
    assert got == {
        "frequencies": [{"word": "b", "count": 2}, {"word": "a", "count": 1}],
        "total_words": 4,
        "unique_words": 3,
    }


async def test_readability_falls_with_long_words_and_sentences() -> None:
    easy = await answer(summarizer, operation="readability", text="The cat sat. The dog ran.")
    hard = await answer(
        summarizer, operation="readability", text="Institutional considerations necessitate reconsideration."
    )
    assert easy["flesch_reading_ease"] > 90
    assert hard["flesch_reading_ease"] < 0
    assert (easy["words"], easy["sentences"], easy["syllables"]) == (6, 2, 6)


@pytest.mark.parametrize(
    ("word", "syllables"), [("cat", 1), ("table", 2), ("make", 1), ("tree", 1), ("xyz", 1), ("b", 1)]
)
def test_syllables_are_groups_of_vowels(word: str, syllables: int) -> None:
    assert _syllables(word) == syllables


async def test_what_cannot_be_summarized_is_refused() -> None:
    assert "no words" in await refusal(summarizer, operation="readability", text=" 123 ")
    assert "too long" in await refusal(summarizer, operation="summarize", text="a" * (TEXT_BYTES + 1))
    assert "/sentences" in await refusal(summarizer, operation="summarize", text="a", sentences=SENTENCES + 1)
    assert "/count" in await refusal(summarizer, operation="word_frequency", text="a", count=WORDS + 1)


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["a. ", "\n", "a' ", ".", "\n \n", "a\u2019", "running "])
async def test_a_long_adversarial_text_is_answered(piece: str) -> None:
    text = "word " + piece * ((TEXT_BYTES - 5) // len(piece.encode()))
    for operation in get_args(Operation):
        assert await answer(summarizer, operation=operation, text=text, sentences=1, count=1)


@given(st.text("ab .!?\n", max_size=80), st.integers(1, 5))
def test_a_summary_is_some_of_the_sentences_in_order(text: str, count: int) -> None:
    found = split_sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    got = _summarize(text, count)
    assert got["sentences"] == min(count, len(found))

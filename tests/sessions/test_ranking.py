import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.sessions.ranking import QUERY_TERMS, counted, match, rank, terms, tokens

NOTES = ["my dog is called Rex", "The meeting is on Monday", "I like running and dogs", "Mi color favorito es el azul"]


def found(query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
    """Rank those of the documents that share a term, as a store does."""
    wanted = terms(query)
    matches = [(at, match(wanted, counted(text))) for at, text in enumerate(documents)]
    sharing = [(at, each) for at, each in matches if each.counts]
    return [(sharing[at][0], score) for at, score in rank(wanted, [each for _, each in sharing])]


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("what is my dog's name", 0),
        ("when are the meetings?", 1),
        ("run", 2),
        ("¿cuál es mi COLÓR favorito?", 3),
        ("colores", 3),
    ],
)
def test_a_question_finds_the_note_that_answers_it(query: str, best: int) -> None:
    assert found(query, NOTES)[0][0] == best


def test_a_query_without_a_shared_word_finds_nothing() -> None:
    assert found("what is the", NOTES) == []
    assert found("submarine", NOTES) == []
    assert found("", NOTES) == []
    assert found("dog", []) == []
    assert found("dog", ["", "the"]) == []


def test_the_rarer_word_and_the_shorter_text_count_more() -> None:
    assert [at for at, _ in found("dog rex", ["dog dog", "dog", "rex"])] == [2, 0, 1]
    assert [at for at, _ in found("dog", ["dog and a very long story besides", "dog"])] == [1, 0]


@pytest.mark.parametrize(
    "forms",
    [
        ["call", "calls", "called", "calling"],
        ["run", "runs", "running"],
        ["like", "likes", "liked"],
        ["story", "stories"],
        ["perro", "perros", "perra"],
        ["canción", "CANCION"],
    ],
)
def test_the_forms_of_a_word_are_one_term(forms: list[str]) -> None:
    assert len({tuple(tokens(form)) for form in forms}) == 1


def test_only_so_many_terms_of_a_query_count() -> None:
    words = [f"word{number}" for number in range(QUERY_TERMS + 1)]
    assert found(" ".join(words), [words[QUERY_TERMS - 1]]) != []
    assert found(" ".join(words), [words[QUERY_TERMS]]) == []


texts = st.text(st.sampled_from("abc dogs'éñ\u0130 "), max_size=30)


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_a_term_is_word_characters_without_ascii_capitals(text: str) -> None:
    assert all(re.fullmatch(r"\w+", term) and not re.search("[A-Z]", term) for term in tokens(text))


def test_a_sign_that_is_made_of_a_capital_is_folded_too() -> None:
    assert tokens("20\u2103") == tokens("20°C") == ["20", "c"]


@given(texts, st.lists(texts, max_size=8))
def test_exactly_the_documents_with_a_shared_term_are_found_best_first(query: str, documents: list[str]) -> None:
    ranked = found(query, documents)
    sharing = {at for at, text in enumerate(documents) if set(tokens(query)) & set(tokens(text))}
    assert {at for at, _ in ranked} == sharing
    assert all(score > 0 for _, score in ranked)
    assert ranked == sorted(ranked, key=lambda pair: (-pair[1], pair[0]))
    assert found(query, documents) == ranked

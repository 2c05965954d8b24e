import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.ranking import QUERY_TERMS, rank, tokens

NOTES = ["my dog is called Rex", "The meeting is on Monday", "I like running and dogs", "Mi color favorito es el azul"]


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
    assert rank(query, NOTES)[0][0] == best


def test_a_query_without_a_shared_word_finds_nothing() -> None:
    assert rank("what is the", NOTES) == []
    assert rank("submarine", NOTES) == []
    assert rank("", NOTES) == []
    assert rank("dog", []) == []
    assert rank("dog", ["", "the"]) == []


def test_the_rarer_word_and_the_shorter_text_count_more() -> None:
    assert [at for at, _ in rank("dog rex", ["dog dog", "dog", "rex"])] == [2, 0, 1]
    assert [at for at, _ in rank("dog", ["dog and a very long story besides", "dog"])] == [1, 0]


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
    assert rank(" ".join(words), [words[QUERY_TERMS - 1]]) != []
    assert rank(" ".join(words), [words[QUERY_TERMS]]) == []


texts = st.text(st.sampled_from("abc dogs'éñ\u0130 "), max_size=30)


@given(texts, st.lists(texts, max_size=8))
def test_exactly_the_documents_with_a_shared_term_are_found_best_first(query: str, documents: list[str]) -> None:
    found = rank(query, documents)
    sharing = {at for at, text in enumerate(documents) if set(tokens(query)) & set(tokens(text))}
    assert {at for at, _ in found} == sharing
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    assert rank(query, documents) == found

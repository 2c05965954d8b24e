"""What every store promises of notes, and of finding them."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from contracts.store_values import ME, OTHERS, PROPERTY, START, FreshStores
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import InvalidInput
from argentor_asgi.sessions.ranking import QUERY_TERMS, counted, match, rank, terms
from argentor_asgi.sessions.records import NOTES_PER_SCOPE, Note, Scope

TEXTS = st.text(st.sampled_from("ab dogs 'éñ狗_\"*:^()-\0"), max_size=12)


def a_note(content, note_id=None, seconds=0):
    return Note(note_id or content, content, START + timedelta(seconds=seconds))


async def contents(store, query, scope=ME, limit=20):
    found, total = await store.search_notes(scope, query, limit=limit)
    assert total >= len(found)
    return [note.content for note, _ in found]


def best(query, notes):
    """Return what a search of `notes`, oldest first, is to find."""
    wanted = terms(query)
    matches = [(note, match(wanted, counted(note.content))) for note in reversed(notes)]
    sharing = [(note, each) for note, each in matches if each.counts]
    return [(sharing[at][0], score) for at, score in rank(wanted, [each for _, each in sharing])]


class NoteStoreContract(FreshStores):
    """The promises of `NoteStore`, one test each."""

    async def test_notes_are_kept_whole_and_oldest_first(self, store):
        late = Note("b", "später\0", START + timedelta(1), {"k": [1]})
        early = Note("a", "early", START)
        assert await store.add_note(ME, late)
        assert await store.add_note(ME, early)
        assert await store.add_note(ME, replace(early, id="c", content="same time"))
        assert list(await store.notes(ME)) == [early, replace(early, id="c", content="same time"), late]

    @pytest.mark.parametrize("other", OTHERS)
    async def test_foreign_notes_read_as_absent(self, store, other):
        await store.add_note(ME, Note("a", "mine", START))
        assert list(await store.notes(other)) == []
        assert await store.delete_note(other, "a") is False
        assert await store.add_note(other, Note("a", "theirs", START))
        assert [note.content for note in await store.notes(ME)] == ["mine"]

    async def test_a_note_of_a_known_id_stays_as_it_was(self, store):
        await store.add_note(ME, Note("a", "first", START))
        assert await store.add_note(ME, Note("a", "second", START)) is True
        assert [note.content for note in await store.notes(ME)] == ["first"]

    async def test_a_forgotten_note_was_there_once(self, store):
        await store.add_note(ME, Note("a", "x", START))
        assert [await store.delete_note(ME, "a"), await store.delete_note(ME, "a")] == [True, False]
        assert list(await store.notes(ME)) == []

    @pytest.mark.slow
    async def test_a_scope_is_full_at_its_bound_and_others_are_not(self, store):
        added = (store.add_note(ME, Note(f"n{n}", "x", START)) for n in range(NOTES_PER_SCOPE))
        assert all(await asyncio.gather(*added))
        assert await store.add_note(ME, Note("one more", "x", START)) is False
        assert len(await store.notes(ME)) == NOTES_PER_SCOPE
        assert await store.add_note(OTHERS[0], Note("theirs", "x", START))
        await store.delete_note(ME, "n5")
        assert await store.add_note(ME, Note("one more", "x", START)) is True

    # --- finding ---

    async def test_notes_are_found_by_their_words_best_first(self, store):
        for content in (
            "my dog is called Rex",
            "the meeting is on Monday",
            "my dog likes Rex and bones and long walks",
        ):
            await store.add_note(ME, a_note(content))
        assert await contents(store, "what is my dog's name? Rex?") == [
            "my dog is called Rex",
            "my dog likes Rex and bones and long walks",
        ]
        found, total = await store.search_notes(ME, "monday", limit=5)
        assert (found[0][0], total) == (a_note("the meeting is on Monday"), 1)
        assert found[0][1] > 0

    async def test_a_note_is_found_whole(self, store):
        note = Note("a", "später\0 \ud800", START, {"k": [1]})
        await store.add_note(ME, note)
        found, _ = await store.search_notes(ME, "später", limit=1)
        assert found[0][0] == replace(note, content="später\0 \ufffd")

    @pytest.mark.parametrize("query", ["COLÓR", "colores", "color", "Colours? no: color!"])
    async def test_the_forms_of_a_word_are_one_whatever_its_case_and_accents(self, store, query):
        await store.add_note(ME, a_note("Mi color favorito es el azul"))
        assert len(await contents(store, query)) == 1

    @pytest.mark.parametrize("query", ["", " ", "what is the", "submarine", "\ud800", "do*", "d", "\0", '"'])
    async def test_a_query_without_a_shared_word_finds_nothing(self, store, query):
        await store.add_note(ME, a_note("the dog is here"))
        assert await store.search_notes(ME, query, limit=5) == ([], 0)

    @pytest.mark.parametrize(
        "query",
        [
            '"dog',
            "dog AND cat",
            "dog NOT dog",
            "words:dog",
            "-dog",
            "dog*",
            "^dog",
            "NEAR(dog cat)",
            "dog)",
            "dog\0x",
            "{",
        ],
    )
    async def test_a_query_is_words_and_no_language(self, store, query):
        await store.add_note(ME, a_note("a dog"))
        await store.add_note(ME, a_note("mark and near"))
        assert await contents(store, query) == await contents(store, " ".join(terms(query)))
        assert ("a dog" in await contents(store, query)) is ("dog" in query)

    async def test_of_equally_good_notes_the_newer_comes_first(self, store):
        for at, note_id in ((1, "b"), (0, "a"), (1, "c")):
            await store.add_note(ME, a_note("same dog", note_id, at))
        found, _ = await store.search_notes(ME, "dog", limit=5)
        assert [note.id for note, _ in found] == ["c", "b", "a"]
        assert len({score for _, score in found}) == 1

    @pytest.mark.parametrize(("limit", "count"), [(-1, 0), (0, 0), (1, 1), (3, 3), (9, 4)])
    async def test_the_limit_cuts_what_is_returned_and_not_the_total(self, store, limit, count):
        for n in range(4):
            await store.add_note(ME, a_note(f"dog {n}"))
        found, total = await store.search_notes(ME, "dog", limit=limit)
        assert (len(found), total) == (count, 4)

    @pytest.mark.parametrize("other", OTHERS)
    async def test_foreign_notes_are_never_found_and_change_no_score(self, store, other):
        await store.add_note(ME, a_note("my dog"))
        await store.add_note(ME, a_note("your dog and cat"))
        before = await store.search_notes(ME, "dog cat", limit=5)
        for n in range(5):
            await store.add_note(other, a_note(f"dog dog cat {n}"))
        assert await store.search_notes(ME, "dog cat", limit=5) == before
        found, total = await store.search_notes(other, "dog", limit=9)
        assert (total, {note.content[:11] for note, _ in found}) == (5, {"dog dog cat"})

    @pytest.mark.parametrize("other", [Scope("b", "a\0"), Scope("\0b", "a"), Scope("me\0", ""), Scope("\ud800")])
    async def test_scopes_that_look_alike_are_not_one(self, store, other):
        await store.add_note(Scope("b", "a"), a_note("dog"))
        await store.add_note(ME, a_note("dog"))
        assert await store.search_notes(other, "dog", limit=5) == ([], 0)

    async def test_a_forgotten_note_is_found_no_more(self, store):
        await store.add_note(ME, a_note("dog one", "a"))
        await store.add_note(ME, a_note("dog two", "b"))
        await store.add_note(ME, a_note("cat", "a"))
        await store.delete_note(ME, "a")
        assert (await contents(store, "dog"), await contents(store, "cat")) == (["dog two"], [])
        await store.add_note(ME, a_note("cat", "a"))
        assert await contents(store, "cat dog") == ["cat", "dog two"]

    async def test_only_so_many_terms_of_a_query_count(self, store):
        words = [f"word{number}" for number in range(QUERY_TERMS + 1)]
        await store.add_note(ME, a_note(words[QUERY_TERMS]))
        assert await contents(store, " ".join(words)) == []
        assert await contents(store, " ".join(words[1:])) == [words[QUERY_TERMS]]

    async def test_a_note_that_cannot_be_stored_is_refused(self, store):
        for scope, note in ((Scope("\ud800"), a_note("dog")), (ME, a_note("dog", "\ud800"))):
            with pytest.raises(InvalidInput):
                await store.add_note(scope, note)
        assert await store.search_notes(ME, "dog", limit=5) == ([], 0)

    @given(contents=st.lists(TEXTS, max_size=6), gone=st.sets(st.integers(0, 5)), query=TEXTS, limit=st.integers(0, 7))
    @PROPERTY
    def test_a_search_finds_what_the_ranking_of_all_notes_says(self, contents, gone, query, limit):
        async def scenario(store):
            for n, content in enumerate(contents):
                await store.add_note(ME, a_note(content, f"n{n}", n // 2))
                await store.add_note(OTHERS[0], a_note(content, f"n{n}", n // 2))
            for n in gone:
                await store.delete_note(ME, f"n{n}")
            expected = best(query, await store.notes(ME))
            assert await store.search_notes(ME, query, limit=limit) == (expected[:limit], len(expected))

        self.run_fresh(scenario)

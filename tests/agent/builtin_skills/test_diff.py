from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills.diff import (
    _OPERATIONS,
    CHAR_DIFF_BYTES,
    TEXT_BYTES,
    Operation,
    diff_skill,
    patched,
    unified,
)
from argentor_asgi.agent.builtin_skills.edits import DISTANCE, edits
from argentor_asgi.agent.skills import SkillRefused

OLD = "one\ntwo\nthree\n"
NEW = "one\n2\nthree\nfour\n"


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_OPERATIONS)


async def test_a_diff_is_unified_and_counted() -> None:
    assert await answer(diff_skill, operation="diff", old=OLD, new=NEW) == {
        "diff": "@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four\n",
        "lines_added": 2,
        "lines_removed": 1,
        "lines_unchanged": 2,
        "similarity": 0.5714,
        "identical": False,
    }
    stats = await answer(diff_skill, operation="stats", old=OLD, new=OLD)
    assert (stats["similarity"], stats["identical"], stats["lines_unchanged"]) == (1.0, True, 3)


async def test_a_patch_makes_the_new_text_of_the_old() -> None:
    patch = unified(OLD, NEW)
    assert await answer(diff_skill, operation="patch", old=OLD, patch=patch) == {"result": NEW}
    named = "--- a/x\n+++ b/x\n" + patch
    assert await answer(diff_skill, operation="patch", old=OLD, patch=named) == {"result": NEW}


async def test_words_and_characters_are_marked() -> None:
    got = await answer(diff_skill, operation="word_diff", old="the red dog", new="the blue dog ran")
    assert got["diff"] == "the [-red-]{+blue+} dog{+ ran+}"
    assert (got["words_added"], got["words_removed"], got["words_unchanged"]) == (2, 1, 2)
    got = await answer(diff_skill, operation="char_diff", old="cat", new="cart")
    assert (got["diff"], got["chars_added"]) == ("ca{+r+}t", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"operation": "diff", "old": "a"}, "also needs: new"),
        ({"operation": "patch", "old": "a"}, "also needs: patch"),
        ({"operation": "patch", "old": "a\n", "patch": "hello"}, "no @@ line"),
        ({"operation": "patch", "old": "a\n", "patch": "@@ -1 +1 @@\n-b\n+c\n"}, "line 1 is not"),
        ({"operation": "patch", "old": "a\n", "patch": "@@ -9 +9 @@\n-b\n"}, "line 9"),
        ({"operation": "patch", "old": "a\n", "patch": "@@ -1 +1 @@\nxb\n"}, "no sign"),
        ({"operation": "diff", "old": "a" * (TEXT_BYTES + 1), "new": ""}, "too long"),
        ({"operation": "char_diff", "old": "a" * (CHAR_DIFF_BYTES + 1), "new": ""}, "too long"),
    ],
)
async def test_what_does_not_fit_is_refused_in_words(arguments: dict[str, object], words: str) -> None:
    assert words in await refusal(diff_skill, **arguments)


@pytest.mark.slow
async def test_the_bounds_are_reached() -> None:
    assert (await answer(diff_skill, operation="stats", old="a\n" * (TEXT_BYTES // 2), new=""))["similarity"] == 0.0
    assert (await answer(diff_skill, operation="char_diff", old="a" * CHAR_DIFF_BYTES, new=""))["chars_removed"] == 8192


texts = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "\r", "-x\n", "end"]), max_size=14).map("".join)


def sides(old: object, new: object, **bounds: int) -> tuple[list[str], list[str], int]:
    found = edits(old, new, **bounds)
    olds = [edit.text for edit in found if edit.kind != "added"]
    news = [edit.text for edit in found if edit.kind != "removed"]
    return olds, news, sum(edit.kind == "same" for edit in found)


@given(st.text("ab", max_size=12), st.text("abc", max_size=12))
def test_edits_hold_both_sides_and_keep_as_much_as_can_be(old: str, new: str) -> None:
    longest = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for row, left in enumerate(old):
        for column, right in enumerate(new):
            best = max(longest[row][column + 1], longest[row + 1][column])
            longest[row + 1][column + 1] = longest[row][column] + 1 if left == right else best
    assert sides(old, new) == (list(old), list(new), longest[-1][-1])


@given(st.text("ab", max_size=12), st.text("abc", max_size=12), st.integers(0, 20))
def test_edits_out_of_work_are_still_a_difference(old: str, new: str, work: int) -> None:
    assert sides(old, new, work=work)[:2] == (list(old), list(new))


def test_the_search_follows_edits_up_to_the_bound() -> None:
    half = [str(number) for number in range(DISTANCE // 2)]
    spread = [piece for number in half for piece in (number, f"+{number}")]
    assert sides(half, [*spread, "end"])[2] == len(half)
    kept = [str(number) for number in range(DISTANCE + 1)]
    many = [piece for number in kept for piece in (f"+{number}", number)]
    assert sides(kept, [*many, "end"]) == (kept, [*many, "end"], 0)


@given(texts, texts)
def test_a_text_patched_with_its_diff_is_the_other_text(old: str, new: str) -> None:
    assert patched(old, unified(old, new)) == new
    assert (unified(old, new) == "") == (old == new)


@given(texts, st.text("@-+ 19,\\\nab", max_size=40))
def test_any_patch_applies_or_is_refused(old: str, patch: str) -> None:
    for tried in (patch, "@@ -1 +1 @@\n" + patch):
        try:
            patched(old, tried)
        except SkillRefused:
            continue


@pytest.mark.slow
async def test_adversarial_texts_are_compared_within_the_bound_on_work() -> None:
    size = TEXT_BYTES // 2 - DISTANCE
    old = "a\nb\n" * (size // 2)
    new = "b\na\na\n" * (size // 3)
    got = await answer(diff_skill, operation="stats", old=old, new=new)
    assert got["lines_removed"] + got["lines_unchanged"] == old.count("\n")
    shifted = await answer(diff_skill, operation="stats", old="x\n" * size, new="y\n" + "x\n" * (size - 1) + "z\n")
    assert shifted["lines_added"] == 2

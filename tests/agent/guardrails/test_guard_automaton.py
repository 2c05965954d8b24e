import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.agent.guardrails.automaton import KEPT, STATES, Automaton
from argentor_asgi.agent.guardrails.patterns import PATTERN_CHARS, PatternRefused, _Reader, parse


def found(pattern: str, text: str) -> list[str]:
    return [text[start:end] for start, end in Automaton(parse(pattern)).look(text, 0)[0]]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ab", "xabab", ["ab", "ab"]),
        ("a+", "baaab", ["aaa"]),
        ("a+?", "baaab", ["aaa"]),
        (r"sk-\w{4,}", "sk-abc sk-abcd1", ["sk-abcd1"]),
        (r"\bcat\b", "cat concat cat_ (cat)", ["cat", "cat"]),
        (r"\Bcat", "cat concat", ["cat"]),
        (r"(?i)SECRET: .*", "my secret: 1 2\nmore", ["secret: 1 2"]),
        (r"(?s)a.c", "a\nc", ["a\nc"]),
        (r"a.c", "a\nc", []),
        (r"[^a-c\s]+", "abc xyz-", ["xyz-"]),
        (r"[\d\]-]{2,3}", "1]-2x5", ["1]-2"]),
        (r"(?P<year>\d{4})-(?:\d\d)", "in 2024-05", ["2024-05"]),
        (r"(?:AB|ab|a)c", "abc ABc ac", ["abc", "ABc", "ac"]),
        (r"a(?i:b)c", "aBc abC", ["aBc"]),
        (r"(?x) a  b # words", "ab", ["ab"]),
        (r"(?a)\w+", "né", ["n"]),
        (r"[^\W\d]+", "é1_", ["é", "_"]),
        (r"\S\D", "1a", ["1a"]),
        (r"ab|bc", "abc", ["abc"]),
        (r"[^x]", "x", []),
        (r"(?i)[^x]", "X", []),
        (r"a{0}b", "ab", ["b"]),
    ],
)
def test_a_pattern_means_what_it_means_in_python_but_for_what_overlaps(
    pattern: str, text: str, expected: list[str]
) -> None:
    assert found(pattern, text) == expected


def covered(pattern: str, text: str) -> list[tuple[int, int]]:
    """Return what the matches of `pattern` cover by trying every part of the text with `re`."""
    spans: list[tuple[int, int]] = []
    for end in range(1, len(text) + 1):
        whole = re.compile(rf"(?:{pattern})(?=[\s\S]{{{len(text) - end}}}\Z)")
        for start in range(end):
            match = whole.match(text, start)
            if match is not None and match.end() == end:
                spans.append((start, end))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


leaves = st.sampled_from(["a", "b", "ab", ".", "[ab]", "[^a]", r"\w", r"\b", r"\B", r"\s", " "])
patterns = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "+?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        )
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(patterns, st.text("ab -", max_size=8))
def test_what_is_found_is_what_every_match_covers(pattern: str, text: str) -> None:
    try:
        machine = Automaton(parse(pattern))
    except PatternRefused:
        return
    assert machine.look(text, 0)[0] == covered(pattern, text)


@settings(max_examples=100)
@given(patterns, st.text("ab -", max_size=10), st.text("ab -", max_size=10))
def test_what_is_found_before_the_open_place_is_there_whatever_follows(pattern: str, text: str, more: str) -> None:
    try:
        machine = Automaton(parse(pattern))
    except PatternRefused:
        return
    now, open_from = machine.look(text, 0)
    later, _ = machine.look(text + more, 0)
    place = min([open_from, *(start for start, end in now if start < open_from < end)])
    assert [span for span in later if span[0] < place] == [span for span in now if span[0] < place]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(a)\1", "groupref"),
        ("(?=a)b", "assert"),
        ("(?!a)b", "assert not"),
        ("(?<=a)b", "assert"),
        ("(?<!a)b", "assert not"),
        ("(a)?(?(1)b|c)", "groupref exists"),
        ("(?>ab)", "atomic group"),
        ("a++b", "possessive repeat"),
        ("^a", "(at)"),
        ("a$", "(at)"),
        (r"\Aa", "(at)"),
        (r"a\Z", "(at)"),
        (r"(?a:\bx)", "(at)"),
        ("a*", "where nothing stands"),
        ("a?|b", "where nothing stands"),
        (r"\b", "where nothing stands"),
        ("", "where nothing stands"),
        ("(", "no regular expression"),
        ("[z-a]", "no regular expression"),
        ("(" * 400 + "a" + ")" * 400, "nested too deeply"),
        ("a" * (PATTERN_CHARS + 1), "longer than"),
        (f"a{{{STATES + 1}}}", "too large"),
        ("((a{100}){100}){100}", "too large"),
        ("(?:){1000000000}a", "too large"),
        ("(?:(?:(?:){9999}){9999}){9999}a", "too large"),
    ],
)
def test_a_pattern_that_cannot_be_run_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(PatternRefused, match=re.escape(why)):
        Automaton(parse(pattern))


def test_a_pattern_may_have_so_many_states() -> None:
    Automaton(parse(f"a{{{STATES}}}"))
    with pytest.raises(PatternRefused):
        Automaton(parse(f"a{{{STATES + 1}}}"))


def test_a_piece_that_is_not_known_is_refused() -> None:
    with pytest.raises(PatternRefused, match=r"\(new thing\)"):
        _Reader(0)._node("NEW_THING", None)
    with pytest.raises(PatternRefused, match=r"\(new_item\)"):
        _Reader(0)._item("NEW_ITEM", None)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*b", "(a|aa)+c", "a*a*a*a*b", "(?:.*a){8}b", "a{1,60}b", "a+b"],
)
def test_a_pattern_that_explodes_elsewhere_takes_one_pass(pattern: str) -> None:
    """With `re` most of these take longer than anyone waits, and the rest the square of the length."""
    assert found(pattern, "a" * 20_000) == []


def test_what_is_kept_of_a_search_is_bounded_and_what_is_forgotten_is_found_again() -> None:
    machine = Automaton(parse(r"\ba[^x]{1,40}x|[^x]{1,40}y"))
    text = "ab x " + "".join(map(chr, range(0x4E00, 0x4E00 + 200))) + "y ab x "
    first = machine.look(text, 0)
    assert first[0][0] == (0, 4)
    assert first[0][-1] == (len(text) - 5, len(text) - 1)
    held = sum(1 + sum(map(len, each.groups)) + len(each.moves) for each in machine._sets.values())
    assert held <= machine._kept <= KEPT
    assert machine.look(text, 0) == first


def test_a_text_is_open_where_a_match_may_go_on() -> None:
    machine = Automaton(parse(r"<[^>]*>|\bcat\b"))
    assert machine.look("a <b", 0) == ([], 2)
    assert machine.look("a <b> ", 0) == ([(2, 5)], 6)
    assert machine.look("a cat", 0) == ([(2, 5)], 2)
    assert machine.look("cat", 1) == ([], 3)


@pytest.mark.slow
def test_threads_may_look_at_the_same_time() -> None:
    chance = random.Random(1)  # noqa: S311  the same text each time
    automaton = Automaton(parse("a.{0,40}b"))
    text = "".join(chr(chance.randrange(0x4E00, 0x4E00 + 3000)) + chance.choice("abcxyz") for _ in range(1500))
    alone = automaton.look(text, 0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(3) as threads:
            found = [task.result() for task in [threads.submit(automaton.look, text, 0) for _ in range(12)]]
    finally:
        sys.setswitchinterval(interval)
    assert found == [alone] * 12

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.opt_in_skills.regex_worker import RESULT_CHARS, Request, answer

TEXTS = st.text("abc A1-\n", max_size=40)
PATTERNS = st.sampled_from(["a", "a*", "", r"\b", "(?=[A-Z])", "[a-c]+", r"\d", "b|bc", r"\s", "^", "$"])


def asked(operation: str, pattern: str, text: str = "", **more: Any) -> dict[str, Any]:
    plain = {"flags": [], "replacement": "", "limit": 100, "count": None}
    return answer(Request(operation, pattern, text=text, **(plain | more)))


def test_a_match_has_its_text_its_place_and_its_groups() -> None:
    assert asked("match", r"(?P<user>\w+)@(\w+)(\.org)?", "to ana@home now") == {
        "result": {
            "matched": True,
            "text": "ana@home",
            "start": 3,
            "end": 11,
            "groups": ["ana", "home", None],
            "named": {"user": "ana"},
        }
    }
    assert asked("match", "x", "abc") == {"result": {"matched": False}}


def test_all_matches_are_counted_and_the_first_ones_told() -> None:
    result = asked("find_all", r"\d", "1 2 3", limit=2)["result"]
    assert [match["text"] for match in result["matches"]] == ["1", "2"]
    assert result["total"] == 3


def test_replace_knows_groups_and_stops_at_the_count() -> None:
    assert asked("replace", r"(\w)(\w)", "ab cd", replacement=r"\2\1") == {"result": {"text": "ba dc", "count": 2}}
    assert asked("replace", "a", "aaa", replacement="b", count=1) == {"result": {"text": "baa", "count": 1}}


def test_split_leaves_the_rest_in_the_last_part() -> None:
    assert asked("split", ",", "a,b,c", limit=2) == {"result": {"parts": ["a", "b,c"]}}


def test_flags_change_how_a_pattern_is_read() -> None:
    assert asked("match", "a.b", "A\nB", flags=["ignore_case", "dot_all"])["result"]["matched"] is True
    assert asked("find_all", "^a", "a\na", flags=["multiline"])["result"]["total"] == 2
    assert asked("match", r"\w", "\u00e9", flags=["ascii", "ascii"])["result"]["matched"] is False


def test_validate_says_what_a_pattern_has_or_what_is_wrong_with_it() -> None:
    assert asked("validate", r"(a)(?P<b>c)") == {"result": {"valid": True, "groups": 2, "names": ["b"]}}
    assert asked("validate", "(") == {
        "result": {"valid": False, "error": "missing ), unterminated subpattern at position 0"}
    }


@pytest.mark.parametrize("replacement", [r"\3", r"\g<no>", "\\"])
def test_a_wrong_replacement_is_said(replacement: str) -> None:
    assert asked("replace", "a", "a", replacement=replacement)["error"].startswith("The pattern or the replacement")


def test_a_wrong_pattern_is_said() -> None:
    assert "unterminated" in asked("match", "(", "a")["error"]


def test_a_result_is_as_long_as_the_limit_and_no_longer() -> None:
    text = "a" * RESULT_CHARS
    assert asked("replace", "b", text)["result"]["count"] == 0
    assert "too long" in asked("replace", "$", text, replacement="b")["error"]
    assert "too long" in asked("replace", "", "a" * 1000, replacement="b" * 1000)["error"]
    assert "too long" in asked("find_all", r"(?=(a+))", "a" * 2000, limit=1000)["error"]
    assert "too long" in asked("match", "(a+)", text)["error"]
    assert "too long" in asked("split", "b", text + "a")["error"]


def test_a_pattern_that_is_too_large_is_said() -> None:
    assert "too large" in asked("match", "a{99999999999999999999}", "a")["error"]


@given(PATTERNS, TEXTS)
def test_it_agrees_with_the_library(pattern: str, text: str) -> None:
    assert asked("replace", pattern, text, replacement="<x>")["result"]["text"] == re.sub(pattern, "<x>", text)
    assert asked("split", pattern, text)["result"]["parts"] == re.split(pattern, text)
    matches = asked("find_all", pattern, text)["result"]["matches"]
    assert [match["text"] for match in matches] == re.findall(pattern, text)

import logging
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.permissions import (
    ALLOWED,
    CAPTURED_BYTES,
    DESCRIBED_BYTES,
    Allow,
    Ask,
    Capture,
    Deny,
    find_mode,
    matches,
    question,
)
from argentor_asgi.agent.skills import SkillDescriptor
from argentor_asgi.agent_sections import PermissionMode

NAMES = st.text("ab_", max_size=12)
PATTERNS = st.text("ab_*", max_size=8)


def declared(name: str = "probe", **more) -> SkillDescriptor:
    return SkillDescriptor(name, "", {"type": "object"}, **more)


def judged(mode: PermissionMode, descriptor: SkillDescriptor, *allowed: str, custom=None):
    return find_mode(mode, custom)(descriptor, {"n": 1}, allowed)


def test_a_pattern_without_star_is_the_name() -> None:
    assert matches("file_read", "file_read")
    assert not matches("file_read", "file_read2")
    assert not matches("file_read", "my_file_read")


def test_the_first_part_begins_the_name_and_the_last_one_ends_it() -> None:
    assert matches("get_*", "get_user")
    assert not matches("get_*", "forget_user")
    assert matches("*_read", "file_read")
    assert not matches("*_read", "file_reader")
    assert matches("a*a", "aa")
    assert not matches("a*a", "a")
    assert matches("*", "")


@given(PATTERNS, NAMES)
def test_a_pattern_matches_what_its_regular_expression_does(pattern: str, name: str) -> None:
    slow = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, name) is (re.fullmatch(slow, name) is not None)


def test_a_pattern_of_many_stars_takes_no_longer_than_its_length() -> None:
    """A matcher that goes back would not end."""
    assert not matches("a*" * 5000 + "b", "a" * 64)
    assert not matches("*a" * 30 + "*b*", "a" * 64)


def test_by_default_an_empty_list_allows_all() -> None:
    assert judged("default", declared(effect="write")) == ALLOWED


def test_by_default_what_is_not_listed_needs_a_person() -> None:
    assert judged("default", declared("get_user"), "get_*") == ALLOWED
    assert isinstance(judged("default", declared("set_user"), "get_*"), Ask)


def test_strict_allows_the_list_alone() -> None:
    assert judged("strict", declared("get_user"), "set_*", "get_*") == ALLOWED
    assert judged("strict", declared("set_user"), "get_*") == Deny(
        "Permission denied: skill 'set_user' is not among those allowed."
    )
    assert isinstance(judged("strict", declared()), Deny)


def test_permissive_allows_all() -> None:
    assert judged("permissive", declared("set_user", effect="write"), "get_*") == ALLOWED


def test_plan_notes_the_call() -> None:
    assert judged("plan", declared()) == Capture('Captured (plan mode): tool=probe, args={"n":1}')


def test_a_captured_call_is_cut_at_its_bound() -> None:
    mode = find_mode("plan")
    fits = mode(declared(), {"a": "x" * (CAPTURED_BYTES - 8)}, ())
    cut = mode(declared(), {"a": "\u20ac" * CAPTURED_BYTES}, ())
    assert isinstance(fits, Capture)
    assert isinstance(cut, Capture)
    assert fits.content.endswith('x"}')
    assert cut.content.endswith(f"[cut: {3 * CAPTURED_BYTES + 8} bytes]")
    assert len(cut.content.encode()) < CAPTURED_BYTES + 100


@given(NAMES, st.lists(PATTERNS, max_size=3))
def test_read_only_looks_at_the_effect_and_never_at_the_name(name: str, allowed: list[str]) -> None:
    """agent.md 1.10 D11: the original looked for parts of names."""
    assert judged("read_only", declared(name, effect="read"), *allowed) == ALLOWED
    assert isinstance(judged("read_only", declared(name, effect="write"), *allowed), Deny)


def test_read_only_denies_what_gets_and_deletes() -> None:
    """agent.md 1.10 D11: `get_and_delete` passed, since `get` was looked for first."""
    assert judged("read_only", declared("get_and_delete", effect="write")) == Deny(
        "Permission denied: skill 'get_and_delete' changes something, and only reading is allowed."
    )
    assert judged("read_only", declared("shell_delete_run", effect="read")) == ALLOWED


@pytest.mark.parametrize("said", [Allow(), Deny("no"), Capture("noted"), Ask("high", "May I?")])
def test_a_custom_verdict_stands(said: Allow | Deny | Capture | Ask) -> None:
    assert judged("custom", declared(), custom=lambda _descriptor, _arguments: said) == said


def test_a_custom_yes_or_no_is_a_verdict() -> None:
    assert judged("custom", declared(), custom=lambda _descriptor, arguments: arguments == {"n": 1}) == ALLOWED
    assert judged("custom", declared(), custom=lambda descriptor, _arguments: descriptor.name != "probe") == Deny(
        "Permission denied: skill 'probe' is not allowed."
    )


def test_custom_without_a_callback_denies() -> None:
    assert isinstance(judged("custom", declared()), Deny)


def test_a_callback_that_fails_denies_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert isinstance(judged("custom", declared(), custom=lambda *_: 1 / 0), Deny)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("said", [None, 1, "allow", ()])
def test_a_callback_that_returns_no_verdict_denies_and_is_logged(
    said: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert isinstance(judged("custom", declared(), custom=lambda *_: said), Deny)
    assert "no verdict" in caplog.text


def test_every_mode_of_the_configuration_is_one() -> None:
    for mode in get_args(PermissionMode):
        assert isinstance(judged(mode, declared()), Allow | Deny | Capture)


def test_a_question_says_what_is_called() -> None:
    assert question(declared(), {"to": "ana", "n": 1}) == Ask("low", 'Call probe with {"to":"ana","n":1}')


def test_what_writes_is_of_medium_risk_at_least() -> None:
    assert question(declared(effect="write"), {}).risk_level == "medium"
    assert question(declared(effect="write", risk_level="critical"), {}).risk_level == "critical"
    assert question(declared(risk_level="high"), {}).risk_level == "high"


@given(st.sampled_from(["low", "medium", "high", "critical", "none", 7, None, ["high"]]))
def test_a_call_raises_its_risk_and_never_lowers_it(claimed: object) -> None:
    order = ["low", "medium", "high", "critical"]
    told = question(declared(needs_approval=True, risk_level="medium"), {"risk_level": claimed}).risk_level
    assert order.index(told) == max(1, order.index(claimed) if claimed in order else 0)
    assert question(declared(risk_level="medium"), {"risk_level": claimed}).risk_level == "medium"


def test_a_description_is_cut_at_its_bound() -> None:
    fits = question(declared(), {"a": "x" * (DESCRIBED_BYTES - 8)}).description
    cut = question(declared(), {"a": "x" * (DESCRIBED_BYTES - 7)}).description
    assert fits.endswith('x"}')
    assert cut.endswith(f'x"… [cut: {DESCRIBED_BYTES + 1} bytes]')


def test_arguments_that_utf8_cannot_carry_are_described() -> None:
    assert "\ufffd" in question(declared(), {"a": "\ud800"}).description

# ruff: noqa: RUF001  letters that look like others are what is tested
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi import config
from argentor_asgi.agent.guardrails import Guardrails, OutputGuard
from argentor_asgi.agent.guardrails.screening import FINDINGS, Rule
from argentor_asgi.agent.guardrails.views import Found, View
from argentor_asgi.agent.guardrails.window import HELD_CHARS, PORTION_CHARS, STEP_CHARS, Window
from argentor_asgi.errors import OutputBlocked
from argentor_asgi.protocol.llm import (
    Finish,
    LlmEvent,
    ReasoningPiece,
    Retrying,
    Screened,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Usage

CARD = "4111 1111 1111 1111"
OWN = (
    config.GuardrailRule(name="token", pattern=r"\bsk-[a-z0-9]{4,}\b|<[^>]*>"),
    config.GuardrailRule(name="project", words=("Blue Heron", "zeus"), action="flag"),
)
STOPPING = (config.GuardrailRule(name="stop", pattern="stop+ (?:it|now)", action="block"),)
GUARDS = {
    "redact": Guardrails(config.Guardrails(rules=OWN, hold_chars=16)),
    "block": Guardrails(config.Guardrails(rules=OWN + STOPPING, hold_chars=16)),
    "default": Guardrails(config.Guardrails()),
}


def passed(guard: OutputGuard, events: Iterable[LlmEvent]) -> list[LlmEvent]:
    """Return what leaves; a block ends it."""
    left: list[LlmEvent] = []
    try:
        for event in events:
            left.extend(guard.feed(event))
        left.extend(guard.end())
    except OutputBlocked:
        assert isinstance(left[-1], Screened)
        assert left[-1].finding.severity == "block"
    return left


def text_of(events: Iterable[LlmEvent], kind: type[TextPiece | ReasoningPiece] = TextPiece) -> str:
    return "".join(event.text for event in events if type(event) is kind)


def answer(text: str, which: str = "redact") -> str:
    return text_of(passed(GUARDS[which].output(), [TextPiece(text), Finish("stop")]))


def chopped(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


ATOMS = [
    "a",
    "b.c",
    "@",
    "example.com",
    ".",
    " ",
    "  ",
    "\n",
    "-",
    "+",
    "(415) 555-0123",
    "+34 612 345 678",
    "4111",
    "1111",
    CARD,
    "378282246310005",
    "DE89 3704 0044 0532 0130 00",
    "GB",
    "82",
    "078-05-1120",
    "12345678Z",
    "AB123456C",
    "0",
    "1",
    "sk-",
    "abcd1234",
    "<",
    ">",
    "Blue",
    "heron",
    "ZEUS",
    "stop",
    "pp",
    "now",
    "it",
    "\u200b",
    "é",
    "卡",
    "４",
    "x" * 70,
]
texts = st.lists(st.sampled_from(ATOMS), max_size=25).map("".join) | st.text("1 4@a.-+x\u200b", max_size=60)


@settings(max_examples=150)
@given(texts, st.lists(st.integers(0, 300), max_size=12), st.sampled_from(["redact", "block"]))
def test_an_answer_leaves_the_same_however_it_is_cut_into_pieces(text: str, places: list[int], which: str) -> None:
    pieces = [TextPiece(piece) for piece in chopped(text, places)]
    whole = passed(GUARDS[which].output(), [TextPiece(text)])
    cut = passed(GUARDS[which].output(), pieces)
    assert text_of(cut) == text_of(whole)
    assert findings(cut) == findings(whole)


def findings(events: Iterable[LlmEvent]) -> list[object]:
    return [event.finding for event in events if isinstance(event, Screened)]


@settings(max_examples=60)
@given(texts)
def test_an_answer_leaves_the_same_one_character_at_a_time(text: str) -> None:
    assert text_of(passed(GUARDS["redact"].output(), map(TextPiece, text))) == answer(text)


@settings(max_examples=60)
@given(texts)
def test_what_leaves_a_stream_is_what_leaves_of_a_text(text: str) -> None:
    seen = GUARDS["redact"].tool_result(text)
    assert answer(text) == seen.text


@pytest.mark.parametrize("end", range(1, len(CARD)))
def test_no_part_of_a_finding_leaves_before_it_is_whole(end: int) -> None:
    """agent.md 1.10 D18: an output was looked at when it had been streamed."""
    guard = GUARDS["default"].output()
    first = [*guard.feed(TextPiece("Your card is " + CARD[:end]))]
    rest = [*guard.feed(TextPiece(CARD[end:] + ", is it?")), *guard.feed(Finish("stop"))]
    assert not any(letter.isdigit() for letter in text_of(first))
    assert text_of([*first, *rest]) == "Your card is [CREDIT_CARD], is it?"


def test_personal_data_is_taken_out_of_an_answer_and_does_not_end_it() -> None:
    """agent.md 1.10 D18: a reply with an address was refused."""
    left = passed(GUARDS["default"].output(), [TextPiece("Write to jo@example.com."), Finish("stop")])
    assert text_of(left) == "Write to [EMAIL]."
    assert left[-1] == Finish("stop")


def test_a_finding_is_told_before_the_text_that_it_is_about_and_not_quoted() -> None:
    left = passed(GUARDS["default"].output(), [TextPiece("jo@example.com")])
    assert [type(event) for event in left] == [Screened, TextPiece]
    (finding,) = findings(left)
    assert (finding.rule, finding.severity, finding.phase) == ("pii", "warn", "output")
    assert finding.message == "Replaced an e-mail address with [EMAIL]."


def test_a_block_lets_out_what_stands_before_it_and_no_more() -> None:
    left = passed(
        GUARDS["block"].output(), map(TextPiece, "All is well. Now stop it, jo@example.com!" + " and on" * 50)
    )
    assert text_of(left) == "All is well. Now "
    assert [finding.rule for finding in findings(left)] == ["stop"]


def test_behind_a_block_nothing_is_held() -> None:
    guard = GUARDS["block"].output()
    with pytest.raises(OutputBlocked):
        list(guard.feed(TextPiece("stop it" + " and on" * 50)))
    assert list(guard.end()) == []


def test_a_block_at_the_end_of_a_stream_that_broke_off_is_one() -> None:
    guard = GUARDS["block"].output()
    assert list(guard.feed(TextPiece("stop now"))) == []
    with pytest.raises(OutputBlocked):
        list(guard.end())


def test_a_flagged_text_is_told_of_and_left_as_it_is() -> None:
    left = passed(GUARDS["redact"].output(), [TextPiece("the blue  heron flies")])
    assert text_of(left) == "the blue  heron flies"
    assert [(finding.rule, finding.severity) for finding in findings(left)] == [("project", "log")]


def test_text_leaves_as_soon_as_enough_follows_it() -> None:
    guard = GUARDS["default"].output()
    left = text_of(event for word in ["word "] * 40 for event in guard.feed(TextPiece(word)))
    assert len(left) >= 200 - 64 - STEP_CHARS


def test_text_without_spaces_flows_as_well() -> None:
    guard = GUARDS["default"].output()
    left = text_of(event for letter in "漢" * 400 for event in guard.feed(TextPiece(letter)))
    assert len(left) >= 400 - 64 - STEP_CHARS


def test_text_and_reasoning_are_looked_at_each_for_itself_and_keep_their_order() -> None:
    events = [TextPiece("call 4111 1111"), ReasoningPiece("1111 1111 jo@a"), ReasoningPiece(".com"), TextPiece("done")]
    left = passed(GUARDS["default"].output(), events)
    assert [event for event in left if not isinstance(event, Screened)] == [
        TextPiece("call 4111 1111"),
        ReasoningPiece("1111 1111 [EMAIL]"),
        TextPiece("done"),
    ]


def test_a_tool_call_lets_out_what_was_held_before_it_and_its_arguments_pass_as_they_are() -> None:
    call = [ToolStart("1", "send"), ToolArgs("1", '{"to": "jo@example.com"}'), ToolEnd("1"), Finish("tool_calls")]
    left = passed(GUARDS["default"].output(), [TextPiece("I will."), *call])
    assert left == [TextPiece("I will."), *call]


def test_what_is_no_text_passes_and_does_not_cut_a_finding_in_two() -> None:
    usage, retrying = UsageReport(Usage(1, 2)), Retrying(1, 10, "busy")
    left = passed(GUARDS["default"].output(), [TextPiece("jo@exam"), usage, retrying, TextPiece("ple.com")])
    assert left[:2] == [usage, retrying]
    assert text_of(left) == "[EMAIL]"


def test_reasoning_that_was_changed_takes_the_metadata_that_repeats_it_along() -> None:
    finish = Finish("stop", response_id="r", metadata={"thinking": "jo@example.com"})
    changed = passed(GUARDS["default"].output(), [ReasoningPiece("jo@example.com"), finish])
    assert changed[-1] == Finish("stop", response_id="r")
    kept = passed(GUARDS["default"].output(), [ReasoningPiece("someone"), TextPiece("jo@example.com"), finish])
    assert kept[-1] is finish
    flagged = passed(GUARDS["redact"].output(), [ReasoningPiece("Zeus"), finish])
    assert flagged[-1] is finish


def test_a_stream_that_ends_without_a_finish_lets_out_what_was_held() -> None:
    guard = GUARDS["default"].output()
    assert list(guard.feed(TextPiece("mail jo@example.com"))) == []
    assert text_of(guard.end()) == "mail [EMAIL]"
    assert list(guard.end()) == []


def test_only_so_many_findings_are_told_one_by_one_and_the_rest_is_counted() -> None:
    text = "jo@example.com, " * (FINDINGS + 20)
    left = passed(GUARDS["default"].output(), [*map(TextPiece, text), Finish("stop")])
    told = findings(left)
    assert len(told) == FINDINGS
    assert told[-1].message == "Further findings: pii: 21."
    assert text_of(left) == text.replace("jo@example.com", "[EMAIL]")


def test_a_rule_that_stays_open_is_waited_for_up_to_a_bound() -> None:
    guard = GUARDS["redact"].output()
    text = "<" + "y" * HELD_CHARS
    assert text_of(guard.feed(TextPiece(text[:-1]))) == ""
    assert text_of(guard.feed(TextPiece(text[-1:] + "y"))) != ""
    assert len(guard._window.held) <= HELD_CHARS


def test_a_finding_longer_than_the_bound_counts_as_far_as_it_was_seen() -> None:
    guard = Guardrails(config.Guardrails(rules=(config.GuardrailRule(name="all", pattern="secret: [^.]+"),))).output()
    pieces = [TextPiece("secret: " + "y" * 100)] + [TextPiece("y" * 100)] * 60
    left = text_of(passed(guard, pieces))
    assert left.startswith("[REDACTED]")
    assert len(guard._window.held) <= HELD_CHARS


def test_one_large_piece_is_held_no_longer_than_small_ones() -> None:
    guard = GUARDS["default"].output()
    assert len(text_of(guard.feed(TextPiece("word " * 20_000)))) == 100_000 - 64


def test_the_text_held_is_bounded_whatever_is_hidden_in_it() -> None:
    guard = GUARDS["default"].output()
    for _ in range(3):
        list(guard.feed(TextPiece("4" + "\u200b" * 3000)))
        assert len(guard._window.held) <= HELD_CHARS


class Counted:
    """A finder that finds nothing, waits for ever, and counts what it looks at."""

    def __init__(self) -> None:
        self.looked_at = 0

    def look(self, view: View) -> tuple[list[Found], int]:
        self.looked_at += len(view.text)
        return [], 0


def test_what_a_rule_waits_for_is_not_looked_at_again_for_each_character() -> None:
    finder = Counted()
    window = Window([Rule("waits", "redact", finder)], 16)
    for _ in range(HELD_CHARS):
        window.add("a")
    assert finder.looked_at <= HELD_CHARS * HELD_CHARS / STEP_CHARS


def test_a_long_text_is_fed_in_portions_and_anything_else_whole() -> None:
    text = "a" * PORTION_CHARS
    assert list(OutputGuard.portions(ReasoningPiece(text))) == [ReasoningPiece(text)]
    assert list(OutputGuard.portions(TextPiece(text + "b"))) == [TextPiece(text), TextPiece("b")]
    assert list(OutputGuard.portions(ToolArgs("c", text + "b"))) == [ToolArgs("c", text + "b")]


def test_guardrails_that_are_off_pass_every_event_on_at_once() -> None:
    guard = Guardrails(config.Guardrails(pii="off", injection="off")).output()
    piece = TextPiece("jo@example.com")
    assert list(guard.feed(piece)) == [piece]
    assert list(guard.end()) == []

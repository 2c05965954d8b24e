"""The order of a run's events: what passes, and each thing that must not."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.protocol.events import (
    ApprovalRequest,
    ApprovalResolved,
    Cancelled,
    Done,
    Error,
    Guardrail,
    LoggedEvent,
    ReasoningDelta,
    Retry,
    RunStarted,
    Steered,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolResult,
    TurnEnd,
)
from argentor_asgi.protocol.grammar import Grammar, GrammarError, check
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import encode, to_builtins

OPTIONAL = {"reasoning_delta", "steered", "tool_result"}
USED = Usage(3, 2)
BEGIN = RunStarted("r", "s", "m", datetime(2026, 1, 1, tzinfo=UTC))
END = TurnEnd(1, "stop", USED)


def done(text="", turns=1, tokens=5):
    return Done("r", text, turns, USED, tokens, "stop")


def result(call_id="c", name="look"):
    return ToolResult(call_id, name, "seen", False, 1, False)


RUN = [
    BEGIN,
    ReasoningDelta("hm"),
    TextDelta("Using look.", 0),
    ToolCallStart("c", "look"),
    ToolCallStart("d", "see"),
    ToolCallDelta("c", '{"a"'),
    ToolCallDelta("c", ":1}"),
    ToolCallEnd("c", "look", {"a": 1}),
    ToolCallEnd("d", "see", {}),
    TurnEnd(1, "tool_calls", USED),
    result("d", "see"),
    result("c", "look"),
    Steered("shorter"),
    TextDelta("It ", 1),
    TextDelta("is.", 2),
    TurnEnd(2, "stop", USED),
    done("It is.", turns=2),
]


def logged(events, after=0):
    return [LoggedEvent(seq, event.type, encode(event)) for seq, event in enumerate(events, after + 1)]


def flaw(*events, after=0):
    with pytest.raises(GrammarError) as raised:
        check(logged(events, after), after=after)
    return str(raised.value)


def test_a_whole_run_passes_as_it_is_logged_and_as_json():
    check(logged(RUN))
    check({"seq": seq, **to_builtins(event)} for seq, event in enumerate(RUN, 1))


@pytest.mark.parametrize("after", range(1, len(RUN)))
def test_a_reader_may_resume_anywhere(after):
    check(logged(RUN)[after:], after=after)


@pytest.mark.parametrize("terminal", [Error("m", "c", False, "r"), Cancelled("r", "why", "It ")])
def test_a_run_may_end_early_once_its_calls_are_closed(terminal):
    check(logged([*RUN[:5], ToolCallEnd("c", "look", None), ToolCallEnd("d", "see", None), terminal]))
    assert "calls are open" in flaw(*RUN[:5], terminal)


def test_given_up_arguments_join_to_nothing():
    check(logged([BEGIN, ToolCallStart("c", "x"), ToolCallDelta("c", "{"), ToolCallEnd("c", "x", None), END, done()]))


def test_a_turn_that_says_nothing_has_no_text():
    check(logged([BEGIN, TextDelta("a", 0), END, TurnEnd(2, "stop", USED), done("", turns=2)]))
    assert "its last turn ''" in flaw(BEGIN, TextDelta("a", 0), END, TurnEnd(2, "stop", USED), done("a", turns=2))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([TextDelta("a", 0)], "run_started comes first"),
        ([BEGIN, BEGIN], "run_started comes first"),
        ([BEGIN], "no terminal event"),
        ([], "no terminal event"),
        ([BEGIN, END, done(), done()], "done after the terminal done"),
        ([BEGIN, END, done(), TextDelta("a", 0)], "text_delta after the terminal done"),
        ([BEGIN, TextDelta("", 0)], "an empty text_delta"),
        ([BEGIN, TextDelta("a", 1)], "text index 1, expected 0"),
        ([BEGIN, TextDelta("a", 0), TextDelta("b", 0)], "text index 0, expected 1"),
        ([BEGIN, TextDelta("a", 0), TextDelta("b", 2)], "text index 2, expected 1"),
        ([BEGIN, ToolCallStart("c", "x"), ToolCallStart("c", "x")], "call c starts twice"),
        ([BEGIN, ToolCallStart("c", "x"), ToolCallEnd("c", "x", {}), ToolCallStart("c", "x")], "call c starts twice"),
        ([BEGIN, ToolCallDelta("c", "{}")], "a piece for call c"),
        ([BEGIN, ToolCallEnd("c", "x", {})], "the end of call c"),
        ([BEGIN, ToolCallStart("c", "x"), ToolCallEnd("c", "y", {})], "call c changes its name"),
        ([BEGIN, ToolCallStart("c", "x"), ToolCallEnd("c", "x", {"a": 1})], "pieces of other arguments"),
        ([BEGIN, ToolCallStart("c", "x"), END], "turn_end while calls are open: ['c']"),
        ([BEGIN, ToolCallStart("c", "x"), result("c", "x")], "a result for call c, which has not ended"),
        ([BEGIN, result("c", "x")], "a result for call c, which has not ended"),
        ([*RUN[:12], result("c", "look")], "a second result for call c"),
        ([*RUN[:11], result("c", "see")], "call c changes its name"),
        ([BEGIN, TurnEnd(2, "stop", USED)], "turn 2 after None"),
        ([BEGIN, END, END], "turn 1 after 1"),
        ([BEGIN, TextDelta("a", 0), END, done("b")], "done says 'b', its last turn 'a'"),
        ([BEGIN, END, done(turns=2)], "done counts 2 turns, not 1"),
        ([BEGIN, END, done(tokens=4)], "done says 4 tokens, its usage 5"),
    ],
)
def test_what_may_not_stand_there_is_found(events, words):
    # agent.md 1.10 D5
    assert words in flaw(*events)


def test_a_gap_or_a_repeat_in_the_numbers_is_found():
    first, second, *_ = logged(RUN)
    for events in ([second], [first, first], [first, LoggedEvent(3, second.type, second.data)]):
        with pytest.raises(GrammarError, match=r"number \d after \d"):
            check(events)


def test_a_resumed_reader_begins_right_behind_what_it_had():
    with pytest.raises(GrammarError, match="number 4 after 4"):
        Grammar(after=4).feed(logged(RUN)[3])


def test_an_unknown_type_or_a_missing_member_is_found():
    with pytest.raises(GrammarError, match="unknown type wave"):
        check([{"seq": 1, "type": "wave"}])
    with pytest.raises(GrammarError, match=r"turn_end lacks \['turn', 'usage'\]"):
        check([{"seq": 2, "type": "turn_end", "finish_reason": "stop"}], after=1)
    with pytest.raises(GrammarError, match="unknown type None"):
        check([{"seq": 1}])


def test_a_log_that_names_another_type_than_its_json_is_found():
    with pytest.raises(GrammarError, match="logged as done, but its JSON is a run_started"):
        check([LoggedEvent(1, "done", encode(BEGIN))])


def test_a_log_that_holds_no_json_is_found():
    with pytest.raises(GrammarError, match="event 1: What was kept is not valid JSON"):
        check([LoggedEvent(1, "done", b"{")])


def test_arguments_that_are_nested_to_the_bound_pass():
    deep = '{"a":' * 64 + "1" + "}" * 64
    value = 1
    for _ in range(64):
        value = {"a": value}
    events = [BEGIN, ToolCallStart("c", "x"), ToolCallDelta("c", deep), ToolCallEnd("c", "x", value), END, done()]
    check(logged(events))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_run_with_any_one_event_missing_or_twice_is_found(data):
    at = data.draw(st.sampled_from([at for at, event in enumerate(RUN) if event.type not in OPTIONAL]))
    broken = RUN[:at] + RUN[at + 1 :] if data.draw(st.booleans()) else RUN[: at + 1] + RUN[at:]
    with pytest.raises(GrammarError):
        check(logged(broken))


def asked(approval="p", call_id="c"):
    until = datetime(2026, 1, 1, tzinfo=UTC)
    return ApprovalRequest(approval, call_id, "look", {}, "medium", "Call look", until)


def resolved(approval="p"):
    return ApprovalResolved(approval, approved=True, reviewer="ann", reason=None)


WAITED = [
    BEGIN,
    Retry(1, 250, "provider_rate_limited"),
    Guardrail("email", "warn", "output", "An e-mail address was taken out."),
    ToolCallStart("c", "look"),
    ToolCallEnd("c", "look", {}),
    TurnEnd(1, "tool_calls", USED),
    asked(),
    resolved(),
    result(),
    TurnEnd(2, "stop", USED),
    done(turns=2),
]


@pytest.mark.parametrize("after", range(len(WAITED)))
def test_a_call_may_wait_for_a_person(after):
    check(logged(WAITED)[after:], after=after)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([BEGIN, asked()], "approval of call c, which has not ended"),
        ([*WAITED[:7], result()], "a result for call c, which waits for a person"),
        ([*WAITED[:7], asked()], "approval p is requested twice"),
        ([*WAITED[:8], resolved()], "approval p is resolved twice"),
        ([*WAITED[:6], resolved()], "approval p was never requested"),
        ([*WAITED[:9], asked("q")], "approval of call c, which has its result"),
    ],
)
def test_approvals_stand_between_a_call_and_its_result(events, words):
    assert words in flaw(*events)

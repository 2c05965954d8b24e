"""The decisions of the agent loop."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.errors import ContentFiltered, ContextOverflow, StreamTruncated
from argentor_asgi.protocol.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from argentor_asgi.protocol.grammar import Grammar
from argentor_asgi.protocol.llm import (
    Finish,
    ReasoningPiece,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Part, Usage
from argentor_asgi.protocol.schema import to_builtins
from argentor_asgi.protocol.turn import (
    ANSWER_CHARS,
    ARGUMENT_BYTES,
    CANCELLED,
    ID_CHARS,
    NAME_CHARS,
    SAME_FAILURES,
    TOOL_CALLS_PER_TURN,
    Answered,
    Call,
    Fail,
    GoOn,
    RunTools,
    Shrink,
    Streak,
    Turn,
    decide,
    finish_reason,
    results,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def read(*events, next_index=0, taken=()):
    turn = Turn(next_index=next_index, taken=set(taken))
    heard = [out for event in events for out in turn.feed(event)]
    return turn, heard


def called(call_id, name="look", *pieces):
    return [ToolStart(call_id, name), *(ToolArgs(call_id, piece) for piece in pieces), ToolEnd(call_id)]


# --- reading ------------------------------------------------------------------------------------------------------


def test_text_is_told_piece_by_piece_and_kept_as_one_part():
    turn, heard = read(TextPiece("Hel"), TextPiece(""), TextPiece("lo"), next_index=7)
    assert heard == [TextDelta("Hel", 7), TextDelta("lo", 8)]
    assert turn.parts == (Part("text", text="Hello"),)
    assert turn.text == "Hello"
    assert turn.next_index == 9


def test_parts_keep_the_order_in_which_the_model_spoke():
    turn, _ = read(ReasoningPiece("hm"), TextPiece("a"), *called("c1"), TextPiece("b"), Finish("stop"))
    assert [part.type for part in turn.parts] == ["reasoning", "text", "tool_call", "text"]
    assert turn.text == "ab"


def test_reasoning_is_told_as_such_and_is_no_answer():
    turn, heard = read(ReasoningPiece("hm"), ReasoningPiece(""))
    assert heard == [ReasoningDelta("hm")]
    assert turn.text == ""


def test_a_call_is_told_from_its_start_to_its_arguments():
    turn, heard = read(*called("c1", "look", '{"at":', "", " 1}"))
    assert heard == [
        ToolCallStart("c1", "look"),
        ToolCallDelta("c1", '{"at":'),
        ToolCallDelta("c1", " 1}"),
        ToolCallEnd("c1", "look", {"at": 1}),
    ]
    assert turn.parts == (Part("tool_call", id="c1", name="look", arguments={"at": 1}),)
    assert turn.calls[0].refusal is None


def test_calls_may_come_interleaved_and_keep_the_order_of_their_starts():
    turn, _ = read(
        ToolStart("b", "two"),
        ToolStart("a", "one"),
        ToolArgs("a", "{}"),
        ToolEnd("a"),
        ToolArgs("b", "{}"),
        ToolEnd("b"),
    )
    assert [found.name for found in turn.calls] == ["two", "one"]


@pytest.mark.parametrize("pieces", [[], ["  "], ["{", "}"]])
def test_no_arguments_are_an_empty_object(pieces):
    turn, _ = read(*called("c1", "look", *pieces))
    assert turn.calls[0].arguments == {}


@pytest.mark.parametrize(
    "pieces", ["[1]", "null", "{", '{"a":1,"a":2}', "[" * 65, '{"a":NaN}', "\ud800", '"x"', "{} {}"]
)
def test_arguments_that_are_no_json_object_are_refused_in_words_for_the_model(pieces):
    turn, heard = read(*called("c1", "look", pieces))
    assert heard[-1] == ToolCallEnd("c1", "look", None)
    assert turn.calls[0].refusal.startswith("The arguments must be one JSON object.")
    assert turn.parts[0].arguments == {}


def test_the_last_report_of_tokens_counts():
    turn, heard = read(UsageReport(Usage(1, 1)), UsageReport(Usage(5, 6)))
    assert turn.usage == Usage(5, 6)
    assert heard == []


def test_nothing_is_heard_after_the_finish():
    turn, heard = read(TextPiece("a"), Finish("stop"), TextPiece("b"), Finish("length"))
    assert heard == [TextDelta("a", 0)]
    assert turn.finish == Finish("stop")


def test_a_call_that_is_open_at_the_finish_is_given_up():
    turn, heard = read(ToolStart("c1", "look"), ToolArgs("c1", "{}"), Finish("tool_calls"))
    assert heard[-1] == ToolCallEnd("c1", "look", None)
    assert turn.calls[0].is_cut
    assert "cut off" in turn.calls[0].refusal


def test_closing_twice_ends_each_call_once():
    turn, _ = read(ToolStart("c1", "look"), ToolStart("c2", "look"))
    assert turn.close() == [ToolCallEnd("c1", "look", None), ToolCallEnd("c2", "look", None)]
    assert turn.close() == []


def test_pieces_and_ends_of_unknown_calls_are_dropped():
    assert read(ToolArgs("x", "{}"), ToolEnd("x"), *called("c1"), ToolEnd("c1"), ToolArgs("c1", "1"))[1] == [
        ToolCallStart("c1", "look"),
        ToolCallEnd("c1", "look", {}),
    ]


def test_an_id_that_the_conversation_has_gets_a_suffix():
    turn, heard = read(*called("c1"), *called("c1"), *called(""), *called(""), taken={"c1"})
    assert [found.id for found in turn.calls] == ["c1-2", "c1-3", "call", "call-2"]
    assert [out.id for out in heard if isinstance(out, ToolCallEnd)] == ["c1-2", "c1-3", "call", "call-2"]


def test_ids_and_names_are_kept_up_to_their_bounds_since_each_event_repeats_them():
    turn, _ = read(*called("i" * (ID_CHARS + 9), "n" * (NAME_CHARS + 9), "{}"), *called("i" * (ID_CHARS + 8), "look"))
    first, second = turn.calls
    assert (first.id, second.id) == ("i" * ID_CHARS, "i" * ID_CHARS + "-2")
    assert first.name == "n" * NAME_CHARS
    assert first.arguments == {}


def test_a_call_that_starts_again_while_open_is_another_call():
    turn, heard = read(ToolStart("c", "one"), ToolStart("c", "two"), ToolArgs("c", '{"a":1}'), ToolEnd("c"))
    assert [found.is_cut for found in turn.calls] == [True, False]
    assert heard[1] == ToolCallEnd("c", "one", None)
    assert heard[-1] == ToolCallEnd("c-2", "two", {"a": 1})


def test_lone_surrogates_never_get_in():
    turn, heard = read(TextPiece("a\ud800"), ToolStart("\udfff", "\ud800"), ToolArgs("\udfff", '{"a":"\ud800"}'))
    assert heard[0] == TextDelta("a\ufffd", 0)
    assert str(to_builtins(heard)).encode()
    assert turn.feed(ToolEnd("\udfff")) == (ToolCallEnd("\ufffd", "\ufffd", {"a": "\ufffd"}),)


# --- bounds -------------------------------------------------------------------------------------------------------


def test_the_call_over_the_bound_is_refused_and_those_behind_it_are_dropped():
    events = [event for number in range(TOOL_CALLS_PER_TURN + 5) for event in called(str(number))]
    turn, heard = read(*events, Finish("tool_calls"))
    assert len(turn.calls) == TOOL_CALLS_PER_TURN + 1
    assert [found.refusal for found in turn.calls[:-1]] == [None] * TOOL_CALLS_PER_TURN
    assert "At most 64 calls" in turn.calls[-1].refusal
    assert sum(isinstance(out, ToolCallStart) for out in heard) == TOOL_CALLS_PER_TURN + 1


def test_arguments_at_the_bound_are_taken_and_one_byte_more_is_not():
    full = '{"a":"' + "x" * (ARGUMENT_BYTES - 8) + '"}'
    assert read(*called("c", "look", full))[0].calls[0].refusal is None
    turn, heard = read(*called("c", "look", full, " "))
    assert "larger than" in turn.calls[0].refusal
    assert turn.calls[0].pieces == []
    assert heard[-1] == ToolCallEnd("c", "look", None)
    assert len(heard) == 3


def test_arguments_are_bounded_in_bytes_and_not_in_characters():
    turn, _ = read(*called("c", "look", '{"a":"' + "é" * (ARGUMENT_BYTES // 2) + '"}'))
    assert turn.calls[0].refusal is not None


def test_an_answer_at_the_bound_is_whole_and_one_character_more_ends_it_as_length():
    turn, _ = read(ReasoningPiece("x" * (ANSWER_CHARS - 2)), TextPiece("ab"))
    assert turn.finish is None
    turn, heard = read(ReasoningPiece("x" * (ANSWER_CHARS - 2)), ToolStart("c", "look"), TextPiece("abc"))
    assert turn.text == "ab"
    assert turn.finish == Finish("length", raw_reason="answer_chars")
    assert heard[-1] == ToolCallEnd("c", "look", None)


# --- deciding -----------------------------------------------------------------------------------------------------


CUT = [ToolStart("c", "look"), ToolArgs("c", "{")]


@pytest.mark.parametrize(
    ("events", "effect"),
    [
        ([], Fail(StreamTruncated)),
        ([TextPiece("a")], Fail(StreamTruncated)),
        (called("c"), Fail(StreamTruncated)),
        ([Finish("stop")], Answered("stop")),
        ([Finish("length")], Answered("length")),
        ([Finish("tool_calls")], Answered("stop")),
        ([Finish("pause")], GoOn()),
        ([TextPiece("no"), Finish("content_filter")], Fail(ContentFiltered)),
        ([*called("c"), Finish("content_filter")], Fail(ContentFiltered)),
        ([Finish("context_overflow")], Shrink()),
        ([*called("c"), Finish("tool_calls")], RunTools()),
        ([*called("c"), Finish("stop")], RunTools()),
        ([*called("c"), Finish("pause")], RunTools()),
        ([*called("c"), Finish("length")], RunTools()),
        ([*called("d"), *CUT, Finish("length")], RunTools()),
        ([*CUT, Finish("length")], Answered("length")),
        ([*CUT, Finish("tool_calls")], RunTools()),
        ([*called("c", "look", "no json"), Finish("stop")], RunTools()),
    ],
)
def test_what_follows_is_told_by_the_calls_before_the_reason(events, effect):
    assert decide(read(*events)[0], may_shrink=True) == effect


def test_a_history_that_was_halved_before_is_not_halved_again():
    assert decide(read(Finish("context_overflow"))[0], may_shrink=False) == Fail(ContextOverflow)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([*called("c"), Finish("stop")], "tool_calls"),
        ([Finish("tool_calls")], "stop"),
        ([*CUT, Finish("length")], "length"),
        ([Finish("pause")], "pause"),
        ([Finish("content_filter")], "content_filter"),
        ([], "truncated"),
    ],
)
def test_readers_hear_a_reason_that_fits_the_calls(events, words):
    turn, _ = read(*events)
    assert finish_reason(turn, decide(turn, may_shrink=True)) == words


def tried(name="look", arguments=None, raw=""):
    return Call("c", name, pieces=[raw], arguments=arguments)


def test_the_same_call_failing_again_and_again_is_hopeless():
    streak = Streak()
    for number in range(1, SAME_FAILURES + 1):
        streak = streak.after(tried(arguments={"a": 1}), is_error=True)
        assert streak.is_hopeless == (number == SAME_FAILURES)
    assert streak.after(tried(arguments={"a": 2}), is_error=False).is_hopeless


@pytest.mark.parametrize(
    "between",
    [(tried(arguments={"a": 1}), False), (tried(arguments={"a": 2}), True), (tried("see", {"a": 1}), True)],
)
def test_a_success_or_another_call_in_between_begins_anew(between):
    other, is_error = between
    streak = Streak()
    for _ in range(SAME_FAILURES - 1):
        streak = streak.after(tried(arguments={"a": 1}), is_error=True)
    streak = streak.after(other, is_error=is_error).after(tried(arguments={"a": 1}), is_error=True)
    assert not streak.is_hopeless


def test_broken_arguments_are_the_same_when_their_text_is():
    streak = Streak()
    for raw in ("{", "{", "[", "{", "{"):
        streak = streak.after(tried(raw=raw), is_error=True)
    assert not streak.is_hopeless
    assert streak.after(tried(raw="{"), is_error=True).is_hopeless


def test_results_come_in_call_order_and_a_call_without_one_was_refused_or_cancelled():
    calls = [Call("a", "one"), Call("b", "two"), Call("c", "three", refusal="too many")]
    assert results(calls, {"b": ("seen", False), "x": ("stray", False)}) == (
        Part("tool_result", id="a", name="one", content=CANCELLED, is_error=True),
        Part("tool_result", id="b", name="two", content="seen", is_error=False),
        Part("tool_result", id="c", name="three", content="too many", is_error=True),
    )


IDS = st.sampled_from(["a", "b", "c", "d"])
LLM_EVENTS = st.one_of(
    st.builds(TextPiece, st.text(max_size=3)),
    st.builds(ReasoningPiece, st.text(max_size=3)),
    st.builds(ToolStart, IDS, st.sampled_from(["look", "see"])),
    st.builds(ToolArgs, IDS, st.sampled_from(["{", "}", '{"a":', "1", " ", '"\ud800"'])),
    st.builds(ToolEnd, IDS),
    st.just(UsageReport(Usage(1, 1))),
    st.just(Finish("stop")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(LLM_EVENTS, max_size=14), max_size=3))
def test_whatever_a_model_sends_its_turns_keep_the_grammar(turns):
    grammar = Grammar(after=1)
    taken, next_index, seq = set(), 0, 1
    for events in turns:
        turn = Turn(next_index=next_index, taken=taken)
        heard = [out for event in events for out in turn.feed(event)] + list(turn.close())
        for out in heard:
            seq += 1
            grammar.feed({**to_builtins(out), "seq": seq})
        next_index = turn.next_index
        assert turn.text == "".join(out.text for out in heard if isinstance(out, TextDelta))
        assert [found.id for found in turn.calls] == [part.id for part in turn.parts if part.type == "tool_call"]
        assert all((found.refusal is None) == (found.arguments is not None) for found in turn.calls)

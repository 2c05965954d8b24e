"""Anthropic's messages, event by event (agent.md 1.5)."""

from dataclasses import replace

import pytest
from wire_cases import ASKED, CASES, REDACTED, SIGNED, THOUGHT_OF, message, text_part, thought, user
from wire_cases import call as call_part
from wire_cases import result as result_part
from wire_reading import calls, finish, frame, read, reasoning, text, usage

from argentor_asgi.errors import (
    ContextOverflow,
    ProviderAuth,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from argentor_asgi.protocol.llm import (
    Finish,
    LlmRequest,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.turn import Turn
from argentor_asgi.protocol.wires import WIRES
from argentor_asgi.protocol.wires.anthropic import MAX_TOKENS
from argentor_asgi.protocol.wires.shared import CALLS, KEPT_CHARS

WIRE = WIRES["anthropic"]
START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 9, "output_tokens": 1}},
}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def opened(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, **told):
    return {"type": "content_block_delta", "index": index, "delta": told}


def closed(index):
    return {"type": "content_block_stop", "index": index}


def said(index, *pieces):
    deltas = [delta(index, type="text_delta", text=piece) for piece in pieces]
    return [opened(index, type="text", text=""), *deltas, closed(index)]


def called(index, *pieces, call_id="toolu_1", name="f", **given):
    deltas = [delta(index, type="input_json_delta", partial_json=piece) for piece in pieces]
    return [opened(index, type="tool_use", id=call_id, name=name, **{"input": {}, **given}), *deltas, closed(index)]


def thinking(index, words, signature="c2ln"):
    return [
        opened(index, type="thinking", thinking="", signature=""),
        delta(index, type="thinking_delta", thinking=words),
        delta(index, type="signature_delta", signature=signature),
        closed(index),
    ]


def ended(reason="end_turn", **told):
    return [{"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": told}, STOP]


def anthropic(*frames, is_ended=True):
    return read("anthropic", *frames, is_ended=is_ended)


def ask(*messages, **fields):
    return WIRE.body(LlmRequest("", messages, **fields), "claude", tokens_field="max_tokens")


# --- reading -----------------------------------------------------------------------------------------------------


def test_an_answer_is_its_text_its_usage_and_one_finish():
    events = anthropic(START, PING, *said(0, "17*23", " is 391."), *ended(output_tokens=12))
    assert events == [
        UsageReport(Usage(9, 1)),
        TextPiece("17*23"),
        TextPiece(" is 391."),
        UsageReport(Usage(9, 12)),
        Finish("stop", "end_turn", "msg_1"),
    ]


def test_a_calls_input_comes_in_pieces_and_an_empty_one_is_an_empty_object():
    events = anthropic(
        START,
        *said(0, "Let me see."),
        *called(1, '{"x"', ":1}", call_id="a"),
        *called(2, "", call_id="b", name="g"),
        *ended("tool_use"),
    )
    assert calls(events) == [("a", "f", '{"x":1}', True), ("b", "g", "{}", True)]
    assert finish(events).reason == "tool_calls"
    assert [type(event) for event in events[2:]] == [
        *(ToolStart, ToolArgs, ToolArgs, ToolEnd),
        *(ToolStart, ToolArgs, ToolEnd),
        Finish,
    ]


def test_input_that_comes_whole_with_the_start_is_read():
    assert calls(anthropic(*called(0, input={"x": 1}), *ended("tool_use"))) == [("toolu_1", "f", '{"x":1}', True)]


def test_a_call_without_an_id_gets_one_and_two_never_share_one():
    events = anthropic(*called(0, call_id=None), *called(1, call_id="a"), *called(2, call_id="a"), *ended("tool_use"))
    assert len({call[0] for call in calls(events)}) == 3


def test_a_call_without_a_name_is_no_answer():
    with pytest.raises(StreamTruncated):
        anthropic(*called(0, name=None))


def test_the_call_that_the_limit_cut_has_no_end():
    events = anthropic(*called(0, "{}", call_id="a"), *called(1, '{"x', call_id="b"), *ended("max_tokens"))
    assert [call[3] for call in calls(events)] == [True, False]
    assert finish(events).reason == "length"


def test_a_call_before_text_is_whole_even_at_the_limit():
    assert calls(anthropic(*called(0, "{}"), *said(1, "And no"), *ended("max_tokens")))[0][3]


def test_thoughts_are_shown_and_kept_with_their_signatures_and_places():
    hidden = opened(2, type="redacted_thinking", data="aGlkZGVu")
    events = anthropic(
        START,
        *thinking(0, "17*23 first.", "c2lnbmVk"),
        *said(1, "Let me ", "compute."),
        hidden,
        closed(2),
        *called(3),
        *ended("tool_use"),
    )
    assert reasoning(events) == "17*23 first."
    kept = [{"before": 0, "block": SIGNED}, {"before": 1, "block": REDACTED}]
    assert finish(events).metadata == {"anthropic": {"thoughts": kept}}


@pytest.mark.parametrize("frames", [thinking(0, "Hm.", ""), thinking(0, "x" * KEPT_CHARS)])
def test_thoughts_that_are_not_signed_or_too_long_are_shown_and_not_kept(frames):
    events = anthropic(*frames, *said(1, "Yes."), *ended())
    assert (bool(reasoning(events)), finish(events).metadata) == (True, {})


def redacted(index, data):
    return (opened(index, type="redacted_thinking", data=data), closed(index))


def test_redacted_thoughts_beyond_the_bound_are_not_kept():
    kept = [*redacted(0, "d" * (KEPT_CHARS - 1)), *redacted(1, "d")]
    assert finish(anthropic(*kept, *said(2, "Yes."), *ended())).metadata
    assert not finish(anthropic(*kept, *redacted(2, "d"), *said(3, "Yes."), *ended())).metadata


def test_blocks_that_all_have_one_index_are_counted_too():
    calls_of_one_index = [called(0, call_id=f"t_{number}") for number in range(CALLS + 1)]
    with pytest.raises(StreamTruncated):
        anthropic(*(each for blocks in calls_of_one_index for each in blocks), *ended())


def test_of_a_usage_only_what_is_read_is_kept():
    reading = WIRES["anthropic"].reading()
    for number in range(10):
        reading.feed(frame({"type": "message_delta", "usage": {f"x{number}": "u", "output_tokens": number}}))
    assert reading._usage == {"output_tokens": 9}  # what it keeps can be seen nowhere else


def test_thoughts_as_long_as_the_bound_are_kept():
    assert finish(anthropic(*thinking(0, "x" * (KEPT_CHARS - 4)), *said(1, "Yes."), *ended())).metadata


def test_blocks_of_the_providers_own_tools_and_unknown_ones_are_passed_over():
    events = anthropic(
        opened(0, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        delta(0, type="input_json_delta", partial_json='{"query":"x"}'),
        closed(0),
        opened(1, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[{"type": "web_search_result"}]),
        closed(1),
        opened(2, type="of_the_future", text="no"),
        delta(2, type="text_delta", text="no"),
        {"type": "of_the_future", "delta": {"text": "no"}},
        opened(3, type="text", text="Yes"),
        delta(3, type="citations_delta", citation={"cited_text": "no"}),
        delta(3, type="of_the_future"),
        delta(3, type="text_delta", text="."),
        closed(3),
        delta(9, type="text_delta", text="no"),
        closed(9),
        *ended(),
    )
    assert events == [TextPiece("Yes"), TextPiece("."), Finish("stop", "end_turn")]


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "stop"),
        ("pause_turn", "pause"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("of_the_future", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons_are_translated_and_kept(told, meant):
    """A reason for calls without a call is none."""
    assert finish(anthropic(*said(0, "a"), *ended(told))) == Finish(meant, told)


def test_a_window_that_was_full_before_a_word_was_said_is_an_overflow():
    assert finish(anthropic(START, *ended("model_context_window_exceeded"))).reason == "context_overflow"


def test_usage_is_cumulative_and_counts_what_was_cached_as_input():
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 90}}}
    late = ended(output_tokens=7, input_tokens=None, cache_creation_input_tokens=4)
    assert usage(anthropic(start, *late)) == Usage(99, 7, 90)


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderUnavailable),
        ({"type": "api_error", "message": "x"}, ProviderUnavailable),
        ({"type": "rate_limit_error", "message": "x"}, ProviderRateLimited),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}, ContextOverflow),
        ({"type": "authentication_error", "message": "x"}, ProviderAuth),
        (None, ProviderUnavailable),
    ],
)
def test_an_error_inside_the_stream_is_that_error(error, meant):
    """agent.md 1.10 D13."""
    with pytest.raises(meant):
        anthropic(START, frame({"type": "error", "error": error}, event="error"))


def test_the_name_of_the_event_serves_where_the_data_has_no_type():
    events = anthropic(
        frame({"content_block": {"type": "text", "text": "Yes."}}, event="content_block_start"),
        frame({}, event="message_stop"),
    )
    assert text(events) == "Yes."


@pytest.mark.parametrize("frames", [(), (START, *said(0, "half an ans")), (START, *said(0, "all"), ended()[0])])
def test_an_answer_without_its_message_stop_is_cut_off(frames):
    """agent.md 1.10 D13; 2.3 rule 8: not even with a stop reason."""
    with pytest.raises(StreamTruncated):
        anthropic(*frames)


def test_nothing_is_read_behind_the_end():
    assert anthropic(STOP, *said(0, "no"), "no JSON") == [Finish("stop")]


@pytest.mark.parametrize(
    "data", ["no JSON", "[]", "null", '{"type":1}', '{"type":"content_block_start","content_block":1}']
)
def test_a_frame_that_makes_no_sense_cuts_the_answer_off(data):
    with pytest.raises(StreamTruncated):
        anthropic(data, is_ended=False)


def test_an_answer_may_have_as_many_blocks_as_the_bound():
    frames = [opened(index, type="text") for index in range(CALLS)]
    anthropic(*frames, STOP)
    with pytest.raises(StreamTruncated):
        anthropic(*frames, opened(CALLS, type="text"))


def test_the_places_of_thoughts_are_those_of_the_parts_that_a_turn_makes():
    frames = (
        *said(0, "a"),
        *said(1, "b"),
        *thinking(2, "one", "MQ=="),
        *called(3, call_id="x"),
        *thinking(4, "two", "Mg=="),
        *said(5, "c"),
        *ended("tool_use"),
    )
    turn = Turn(next_index=0, taken=set())
    for event in anthropic(*frames):
        turn.feed(event)
    answer = message("assistant", *turn.parts, metadata={"backend": turn.finish.metadata})
    sent = ask(ASKED, answer)["messages"][1]["content"]
    assert [block.get("text") or block.get("thinking") or block["id"] for block in sent] == [
        "ab",
        "one",
        "x",
        "two",
        "c",
    ]


# --- asking ------------------------------------------------------------------------------------------------------


def test_it_asks_for_the_version_that_it_speaks():
    assert WIRE.path("any/model") == "/v1/messages"
    assert WIRE.headers() == {"anthropic-version": "2023-06-01"}


def test_a_request_without_a_limit_of_tokens_gets_one_since_the_wire_wants_it():
    assert (ask(ASKED)["max_tokens"], ask(ASKED, max_tokens=7)["max_tokens"]) == (MAX_TOKENS, 7)


def test_system_messages_are_part_of_the_system_prompt():
    """agent.md 1.10 D3."""
    body = WIRE.body(CASES["system_messages"], "claude", tokens_field="max_tokens")
    assert body["system"].split("\n\n")[1:] == ["A summary of what was said before.", "Answer in Spanish."]


def test_all_results_of_a_turn_are_one_message_with_the_results_first():
    """agent.md 1.10 D1."""
    sent = ask(
        ASKED,
        message("assistant", call_part("a"), call_part("b")),
        message("tool", result_part("a", "1")),
        user("Hurry."),
        message("tool", result_part("b", "2")),
    )["messages"]
    assert [each["role"] for each in sent] == ["user", "assistant", "user"]
    assert [each["type"] for each in sent[2]["content"]] == ["tool_result", "tool_result", "text"]


def test_blank_text_is_not_sent():
    sent = ask(
        ASKED, message("assistant", text_part("\n"), call_part("a")), message("tool", result_part("a", "1")), user(" ")
    )
    assert [[block["type"] for block in each["content"]] for each in sent["messages"]] == [
        ["text"],
        ["tool_use"],
        ["tool_result"],
    ]


def test_thoughts_that_a_guardrail_changed_stay_away():
    changed = replace(THOUGHT_OF, parts=(thought("[REDACTED] first."), *THOUGHT_OF.parts[1:]))
    for message_of, kinds in (
        (THOUGHT_OF, ["thinking", "text", "redacted_thinking", "tool_use", "tool_use"]),
        (changed, ["text", "tool_use", "tool_use"]),
    ):
        assert [block["type"] for block in ask(ASKED, message_of)["messages"][1]["content"]] == kinds


def test_thoughts_alone_are_no_message():
    only = replace(THOUGHT_OF, content="", parts=(thought("17*23 first."), text_part(" ")))
    assert ask(ASKED, only) == ask(ASKED)


def test_thoughts_of_another_wires_model_are_not_sent():
    other = replace(THOUGHT_OF, metadata={"backend": {"gemini": {"signatures": ["x"]}}})
    assert [block["type"] for block in ask(ASKED, other)["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]

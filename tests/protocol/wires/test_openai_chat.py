"""OpenAI's chat completions as servers really send them (agent.md 1.5)."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_cases import ASKED, CASES, message, text_part, thought
from wire_cases import call as call_part
from wire_cases import result as result_part
from wire_reading import calls, finish, frame, read, reasoning, text, usage

from argentor_asgi.errors import (
    ContextOverflow,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from argentor_asgi.protocol.llm import (
    Finish,
    LlmRequest,
    ReasoningPiece,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.wires import WIRES
from argentor_asgi.protocol.wires.openai_chat import HELD_CHARS
from argentor_asgi.protocol.wires.shared import CALLS

WIRE = WIRES["openai"]
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def chunk(finish_reason=None, **delta):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def tool(index=None, call_id=None, name=None, arguments=None, finish_reason=None):
    """Return a chunk with a piece of one call; what is None is not in it."""
    function = {"name": name, "arguments": arguments}
    delta = {
        "index": index,
        "id": call_id,
        "function": {key: each for key, each in function.items() if each is not None},
    }
    return chunk(finish_reason, tool_calls=[{key: each for key, each in delta.items() if each is not None}])


def openai(*frames, is_ended=True):
    return read("openai", *frames, is_ended=is_ended)


def ask(*messages, model="gpt-5-mini"):
    return WIRE.body(LlmRequest("", messages), model, tokens_field="max_tokens")["messages"]


# --- reading -----------------------------------------------------------------------------------------------------


def test_an_answer_is_its_text_then_its_usage_and_one_finish():
    """agent.md 1.10 D5: one end, although the server says it twice, and only when the HTTP body has ended."""
    frames = (
        {**chunk(role="assistant", content=""), "usage": None},
        chunk(content="17*23"),
        chunk(content=" is 391."),
        chunk("stop"),
        {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}},
        "[DONE]",
    )
    said = [TextPiece("17*23"), TextPiece(" is 391."), UsageReport(Usage(20, 3))]
    assert openai(*frames, is_ended=False) == said
    assert openai(*frames) == [*said, Finish("stop", "stop", "chatcmpl-1")]


def test_content_in_the_chunk_of_the_finish_reason_is_not_lost():
    """agent.md 1.10 D5."""
    assert openai(chunk("stop", content="all of it")) == [TextPiece("all of it"), Finish("stop", "stop", "chatcmpl-1")]


def test_parallel_calls_keep_their_order_and_their_pieces_however_they_are_mixed():
    """agent.md 1.10 D2."""
    events = openai(
        tool(0, "a", "calculator", ""),
        tool(1, "b", "datetime", '{"op'),
        tool(0, None, None, '{"x":'),
        tool(1, None, None, '":1}'),
        tool(0, None, None, "2}"),
        chunk("tool_calls"),
        "[DONE]",
    )
    assert calls(events) == [("a", "calculator", '{"x":2}', True), ("b", "datetime", '{"op":1}', True)]
    assert [event.id for event in events if isinstance(event, ToolEnd)] == ["a", "b"]
    assert finish(events).reason == "tool_calls"


def test_a_call_whole_in_one_delta_is_a_call():
    assert openai(tool(0, "a", "f", '{"x":1}'), chunk("tool_calls")) == [
        ToolStart("a", "f"),
        ToolArgs("a", '{"x":1}'),
        ToolEnd("a"),
        Finish("tool_calls", "tool_calls", "chatcmpl-1"),
    ]


def test_calls_are_judged_by_the_calls_and_not_by_the_reason():
    """agent.md 1.10 D5: not only `tool_calls` closes calls."""
    for reason in ("stop", "function_call", "eos", "tool_calls"):
        events = openai(tool(0, "a", "f", "{}"), chunk(reason))
        assert (calls(events), finish(events).reason) == ([("a", "f", "{}", True)], "tool_calls")
    assert finish(openai(chunk("tool_calls"))).reason == "stop"


def test_missing_ids_are_made_and_missing_indexes_are_guessed():
    whole = openai(tool(None, None, "f", '{"n":1}'), tool(None, None, "f", '{"n":2}'), chunk("stop"))
    assert calls(whole) == [("call_0", "f", '{"n":1}', True), ("call_1", "f", '{"n":2}', True)]
    by_index = openai(tool(0, "", "f", "{"), tool(1, None, "g", "{}"), tool(0, None, None, "}"), chunk("stop"))
    assert calls(by_index) == [("call_0", "f", "{}", True), ("call_1", "g", "{}", True)]
    by_id = openai(
        tool(None, "a", "f", "{"),
        tool(None, "b", "g", "{"),
        tool(None, "a", None, "}"),
        tool(None, "b", None, "}"),
        STOP,
    )
    assert calls(by_id) == [("a", "f", "{}", True), ("b", "g", "{}", True)]
    by_place = openai(tool(None, "a", "f", "{"), tool(None, None, None, "}"), STOP)
    assert calls(by_place) == [("a", "f", "{}", True)]


def test_calls_that_share_an_index_are_told_apart_by_id_and_name():
    events = openai(tool(0, "a", "f", "{}"), tool(0, "b", "f", "{"), tool(0, "b", "f", "}"), STOP)
    assert calls(events) == [("a", "f", "{}", True), ("b", "f", "{}", True)]


def test_a_made_id_is_never_one_that_the_server_gave():
    events = openai(tool(0, "call_1", "f", "{}"), tool(1, None, "g", "{}"), tool(2, "call_1", "h", "{}"), STOP)
    assert len({call[0] for call in calls(events)}) == 3
    assert calls(events)[0][0] == "call_1"


def test_a_name_that_comes_late_holds_the_arguments_back():
    assert openai(tool(0, "a", None, "{"), tool(0, None, "f", "}"), STOP)[:3] == [
        ToolStart("a", "f"),
        ToolArgs("a", "{"),
        ToolArgs("a", "}"),
    ]


def test_a_call_without_a_name_is_no_answer():
    with pytest.raises(StreamTruncated):
        openai(tool(0, "a", None, "{}"), STOP)
    openai(tool(0, "a", None, "x" * HELD_CHARS), is_ended=False)
    with pytest.raises(StreamTruncated):
        openai(tool(0, "a", None, "x" * (HELD_CHARS + 1)), is_ended=False)


def test_an_answer_may_make_as_many_calls_as_the_bound():
    frames = [tool(index, f"c{index}", "f", "{}") for index in range(CALLS)]
    assert len(calls(openai(*frames, STOP))) == CALLS
    with pytest.raises(StreamTruncated):
        openai(*frames, tool(CALLS, "one more", "f", "{}"))


def test_arguments_sent_as_an_object_are_read_as_its_text():
    assert calls(openai(tool(0, "a", "f", {"x": 1}), STOP)) == [("a", "f", '{"x":1}', True)]


def test_the_call_that_the_limit_cut_has_no_end():
    events = openai(tool(0, "a", "f", "{}"), tool(1, "b", "g", '{"x'), chunk("length"))
    assert [call[3] for call in calls(events)] == [True, False]
    assert finish(events).reason == "length"


def test_the_old_way_to_call_a_function_is_read():
    events = openai(
        chunk(function_call={"name": "f", "arguments": ""}),
        chunk(function_call={"arguments": "{}"}),
        chunk("function_call"),
    )
    assert calls(events) == [("call_0", "f", "{}", True)]


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_reasoning_is_read_under_both_its_names(member):
    events = openai(chunk(**{member: "First, "}), chunk(**{member: "17."}), chunk(content="391"), STOP)
    assert (reasoning(events), text(events)) == ("First, 17.", "391")


def test_reasoning_under_both_names_at_once_is_read_once():
    assert reasoning(openai(chunk(reasoning="a", reasoning_content="a"), STOP)) == "a"


def test_content_as_a_list_is_read():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}
    events = openai(chunk(content=[thinking, {"type": "text", "text": "Yes."}, {"type": "reference"}]), STOP)
    assert events[:2] == [ReasoningPiece("Hm. "), TextPiece("Yes.")]


def test_a_refusal_is_shown_and_filtered():
    events = openai(chunk(refusal="I can't "), chunk(refusal="help."), STOP)
    assert (text(events), finish(events).reason) == ("I can't help.", "content_filter")


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("new", "stop"),
    ],
)
def test_finish_reasons_are_translated_and_kept(told, meant):
    assert finish(openai(chunk(told))) == Finish(meant, told, "chatcmpl-1")


def test_done_alone_finishes_an_answer_and_nothing_is_read_behind_it():
    # agent.md 1.10 D5
    assert openai(chunk(content="a"), "[DONE]", chunk(content="b"), "no JSON") == [
        TextPiece("a"),
        Finish("stop", None, "chatcmpl-1"),
    ]
    assert finish(openai(tool(0, "a", "f", "{}"), " [DONE] ")).reason == "tool_calls"


@pytest.mark.parametrize(
    "frames", [(), (chunk(content="half an ans"),), (tool(0, "a", "f", '{"x'),), ({"choices": []},)]
)
def test_an_answer_without_finish_reason_and_done_is_cut_off(frames):
    """agent.md 1.10 D13; 2.3 rule 8."""
    with pytest.raises(StreamTruncated):
        openai(*frames)


def test_another_choice_than_the_first_is_not_read():
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    first = {"choices": [{"delta": {"content": "yes"}}]}
    assert openai(other, first, other, is_ended=False) == [TextPiece("yes")]
    with pytest.raises(StreamTruncated):
        openai(other, first)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5}, Usage(9, 5)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, 0, 4)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": None}, Usage(9, 0, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 30}, Usage(9, 21)),
        ({"prompt_tokens": -9, "completion_tokens": True}, Usage()),
        ({"prompt_tokens": "9", "completion_tokens": 2.0}, Usage(0, 2)),
        ([1], Usage()),
    ],
)
def test_usage_is_read_as_far_as_it_makes_sense(told, meant):
    """The fourth counts the reasoning beside the completion."""
    assert usage(openai({**chunk("stop"), "usage": told})) == meant


def test_the_last_usage_counts_since_some_servers_tell_it_with_every_chunk():
    events = openai(
        *({**chunk(content="a"), "usage": {"prompt_tokens": 9, "completion_tokens": n}} for n in (1, 2)), STOP
    )
    assert usage(events) == Usage(9, 2)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ({"error": {"message": "x", "type": "server_error"}}, ProviderUnavailable),
        (
            {"error": {"message": "x", "code": 429}, "choices": [{"index": 0, "finish_reason": "error"}]},
            ProviderRateLimited,
        ),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, ProviderBadRequest),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, ContextOverflow),
        ({"error": "overloaded"}, ProviderUnavailable),
        ({"object": "error", "message": "x", "code": 400}, ProviderBadRequest),
        (frame({"message": "x", "code": "429"}, event="error"), ProviderRateLimited),
        (chunk("error"), ProviderUnavailable),
        (chunk("insufficient_system_resource"), ProviderUnavailable),
    ],
)
def test_an_error_inside_the_stream_is_that_error(told, meant):
    """agent.md 1.10 D13."""
    with pytest.raises(meant):
        openai(chunk(content="a"), told)


def test_a_frame_without_data_says_nothing():
    assert openai("", "  ", {}, {"choices": None}, {"choices": [{"delta": None}]}, is_ended=False) == []


@pytest.mark.parametrize(
    "data",
    [
        "no JSON",
        "{",
        "[]",
        "1",
        "null",
        '{"choices":{}}',
        '{"choices":[{"delta":1}]}',
        '{"choices":[{"delta":{"content":1}}]}',
    ],
)
def test_a_frame_that_makes_no_sense_cuts_the_answer_off(data):
    with pytest.raises(StreamTruncated):
        openai(data, is_ended=False)


# --- asking ------------------------------------------------------------------------------------------------------


def test_it_asks_the_same_path_for_every_model_and_adds_no_header():
    assert WIRE.path("any/model") == "/v1/chat/completions"
    assert WIRE.headers() == {}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_stands_in_the_field_that_the_provider_takes(field):
    body = WIRE.body(CASES["first_round"], "m", tokens_field=field)
    assert [name for name in body if "tokens" in name] == [field]


def test_what_is_not_set_is_not_sent():
    assert set(WIRE.body(CASES["bare"], "m", tokens_field="max_tokens")) == {
        "model",
        "messages",
        "stream",
        "stream_options",
    }


def test_a_system_message_stays_where_it_was_said():
    """agent.md 1.10 D3."""
    sent = WIRE.body(CASES["system_messages"], "m", tokens_field="max_tokens")["messages"]
    assert [each["role"] for each in sent[:5]] == ["system", "system", "user", "assistant", "system"]


def test_tools_are_sent_in_the_order_given():
    """agent.md 1.10 D21."""
    request = CASES["first_round"]
    for specs in (request.tools, request.tools[::-1]):
        body = WIRE.body(replace(request, tools=specs), "m", tokens_field="max_tokens")
        assert [each["function"]["name"] for each in body["tools"]] == [spec.name for spec in specs]


def test_reasoning_goes_back_to_deepseek_alone_and_only_with_calls():
    asked = (
        ASKED,
        message("assistant", thought("Hm."), call_part("call_1")),
        message("tool", result_part("call_1", "1")),
        message("assistant", thought("So."), text_part("It is 1.")),
        message("assistant", call_part("call_2")),
        message("tool", result_part("call_2", "1")),
    )
    sent = ask(*asked, model="deepseek-v4-pro")
    assert [each.get("reasoning_content") for each in sent if each["role"] == "assistant"] == ["Hm.", None, ""]
    for model in ("gpt-5-mini", "deepseek-r1-distill-llama-70b", "deepseek/deepseek-v4-pro"):
        assert not any("reasoning_content" in each for each in ask(*asked, model=model))


def test_mistral_gets_ids_of_nine_letters_and_digits():
    asked = (
        ASKED,
        message("assistant", call_part("call_1"), call_part("D681PevKs")),
        message("tool", result_part("call_1", "1")),
    )
    _, called, answered = ask(*asked, model="mistral-large-latest")
    first, second = (each["id"] for each in called["tool_calls"])
    assert first == answered["tool_call_id"]
    assert (len(first), first.isalnum(), second) == (9, True, "D681PevKs")


@pytest.mark.parametrize(
    ("model", "asks"),
    [
        ("devstral-small-2512", False),
        ("ft:open-mistral-7b:x:1", False),
        ("m", True),
        ("mistral-nemo:12b", True),
        ("ft:gpt-5:org::1", True),
    ],
)
def test_mistral_is_not_asked_for_the_usage_that_it_tells_anyway(model, asks):
    assert ("stream_options" in WIRE.body(CASES["bare"], model, tokens_field="max_tokens")) is asks


@given(st.lists(st.text(), min_size=1, max_size=4, unique=True), st.sampled_from(["m", "codestral-2501"]))
def test_calls_and_results_stay_pairs_whatever_their_ids(ids, model):
    # agent.md 1.10 D1
    asked = (
        message("assistant", *(call_part(each) for each in ids)),
        message("tool", *(result_part(each, "1") for each in ids)),
    )
    called, *answered = ask(*asked, model=model)
    sent = [each["id"] for each in called["tool_calls"]]
    assert [each["tool_call_id"] for each in answered] == sent
    assert len(set(sent)) == len(ids)


def test_an_assistants_message_that_says_nothing_is_left_out():
    assert ask(ASKED, message("assistant", thought("Hm."))) == ask(ASKED)


def test_arguments_are_json_text():
    sent = ask(message("assistant", call_part("a", x="é", y=[1])))
    assert json.loads(sent[0]["tool_calls"][0]["function"]["arguments"]) == {"x": "é", "y": [1]}

"""Google's Gemini, frame by frame (agent.md 1.5)."""

import json

import pytest
from wire_cases import ASKED, CASES, THOUGHT_OF, message, user
from wire_cases import call as call_part
from wire_cases import result as result_part
from wire_reading import calls, finish, read, reasoning, text, usage

from argentor_asgi.errors import ProviderBadRequest, ProviderRateLimited, ProviderUnavailable, StreamTruncated
from argentor_asgi.protocol.llm import Finish, LlmRequest, TextPiece, ToolArgs, ToolEnd, ToolStart, UsageReport
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.wires import WIRES
from argentor_asgi.protocol.wires.shared import CALLS, ID_CHARS, KEPT_CHARS

WIRE = WIRES["gemini"]
STAND_IN = "skip_thought_signature_validator"


def partial(*parts, reason=None, **members):
    candidate = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    return {
        "candidates": [{**candidate, **({"finishReason": reason} if reason else {})}],
        "responseId": "r-1",
        **members,
    }


def called(name="f", args=None, **members):
    return {"functionCall": {"name": name, **({} if args is None else {"args": args}), **members}}


def gemini(*frames, is_ended=True):
    return read("gemini", *frames, is_ended=is_ended)


def ask(*messages, model="gemini-3-pro", system=""):
    return WIRE.body(LlmRequest(system, messages), model, tokens_field="max_tokens")


def response_to(content, *, is_error=False):
    sent = ask(message("tool", result_part("a", content, is_error=is_error)))
    return sent["contents"][0]["parts"][0]["functionResponse"]["response"]


# --- reading -----------------------------------------------------------------------------------------------------


def test_an_answer_is_its_partial_texts_its_usage_and_one_finish():
    counts = {"promptTokenCount": 8, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "cachedContentTokenCount": 2}
    assert gemini(partial({"text": "17*23"}), partial({"text": " is 391."}, reason="STOP", usageMetadata=counts)) == [
        TextPiece("17*23"),
        TextPiece(" is 391."),
        UsageReport(Usage(8, 7, 2)),
        Finish("stop", "STOP", "r-1"),
    ]


def test_a_whole_call_is_its_start_one_piece_and_its_end():
    assert gemini(partial(called("f", {"x": [1, "é"]}, id="fc-1"), reason="STOP")) == [
        ToolStart("fc-1", "f"),
        ToolArgs("fc-1", '{"x":[1,"é"]}'),
        ToolEnd("fc-1"),
        Finish("tool_calls", "STOP", "r-1", {"gemini": {"calls": [{"id": "fc-1"}]}}),
    ]


def test_made_ids_differ_in_an_answer_and_from_answer_to_answer():
    """agent.md 1.10 D14."""
    first = gemini(partial(called(), called()), partial(called(), reason="STOP"))
    second = gemini({**partial(called(), reason="STOP"), "responseId": "r-2"})
    assert [call[0] for call in calls(first + second)] == ["r-1_0", "r-1_1", "r-1_2", "r-2_0"]
    assert calls(gemini({"candidates": [{"content": {"parts": [called()]}, "finishReason": "STOP"}]}))[0][0] == "call_0"


def test_a_call_without_arguments_has_empty_ones():
    assert calls(gemini(partial(called(), reason="STOP"))) == [("r-1_0", "f", "{}", True)]


def test_thoughts_are_reasoning_and_other_parts_are_passed_over():
    events = gemini(partial({"text": "Hm.", "thought": True}, {"inlineData": {}}, {"text": "Yes."}, reason="STOP"))
    assert (reasoning(events), text(events)) == ("Hm.", "Yes.")


def test_ids_and_signatures_are_kept_by_the_place_of_their_calls():
    signed = {**called(), "thoughtSignature": "c2ln"}
    events = gemini(partial(signed, called()), partial(called(id="fc-3"), reason="STOP"))
    assert finish(events).metadata == {"gemini": {"calls": [{"signature": "c2ln"}, {}, {"id": "fc-3"}]}}
    assert finish(gemini(partial(called(), reason="STOP"))).metadata == {}


def test_ids_and_signatures_beyond_their_bounds_are_not_kept():
    long_id, long_one = "i" * (ID_CHARS + 1), "s" * KEPT_CHARS
    parts = [{**called(id=long_id), "thoughtSignature": long_one}, {**called(id="b"), "thoughtSignature": "s"}]
    events = gemini({**partial(*parts, reason="STOP"), "responseId": long_id})
    assert [call_id for call_id, *_ in calls(events)] == ["call_0", "b"]
    assert finish(events).metadata == {"gemini": {"calls": [{"signature": long_one}, {"id": "b"}]}}


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((reason, "content_filter") for reason in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII")),
        ("OF_THE_FUTURE", "stop"),
    ],
)
def test_finish_reasons_are_translated_and_kept(told, meant):
    assert finish(gemini(partial({"text": "a"}, reason=told))) == Finish(meant, told, "r-1")


def test_the_last_finish_reason_counts_since_older_models_send_one_with_each_frame():
    events = gemini(partial({"text": "a"}, reason="STOP"), partial({"text": "b"}, reason="MAX_TOKENS"))
    assert (text(events), finish(events).reason) == ("ab", "length")


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER"])
def test_an_answer_that_the_model_broke_is_worth_another_try(reason):
    with pytest.raises(StreamTruncated):
        gemini(partial(reason=reason))


def test_a_missing_signature_is_a_bad_request():
    with pytest.raises(ProviderBadRequest):
        gemini(partial(reason="MISSING_THOUGHT_SIGNATURE"))


def test_a_refused_prompt_has_no_candidates_and_is_filtered():
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    assert gemini(blocked) == [UsageReport(Usage(3)), Finish("content_filter", "SAFETY")]


def test_feedback_without_a_block_is_nothing():
    assert gemini({"promptFeedback": {"safetyRatings": []}}, is_ended=False) == []


@pytest.mark.parametrize("frames", [(), (partial({"text": "half an ans"}),), (partial(called()),)])
def test_an_answer_without_a_finish_reason_is_cut_off(frames):
    """agent.md 1.10 D13; 2.3 rule 8."""
    with pytest.raises(StreamTruncated):
        gemini(*frames)


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        ({"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}, ProviderUnavailable),
        ({"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}, ProviderRateLimited),
        ({"status": "INVALID_ARGUMENT"}, ProviderBadRequest),
    ],
)
def test_an_error_inside_the_stream_is_that_error(error, meant):
    """agent.md 1.10 D13."""
    with pytest.raises(meant):
        gemini(partial({"text": "a"}), {"error": error})


def test_another_candidate_than_the_first_is_not_read():
    other = {"candidates": [{"index": 1, "content": {"parts": [{"text": "no"}]}, "finishReason": "STOP"}]}
    assert gemini(other, "", is_ended=False) == []


@pytest.mark.parametrize(
    "data",
    ["no JSON", "[]", "null", '{"candidates":{}}', '{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}'],
)
def test_a_frame_that_makes_no_sense_cuts_the_answer_off(data):
    with pytest.raises(StreamTruncated):
        gemini(data, is_ended=False)


def test_an_answer_may_make_as_many_calls_as_the_bound():
    assert len(calls(gemini(partial(*[called()] * CALLS, reason="STOP")))) == CALLS
    with pytest.raises(StreamTruncated):
        gemini(partial(*[called()] * (CALLS + 1)))


def test_the_provider_tools_share_of_the_prompt_is_input():
    counts = {"promptTokenCount": 3, "toolUsePromptTokenCount": 4, "cachedContentTokenCount": 99}
    assert usage(gemini({"usageMetadata": counts}, partial(reason="STOP"))) == Usage(7, 0, 7)


# --- asking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("gemini-3-pro", "models/gemini-3-pro"),
        ("models/m", "models/m"),
        ("tunedModels/m", "tunedModels/m"),
        ("a?b", "models/a%3Fb"),
    ],
)
def test_the_model_is_in_the_path_and_the_key_is_not(model, named):
    """agent.md 1.10 D14: the key goes into the header `x-goog-api-key`."""
    assert WIRE.path(model) == f"/v1beta/{named}:streamGenerateContent?alt=sse"
    assert WIRE.headers() == {}


def test_system_messages_are_part_of_the_system_instruction():
    """agent.md 1.10 D3."""
    told = WIRE.body(CASES["system_messages"], "m", tokens_field="max_tokens")["systemInstruction"]["parts"][0]["text"]
    assert told.split("\n\n")[1:] == ["A summary of what was said before.", "Answer in Spanish."]


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ('{"result":391}', {"result": 391}),
        (' {"a":{"b":[1]}}', {"a": {"b": [1]}}),
        ("391", {"result": "391"}),
        ("[1]", {"result": "[1]"}),
        ("", {"result": ""}),
        ("{not JSON", {"result": "{not JSON"}),
        ('{"a":1,"a":2}', {"result": '{"a":1,"a":2}'}),
        ('{"$ref":"#/$defs/x"}', {"result": '{"$ref":"#/$defs/x"}'}),
    ],
)
def test_a_result_is_an_object(content, response):
    """Its own JSON if that is one; but Gemini takes a `$ref` for a function's name and refuses it."""
    assert response_to(content) == response


def test_an_error_result_says_so():
    assert response_to('{"a":1}', is_error=True) == {"error": '{"a":1}'}


def test_results_deep_or_wide_beyond_reason_are_text():
    assert set(response_to('{"a":' * 100 + "1" + "}" * 100)) == {"result"}


def test_results_stay_apart_from_what_the_user_says_next():
    # agent.md 1.10 D1
    sent = ask(
        ASKED, message("assistant", call_part("a")), message("tool", result_part("a", "1")), user("And?"), user("Well?")
    )
    assert [(each["role"], len(each["parts"])) for each in sent["contents"]] == [
        ("user", 1),
        ("model", 1),
        ("user", 1),
        ("user", 2),
    ]


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3-pro", STAND_IN),
        ("models/gemini-flash-latest", STAND_IN),
        ("gemini-2.5-pro", None),
        ("models/gemma-3", None),
    ],
)
def test_a_call_of_another_provider_gets_the_stand_in_where_signatures_are_asked_for(model, signature):
    sent = ask(message("assistant", call_part("a"), call_part("b")), model=model)["contents"][0]["parts"]
    assert [part.get("thoughtSignature") for part in sent] == [signature, None]


def test_a_kept_signature_goes_back_whatever_the_model():
    for model in ("gemini-3-pro", "gemini-2.5-pro"):
        sent = ask(THOUGHT_OF, model=model)["contents"][0]["parts"]
        assert [part.get("thoughtSignature") for part in sent] == [None, "c2lnbmVk", None]


def test_more_kept_than_there_are_calls_is_let_go():
    lost = message("assistant", call_part("a"), metadata={"backend": {"gemini": {"calls": [{}, {"id": "y"}]}}})
    assert len(ask(lost)["contents"][0]["parts"]) == 1


def test_only_ids_that_gemini_gave_go_back_and_the_results_have_them_too():
    results = message("tool", result_part("call_1", "1"), result_part("call_2", "2"))
    _, called_parts, answered = ask(ASKED, THOUGHT_OF, results)["contents"]
    assert [part["functionCall"].get("id") for part in called_parts["parts"][1:]] == ["fc/1", None]
    assert [part["functionResponse"].get("id") for part in answered["parts"]] == ["fc/1", None]


def test_a_schema_goes_as_it_is():
    spec = CASES["first_round"].tools[0]
    declared = WIRE.body(CASES["first_round"], "m", tokens_field="max_tokens")["tools"][0]["functionDeclarations"][0]
    assert json.dumps(declared["parametersJsonSchema"]) == json.dumps(spec.parameters)

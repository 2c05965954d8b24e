"""What holds for every wire whatever a server sends."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wire_reading import frame

from argentor_asgi.errors import GatewayError, StreamTruncated
from argentor_asgi.protocol.llm import Finish, ToolArgs, ToolEnd, ToolStart
from argentor_asgi.protocol.schema import encode
from argentor_asgi.protocol.turn import Turn
from argentor_asgi.protocol.wires import WIRES

# fmt: off
NAMES = st.sampled_from([
    "choices", "delta", "content", "tool_calls", "index", "id", "function", "name", "arguments", "finish_reason",
    "usage", "error", "refusal", "reasoning", "object", "type", "message", "content_block", "thinking", "signature",
    "data", "input", "partial_json", "text", "stop_reason", "candidates", "parts", "functionCall", "args", "thought",
    "thoughtSignature", "finishReason", "promptFeedback", "blockReason", "usageMetadata", "responseId",
    "prompt_tokens", "promptTokenCount", "input_tokens",
])
WORDS = st.sampled_from([
    "tool_use", "text", "thinking", "redacted_thinking", "message_start", "content_block_start", "content_block_delta",
    "content_block_stop", "message_delta", "message_stop", "error", "ping", "stop", "length", "STOP", "SAFETY",
    "tool_calls", "max_tokens", "refusal",
])
# fmt: on
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.integers() | st.floats() | WORDS | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5),
    max_leaves=20,
)


def sound(names, values):
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


CALL = sound(["name"], st.none() | WORDS) | sound(["name", "arguments"], st.text(max_size=3))
TOOL = st.fixed_dictionaries(
    {}, optional={"index": st.none() | st.integers(-1, 2), "id": st.none() | WORDS, "function": CALL}
)
DELTA = st.fixed_dictionaries(
    {}, optional={"content": st.none() | WORDS, "tool_calls": st.none() | st.lists(TOOL, max_size=3)}
)
CHUNK = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"delta": DELTA, "finish_reason": st.none() | WORDS}), max_size=2)}
)
BLOCK = sound(["type", "id", "name", "text", "thinking", "signature", "data", "partial_json", "stop_reason"], WORDS)
BLOCKS = st.fixed_dictionaries(
    {"type": WORDS}, optional={"index": st.integers(0, 2), "content_block": BLOCK, "delta": BLOCK}
)
PART = sound(["text", "thoughtSignature"], WORDS) | st.fixed_dictionaries(
    {"functionCall": st.fixed_dictionaries({"name": WORDS, "args": JSON})}
)
PARTIAL = st.fixed_dictionaries({"parts": st.lists(PART, max_size=3)})
CANDIDATE = st.fixed_dictionaries({"content": PARTIAL}, optional={"finishReason": WORDS})
FRAMES = JSON | CHUNK | BLOCKS | st.fixed_dictionaries({"candidates": st.lists(CANDIDATE, max_size=2)})
TEXTS = st.lists(FRAMES.map(lambda value: encode(value).decode()) | st.just("[DONE]") | st.text(max_size=5), max_size=8)
EVENTS = st.sampled_from(["message", "error", "message_stop", "content_block_start"])


@pytest.mark.parametrize("wire", WIRES)
@given(texts=TEXTS, name=EVENTS)
@example(texts=['{"choices":[{"delta":{"content":' + "[" * 70 + "]" * 70 + "}}]}"], name="message")
@example(
    texts=['{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":' + "9" * 5000 + "}}]}}]}"],
    name="message",
)
@example(texts=["\ud800"], name="message")
def test_any_frames_are_events_or_a_declared_error_and_calls_stay_sound(wire, texts, name):
    reading, turn, events = WIRES[wire].reading(), Turn(next_index=0, taken=set()), []
    try:
        for text in texts:
            events += reading.feed(frame(text, name))
        events += reading.end()
    except GatewayError:
        assert not any(isinstance(event, Finish) for event in events)
    starts = [event.id for event in events if isinstance(event, ToolStart)]
    ends = [event.id for event in events if isinstance(event, ToolEnd)]
    assert len(set(starts)) == len(starts)
    assert len(set(ends)) == len(ends)
    assert {event.id for event in events if isinstance(event, ToolArgs | ToolEnd)} <= set(starts)
    for event in events:
        turn.feed(event)


@pytest.mark.parametrize("wire", WIRES)
@given(data=st.text().filter(lambda text: not text.endswith("}")))
def test_what_is_no_json_is_cut_off(wire, data):
    with pytest.raises(StreamTruncated):
        WIRES[wire].reading().feed(frame("{" + data))

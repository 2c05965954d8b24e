"""What is said in a session: its plain view, its calls and results, and what was used."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.protocol.messages import Message, Part, Usage, plain_text
from argentor_asgi.protocol.schema import convert, decode_value, encode, restore, to_builtins

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALL = Part("tool_call", id="c", name="look", arguments={"at": [1, None]})
RESULT = Part("tool_result", id="c", name="look", content="seen", is_error=False)


def test_the_plain_view_joins_the_texts_and_leaves_out_what_nobody_said_aloud():
    parts = [Part("reasoning", text="hm"), Part("text", text="a"), CALL, Part("text", text="b"), Part("text")]
    assert plain_text(parts) == "ab"
    assert plain_text([]) == ""


def test_the_plain_view_of_results_has_each_on_a_line():
    assert plain_text([RESULT, Part("tool_result", id="d", content=None), RESULT]) == "seen\n\nseen"


def test_a_message_knows_its_calls_and_its_results_in_order():
    message = Message("m", "assistant", "", "s", NOW, (CALL, RESULT, Part("text", text="a"), CALL))
    assert message.tool_calls == (CALL, CALL)
    assert message.tool_results == (RESULT,)


def test_a_message_keeps_the_originals_fields_on_the_wire():
    message = Message("m", "user", "hi", "s", NOW)
    assert decode_value(encode(message)) == {
        "id": "m",
        "role": "user",
        "content": "hi",
        "session_id": "s",
        "timestamp": "2026-01-01T00:00:00Z",
        "parts": [],
        "channel_id": None,
        "metadata": {},
    }


def test_a_message_that_was_kept_comes_back_as_it_was():
    message = Message("m", "tool", "seen", "s", NOW, (CALL, RESULT), metadata={"a": [1.5]})
    assert restore(encode(message), Message) == message
    assert convert(to_builtins(message), Message) == message


USAGES = st.builds(Usage, *[st.integers(0, 10**9)] * 3, st.booleans())


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_in_any_order_and_an_estimate_stays_one(a, b, c):
    assert a.plus(b) == b.plus(a)
    assert a.plus(b).plus(c) == a.plus(b.plus(c))
    assert a.plus(Usage()) == a
    assert a.plus(b).estimated == (a.estimated or b.estimated)

"""What a session said before, as every wire takes it."""

from dataclasses import replace
from datetime import UTC, datetime

from histories import flaws
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.protocol.history import NO_RESULT, halve, mend, open_calls
from argentor_asgi.protocol.messages import Message, Part, plain_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def message(role, *parts, message_id="m", metadata=None):
    return Message(message_id, role, plain_text(parts), "s", NOW, parts, metadata=metadata or {})


def text(words):
    return Part("text", text=words)


def asked(call_id):
    return Part("tool_call", id=call_id, name="look", arguments={})


def told(call_id, content="seen"):
    return Part("tool_result", id=call_id, name="look", content=content, is_error=False)


def test_a_sound_history_is_left_as_it_is():
    history = [
        message("user", text("hi")),
        message("assistant", text("looking"), asked("a"), asked("b")),
        message("tool", told("a"), told("b")),
        message("assistant", text("done")),
        message("user", text("thanks")),
        message("user", text("really")),
    ]
    assert mend(history) == history


def test_a_window_never_begins_with_an_answer_or_a_result():
    history = [
        message("tool", told("old")),
        message("assistant", text("so")),
        message("system", text("earlier: much")),
        message("user", text("hi")),
    ]
    assert mend(history) == history[2:]


def test_a_call_that_a_crash_left_open_gets_an_error_result():
    history = [message("user", text("hi")), message("assistant", asked("a"), asked("b"), message_id="x")]
    mended = mend([*history, message("user", text("and?"))])
    assert mended[2].id == "x-results"
    assert mended[2].role == "tool"
    assert [(part.id, part.content, part.is_error) for part in mended[2].parts] == [
        ("a", NO_RESULT, True),
        ("b", NO_RESULT, True),
    ]
    assert mended[2].content == f"{NO_RESULT}\n{NO_RESULT}"


def test_results_are_put_in_call_order_and_strays_are_left_out():
    history = [
        message("user", text("hi")),
        message("assistant", asked("a"), asked("b")),
        message("tool", told("b"), told("stray"), message_id="r"),
        message("tool", told("a"), told("b", "again")),
        message("user", text("so")),
        message("tool", told("late")),
    ]
    assert mend(history) == [*history[:2], message("tool", told("a"), told("b"), message_id="r"), history[4]]


def test_an_answer_that_says_nothing_is_left_out_unless_its_backend_wants_it_back():
    empty = message("assistant", Part("reasoning", text="hm"))
    mine = replace(empty, metadata={"backend": {"state": 1}})
    assert mend([message("user", text("hi")), empty, mine]) == [message("user", text("hi")), mine]


def test_half_a_history_is_its_newer_half():
    history = [message("user", text(str(number))) for number in range(5)]
    assert halve(history) == history[3:]


def test_half_a_history_keeps_the_question_that_it_answers():
    history = [message("user", text("old")), message("user", text("hi"))]
    for call_id in "abcd":
        history += [message("assistant", asked(call_id)), message("tool", told(call_id))]
    assert halve(history) == [history[1], *history[6:]]
    assert halve(history[1:]) == [history[1], *history[6:]]


def test_a_single_message_cannot_be_halved():
    history = [message("user", text("long"))]
    assert halve(history) == history


IDS = st.sampled_from(["a", "b", "c", "d"])
MESSAGES = st.one_of(
    st.builds(lambda words: message("user", text(words)), st.sampled_from(["x", "y"])),
    st.just(message("system", text("s"))),
    st.builds(
        lambda words, ids: message("assistant", *[text(word) for word in words], *map(asked, ids)),
        st.lists(st.sampled_from(["u", "v"]), max_size=1),
        st.lists(IDS, max_size=3, unique=True),
    ),
    st.builds(lambda ids: message("tool", *map(told, ids)), st.lists(IDS, max_size=3)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(MESSAGES, max_size=12))
def test_whatever_a_session_holds_a_mended_history_is_one_that_every_wire_takes(history):
    for mended in (mend(history), halve(history)):
        assert [flaw for flaw in flaws(mended) if not flaw.startswith("call ids twice")] == []
        assert mend(mended) == mended


def test_a_call_whose_arguments_were_edited_is_shown_as_it_was_made():
    edited = replace(told("b"), arguments={"x": 2})
    history = [
        message("user", text("hi")),
        message("assistant", text("so"), asked("a"), asked("b")),
        message("tool", told("a"), edited),
    ]
    mended = mend(history)
    assert [part.arguments for part in mended[1].tool_calls] == [{}, {"x": 2}]
    assert (mended[1].content, mended[2]) == ("so", history[2])
    assert mend(mended) == mended


def test_the_calls_that_nothing_has_answered_yet_are_open():
    waiting = [message("user", text("hi")), message("assistant", text("so"), asked("a"), asked("b"))]
    assert open_calls(waiting) == (asked("a"), asked("b"))
    assert open_calls([*waiting, message("tool", told("a"), told("b"))]) == ()
    assert open_calls(waiting[:1]) == open_calls([]) == ()

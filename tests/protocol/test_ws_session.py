"""The frames of /ws (core.md 3, agent.md 2.4)."""

import contextlib
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import ApprovalDecided, GatewayError, InvalidInput, MalformedJson, RateLimited, SessionBusy
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.ws_session import (
    ApprovalFrame,
    CancelFrame,
    ChatFrame,
    Farewell,
    PingFrame,
    PongFrame,
    ResumeFrame,
    RunOptions,
    SteerFrame,
    parse,
    pulse,
)

ID = "6f1c0000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(("text", "frame"), [
    ("hello", ChatFrame("hello")),
    ("42", ChatFrame("42")),
    ('"quoted"', ChatFrame('"quoted"')),
    ("", ChatFrame("")),
    ('{"content":"hi"}', ChatFrame("hi")),
    ('{"content":"hi","session_id":null,"more":1}', ChatFrame("hi")),
    (f'{{"content":"hi","session_id":"{ID}"}}', ChatFrame("hi", UUID(ID))),
    (' {"type":"message","content":"hi","idempotency_key":"k"}', ChatFrame("hi", idempotency_key="k")),
    ('{"content":"hi","run_options":{"on_busy":"steer"}}', ChatFrame("hi", run_options=RunOptions("steer"))),
    ('{"type":"cancel","run_id":"r"}', CancelFrame("r")),
    ('{"type":"steer","run_id":"r","content":"no, the other one"}', SteerFrame("r", "no, the other one")),
    ('{"type":"resume","run_id":"r","after_seq":4}', ResumeFrame("r", 4)),
    ('{"type":"resume","run_id":"r"}', ResumeFrame("r", 0)),
    ('{"type":"approval_response","approval_id":"a","approved":true}', ApprovalFrame(approved=True, approval_id="a")),
    (
        '{"type":"approval_response","task_id":"a","approved":false,"reason":"no","edited_arguments":{"n":1}}',
        ApprovalFrame(approved=False, task_id="a", reason="no", edited_arguments={"n": 1}),
    ),
    ('{"content":"hi","run_options":{"on_approval":"deny"}}', ChatFrame("hi", None, RunOptions(on_approval="deny"))),
    ('{"type":"ping"}', PingFrame()),
    ('{"type":"pong","t":1}', PongFrame()),
])  # fmt: skip
def test_a_client_is_understood(text, frame):
    assert parse(text) == frame


@pytest.mark.parametrize(("text", "pointer"), [
    ('{"type":"approve","content":"x"}', "/type"),
    ('{"type":7,"content":"x"}', "/type"),
    ('{"content":3}', "/content"),
    ('{"type":"cancel"}', "/run_id"),
    ('{"type":"approval_response","approval_id":"a"}', "/approved"),
    ('{"type":"approval_response","approval_id":"a","approved":"yes"}', "/approved"),
    ('{"type":"approval_response","approval_id":"a","approved":true,"edited_arguments":[1]}', "/edited_arguments"),
    ('{"type":"approval_response","approval_id":"","approved":true}', "/approval_id"),
    (f'{{"type":"approval_response","approval_id":"a","approved":true,"reason":"{"x" * 1001}"}}', "/reason"),
    ('{"content":"x","session_id":"nope"}', "/session_id"),
    ('{"type":"resume","run_id":"r","after_seq":-1}', "/after_seq"),
    ('{"content":"x","run_options":{"on_busy":"later"}}', "/run_options/on_busy"),
    ('["session","content"]', ""),
])  # fmt: skip
def test_a_frame_of_the_wrong_shape_says_where(text, pointer):
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert [detail.pointer for detail in refused.value.details] == [pointer]


@pytest.mark.parametrize("text", [
    "{oops",
    '{"content":"a","content":"b"}',
    '{"content":NaN}',
    "[" * 1000,
    '{"a":' * 1000 + "1" + "}" * 1000,
    '{"content":"\ud800"}',
])  # fmt: skip
def test_text_that_begins_like_json_is_json_or_refused(text):
    with pytest.raises(MalformedJson):
        parse(text)


@given(
    st.text(alphabet=st.characters()) | st.text(alphabet='{}[]":,type content') | st.builds("{{{}}}".format, st.text())
)
def test_any_text_is_understood_or_refused_by_one_declared_error(text):
    try:
        frame = parse(text)
    except GatewayError:
        return
    if isinstance(frame, ChatFrame) and not text.lstrip().startswith("{"):
        assert frame.content == text


def test_a_stream_frame_carries_the_event_as_it_was_logged():
    event = LoggedEvent(5, "text_delta", b'{"type":"text_delta","text":"hi","index":0}')
    assert json.loads(ws_session.stream("s", "r", event)) == {
        "session_id": "s", "run_id": "r", "seq": 5, "msg_type": "stream",
        "event": {"type": "text_delta", "text": "hi", "index": 0},
    }  # fmt: skip


def test_a_failure_keeps_the_originals_members_and_adds_a_code():
    frame = json.loads(ws_session.failure("s", SessionBusy(retry_after=1), "r"))
    assert frame["type"] == "error"
    assert frame["content"].startswith("Error: ")
    assert (frame["session_id"], frame["run_id"], frame["code"], frame["retry_after"]) == ("s", "r", "session_busy", 1)


# --- limits ------------------------------------------------------------------------------------------------------


def full():
    raise RateLimited(retry_after=3)


@pytest.mark.parametrize(
    "text",
    ["hi", "", '{"content":"hi"}', '{"type":"cancel","run_id":"r"}', '{"type":"dance"}', "{oops", "[1]", '{"type":7}'],
)
def test_every_frame_is_counted_before_more_of_it_is_read_than_its_type(text):
    with pytest.raises(RateLimited):
        parse(text, full)


@pytest.mark.parametrize("text", ['{"type":"ping"}', ' {"type":"pong","t":5}'])
def test_a_sign_of_life_is_not_counted(text):
    parse(text, full)


@given(st.text(max_size=40))
def test_a_frame_is_counted_once_whatever_it_is(text):
    counted = []
    with contextlib.suppress(GatewayError):
        parse(text, lambda: counted.append(1))
    assert counted == [1]


# --- life --------------------------------------------------------------------------------------------------------


@given(st.integers(-1, 1000), st.booleans(), st.floats(0.1, 100), st.floats(0.1, 10_000))
def test_nobody_is_taken_for_dead_early_nor_a_beat_late(beats, is_held, heartbeat_s, idle_s):
    least_s, most_s = (beats - 1) * heartbeat_s, beats * heartbeat_s
    found = pulse(beats, is_held=is_held, heartbeat_s=heartbeat_s, idle_s=idle_s)
    bound_s = 2 * heartbeat_s if is_held else idle_s
    if found is None:
        assert least_s < bound_s
    else:
        assert found == ("heartbeat" if is_held else "idle")
        assert most_s >= least_s >= bound_s or is_held


@pytest.mark.parametrize(("beats", "found"), [(-1, None), (0, None), (1, None), (2, None), (3, "heartbeat")])
def test_two_pings_may_stay_unanswered(beats, found):
    assert pulse(beats, is_held=True, heartbeat_s=20.0, idle_s=1.0) == found


def test_a_ping_says_when_it_was_sent():
    now = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert json.loads(ws_session.ping(now)) == {"type": "ping", "t": 1767323045678}


def test_a_farewell_says_what_the_close_says_and_more():
    said = {"type": "bye", "code": 1001, "reason": "idle", "message": "Too long."}
    assert json.loads(ws_session.bye(Farewell(1001, "idle", "Too long."))) == said


@pytest.mark.parametrize("names", [{"approval_id": "a"}, {"task_id": "a"}, {"approval_id": "a", "task_id": "a"}])
def test_an_answer_names_its_approval_by_either_name(names):
    assert ApprovalFrame(approved=True, **names).id == "a"


@pytest.mark.parametrize("names", [{}, {"approval_id": "a", "task_id": "b"}])
def test_an_answer_that_names_no_approval_or_two_is_refused(names):
    with pytest.raises(InvalidInput) as refused:
        _ = ApprovalFrame(approved=True, **names).id
    assert [detail.pointer for detail in refused.value.details] == ["/approval_id"]


def test_a_call_that_waits_is_told_in_the_originals_words():
    assert json.loads(ws_session.asked("a", "Sends mail.", "high", {"tool": "send"})) == {
        "type": "approval_request",
        "task_id": "a",
        "description": "Sends mail.",
        "risk_level": "high",
        "context": {"tool": "send"},
    }


def test_an_answer_is_answered_with_what_became_of_the_call():
    assert json.loads(ws_session.decided("a", "r", "denied")) == {
        "type": "accepted",
        "request": "approval_response",
        "approval_id": "a",
        "run_id": "r",
        "status": "denied",
    }


def test_a_refusal_has_the_members_of_its_error_but_none_in_the_place_of_its_own():
    error = ApprovalDecided(members={"approval_status": "expired", "code": "other"})
    frame = json.loads(ws_session.failure("s", error))
    assert (frame["approval_status"], frame["code"]) == ("expired", "approval_decided")

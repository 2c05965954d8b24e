"""The frames of /ws (core.md 3, agent.md 2.4)."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import GatewayError, InvalidInput, MalformedJson, SessionBusy
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.ws_session import (
    CancelFrame,
    ChatFrame,
    PingFrame,
    ResumeFrame,
    RunOptions,
    SteerFrame,
    parse,
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
    ('{"type":"ping"}', PingFrame()),
])  # fmt: skip
def test_a_client_is_understood(text, frame):
    assert parse(text) == frame


@pytest.mark.parametrize(("text", "pointer"), [
    ('{"type":"approve","content":"x"}', "/type"),
    ('{"type":7,"content":"x"}', "/type"),
    ('{"content":3}', "/content"),
    ('{"type":"cancel"}', "/run_id"),
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

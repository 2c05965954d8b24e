"""Server-sent events (WHATWG HTML 9.2; core.md 4.1)."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.protocol import sse
from argentor_asgi.protocol.events import Error, LoggedEvent, TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from argentor_asgi.protocol.schema import encode


def logged(event, seq=3):
    return LoggedEvent(seq, event.type, encode(event))


def fields(frame: bytes) -> dict[str, str]:
    assert frame.endswith(b"\n\n")
    lines = frame.decode().removesuffix("\n\n").split("\n")
    return dict(line.split(": ", 1) for line in lines)


@given(st.text())
def test_a_text_piece_is_one_frame_with_the_originals_fields_whatever_it_holds(text):
    found = fields(sse.frame("r1", logged(TextDelta(text, 7))))
    assert (found["id"], found["event"]) == ("r1:3", "text")
    assert json.loads(found["data"])["token_index"] == 7
    assert set(json.loads(found["data"])) == {"type", "text", "token_index"}


def test_a_call_is_sent_whole_when_its_arguments_are_complete():
    assert sse.frame("r", logged(ToolCallStart("c", "calculator"))) == b""
    assert sse.frame("r", logged(ToolCallDelta("c", "{"))) == b""
    found = fields(sse.frame("r", logged(ToolCallEnd("c", "calculator", {"a": 1}))))
    assert json.loads(found["data"]) == {"type": "tool_call", "id": "c", "name": "calculator", "arguments": {"a": 1}}


@pytest.mark.parametrize("retryable", [True, False])
def test_an_error_says_in_the_originals_field_too_whether_it_may_pass(retryable):
    found = fields(sse.frame("r", logged(Error("no", "provider_unavailable", retryable, "r", 7))))
    assert json.loads(found["data"]) == {
        "type": "error",
        "message": "no",
        "code": "provider_unavailable",
        "retryable": retryable,
        "run_id": "r",
        "retry_after": 7,
        "recoverable": retryable,
    }


def test_the_first_frame_tells_the_session_and_when_to_reconnect():
    event = LoggedEvent(1, "run_started", b'{"type":"run_started","run_id":"r","session_id":"s"}')
    found = fields(sse.frame("r", event))
    assert (found["retry"], found["event"], found["id"]) == ("2000", "session", "r:1")


def test_a_heartbeat_has_no_id_so_that_it_moves_no_place():
    assert "id" not in fields(sse.heartbeat(datetime(2026, 1, 1, tzinfo=UTC)))


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), st.integers(0, 10**9 - 1))
def test_the_place_of_an_id_is_the_run_and_the_number(run_id, seq):
    assert sse.place(f"{run_id}:{seq}") == (run_id, seq)


@given(st.text())
def test_any_last_event_id_is_a_place_or_none(text):
    place = sse.place(text)
    assert place is None or text.startswith(place[0])


def test_an_old_stream_is_told_when_to_come_back_and_loses_neither_its_place_nor_gains_an_event():
    lines = sse.AGED.decode().splitlines()
    assert sse.AGED.endswith(b"\n\n")
    assert [line.partition(":")[0] for line in lines] == ["retry", "", ""]
    assert lines[0].removeprefix("retry: ").isdigit()

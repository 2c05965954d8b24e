from datetime import UTC, datetime, timedelta, timezone

import pytest
from contracts.store_values import START, a_run, an_event
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import InvalidInput
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.sessions import rules
from argentor_asgi.sessions.records import Run

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_a_time_survives_to_the_microsecond(when):
    assert rules.moment(rules.micros(when)) == when
    assert rules.moment(rules.micros(when)).tzinfo is UTC


def test_a_naive_time_is_refused():
    with pytest.raises(TypeError):
        rules.micros(datetime(2026, 1, 1))  # noqa: DTZ001  the naive time is the point


@given(st.integers(-(2**62), 2**62), IDS, st.sampled_from("sr"))
def test_a_cursor_gives_back_its_key(at, row_id, kind):
    made = rules.page(["a", "b"], 1, kind, lambda _: (at, row_id))
    assert made.rows == ["a"]
    assert rules.from_cursor(kind, made.cursor) == (at, row_id)
    with pytest.raises(InvalidInput):
        rules.from_cursor("x", made.cursor)


@given(st.lists(st.integers(), max_size=5), st.integers(-2, 6))
def test_a_page_has_a_cursor_only_when_more_follows(rows, limit):
    page = rules.page(rows, limit, "s", lambda row: (row, ""))
    assert page.rows == rows[: max(limit, 0)]
    assert (page.cursor is not None) == (1 <= limit < len(rows))


@given(st.sampled_from(["queued", "running", "waiting_approval"]), st.integers(0, 5))
def test_a_run_that_a_crash_left_ends_once(status, last_seq):
    run = a_run(status=status, last_seq=last_seq)
    ended, [event] = rules.settled(run, [an_event(last_seq)] if last_seq else [], START)
    assert (ended.status, ended.last_seq, event.seq, event.type) == ("interrupted", last_seq + 1, last_seq + 1, "error")
    again, second = rules.settled(run, [event], START)
    assert (again.status, second) == ("failed", ())


@given(st.lists(st.tuples(st.sampled_from(rules.CALL_EVENTS), st.sampled_from("abc"))))
def test_a_run_that_a_crash_left_has_no_open_calls(said):
    told = [
        LoggedEvent(seq, kind, schema.encode({"id": name, "name": name}))
        for seq, (kind, name) in enumerate(said, start=1)
    ]
    ended, events = rules.settled(a_run(last_seq=len(told)), told, START)
    open_calls = set()
    for event in [*told, *events[:-1]]:
        change = open_calls.add if event.type == "tool_call_start" else open_calls.discard
        change(schema.decode_value(event.data)["id"])
    assert open_calls == set()
    assert [event.seq for event in events] == list(range(len(told) + 1, ended.last_seq + 1))


def test_what_a_queued_run_had_not_said_is_its_input():
    message = rules.unsaid(a_run(input="words"), START)
    assert (message.role, message.content, message.session_id, message.metadata) == (
        "user",
        "words",
        "s",
        {"interrupted": True},
    )


def test_a_settled_run_is_a_run_and_its_event_is_json():
    ended, [event] = rules.settled(a_run(), [], START)
    assert isinstance(ended, Run)
    assert schema.decode_value(event.data)["code"] == ended.error_code == "interrupted"

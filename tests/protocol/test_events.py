"""The events of a run: their names and members on the wire are public, and stay."""

import json
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import get_args

import pytest

from argentor_asgi.protocol.events import (
    TERMINAL,
    Cancelled,
    Done,
    Error,
    LoggedEvent,
    ReasoningDelta,
    RunEvent,
    RunStarted,
    Steered,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolResult,
    TurnEnd,
)
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import encode

USED = {"input_tokens": 3, "output_tokens": 2, "cached_tokens": 0, "estimated": False}
ON_THE_WIRE = [
    (
        RunStarted("r", "s", "m", datetime(2026, 1, 1, tzinfo=UTC)),
        {
            "type": "run_started",
            "run_id": "r",
            "session_id": "s",
            "model": "m",
            "created_at": "2026-01-01T00:00:00Z",
        },
    ),
    (TextDelta("a", 0), {"type": "text_delta", "text": "a", "index": 0}),
    (ReasoningDelta("hm"), {"type": "reasoning_delta", "text": "hm"}),
    (ToolCallStart("c", "look"), {"type": "tool_call_start", "id": "c", "name": "look"}),
    (ToolCallDelta("c", "{}"), {"type": "tool_call_delta", "id": "c", "arguments_delta": "{}"}),
    (ToolCallEnd("c", "look", None), {"type": "tool_call_end", "id": "c", "name": "look", "arguments": None}),
    (
        ToolResult("c", "look", "seen", False, 7, True),
        {
            "type": "tool_result",
            "id": "c",
            "name": "look",
            "content": "seen",
            "is_error": False,
            "duration_ms": 7,
            "truncated": True,
        },
    ),
    (Steered("shorter"), {"type": "steered", "text": "shorter"}),
    (TurnEnd(1, "stop", Usage(3, 2)), {"type": "turn_end", "turn": 1, "finish_reason": "stop", "usage": USED}),
    (
        Done("r", "a", 1, Usage(3, 2), 5, "stop"),
        {
            "type": "done",
            "run_id": "r",
            "text": "a",
            "turns": 1,
            "usage": USED,
            "tokens_used": 5,
            "finish_reason": "stop",
        },
    ),
    (Error("m", "c", True, "r"), {"type": "error", "message": "m", "code": "c", "retryable": True, "run_id": "r"}),
    (Cancelled("r", "why", "a"), {"type": "cancelled", "run_id": "r", "reason": "why", "text": "a"}),
]


@pytest.mark.parametrize(("event", "members"), ON_THE_WIRE, ids=lambda value: getattr(value, "type", ""))
def test_an_event_has_its_public_members_and_its_type_first(event, members):
    found = json.loads(encode(event))
    assert found == members
    assert next(iter(found)) == "type"


def test_every_type_of_event_is_pinned_above():
    assert {type(event) for event, _ in ON_THE_WIRE} == set(get_args(RunEvent))
    assert len({event.type for event, _ in ON_THE_WIRE}) == len(ON_THE_WIRE)


def test_an_event_never_changes():
    with pytest.raises(FrozenInstanceError):
        TextDelta("a", 0).text = "b"
    with pytest.raises(TypeError):
        TextDelta("a", 0, type="done")


def test_three_types_end_a_run():
    ends = [event.type for event, _ in ON_THE_WIRE if LoggedEvent(1, event.type, b"{}").is_terminal]
    assert ends == ["done", "error", "cancelled"]
    assert frozenset(ends) == TERMINAL

"""Reads a provider's frames as its wire does, and folds what comes of them into what a run sees."""

import json

from argentor_asgi.protocol.llm import Finish, ReasoningPiece, TextPiece, ToolArgs, ToolEnd, ToolStart, UsageReport
from argentor_asgi.protocol.sse_reader import ServerEvent
from argentor_asgi.protocol.wires import WIRES


def frame(data, event="message"):
    """Return the event of one frame; `data` is JSON, or the text as it stands."""
    return ServerEvent(event, data if isinstance(data, str) else json.dumps(data))


def read(wire, *frames, is_ended=True):
    """Return all that the wire says of the frames; each is the JSON or text of one, or an event."""
    reading = WIRES[wire].reading()
    events = [
        event for each in frames for event in reading.feed(each if isinstance(each, ServerEvent) else frame(each))
    ]
    return events + (list(reading.end()) if is_ended else [])


def text(events):
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def reasoning(events):
    return "".join(event.text for event in events if isinstance(event, ReasoningPiece))


def calls(events):
    """Return the calls as (id, name, arguments, whether ended), in order of their start."""
    ended = {event.id for event in events if isinstance(event, ToolEnd)}
    return [
        (
            start.id,
            start.name,
            "".join(event.piece for event in events if isinstance(event, ToolArgs) and event.id == start.id),
            start.id in ended,
        )
        for start in events
        if isinstance(start, ToolStart)
    ]


def usage(events):
    return [event.usage for event in events if isinstance(event, UsageReport)][-1]


def finish(events):
    """Return the finish, which must be there once and last."""
    assert [index for index, event in enumerate(events) if isinstance(event, Finish)] == [len(events) - 1]
    return events[-1]

"""A run's events as server-sent events, in the original's names (core.md 4.1, agent.md 2.4; WHATWG HTML, section 9.2).

The id of a frame is `<run_id>:<seq>`, so that `Last-Event-ID` alone finds the run and the place in it. The pieces of a
call's arguments are not sent: `tool_call` has them whole.
"""

from datetime import datetime
from typing import Final

from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.schema import encode, restore

RETRY_MS: Final = 2000
"""How long a browser waits before it reconnects."""

AGED: Final = b"retry: 500\n: this stream is old; go on with Last-Event-ID\n\n"
"""The last bytes of a stream that is ended for its age: the client keeps its last id and comes back soon."""

SEQ_DIGITS: Final = 9
"""How many digits a `Last-Event-ID` may have after its colon."""

_NAMES: Final = {
    "run_started": "session",
    "text_delta": "text",
    "reasoning_delta": "thinking",
    "tool_call_end": "tool_call",
}
_UNSENT: Final = frozenset({"tool_call_start", "tool_call_delta"})


def frame(run_id: str, event: LoggedEvent) -> bytes:
    """Return the frame of one event, empty for one that this stream does not carry."""
    if event.type in _UNSENT:
        return b""
    name = _NAMES.get(event.type, event.type)
    retry = f"retry: {RETRY_MS}\n" if event.type == "run_started" else ""
    head = f"{retry}id: {run_id}:{event.seq}\nevent: {name}\ndata: ".encode()
    return head + _data(name, event) + b"\n\n"


def heartbeat(now: datetime) -> bytes:
    """Return a heartbeat: an event without an id, so that it moves no reader's place."""
    return b"event: heartbeat\ndata: " + encode({"type": "heartbeat", "timestamp": now}) + b"\n\n"


def place(last_event_id: str) -> tuple[str, int] | None:
    """Return the run id and seq of a `Last-Event-ID`, None for an id that this gateway did not make."""
    run_id, colon, seq = last_event_id.rpartition(":")
    if not colon or not run_id or not (seq.isascii() and seq.isdigit()) or len(seq) > SEQ_DIGITS:
        return None
    return run_id, int(seq)


def _data(name: str, event: LoggedEvent) -> bytes:
    """Return the data of a frame: the event's own JSON, in the original's fields where those differ."""
    if event.type == "error":
        members = restore(event.data, dict)
        return encode({**members, "recoverable": members["retryable"]})
    if name == event.type:
        return event.data
    # PERF: the log's JSON begins with the type, and that of a piece of text ends with its index: nothing is read again.
    data = b'{"type":"%b"' % name.encode() + event.data.removeprefix(b'{"type":"%b"' % event.type.encode())
    if name == "text":
        rest, _, index = data.rpartition(b'"index":')
        return rest + b'"token_index":' + index
    return data

"""Reads server-sent events from the bytes of a model's answer (WHATWG HTML, section 9.2; agent.md 1.5 and 7.3).

However the network cuts the bytes, inside a character or between CR and LF, the events are the same: lines are found
before they are decoded. Comments, which servers send to keep a connection alive, make no event.
"""

import re
from dataclasses import dataclass
from typing import Final

from argentor_asgi.errors import StreamTruncated

EVENT_BYTES: Final = 1024 * 1024
"""How many bytes one event may have, an unfinished line included."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `event`: its name, `message` where it has none. `id`: the last id that the stream gave, if any."""

    event: str
    data: str
    id: str | None = None


class EventReader:
    """The events of one stream: `feed` it the bytes as they come, and `end` it once they ended cleanly.

    Bytes that are not UTF-8 become U+FFFD. Both raise `StreamTruncated` for an event beyond `EVENT_BYTES`.
    """

    __slots__ = ("_data", "_data_bytes", "_event", "_id", "_is_begun", "_line", "_skips_lf")

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._event = b""
        self._id: str | None = None
        self._data_bytes = 0
        self._is_begun = False
        self._skips_lf = False

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take the next bytes and return the events that they complete, in order."""
        if not data:
            return []
        if self._skips_lf:
            data = data.removeprefix(b"\n")
        self._skips_lf = data.endswith(b"\r")
        *ends, rest = _LINE_END.split(data)
        events: list[ServerEvent] = []
        for piece in ends:
            self._extend(piece)
            self._end_line(events)
        self._extend(rest)
        return events

    def end(self) -> list[ServerEvent]:
        """Return the event that the stream ended in, as if its blank line had come.

        The standard drops such an event. Model servers are known to end right behind `data: [DONE]`; an event that was
        cut in the middle is found out by whoever reads its JSON.
        """
        events: list[ServerEvent] = []
        self._end_line(events)
        self._dispatch(events)
        return events

    def _extend(self, piece: bytes) -> None:
        if self._data_bytes + len(self._event) + len(self._line) + len(piece) > EVENT_BYTES:
            raise StreamTruncated("The model sent an event that is too large.")
        self._line += piece

    def _end_line(self, events: list[ServerEvent]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if not self._is_begun:
            self._is_begun = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        self._take(name, value.removeprefix(b" "))

    def _take(self, name: bytes, value: bytes) -> None:
        """Keep one field; a comment has an empty name, and like every name that is not known it is dropped."""
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")

    def _dispatch(self, events: list[ServerEvent]) -> None:
        if self._data:
            text = b"\n".join(self._data).decode(errors="replace")
            name = self._event.decode(errors="replace") or "message"
            events.append(ServerEvent(name, text, self._id))
        self._data.clear()
        self._event = b""
        self._data_bytes = 0

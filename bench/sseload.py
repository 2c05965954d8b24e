"""A client of event streams for load: many at once, each read to its end and looked at as a whole."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import modelled
from bench.calls import Headers
from bench.load import BadAnswer

LATE_S = 30.0
"""How much longer than it should a stream may take."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What each stream is to bring: `count` pieces, `rate` of them a second, 0 for all at once."""

    count: int
    rate: float

    @property
    def seconds(self) -> float:
        """How long that takes."""
        return self.count / self.rate if self.rate else 0.0


@dataclass(slots=True)
class Streams:
    """What came: events in all, and how many streams lacked any of what they were to bring."""

    events: int = 0
    lacking: int = 0
    errors: list[str] = field(default_factory=list)


async def streams(port: int, path: str, headers: Headers, wanted: Wanted, names: Sequence[str]) -> Streams:
    """Read a stream for each name, all at once. Raises `BadAnswer` for what is no stream, `TimeoutError`."""
    found = Streams()
    async with asyncio.timeout(wanted.seconds + LATE_S), asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(_one(found, port, _request(path, headers, wanted, name), wanted=wanted, name=name))
    return found


def _request(path: str, headers: Headers, wanted: Wanted, name: str) -> bytes:
    body = json.dumps({"input": modelled.wanted(wanted.count, wanted.rate, name)}).encode()
    lines = [b"POST %s HTTP/1.1" % path.encode(), *(b"%s: %s" % each for each in headers), b"connection: close"]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


async def _one(found: Streams, port: int, request: bytes, *, wanted: Wanted, name: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
    events = blocks(answer)
    found.events += len(events)
    if text(events) != "".join(modelled.pieces(wanted.count, name)) or not follow(events):
        found.lacking += 1
        found.errors.append(repr(events[-2:]))


def blocks(answer: bytes) -> list[bytes]:
    """Return the events of a whole answer; raises `BadAnswer` for one that is no stream, or not whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200") or b"text/event-stream" not in head:
        raise BadAnswer(repr(answer[:300]))
    if b"transfer-encoding: chunked" in head.lower():
        body = _joined(body)
    *found, rest = body.split(b"\n\n")
    if rest:
        raise BadAnswer(repr(rest[:300]))
    return found


def _joined(body: bytes) -> bytes:
    """Return the chunks of a body as one (RFC 9112 section 7.1)."""
    parts, at = [], 0
    while True:
        end = body.find(b"\r\n", at)
        size = int(body[at:end], 16) if end > at else -1
        if size <= 0:
            break
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size
    if size:
        raise BadAnswer(f"the stream was cut off: {body[-100:]!r}")
    return b"".join(parts)


def text(events: Sequence[bytes]) -> str:
    """Return what the events say in all: ours of type `text`, or those of OpenAI's wire."""
    said = []
    for event in events:
        data = event.partition(b"data: ")[2]
        if data.startswith(b"{"):
            value = json.loads(data)
            said += [choice["delta"].get("content", "") for choice in value.get("choices", ())]
            said += [value["text"]] if value.get("type") == "text" else []
    return "".join(said)


def follow(events: Sequence[bytes]) -> bool:
    """Say whether the ids of our events, where they have any, go up from 1 by 1, and the last event is `done`."""
    ids = [int(event.partition(b"\nevent: ")[0].rpartition(b":")[2]) for event in events if b"\nevent: " in event]
    is_done = not ids or b"\nevent: done\n" in events[-1]
    return ids == list(range(1, len(ids) + 1)) and is_done

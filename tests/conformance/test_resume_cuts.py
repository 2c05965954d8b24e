"""A stream that is cut at any byte and resumed from the last whole event loses nothing, repeats nothing, in order.

The cuts fall at random bytes: in a head, in the middle of a line, of a chunk's size, between two events. Half of the
readers come back by the run's own stream and half by the chat's, some with the place in the query.
"""

import asyncio
import json
import random
from dataclasses import dataclass, field

import pytest
from processes import server
from recording import PATIENCE_S, TYPES, Sent, heard_of, sent, streamed

pytestmark = pytest.mark.slow

CUTS = 125
"""How many times each of the eight runs here is cut: a thousand cuts in all."""
PIECES = 1500
LONGEST_BYTES = 2000
"""How many bytes a reader gets at most before it is cut."""
CHAT = "/api/v1/chat/stream"
ENDED = b"\r\n0\r\n\r\n"
KINDS = ["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian"]


@dataclass
class Reading:
    """A reader's whole story over all its connections: the events that it had entirely, and how often it was cut."""

    rng: random.Random
    question: str
    frames: list[Sent] = field(default_factory=list)
    cuts: int = 0

    @property
    def place(self) -> str:
        return self.frames[-1].id if self.frames else ""

    def request(self) -> bytes:
        """Ask anew, or for what comes behind the last whole event."""
        if not self.frames:
            return post({"input": self.question}, **{"idempotency-key": self.question.replace(" ", "-")})
        run_id, _, seq = self.place.rpartition(":")
        ways = [
            post({"input": "ignored"}, **{"last-event-id": self.place}),
            get(f"/api/v1/runs/{run_id}/stream", **{"last-event-id": self.place}),
            get(f"/api/v1/runs/{run_id}/stream?after={seq}"),
        ]
        return self.rng.choice(ways)


def post(body: dict, **headers: str) -> bytes:
    data = json.dumps(body).encode()
    typed = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    return head("POST", CHAT, typed) + data


def get(target: str, **headers: str) -> bytes:
    return head("GET", target, headers)


def head(method: str, target: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def read_on(port: int, reading: Reading, most_bytes: int | None) -> bool:
    """Read at most so many bytes on a connection of its own, then cut it; say whether the stream came to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(reading.request())
        data = await some(reader, most_bytes)
    finally:
        writer.transport.abort()
    reading.frames += [sent(block) for block in whole_events(data)]
    return bool(reading.frames) and reading.frames[-1].event in {"done", "error", "cancelled"}


async def some(reader: asyncio.StreamReader, most_bytes: int | None) -> bytes:
    data = bytearray()
    async with asyncio.timeout(PATIENCE_S):
        while (most_bytes is None or len(data) < most_bytes) and not data.endswith(ENDED):
            left = 65_536 if most_bytes is None else most_bytes - len(data)
            if not (piece := await reader.read(left)):
                break
            data += piece
    return bytes(data)


def whole_events(data: bytes) -> list[bytes]:
    """Return the events that came entirely, without the heartbeats."""
    headers, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return []
    assert headers.startswith(b"HTTP/1.1 200"), data[:500]
    blocks = unchunked(rest).split(b"\n\n")[:-1]
    return [block for block in blocks if b"\nid: " in b"\n" + block]


def unchunked(data: bytes) -> bytes:
    """Return what the chunks hold (RFC 9112 section 7.1); of the last, which may be cut, what there is."""
    body = bytearray()
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end or not (length := int(size, 16)):
            return bytes(body)
        body += data[:length]
        data = data[length + 2 :]


async def cut_often(port: int, seed: int, cuts: int) -> None:
    """Follow one run over many connections, each cut at a random byte, and compare with who was never cut."""
    reading = Reading(
        random.Random(seed),  # noqa: S311  a test that fails must fail again
        f"paced {PIECES + seed}",
    )
    while reading.cuts < cuts and not await read_on(port, reading, reading.rng.randint(1, LONGEST_BYTES)):
        reading.cuts += 1
    assert reading.cuts == cuts, "the run was too short to be cut as often"
    while reading.frames[-1:] == [] or reading.frames[-1].event != "done":
        await read_on(port, reading, None)
    heard = heard_of(reading.frames)
    run_id = reading.place.rpartition(":")[0]
    whole = await streamed(port, "GET", f"/api/v1/runs/{run_id}/stream")
    assert heard.events == whole.events
    assert [event["text"] for event in heard.of(TYPES["text"])] == [f"{number} " for number in range(PIECES + seed)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_cut_at_any_byte_goes_on_behind_its_last_whole_event(kind, tmp_path):
    # agent.md 1.10 D7
    workers = 0 if kind.startswith("hypercorn") else None
    async with server(kind, "paced_app:app", cwd=tmp_path, workers=workers) as running:
        await asyncio.gather(*(cut_often(running.port, seed, CUTS) for seed in range(2)))

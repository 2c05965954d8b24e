"""Records what clients written by others hear of a run, and holds every recording to the contract (agent.md 2.4).

    async with talking(port) as talk:                       # `websockets`
        heard = await talk.ask("what is 17*23?")            # every frame of the run, checked
    heard = await streamed(port, "POST", "/api/v1/chat/stream", json={...})    # `httpx2`

Over a WebSocket all events go through `Grammar`, and the frame that closes the run must be strictly the last one: a
ping behind it is answered by the very next frame. Server-sent events must end with their terminal one, and the body
right behind it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from argentor_asgi.protocol.events import TERMINAL
from argentor_asgi.protocol.grammar import Grammar

PATIENCE_S = 10.0
"""How long a client waits for anything."""
CLOSING = {"response", "error"}
"""The frames that close a run."""
TYPES = {"session": "run_started", "text": "text_delta", "thinking": "reasoning_delta", "tool_call": "tool_call_end"}
"""The events that have other names over SSE."""
UNSENT = {"tool_call_start", "tool_call_delta"}
"""The events that SSE does not carry."""


@dataclass
class Heard:
    """A run as one client heard it: its events with their `seq`, and over a WebSocket the frame that closed it."""

    session_id: str = ""
    run_id: str = ""
    events: list[dict] = field(default_factory=list)
    closing: dict = field(default_factory=dict)

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.events]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def last(self) -> dict:
        return self.events[-1]

    def take(self, frame: dict) -> None:
        """Take a WebSocket frame with an event."""
        assert frame["msg_type"] == "stream", frame
        self.session_id, self.run_id = frame["session_id"], frame["run_id"]
        self.events.append({**frame["event"], "seq": frame["seq"]})

    def of(self, kind: str) -> list[dict]:
        return [event for event in self.events if event["type"] == kind]


class Talk:
    """One socket: what it says, and what it hears. `session_id` and `id` come from its welcome."""

    def __init__(self, socket: ClientConnection, welcome: dict):
        assert welcome["type"] == "connected"
        self.socket = socket
        self.session_id = welcome["session_id"]
        self.id = welcome["connection_id"]

    async def say(self, **frame) -> None:
        await self.socket.send(json.dumps(frame))

    async def frame(self) -> dict:
        """Return the next frame."""
        return await heard_frame(self.socket)

    async def until(self, kind: str) -> dict:
        """Return the next event of this type; what comes before it is dropped."""
        while (event := (await self.frame()).get("event", {})).get("type") != kind:
            pass
        return event

    async def until_closed(self) -> dict:
        """Return the next frame that closes a run or refuses a message; what comes before it is dropped."""
        while (frame := await self.frame()).get("type") not in CLOSING:
            pass
        return frame

    async def ask(self, content: str, **more) -> Heard:
        """Say it, and return the run from its first to its last frame."""
        await self.say(content=content, **more)
        return await self.record()

    async def resume(self, run_id: str, after: int = 0) -> Heard:
        await self.say(type="resume", run_id=run_id, after_seq=after)
        return await self.record(after=after)

    async def record(self, *, after: int = 0, taken: Sequence[dict] = ()) -> Heard:
        """Take the frames of one run up to the one that closes it, and check them and that nothing follows.

        `after`: the number of the last event that the reader had before; `taken`: frames behind it that it has read.
        """
        heard = Heard()
        for frame in taken:
            heard.take(frame)
        while (frame := await self.frame()).get("type") not in CLOSING:
            heard.take(frame)
        heard.closing = frame
        check_frames(heard, after=after)
        await self.say(type="ping")
        assert await self.frame() == {"type": "pong"}
        return heard


@asynccontextmanager
async def talking(port: int, path: str = "/ws") -> AsyncIterator[Talk]:
    """Open a socket and hear its welcome."""
    async with connect(f"ws://127.0.0.1:{port}{path}", compression=None) as socket:
        yield Talk(socket, await heard_frame(socket))


async def heard_frame(socket: ClientConnection) -> dict:
    """Return the next text frame that is not one of the gateway's pings, decoded."""
    async with asyncio.timeout(PATIENCE_S):
        while (frame := json.loads(await socket.recv(decode=True))).get("type") == "ping":
            pass
        return frame


def check_frames(heard: Heard, *, after: int = 0) -> None:
    """Check a run that was heard over a WebSocket: its events' order, and that the last frame says the same."""
    grammar = Grammar(after=after)
    for event in heard.events:
        grammar.feed(event)
    if not heard.events:
        return
    grammar.finish()
    closing, last = heard.closing, heard.last
    assert closing["run_id"] == heard.run_id
    assert closing["session_id"] == heard.session_id
    assert (closing["type"] == "response") == (last["type"] == "done")
    if closing["type"] == "response":
        assert closing["content"] == last["text"]
    else:
        assert closing["code"] == last.get("code", "cancelled")


@dataclass(frozen=True)
class Sent:
    """One server-sent event as it came."""

    event: str
    data: dict
    id: str | None = None
    retry: str | None = None


async def streamed(port: int, method: str, path: str, **request) -> Heard:
    """Read a whole stream with `httpx2` and check it; `request` as for `httpx2`."""
    frames = [frame async for frame in stream(port, method, path, **request)]
    return heard_of(frames, resumed="last-event-id" in request.get("headers", {}))


async def stream(port: int, method: str, path: str, **request) -> AsyncIterator[Sent]:
    """Yield the server-sent events of one request as they come, to the end of its body."""
    async with client(port) as http, http.stream(method, path, **request) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        rest = b""
        async for piece in response.aiter_raw():
            *whole, rest = (rest + piece).split(b"\n\n")
            for block in whole:
                yield sent(block)
        assert rest == b""


def client(port: int) -> httpx2.AsyncClient:
    """Return an HTTP client of others' making, for this server."""
    plain = {"timeout": PATIENCE_S, "trust_env": False, "verify": False}  # no TLS, so no certificates to load
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", **plain)


def sents(body: bytes) -> Iterator[Sent]:
    """Yield the server-sent events of a whole body."""
    *whole, rest = body.split(b"\n\n")
    assert rest == b""
    for block in whole:
        yield sent(block)


def sent(block: bytes) -> Sent:
    """Read one server-sent event, without the blank line behind it."""
    fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
    return Sent(fields["event"], json.loads(fields["data"]), fields.get("id"), fields.get("retry"))


def heard_of(frames: list[Sent], *, resumed: bool = False) -> Heard:
    """Check a whole stream, and return its run with the events under the names that they have over a WebSocket."""
    frames = [frame for frame in frames if frame.event != "heartbeat"]
    heard = Heard(run_id=frames[0].id.rpartition(":")[0])
    for frame in frames:
        run_id, _, seq = frame.id.rpartition(":")
        assert run_id == heard.run_id
        assert frame.data["type"] == frame.event
        heard.events.append({**own(frame.data), "type": TYPES.get(frame.event, frame.event), "seq": int(seq)})
    check_stream(heard, resumed=resumed)
    if not resumed:
        assert frames[0].retry == "2000"
        heard.session_id = heard.events[0]["session_id"]
    return heard


def own(data: dict) -> dict:
    """Return what an event says, without the original's name for what an error says under ours."""
    if data["type"] != "error":
        return data
    assert data["recoverable"] is data["retryable"]
    return {name: value for name, value in data.items() if name != "recoverable"}


def check_stream(heard: Heard, *, resumed: bool) -> None:
    """Check a run that was heard as server-sent events, which leave out the pieces of a call's arguments."""
    assert heard.seqs == sorted(set(heard.seqs))
    assert [event["type"] in TERMINAL for event in heard.events] == [False] * (len(heard.events) - 1) + [True]
    if not resumed:
        assert (heard.types[0], heard.seqs[0]) == ("run_started", 1)
        assert [event["token_index"] for event in heard.of("text_delta")] == list(range(len(heard.of("text_delta"))))
        if heard.last["type"] == "done":
            assert last_turn(heard.events) == heard.last["text"]


def last_turn(events: list[dict]) -> str:
    """Return the joined text of the last turn that said anything or ended."""
    texts: list[str] = []
    between = False
    for event in events:
        if between and event["type"] in {"text_delta", "reasoning_delta", "tool_call_end", "turn_end"}:
            texts, between = [], False
        if event["type"] == "text_delta":
            texts.append(event["text"])
        between = between or event["type"] == "turn_end"
    return "".join(texts)

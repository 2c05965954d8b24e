"""The streams of hosted runs, cut at each event: what was heard before and after is what an uncut reader hears.

agent.md 8.6: byte for byte, over both ways, while the run lives and after it has ended; what is gone is 410, and what
is another's is 404.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hosted_env import hosted_env
from hosted_models import openai_chunk
from processes import server
from raw_server import raw_server, sse
from recording import client
from websockets.asyncio.client import connect

from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.grammar import Grammar
from argentor_asgi.sessions.sqlite import SqliteStore

pytestmark = pytest.mark.slow

ME = {"x-api-key": "k-me-0123456789abcdef"}
YOU = {"x-api-key": "k-you-0123456789abcdef"}
PIECES = 198
"""What a hosted model says in so many pieces becomes a run of 200 events."""
PIECE_CHARS = 80
"""More than the guardrails hold back, so that each piece brings an event."""
BEHIND = 3
"""How many events a reader that was cut is late when it comes back: it hears those again, and the rest live."""
CHECKED = 16
"""At which events it is also checked what a reader heard before it was cut there, since that takes the longest."""
STEP_S = 0.25
"""How long a step of the model may bring no event before it takes the next."""
PATIENCE_S = 20.0
CHAT, APPROVALS = "/api/v1/chat/stream", "/api/v1/approvals"


def settings(models, **more):
    keys = f"me:{ME['x-api-key']},you:{YOU['x-api-key']}"
    return hosted_env(
        models,
        auth_api_keys=keys,
        limits_connections_per_principal="1000",
        limits_streams_per_principal="1000",
        limits_enabled="false",
        **more,
    )


# --- readers: each event is the bytes in which it came ------------------------------------------------------------


async def over_sse(port: int, run_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield the blocks with events, each without its blank line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    place = {"last-event-id": f"{run_id}:{after}"} if after else {}
    fields = {"host": "127.0.0.1", **ME, **place}
    lines = [f"GET /api/v1/runs/{run_id}/stream HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        rest = b""
        while size := int(await reader.readline(), 16):  # chunks, RFC 9112 section 7.1
            *whole, rest = (rest + await reader.readexactly(size)).split(b"\n\n")
            await reader.readline()
            for block in whole:
                if b"event: heartbeat" not in block:
                    yield block
        assert rest == b""
    finally:
        writer.transport.abort()


async def over_ws(port: int, run_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield the frames with events; the one that closes the run is with the last of them."""
    async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=ME, compression=None) as socket:
        await socket.send(json.dumps({"type": "resume", "run_id": run_id, "after_seq": after}))
        last = b""
        while True:
            frame = await socket.recv(decode=False)
            said = json.loads(frame)
            if said.get("msg_type") == "stream":
                if last:
                    yield last
                last = frame
                if said["event"]["type"] not in {"done", "error", "cancelled"}:
                    yield last
                    last = b""
            elif said["type"] in {"response", "error"}:
                yield last + b"\n" + frame
                return


def number(event: bytes) -> int:
    """Return the number under which an event came, over either way."""
    if event.startswith(b"{"):
        return json.loads(event.split(b"\n")[0])["seq"]
    [place] = [line for line in event.split(b"\n") if line.startswith(b"id: ")]
    return int(place.rpartition(b":")[2])


@dataclass
class Uncut:
    """A reader that is never cut: `events` as they came, and whether the stream has ended."""

    way: Callable[[int, str, int], AsyncIterator[bytes]]
    events: list[bytes] = field(default_factory=list)
    is_over: bool = False
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self, port: int, run_id: str) -> None:
        async for event in self.way(port, run_id, 0):
            async with self.news:
                self.events.append(event)
                self.news.notify_all()
        async with self.news:
            self.is_over = True
            self.news.notify_all()

    async def heard(self, count: int, seconds: float) -> None:
        """Wait until so many events have come, or the stream is over, or the time is up."""
        try:
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(lambda: len(self.events) >= count or self.is_over)
        except TimeoutError:
            pass


async def whole(events: AsyncIterator[bytes], count: int | None = None) -> list[bytes]:
    """Return the first `count` events, and cut the stream there; all of them by default."""
    taken: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(events):
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


async def cut_at_each(port: int, run_id: str, way, step: Callable[[bytes | None], Awaitable[None]]) -> list[bytes]:
    """Follow a live run; at each of its events cut a reader and bring it back late. Return the uncut stream.

    `step` makes the run go on by an event or so; it is given the newest.
    """
    uncut, resumed = Uncut(way), {}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(uncut.read(port, run_id))
        done = 0
        while not uncut.is_over:
            await step(uncut.events[-1] if uncut.events else None)
            await uncut.heard(done + 1, STEP_S)
            while done < len(uncut.events):
                done += 1
                if done % CHECKED == 1:
                    assert await whole(way(port, run_id, 0), done) == uncut.events[:done]
                if done > BEHIND:
                    resumed[done - BEHIND] = resume(tasks, port, run_id, way, uncut.events[done - BEHIND - 1])
        for at in range(max(1, done - BEHIND + 1), done):
            resumed[at] = resume(tasks, port, run_id, way, uncut.events[at - 1])
    for at, task in resumed.items():
        assert task.result() == uncut.events[at:], f"cut behind event {at}"
    assert sorted(resumed) == list(range(1, len(uncut.events)))
    return uncut.events


def resume(tasks, port, run_id, way, last):
    return tasks.create_task(whole(way(port, run_id, number(last))))


# --- runs --------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A hosted model that says each of its chunks when it is let, and takes the next script with the next request."""

    scripts: list[list]
    go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    asked: int = 0

    async def __call__(self, _asked, line):
        script = self.scripts[self.asked]
        self.asked += 1
        await line.stream(content_type="text/event-stream")
        for chunk in script:
            await self.go.acquire()
            await line.chunk(sse(chunk))
        await line.end()


def text(count):
    pieces = [openai_chunk({"content": f"{at:03} ".ljust(PIECE_CHARS, "x") + " "}) for at in range(count)]
    return [*pieces, openai_chunk({}, "stop"), "[DONE]"]


def sums(*expressions):
    """Return a turn that says a word and calls the calculator for each, in pieces."""
    chunks = [openai_chunk({"content": "Let me see. "})]
    for at, expression in enumerate(expressions):
        function = {"name": "calculator", "arguments": '{"operation": "evaluate", '}
        first = {"index": at, "id": f"call-{expression}", "function": function}
        rest = {"index": at, "function": {"arguments": f'"expression": "{expression}"}}'}}
        chunks += [openai_chunk({"tool_calls": [first]}), openai_chunk({"tool_calls": [rest]})]
    return [*chunks, openai_chunk({}, "tool_calls"), "[DONE]"]


@asynccontextmanager
async def hosted(model, directory, **more):
    async with (
        raw_server(model) as raw,
        server("hypercorn-asyncio", cwd=directory, env=settings(raw.url, **more), workers=0) as running,
        client(running.port) as http,
    ):
        http.headers.update(ME)
        yield running.port, http


async def begun(http):
    """Begin a run over a stream that is left at once; return its id."""
    async with http.stream("POST", CHAT, json={"input": "go on"}) as response:
        async for piece in response.aiter_raw():
            if b"event: session" in piece:
                return json.loads(piece.split(b"data: ")[1].split(b"\n\n")[0])["run_id"]
    raise AssertionError("the run did not begin")


@pytest.mark.parametrize("way", [over_sse, over_ws])
async def test_a_hosted_run_of_200_events_is_whole_wherever_its_reader_is_cut(way, tmp_path):
    # agent.md 1.10 D7
    model = Model([text(PIECES)])

    async def step(_):
        model.go.release()

    async with hosted(model, tmp_path) as (port, http):
        run_id = await begun(http)
        events = await cut_at_each(port, run_id, way, step)
        assert len(events) >= 200
        assert await whole(way(port, run_id, 0)) == events, "the stored stream differs from the live one"
        assert [number(event) for event in events] == list(range(1, len(events) + 1))
        await is_foreign(http, run_id, len(events))
    await is_gone(tmp_path, run_id)


@pytest.mark.parametrize("way", [over_sse, over_ws])
async def test_a_hosted_run_that_asks_a_person_is_whole_wherever_its_reader_is_cut(way, tmp_path):
    # agent.md 1.10 D7
    model = Model([sums("6*7", "1+1"), sums("2+3"), text(8)])

    async with hosted(model, tmp_path, agent_approval_skills="calculator") as (port, http):

        async def step(newest):
            """Answer what waits, the first of them with other arguments; else let the model say its next piece."""
            if newest is None or b"approval_re" not in newest:
                model.go.release()
            for each in (await http.get(APPROVALS)).json():
                edited = {"operation": "evaluate", "expression": "6*8"} if "6*7" in str(each["arguments"]) else None
                decision = {"approved": True, **({"edited_arguments": edited} if edited else {})}
                assert (await http.post(f"{APPROVALS}/{each['approval_id']}", json=decision)).status_code == 200

        run_id = await begun(http)
        events = await cut_at_each(port, run_id, way, step)
        assert await whole(way(port, run_id, 0)) == events
        stored = await whole(over_ws(port, run_id, 0))
        grammar = Grammar()
        for frame in stored:
            said = json.loads(frame.split(b"\n")[0])
            grammar.feed({**said["event"], "seq": said["seq"]})
        grammar.finish()
        joined = b"".join(stored)
        assert [joined.count(b'"type":"%b"' % kind) for kind in (b"approval_request", b"approval_resolved")] == [3, 3]
        assert b"48" in joined


async def is_foreign(http, run_id, count):
    """Check that another principal finds nothing, wherever it says that it was cut."""
    for after in (0, 1, count // 2, count):
        headers = {**YOU, "last-event-id": f"{run_id}:{after}"}
        for answer in (
            await http.get(f"/api/v1/runs/{run_id}/stream", headers=headers),
            await http.post(CHAT, json={"input": "ignored"}, headers={**headers, "last-event-id": f"{run_id}:9"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


async def is_gone(directory, run_id):
    """Check after a day and an hour that the events are gone, and that the run is still known."""
    async with SqliteStore(directory / "argentor.db", clock=SystemClock()) as store:
        await store.prune(datetime.now(UTC) + timedelta(hours=1))
    env = settings("http://127.0.0.1:1")
    async with server("serve", cwd=directory, env=env) as running, client(running.port) as http:
        http.headers.update(ME)
        for after in (1, 100):
            place = {"last-event-id": f"{run_id}:{after}"}
            answer = await http.get(f"/api/v1/runs/{run_id}/stream", headers=place)
            assert (answer.status_code, answer.json()["code"]) == (410, "replay_expired")
        assert (await http.get(f"/api/v1/runs/{run_id}")).json()["status"] == "done"

"""A run that ends early lets go of its model at once, wherever it is (agent.md 8 item 5).

The model is a server of the test's own, which says what it is told to say and notes when its client has closed. Twenty
points, drawn with a known seed, are cancelled by each way that there is: what the server sees within `AT_ONCE_S` is the
close of its socket, and what a reader of the run hears within the same time is its end. Then the session goes on, with
a history in which each call has its result, and nothing is left behind.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4

import hosted_app
import pytest
from asgi_driver import begin, http, lifespan, until
from hosted_env import hosted_env
from hosted_models import openai_chunk
from processes import server
from raw_server import Asked, Line, RawServer, raw_server, sse
from recording import CLOSING, Heard, Talk, check_frames, client, heard_frame, heard_of, sents
from websockets.asyncio.client import connect

from argentor_asgi.asgi.types import App

pytestmark = pytest.mark.slow

AT_ONCE_S = 0.1
POINTS = 20
STREAM = "/api/v1/chat/stream"
WORDS = ["naïve ", "wörds ", "come ", "slowly ", "and ", "never ", "end, ", "日本 ", "as ", "it ", "seems. "]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HOLD = '{"name": "%s"}'
LOOK_UP = '{"operation": "evaluate", "expression": "17*23"}'


@dataclass
class Point:
    """Where a run is cancelled: at what `stage` of its model's `round` (0 or 1), drawn by `chance`.

    `said`: set when the model's server has done all that it does there. `lines`: its connection, once it is asked.
    """

    name: str
    stage: str
    round: int
    chance: random.Random
    said: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[Line] = field(default_factory=list)
    requests: int = 0

    @property
    def is_asking(self) -> bool:
        """Whether the run holds a connection to its model there."""
        return self.stage not in {"in a skill", "waiting to try again"}

    def words(self, count: int) -> list[dict]:
        return [openai_chunk({"content": self.chance.choice(WORDS)}) for _ in range(count)]


def call(name: str, arguments: str, *, pieces: int = 1) -> list[dict]:
    """Return the chunks of a call, its arguments in so many pieces."""
    size = -(-len(arguments) // pieces)
    cut = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    return [
        openai_chunk({"tool_calls": [first]}),
        *(openai_chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in cut),
    ]


async def whole(line: Line, *chunks: dict) -> None:
    """Answer to the end."""
    await line.events(*chunks, "[DONE]")


async def say(line: Line, chunks: list[dict]) -> None:
    for chunk in chunks:
        await line.chunk(sse(chunk))


# --- the stages: each says what it says there, and then waits for its client to go ------------------------------------


async def before_an_answer(_point: Point, _line: Line) -> None:
    pass


async def in_the_head(point: Point, line: Line) -> None:
    await line.send(HEAD[: point.chance.randrange(1, len(HEAD))])


async def after_the_head(_point: Point, line: Line) -> None:
    await line.send(HEAD)


async def between_events(point: Point, line: Line) -> None:
    await line.send(HEAD)
    await say(line, point.words(point.chance.randrange(1, 40)))


async def in_an_event(point: Point, line: Line) -> None:
    await between_events(point, line)
    event = sse(json.dumps(point.words(1)[0], ensure_ascii=False))
    await line.chunk(event[: point.chance.randrange(1, len(event) - 1)])


async def in_arguments(point: Point, line: Line) -> None:
    await between_events(point, line)
    chunks = call("hold", HOLD % point.name, pieces=6)
    await say(line, chunks[: point.chance.randrange(1, len(chunks))])


async def before_the_end(point: Point, line: Line) -> None:
    await between_events(point, line)
    await say(line, [openai_chunk({}, "stop")])


async def pouring(point: Point, line: Line) -> None:
    """Go on for as long as somebody listens; the cancel comes in the midst of it."""
    await line.send(HEAD)
    point.said.set()
    while not line.closed.done():
        await say(line, point.words(3))
        await asyncio.sleep(0.002)


async def in_a_skill(point: Point, line: Line) -> None:
    await whole(line, *call("hold", HOLD % point.name), openai_chunk({}, "tool_calls"))


async def waiting_to_try_again(_point: Point, line: Line) -> None:
    await line.answer(b'{"error": {"message": "busy"}}', 503, {"retry-after": "30"})


STAGES: dict[str, Callable[[Point, Line], Awaitable[None]]] = {
    step.__name__.replace("_", " "): step
    for step in (
        before_an_answer,
        in_the_head,
        after_the_head,
        between_events,
        in_an_event,
        in_arguments,
        before_the_end,
        pouring,
        in_a_skill,
        waiting_to_try_again,
    )
}


def points(seed: str) -> list[Point]:
    """Draw the points: each stage in each of two rounds, in random order, each at a random place within."""
    chance = random.Random(seed)  # noqa: S311  no secret
    drawn = [(stage, number) for stage in STAGES for number in (0, 1)]
    chance.shuffle(drawn)
    assert len(drawn) == POINTS
    return [
        Point(f"{seed} {at}: {stage}, round {number}", stage, number, random.Random(chance.random()))  # noqa: S311
        for at, (stage, number) in enumerate(drawn)
    ]


class Model:
    """The model's side of all points: it finds the point by what the user says."""

    def __init__(self) -> None:
        self.points: dict[str, Point] = {}
        self.asked: list[Asked] = []

    async def __call__(self, asked: Asked, line: Line) -> None:
        self.asked.append(asked)
        messages = asked.json()["messages"]
        said = next(message["content"] for message in reversed(messages) if message["role"] == "user")
        point = self.points.get(said)
        if point is None:
            await whole(line, openai_chunk({"content": f"you said {said}"}, "stop"))
        elif point.round and messages[-1]["role"] == "user":
            await whole(line, *call("calculator", LOOK_UP), openai_chunk({}, "tool_calls"))
        else:
            point.requests += 1
            point.lines.append(line)
            await STAGES[point.stage](point, line)
            point.said.set()
            if point.is_asking:
                await line.gone()


# --- what a client hears ---------------------------------------------------------------------------------------------


class Ear:
    """Follows a run on a socket of its own; `ended_at` is the loop time at which its terminal event came."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.heard, self.ended_at = talk, Heard(), 0.0
        self.hears_of_a_retry = asyncio.Event()

    async def listen(self) -> Heard:
        while (frame := await self.talk.frame()).get("type") not in CLOSING:
            self.heard.take(frame)
            self.ended_at = asyncio.get_running_loop().time()
            if self.heard.types[-1] == "retry":
                self.hears_of_a_retry.set()
        self.heard.closing = frame
        check_frames(self.heard)
        return self.heard


Ending = Callable[[], Awaitable[None]]


class Way:
    """How a run is begun, and how it is ended: by a request, by a frame, or by its client's going."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self.port, self.stack = port, stack
        self.reason = "cancelled by the client"

    async def begin(self, said: str, session: str) -> tuple[str, Ending]:
        """Begin a run; return its id, and what ends it."""
        raise NotImplementedError

    async def socket(self) -> Talk:
        """Open a socket that takes in whatever comes, read or not: one that is full could not be closed."""
        url = f"ws://127.0.0.1:{self.port}/ws"
        made = await self.stack.enter_async_context(connect(url, compression=None, max_queue=None))
        return Talk(made, await heard_frame(made))


class ByFrame(Way):
    async def begin(self, said, session):
        talk = await self.socket()
        await talk.say(content=said, session_id=session)
        run_id = (await talk.frame())["run_id"]
        return run_id, lambda: talk.say(type="cancel", run_id=run_id)


class ByRequest(ByFrame):
    async def begin(self, said, session):
        run_id, _ = await super().begin(said, session)
        asks = await self.stack.enter_async_context(client(self.port))
        return run_id, lambda: asks.post(f"/api/v1/runs/{run_id}/cancel")


class ByLeaving(Way):
    """Close the socket over which the run was begun."""

    async def begin(self, said, session):
        self.reason = "the client disconnected"
        talk = await self.socket()
        await talk.say(content=said, session_id=session, run_options={"on_disconnect": "cancel"})
        return (await talk.frame())["run_id"], talk.socket.close


class ByDropping(Way):
    """Cut the connection over which the run is streamed."""

    async def begin(self, said, session):
        self.reason = "the client disconnected"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({"input": said, "session_id": session, "on_disconnect": "cancel"}).encode()
        head = f"POST {STREAM} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        line = await asyncio.wait_for(reader.readuntil(b"\nid: "), 10) and await reader.readline()

        async def drop() -> None:
            writer.transport.abort()

        return line.decode().rpartition(":")[0], drop


WAYS = [ByFrame, ByRequest, ByLeaving, ByDropping]


@dataclass
class Seen:
    """What came of one cancel: how late the server saw the close and a reader the end, in s; and what was heard."""

    closed_s: float
    ended_s: float
    heard: Heard


async def cancelled(model: Model, way: Way, point: Point, session: str) -> Seen:
    """Bring a run to its point, and end it there."""
    said = f"go to {uuid4()}"
    model.points[said] = point
    ear = Ear(await way.socket())
    run_id, end = await way.begin(said, session)
    await ear.talk.say(type="resume", run_id=run_id, after_seq=0)
    listening = asyncio.create_task(ear.listen())
    await asyncio.wait_for(point.said.wait(), 10)
    await reached(way.port, point, ear)
    await asyncio.sleep(point.chance.uniform(0, 0.005))  # somewhere between here and a little later
    now = asyncio.get_running_loop().time()
    await end()
    heard = await listening
    closed = await point.lines[-1].gone() if point.is_asking else now
    return Seen(closed - now, ear.ended_at - now, heard)


async def reached(port: int, point: Point, ear: Ear) -> None:
    """Wait until the run itself is where its model's server cannot see it."""
    if point.stage == "in a skill":
        async with client(port) as asks:
            await asks.get(f"/held/{point.name}")
    elif point.stage == "waiting to try again":
        await asyncio.wait_for(ear.hears_of_a_retry.wait(), 10)


async def in_time(model: Model, way: type[Way], port: int, point: Point, session: str) -> None:
    """Cancel there, and hold what came of it to its bars; a machine that stalled gets the same point once more."""
    for trial in (0, 1):
        again = Point(f"{point.name}, trial {trial}", point.stage, point.round, random.Random(point.name))  # noqa: S311
        async with AsyncExitStack() as stack:
            one = way(port, stack)
            seen = await cancelled(model, one, again, session)
        assert (seen.heard.last["type"], seen.heard.last["reason"]) == ("cancelled", one.reason), point.name
        assert again.requests == 1
        await goes_on(model, port, session)
        if max(seen.closed_s, seen.ended_s) < AT_ONCE_S:
            return
    raise AssertionError(f"{point.name}: closed after {seen.closed_s:.3f} s, ended after {seen.ended_s:.3f} s")


async def goes_on(model: Model, port: int, session: str) -> None:
    """Say something more in the session, and check the history that the model is shown for it."""
    async with client(port) as asks:
        reply = await asks.post("/api/v1/agent/chat", json={"message": "go on", "session_id": session})
    assert (reply.status_code, reply.json().get("response")) == (200, "you said go on"), reply.text
    holds_a_valid_history(model.asked[-1].json()["messages"])


def holds_a_valid_history(messages: list[dict]) -> None:
    """Check that each call has its one result behind it, before anybody else says a word."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            continue
        assert open_calls == [], messages
        assert message.get("content") or message.get("tool_calls"), messages
        open_calls = [call["id"] for call in message.get("tool_calls", ())]
    assert open_calls == []


async def is_calm(port: int, tasks: dict[str, int]) -> None:
    """Check that the gateway comes to have no more open than it had: these tasks, and nothing else."""
    now: dict = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(10), client(port) as asks:
            while now.get("runs") != 0 or now["streams"] or not Counter(now["tasks"]) <= Counter(tasks):
                now = (await asks.get("/inside")).json()
    assert (now["runs"], now["streams"], Counter(now["tasks"]) - Counter(tasks)) == (0, 0, Counter())


@asynccontextmanager
async def serving(kind, cwd, models):
    env = hosted_env(models, llm_retries="3", storage_url="memory://")
    async with server(kind, "hosted_app:app", cwd=cwd, workers=0, env=env) as running:
        yield running


@pytest.mark.parametrize("kind", ["hypercorn-asyncio", "hypercorn-uvloop"])
@pytest.mark.parametrize("way", WAYS)
async def test_at_twenty_points_a_cancel_closes_the_models_socket_at_once(way, kind, tmp_path):
    """agent.md 1.10 D9 and 8 item 5: what is cancelled is no longer read, nor paid for."""
    model = Model()
    async with raw_server(model) as raw, serving(kind, tmp_path, raw.url) as running:
        async with client(running.port) as asks:
            await asks.post("/api/v1/agent/chat", json={"message": "warm up"})
            calm = (await asks.get("/inside")).json()["tasks"]
        for point in points(way.__name__):
            await in_time(model, way, running.port, point, str(uuid4()))
        await is_calm(running.port, calm)


# --- and in this process, where each task can be seen -----------------------------------------------------------------


async def test_at_twenty_points_a_cancel_leaves_no_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Model()
    async with raw_server(model) as raw:
        env = hosted_env(raw.url, llm_retries="3", storage_url="memory://", log_access="false")
        app = hosted_app.made_of(env).app
        async with lifespan(app):
            before = others(raw)
            for point in points("in process"):
                await ends_here(app, model, point)
                await until(lambda: others(raw) <= before)


def others(raw: RawServer) -> set[asyncio.Task]:
    """Return the tasks of this loop that are not the model's server's."""
    return asyncio.all_tasks() - raw._tasks


async def ends_here(app: App, model: Model, point: Point) -> None:
    """Bring a streamed run to its point and cancel it there."""
    said, session = f"go to {point.name}", str(uuid4())
    model.points[said] = point
    fields = {"content-type": "application/json"}
    exchange = begin(
        app, "POST", STREAM, headers=fields, body=json.dumps({"input": said, "session_id": session}).encode()
    )
    await asyncio.wait_for(point.said.wait(), 10)
    if point.stage == "in a skill":
        await asyncio.wait_for(hosted_app.held[point.name].wait(), 10)
    started = (await exchange.seen(lambda answer: answer.chunks)).chunks[0]
    run_id = next(sents(started)).data["run_id"]
    answer = await http(app, "POST", f"/api/v1/runs/{run_id}/cancel")
    assert answer.status == 202, answer.body
    heard = heard_of(list(sents((await exchange.end()).body)))
    assert heard.last["type"] == "cancelled"
    exchange.leave()
    if point.is_asking:
        await point.lines[-1].gone()
    answer = await http(
        app,
        "POST",
        "/api/v1/agent/chat",
        headers=fields,
        body=json.dumps({"message": "go on", "session_id": session}).encode(),
    )
    assert (answer.status, answer.json()["response"]) == (200, "you said go on")
    holds_a_valid_history(model.asked[-1].json()["messages"])

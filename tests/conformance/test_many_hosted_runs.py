"""Many runs with a hosted model at once, two messages for one session, and readers that stop (agent.md 8 items 9, 10).

The model is a server in a process of its own, or one that the test holds up; whatever runs at the same time, each run
has its own answer whole, and each session what was said in it in order.
"""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from attacks import TEXT, Others, Peak, accepted, frame, handshake
from hosted_env import hosted_env
from hosted_models import openai_chunk
from hostile import MIB
from model_process import model_process
from model_servers import aimock
from processes import server
from raw_server import Asked, Line, raw_server, sse
from recording import Heard, client, heard_of, stream, streamed, talking

from argentor_asgi.protocol.grammar import check
from bench import modelled

pytestmark = pytest.mark.slow

CHAT, STREAM = "/api/v1/agent/chat", "/api/v1/chat/stream"
RUNS, PIECES, RATE = 200, 30, 30.0
FLOOD = 25_000
GROWTH_BYTES = 64 * MIB
"""How much more memory a server may hold: a flood's events, its text in a few forms, and its readers' batches."""


def named(number: int) -> str:
    return "run" + "".join(chr(97 + int(digit)) for digit in f"{number:03}")


def said(number: int, rate: float = RATE) -> str:
    return modelled.wanted(PIECES, rate, named(number))


def answer(number: int) -> str:
    return "".join(modelled.pieces(PIECES, named(number)))


@asynccontextmanager
async def serving(kind, cwd, models, **more):
    limits = {"limits_enabled": "false", "limits_streams_per_principal": "1000", "limits_runs_per_principal": "1000"}
    env = hosted_env(models, storage_url="memory://", log_access="false", **limits, **more)
    async with server(kind, "hosted_app:app", cwd=cwd, workers=0, env=env) as running:
        yield running.port, running.pid


async def by_stream(port: int, number: int, session: str, begun: asyncio.Event) -> Heard:
    """Stream a run over server-sent events, and say when it is accepted."""
    frames = []
    body = {"input": said(number), "session_id": session, "on_busy": "enqueue"}
    async for one in stream(port, "POST", STREAM, json=body):
        frames.append(one)
        begun.set()
    return heard_of(frames)


async def by_socket(port: int, number: int, session: str, begun: asyncio.Event) -> Heard:
    """The same over a WebSocket."""
    async with talking(port) as talk:
        await talk.say(content=said(number), session_id=session, run_options={"on_busy": "enqueue"})
        first = await talk.frame()
        begun.set()
        return await talk.record(taken=[first])


async def in_session(port: int, session: str, numbers: range) -> None:
    """Begin these runs one after the other, hear them all at once, and check each and the session."""
    hearing = []
    for number in numbers:
        begun = asyncio.Event()
        way = by_socket if number % 2 else by_stream
        hearing.append(asyncio.create_task(way(port, number, session, begun)))
        await asyncio.wait_for(begun.wait(), 20)
    for number, heard in zip(numbers, await asyncio.gather(*hearing), strict=True):
        holds_the_answer(heard, number)
    async with client(port) as http:
        stored = (await http.get(f"/api/v1/sessions/{session}")).json()["messages"]
    wanted = [text for number in numbers for text in (said(number), answer(number))]
    assert [message["content"] for message in stored] == wanted


def holds_the_answer(heard: Heard, number: int) -> None:
    """Check that a run is whole, event for event, and its own."""
    events = [{**event, "index": event.get("token_index", event.get("index"))} for event in heard.events]
    check(events)
    assert (heard.last["type"], heard.last["text"]) == ("done", answer(number))
    assert "".join(event["text"] for event in heard.of("text_delta")) == answer(number)


@pytest.mark.parametrize(("kind", "sessions"), [("hypercorn-asyncio", 50), ("hypercorn-uvloop", 200)])
async def test_two_hundred_streamed_runs_at_once_lose_no_event_and_no_order(kind, sessions, tmp_path):
    share = RUNS // sessions
    with model_process() as models:
        async with serving(kind, tmp_path, models, guardrails_enabled=str(sessions == 50).lower()) as (port, _):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for at in range(sessions):
                    group.create_task(in_session(port, str(uuid4()), range(at * share, (at + 1) * share)))
            async with client(port) as http:
                assert (await http.get("/inside")).json()["runs"] == 0


async def test_two_hundred_runs_with_a_foreign_model_server_have_each_its_own_answer(tmp_path):
    fixtures = [
        {"match": {"userMessage": said(number)}, "response": {"content": answer(number)}, "chunkSize": 20}
        for number in range(RUNS)
    ]
    with aimock(tmp_path, fixtures) as models:
        async with (
            serving("hypercorn-uvloop", tmp_path, models.url) as (port, _),
            asyncio.timeout(60),
            asyncio.TaskGroup() as group,
        ):
            for number in range(RUNS):
                group.create_task(in_session(port, str(uuid4()), range(number, number + 1)))


# --- two messages for one session ------------------------------------------------------------------------------------


@dataclass
class Held:
    """A model that says half of its first answer, and the rest when it is `let`; all else it answers at once."""

    asked: list[Asked] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    halfway: asyncio.Event = field(default_factory=asyncio.Event)
    let: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, asked: Asked, line: Line) -> None:
        self.asked.append(asked)
        self.lines.append(line)
        if len(self.asked) > 1:
            await line.events(openai_chunk({"content": f"heard {asked.json()['messages'][-1]['content']}"}, "stop"))
            return
        await line.events(openai_chunk({"content": "half "}), end=False)
        self.halfway.set()
        await line.stall(self.let)
        if not line.closed.done():
            await line.chunk(sse(openai_chunk({"content": "whole"}, "stop")))
            await line.chunk(sse("[DONE]"))
            await line.end()


@asynccontextmanager
async def halfway(cwd):
    """Hold a gateway whose session is in the middle of an answer: its port, the model, the session, the first run."""
    model, session = Held(), str(uuid4())
    async with raw_server(model) as raw, serving("hypercorn-uvloop", cwd, raw.url) as (port, _):
        body = {"input": "one", "session_id": session}
        first = asyncio.create_task(streamed(port, "POST", STREAM, json=body))
        await asyncio.wait_for(model.halfway.wait(), 10)
        yield port, model, session, first


async def contents(port: int, session: str) -> list[str]:
    async with client(port) as http:
        return [message["content"] for message in (await http.get(f"/api/v1/sessions/{session}")).json()["messages"]]


def asks(port: int, session: str, on_busy: str) -> asyncio.Task[Heard]:
    body = {"input": "two", "session_id": session, "on_busy": on_busy}
    return asyncio.create_task(streamed(port, "POST", STREAM, json=body))


async def test_a_second_message_is_refused_and_never_reaches_the_model(tmp_path):
    async with halfway(tmp_path) as (port, model, session, first):
        async with client(port) as http:
            refused = await http.post(STREAM, json={"input": "two", "session_id": session, "on_busy": "reject"})
        assert (refused.status_code, refused.json()["code"]) == (409, "session_busy")
        model.let.set()
        assert (await first).last["text"] == "half whole"
        assert await contents(port, session) == ["one", "half whole"]
        assert len(model.asked) == 1


async def test_a_second_message_waits_and_is_asked_with_the_first_and_its_answer(tmp_path):
    async with halfway(tmp_path) as (port, model, session, first):
        second = asks(port, session, "enqueue")
        async with asyncio.timeout(10), client(port) as http:
            while len((await http.get("/api/v1/runs", params={"session_id": session})).json()) < 2:
                pass
        model.let.set()
        assert [(await heard).last["text"] for heard in (first, second)] == ["half whole", "heard two"]
        asked = [message["content"] for message in model.asked[1].json()["messages"][-3:]]
        assert asked == ["one", "half whole", "two"]
        assert await contents(port, session) == ["one", "half whole", "two", "heard two"]


async def test_a_second_message_ends_the_first_and_its_call_to_the_model(tmp_path):
    async with halfway(tmp_path) as (port, model, session, first):
        second = await asks(port, session, "interrupt")
        await model.lines[0].gone()
        ended = (await first).last
        assert (ended["type"], ended["reason"]) == ("cancelled", "interrupted by a new message")
        assert second.last["text"] == "heard two"
        assert await contents(port, session) == ["one", "half ", "two", "heard two"]


async def test_a_second_message_steers_the_first_run_which_asks_the_model_again(tmp_path):
    async with halfway(tmp_path) as (port, model, session, first):
        body = {"input": "two", "session_id": session, "on_busy": "steer"}
        joined = stream(port, "POST", STREAM, json=body)
        run_id = (await anext(joined)).data["run_id"]
        model.let.set()
        heard = await first
        assert heard.run_id == run_id
        assert [one.event async for one in joined][-1] == "done"
        assert [event["text"] for event in heard.of("steered")] == ["two"]
        assert heard.last["text"] == "heard two"
        assert await contents(port, session) == ["one", "half whole", "two", "heard two"]
        assert len(model.asked) == 2


# --- readers that stop -----------------------------------------------------------------------------------------------


async def narrow(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection for which nobody keeps much."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=made, limit=4096)


async def stopped_stream(port: int) -> tuple[str, asyncio.StreamWriter]:
    """Begin a flood and read its first lines; return its run's id."""
    reader, writer = await narrow(port)
    body = json.dumps({"input": modelled.wanted(FLOOD, 0, "flood")}).encode()
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" % STREAM.encode()
    writer.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
    await asyncio.wait_for(reader.readuntil(b"\nid: "), 10)
    return (await reader.readline()).decode().rpartition(":")[0], writer


async def stopped_socket(port: int, run_id: str) -> asyncio.StreamWriter:
    """Ask for all of a run on a WebSocket, and read nothing of it."""
    reader, writer = await narrow(port)
    writer.write(handshake("/ws"))
    await accepted(reader)
    writer.write(frame(TEXT, json.dumps({"type": "resume", "run_id": run_id}).encode()))
    return writer


async def test_readers_that_stop_cost_little_and_the_run_goes_on_beside_the_others(tmp_path):
    with model_process() as models:
        async with serving("hypercorn-asyncio", tmp_path, models) as (port, pid):
            await asks(port, str(uuid4()), "reject")
            async with Peak(pid) as peak, Others(port):
                run_id, one = await stopped_stream(port)
                other = await stopped_socket(port, run_id)
                run = await until_it_ends(port, run_id)
            assert (run["status"], run["text"]) == ("done", "".join(modelled.pieces(FLOOD, "flood")))
            one.transport.abort()
            other.transport.abort()
    assert peak.growth_bytes < GROWTH_BYTES, peak.growth_bytes / MIB


async def until_it_ends(port: int, run_id: str) -> dict:
    """Let others have their answers until the run has ended."""
    async with asyncio.timeout(30), client(port) as http:
        while True:
            beside = await http.post(CHAT, json={"message": "hello"})
            assert beside.json()["response"] == "ok"
            run = (await http.get(f"/api/v1/runs/{run_id}")).json()
            if run["status"] != "running":
                return run

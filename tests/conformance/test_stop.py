"""A server stops within its time whatever is open, says goodbye to everybody, and leaves no run behind as running."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from uuid import uuid4

import pytest
from processes import OUR_GOODBYE, goodbyes, server
from recording import PATIENCE_S, Heard, client, heard_of, stream, streamed, talking
from websockets.exceptions import ConnectionClosed

from argentor_asgi.protocol.grammar import check

pytestmark = pytest.mark.slow

STOP_S = 3.0
SERVERS = [
    ("hypercorn-asyncio", 0),
    ("hypercorn-asyncio", 1),
    ("hypercorn-uvloop", 0),
    ("hypercorn-uvloop", 1),
    ("uvicorn", None),
    ("granian", None),
    ("serve", None),
]
EXIT_CODES = {"uvicorn": -signal.SIGTERM}
"""uvicorn raises the signal again when it has stopped."""
HASTY = {"uvicorn": 1012, "granian": 1006}
"""The servers that close every socket themselves as soon as they are told to stop, and the close code of that."""
SHORT = {"ARGENTOR_SHUTDOWN_DRAIN_S": "0.3"}
"""How long runs may go on after SIGTERM, in s; these never end by themselves."""
WHOLE_STOP_S = 30
"""What `shutdown.total_s` is where nobody says otherwise."""
CHAT = "/api/v1/chat/stream"


def slow(kind, directory, **options):
    app = "slow_app:made" if kind == "serve" else "slow_app:app"
    return server(kind, app, cwd=directory, env=SHORT, **options)


async def exit_code(running):
    return await asyncio.to_thread(running.wait_s, STOP_S)


@pytest.mark.parametrize(("kind", "workers"), SERVERS)
async def test_sigterm_ends_runs_streams_and_sockets_in_time_and_a_restart_finds_them_ended(kind, workers, tmp_path):
    gates = [str(uuid4()) for _ in range(2)]
    async with slow(kind, tmp_path, workers=workers) as running, client(running.port) as http:
        async with talking(running.port) as idle, talking(running.port) as busy:
            frames = stream(running.port, "POST", CHAT, json={"input": f"model {gates[0]}"})
            opened = await anext(frames)
            await busy.say(content=f"skill {gates[1]}")
            started = await busy.frame()
            for gate in gates:
                await http.get(f"/gates/{gate}")
            running.terminate()
            hears = is_cut(busy, HASTY[kind]) if kind in HASTY else is_told(busy, started)
            code, seen, _, _ = await asyncio.gather(exit_code(running), rest(frames), hears, is_closed(idle, kind))
        assert code == EXIT_CODES.get(kind, 0)
    streams = heard_of([opened, *seen])
    assert (streams.last["type"], streams.last["reason"]) == ("cancelled", "the gateway is shutting down")
    async with slow(kind, tmp_path, workers=workers) as running:
        await ended_for_good(running.port, streams, "cancelled")
        await ended_for_good(running.port, await resumed(running.port, started), "cancelled")


async def rest(frames):
    return [frame async for frame in frames]


async def is_told(talk, started):
    """Check that a socket hears its run to the end, then the frame that closes it, then its own close."""
    heard = Heard()
    heard.take(started)
    while (frame := await talk.frame()).get("type") != "error":
        heard.take(frame)
    check(heard.events)
    assert heard.last["reason"] == "the gateway is shutting down"
    assert (frame["code"], frame["run_id"]) == ("cancelled", heard.run_id)
    await is_closed(talk)


async def is_cut(talk, close_code):
    """Check that a socket is closed with this code, behind whatever frames."""
    with suppress(ConnectionClosed):
        while await talk.frame():
            pass
    assert talk.socket.close_code == close_code


async def is_closed(talk, kind="serve"):
    """Check that all a socket still hears is why it ends, and then its close; a hasty server may cut it before."""
    said = []
    with suppress(ConnectionClosed):
        while True:
            said.append(await talk.frame())
    assert talk.socket.close_code in goodbyes(kind)
    if kind not in HASTY or said:
        assert [(frame["type"], frame["code"]) for frame in said] == [("bye", OUR_GOODBYE)]


async def resumed(port, started):
    """Return a run that has ended, from its first event."""
    async with talking(port) as talk:
        return await talk.resume(started["run_id"])


async def ended_for_good(port, heard, status):
    """Check the run, its stored events and its session after a restart."""
    async with client(port) as http:
        run = (await http.get(f"/api/v1/runs/{heard.run_id}")).json()
        assert (run["status"], run["last_seq"]) == (status, heard.last["seq"])
        stored = await streamed(port, "GET", f"/api/v1/runs/{heard.run_id}/stream")
        assert stored.last == heard.last
        runs = (await http.get("/api/v1/runs")).json()
        assert {found["status"] for found in runs} <= {"done", "cancelled", "interrupted"}
        body = {"message": "go on", "session_id": heard.session_id}
        reply = await http.post("/api/v1/agent/chat", json=body)
        assert reply.json()["response"] == "you said go on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_run_that_ends_in_time_is_done_before_the_server_stops(number, tmp_path):
    gate = str(uuid4())
    env = {"ARGENTOR_SHUTDOWN_DRAIN_S": "10"}
    async with server("serve", "slow_app:made", cwd=tmp_path, env=env) as running, client(running.port) as http:
        async with talking(running.port) as talk:
            await talk.say(content=f"model {gate}")
            started = await talk.frame()
            await http.get(f"/gates/{gate}")
            running.terminate(number)
            await until_refused(http)
            refused = await http.post("/api/v1/agent/chat", json={"message": "too late"})
            assert (refused.status_code, refused.json()["code"]) == (503, "draining")
            assert 1 <= int(refused.headers["retry-after"]) <= WHOLE_STOP_S
            await http.post(f"/gates/{gate}")
            heard = Heard()
            heard.take(started)
            while (frame := await talk.frame()).get("type") != "response":
                heard.take(frame)
            check(heard.events)
            assert frame["content"] == "half whole"
            await is_closed(talk)
        assert await exit_code(running) == 0


async def test_an_operator_who_waits_is_told_how_the_stop_went_before_the_server_is_gone(tmp_path):
    async with slow("serve", tmp_path) as running, client(running.port) as http, talking(running.port) as talk:
        await talk.say(content=f"model {uuid4()}")
        started = await talk.frame()
        told = (await http.post("/api/v1/admin/drain?wait=true", json={"reason": "an upgrade"})).json()
        assert (told["status"], told["report"]["reason"]) == ("finished", "anonymous: an upgrade")
        assert (told["report"]["hooks_failed"], told["report"]["completed_in_time"]) == (0, True)
        await is_told(talk, started)
        assert await exit_code(running) == 0


WHOLE_S = 2.0
STUCK = {"DEMO_HANG": "1", "DEMO_DRAIN_S": "0.1", "DEMO_TOTAL_S": str(WHOLE_S)}
"""A stream that nothing ends: no hook, no server, no client."""


async def test_no_server_outlives_the_whole_time_of_a_stop_whatever_hangs(tmp_path):
    """All servers at once, since the time must really pass."""
    await asyncio.gather(*(outlived(kind, workers, tmp_path / f"{kind}-{workers}") for kind, workers in SERVERS))


async def outlived(kind, workers, directory):
    """Stop a server that has an endless stream open; check that it is gone in time."""
    directory.mkdir()
    app = "drain_demo:gateway" if kind == "serve" else "drain_demo:app"
    async with (
        server(kind, app, cwd=directory, env=STUCK, workers=workers) as running,
        client(running.port) as http,
        http.stream("GET", "/sse") as response,
    ):
        await anext(response.aiter_raw())
        running.terminate()
        await asyncio.to_thread(running.wait_s, WHOLE_S + STOP_S)


PATIENT = {"ARGENTOR_SHUTDOWN_DRAIN_S": "10"}
LONGER_S = 3.5
"""Longer than hypercorn waits for its connections by itself."""


async def test_a_run_may_take_longer_than_its_server_would_wait(tmp_path):
    """All servers at once, since the time must really pass."""
    waits = [outlasts(kind, workers, tmp_path / f"{kind}-{workers}") for kind, workers in SERVERS]
    assert await asyncio.gather(*waits) == [EXIT_CODES.get(kind, 0) for kind, _ in SERVERS]


async def outlasts(kind, workers, directory):
    """Stop a server in the middle of a run; check that the run is whole, and return the exit code."""
    directory.mkdir()
    app = "slow_app:made" if kind == "serve" else "slow_app:app"
    async with server(kind, app, cwd=directory, env=PATIENT, workers=workers) as running:
        frames = stream(running.port, "POST", CHAT, json={"input": f"takes {LONGER_S}"})
        opened = await anext(frames)
        running.terminate()
        heard = heard_of([opened, *await rest(frames)])
        assert (heard.last["type"], heard.last["text"]) == ("done", "half whole")
        return await exit_code(running)


async def until_refused(http):
    """Ask until the gateway says that it is shutting down."""
    async with asyncio.timeout(STOP_S):
        while (await http.get("/health/ready")).status_code != 503:  # noqa: ASYNC110  another process makes it so
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["hypercorn-asyncio", "uvicorn"])
async def test_runs_of_a_killed_server_are_interrupted_with_one_last_event_and_their_sessions_go_on(kind, tmp_path):
    asked = [f"{verb} {uuid4()}" for verb in ("model", "call", "skill")]
    async with slow(kind, tmp_path) as running, AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(talking(running.port)) for _ in asked]
        started = [await parked(running.port, talk, what) for talk, what in zip(talks, asked, strict=True)]
        await talks[0].until("text_delta")
        await talks[1].until("tool_call_delta")
        await talks[0].say(content="behind")
        started.append(await talks[0].frame())
        running.terminate_group(signal.SIGKILL)
        await asyncio.to_thread(running.wait_s, PATIENCE_S)
    async with slow(kind, tmp_path) as running:
        for frame in started:
            await interrupted(running.port, frame)
        async with client(running.port) as http:
            whole = (await http.get(f"/api/v1/sessions/{talks[0].session_id}")).json()
    said = [said["content"] for said in whole["messages"] if said["role"] == "user"]
    assert said == [asked[0], "behind", "go on", "go on"]


async def parked(port, talk, asked):
    """Begin a run that waits at its gate; return its first frame."""
    await talk.say(content=asked)
    started = await talk.frame()
    async with client(port) as http:
        await http.get(f"/gates/{asked.split()[1]}")
    return started


async def interrupted(port, started):
    """Check that the restart ended a run by one terminal event, and that its session goes on."""
    heard = await resumed(port, started)
    assert (heard.last["code"], heard.closing["code"]) == ("interrupted", "interrupted")
    await ended_for_good(port, heard, "interrupted")

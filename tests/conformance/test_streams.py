"""A run's events reach every reader in order and once, whoever was cut off wherever and came back by whatever way."""

import asyncio
import http.client
import json
from uuid import uuid4

import pytest
from processes import server
from recording import PATIENCE_S, UNSENT, Heard, client, heard_of, sents, stream, streamed, talking

pytestmark = pytest.mark.slow

ASKED = ["what is 17*23?", "calculate (12+8)/5 and then sha256 of it", "tell me a joke", "10/0", "/tool nope {}"]
HALF = "half "
"""The last words before a slow run waits at its gate."""
CHAT = "/api/v1/chat/stream"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server("hypercorn-asyncio", cwd=tmp_path_factory.mktemp("streams"), workers=0) as running:
        yield running.port


@pytest.fixture(scope="module")
def slow_port(tmp_path_factory):
    with server("hypercorn-uvloop", "slow_app:app", cwd=tmp_path_factory.mktemp("slow"), workers=0) as running:
        yield running.port


def place(run_id, seq):
    return {"last-event-id": f"{run_id}:{seq}"}


async def resumed_by_socket(port, run_id, after):
    async with talking(port) as talk:
        return await talk.resume(run_id, after)


async def resumed_by_get(port, run_id, after):
    return await streamed(port, "GET", f"/api/v1/runs/{run_id}/stream", headers=place(run_id, after))


async def resumed_by_post(port, run_id, after):
    return await streamed(port, "POST", CHAT, json={"input": "ignored"}, headers=place(run_id, after))


RESUMED = [resumed_by_socket, resumed_by_get, resumed_by_post]


def over_sse(events):
    """Return the numbers and types of what SSE carries of these events."""
    return [(event["seq"], event["type"]) for event in events if event["type"] not in UNSENT]


@pytest.mark.parametrize("asked", ASKED)
async def test_a_stream_says_the_same_as_a_socket(asked, port):
    async with talking(port) as talk:
        heard = await talk.ask(asked)
    seen = await streamed(port, "GET", f"/api/v1/runs/{heard.run_id}/stream")
    assert over_sse(seen.events) == over_sse(heard.events)
    assert seen.last == heard.last


@pytest.mark.parametrize("asked", ASKED)
def test_a_body_ends_right_behind_its_terminal_event_and_its_connection_goes_on(asked, port):
    # agent.md 1.10 D7
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    for _ in range(2):
        connection.request("POST", CHAT, json.dumps({"input": asked}), {"content-type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
        assert heard_of(list(sents(answer.read()))).last["type"] == "done"
    connection.close()


@pytest.mark.parametrize("resumed", RESUMED)
async def test_a_reader_of_an_ended_run_that_is_cut_at_any_event_sees_each_event_once(resumed, port):
    async with talking(port) as talk:
        whole = await talk.ask(ASKED[1])
    await resumes_anywhere(port, whole, resumed)


async def resumes_anywhere(port, whole, resumed):
    """Cut a reader of the run behind each of its events, and have it come back."""
    for cut in whole.seqs[:-1]:
        rest = await resumed(port, whole.run_id, cut)
        expected = [event for event in whole.events if event["seq"] > cut]
        assert over_sse(rest.events) == over_sse(expected)
        if resumed is resumed_by_socket:
            assert rest.events == expected


async def test_a_run_can_be_resumed_anywhere_after_a_restart(tmp_path):
    async with server("hypercorn-asyncio", cwd=tmp_path, workers=0) as running, talking(running.port) as talk:
        whole = await talk.ask(ASKED[0])
    async with server("hypercorn-uvloop", cwd=tmp_path, workers=0) as running:
        for resumed in RESUMED:
            await resumes_anywhere(running.port, whole, resumed)


async def test_a_socket_that_is_cut_at_any_event_of_a_live_run_sees_each_event_once(slow_port):
    cut, is_all_cut = 0, False
    while not is_all_cut:
        cut += 1
        gate, before = str(uuid4()), Heard()
        async with talking(slow_port) as talk:
            await talk.say(content=f"long {gate}")
            for _ in range(cut):
                before.take(await talk.frame())
        is_all_cut = says_half(before.last)
        after = await resumed_live(slow_port, before.run_id, cut, gate, is_open=is_all_cut)
        assert before.seqs + after.seqs == list(range(1, after.last["seq"] + 1))
        assert after.closing["content"] == "half whole"
    assert cut > 8


async def resumed_live(port, run_id, cut, gate, *, is_open):
    """Resume, hear all that the waiting run has said, then let it go on."""
    taken = []
    async with talking(port) as talk, client(port) as http:
        assert (await http.get(f"/api/v1/runs/{run_id}")).json()["status"] == "running"
        await talk.say(type="resume", run_id=run_id, after_seq=cut)
        while not is_open:
            taken.append(await talk.frame())
            is_open = says_half(taken[-1]["event"])
        await http.post(f"/gates/{gate}")
        return await talk.record(after=cut, taken=taken)


def says_half(event):
    return event["type"] in {"text", "text_delta"} and event["text"] == HALF


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stream_that_is_cut_at_any_event_of_a_live_run_sees_each_event_once(method, slow_port):
    cut, is_all_cut = 0, False
    while not is_all_cut:
        cut += 1
        gate = str(uuid4())
        before = await first(cut, stream(slow_port, "POST", CHAT, json={"input": f"long {gate}"}))
        is_all_cut = says_half(before[-1].data)
        run_id, _, seq = before[-1].id.rpartition(":")
        path = CHAT if method == "POST" else f"/api/v1/runs/{run_id}/stream"
        body = {"json": {"input": "ignored"}} if method == "POST" else {}
        rest = stream(slow_port, method, path, headers=place(run_id, seq), **body)
        heard = heard_of(before + await opening(slow_port, gate, rest, is_open=is_all_cut))
        assert [kind for _, kind in over_sse(heard.events)] == heard.types
        assert heard.last["text"] == "half whole"
    assert cut > 6


async def first(count, frames):
    """Return the first frames of a stream, and leave it."""
    taken = []
    async for frame in frames:
        taken.append(frame)
        if len(taken) == count:
            break
    await frames.aclose()
    return taken


async def opening(port, gate, frames, *, is_open):
    """Read a stream to its end; open the gate when all has come that comes before it."""
    taken = []
    async with client(port) as http:
        if is_open:
            await http.post(f"/gates/{gate}")
        async for frame in frames:
            taken.append(frame)
            if says_half(frame.data):
                await http.post(f"/gates/{gate}")
    return taken


async def test_every_reader_of_a_live_run_hears_all_of_it(slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, talking(slow_port) as other, client(slow_port) as http:
        await talk.say(content=f"model {gate}")
        started = await talk.frame()
        await other.say(type="resume", run_id=started["run_id"], after_seq=0)
        seen = asyncio.create_task(streamed(slow_port, "GET", f"/api/v1/runs/{started['run_id']}/stream"))
        await other.until("run_started")
        await http.post(f"/gates/{gate}")
        first_heard = await talk.record(taken=[started])
        assert (await other.record(after=1)).events == first_heard.events[1:]
        assert over_sse((await seen).events) == over_sse(first_heard.events)


async def test_a_reader_that_has_seen_all_of_an_ended_run_gets_204_or_the_closing_frame(port):
    async with talking(port) as talk:
        whole = await talk.ask(ASKED[0])
        again = await talk.resume(whole.run_id, whole.last["seq"])
    assert (again.events, again.closing) == ([], whole.closing)
    async with client(port) as http:
        for seq in (whole.last["seq"], whole.last["seq"] + 100):
            answer = await http.get(f"/api/v1/runs/{whole.run_id}/stream", headers=place(whole.run_id, seq))
            assert (answer.status_code, answer.content) == (204, b"")
            answer = await http.post(CHAT, json={"input": "ignored"}, headers=place(whole.run_id, seq))
            assert (answer.status_code, answer.content) == (200, b"")


async def test_a_reader_that_claims_to_have_seen_what_a_live_run_has_not_said_hears_its_end(slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, talking(slow_port) as other, client(slow_port) as http:
        await talk.say(content=f"model {gate}")
        run_id = (await talk.frame())["run_id"]
        await http.get(f"/gates/{gate}")
        await other.say(type="resume", run_id=run_id, after_seq=999)
        path = f"/api/v1/runs/{run_id}/stream"
        async with http.stream("GET", path, headers=place(run_id, 999)) as answer:
            assert answer.status_code == 200
            await http.post(f"/gates/{gate}")
            frames = list(sents(await answer.aread()))
        assert frames[-1].event == "done"
        begun = await other.frame()
        heard = await other.record(after=begun["seq"] - 1, taken=[begun])
    assert heard.closing["content"] == "half whole"


async def test_an_unknown_run_is_not_found_by_any_way(port):
    unknown = str(uuid4())
    async with talking(port) as talk, client(port) as http:
        for answer in (
            await http.get(f"/api/v1/runs/{unknown}"),
            await http.get(f"/api/v1/runs/{unknown}/stream"),
            await http.post(CHAT, json={"input": "ignored"}, headers=place(unknown, 1)),
            await http.post(f"/api/v1/runs/{unknown}/cancel"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")
        for frame in ({"type": "resume"}, {"type": "cancel"}, {"type": "steer", "content": "x"}):
            await talk.say(run_id=unknown, **frame)
            assert (await talk.frame())["code"] == "run_not_found"

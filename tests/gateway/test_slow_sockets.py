"""Clients that are slow to read, ask much at once, leave in the middle or come too late: nothing else suffers."""

import asyncio
import json
import logging

import pytest
from asgi_driver import begin, http, lifespan, soon, websocket
from scripted_backend import Park, ScriptedBackend, answer

from argentor_asgi.compose import gateway
from argentor_asgi.config import Config, Log, Shutdown, Storage
from argentor_asgi.gateway.outbox import ANSWERS
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.sessions.memory import MemoryStore

pytestmark = pytest.mark.slow

PING = '{"type":"ping"}'
HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
CHAT = "/api/v1/chat/stream"


def made(*scripts, middleware=(), url="memory://", drain_s=15.0, total_s=30.0):
    backend = ScriptedBackend(*scripts)
    config = Config(
        storage=Storage(url=url), log=Log(access=False), shutdown=Shutdown(drain_s=drain_s, total_s=total_s)
    )
    return gateway(config, agent=backend, middleware=middleware), backend


class Slow:
    """A middleware whose sockets send only while it is `open`; `broken`, they fail."""

    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False

    def __call__(self, app):
        async def slowed(scope, receive, send):
            async def slowly(message):
                await self.open.wait()
                if self.broken:
                    raise OSError
                await send(message)

            await app(scope, receive, slowly if scope["type"] == "websocket" else send)

        return slowed


async def frame(peer):
    return json.loads(await peer.get())


async def until_closing(peer):
    """Return the frames up to the one that closes a run."""
    frames = []
    while not frames or frames[-1].get("type") not in {"response", "error"}:
        frames.append(await frame(peer))
    return frames


def headers():
    return {"host": "localhost"}


async def test_pings_are_answered_in_a_burst_of_any_length():
    house, _ = made()
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        await frame(peer)
        for _ in range(5 * ANSWERS):
            peer.put(PING)
        assert [await frame(peer) for _ in range(5 * ANSWERS)] == [{"type": "pong"}] * 5 * ANSWERS


async def test_a_ping_is_answered_however_many_frames_of_a_run_wait_for_a_slow_client():
    slow = Slow()
    house, _ = made(answer(*["piece "] * 200), middleware=[slow])
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        session_id = (await frame(peer))["session_id"]
        slow.open.clear()
        peer.put("hello")
        await ended(house.app, session_id)
        peer.put(PING)
        slow.open.set()
        frames = await until_closing(peer)
        assert [found["seq"] for found in frames if "seq" in found] == list(range(1, 204))
        assert (frames[-1]["content"], frames.count({"type": "pong"})) == ("piece " * 200, 1)


async def others():
    """Let every other task go as far as it can."""
    for _ in range(5 * ANSWERS):
        await asyncio.sleep(0)


async def ended(app, session_id):
    """Wait until the session's one run is done."""
    async with asyncio.timeout(5):
        status = ""
        while status != "done":
            answered = await http(app, "GET", f"/api/v1/runs?session_id={session_id}", headers=headers())
            status = answered.json()[0]["status"] if answered.json() else ""
            await asyncio.sleep(0)


async def test_a_client_that_asks_on_without_reading_is_closed():
    # agent.md 1.10 D9
    slow = Slow()
    house, _ = made(middleware=[slow])
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        await frame(peer)
        slow.open.clear()
        for _ in range(ANSWERS + 1):
            peer.put(PING)
        await others()
        slow.open.set()
        frames = [await frame(peer)]
        while frames[-1]["type"] != "bye":
            frames.append(await frame(peer))
        said = {"type": "bye", "code": 1013, "reason": "slow_reader", "message": "You do not read what you asked for."}
        assert frames[-1] == said
        closed = await peer.end()
        assert (closed["code"], closed["reason"]) == (1013, "slow_reader")


async def test_a_drain_does_not_wait_for_a_client_that_is_gone():
    slow = Slow()
    house, _ = made(middleware=[slow])
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        await frame(peer)
        slow.open.clear()
        peer.put(PING)
        house.drain.begin("test")
        await others()
        slow.broken = True
        slow.open.set()
        await soon(house.drain.finished.wait())


async def test_a_server_that_delivers_nonsense_ends_that_socket_with_1011_and_a_traceback(caplog):
    house, _ = made()
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        await frame(peer)
        with caplog.at_level(logging.ERROR):
            peer._inbox.put_nowait({"type": "websocket.receive", "text": None, "bytes": None})
            closed = await peer.end()
        assert (closed["code"], closed["reason"]) == (1011, "internal")
        assert [record.exc_info is not None for record in caplog.records] == [True]


@pytest.mark.parametrize("again", [{"run_options": {"on_busy": "steer"}}, {"idempotency_key": "k"}])
async def test_a_socket_hears_each_event_of_a_run_once_although_it_asks_for_it_twice(again):
    house, backend = made(HALVES)
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        await frame(peer)
        peer.put(json.dumps({"content": "hello", "idempotency_key": "k"}))
        started = await frame(peer)
        await soon(backend.parked.wait())
        peer.put(json.dumps({"content": "hello", **again}))
        frames = [await frame(peer), await frame(peer)]
        accepted = next(found for found in frames if found.get("type") == "accepted")
        assert (accepted["request"], accepted["run_id"]) == ("message", started["run_id"])
        backend.release.set()
        frames += await until_closing(peer)
        seqs = [found["seq"] for found in frames if "seq" in found]
        assert seqs == list(range(2, 2 + len(seqs)))
        peer.put(PING)
        assert await frame(peer) == {"type": "pong"}


async def test_a_stream_whose_client_left_before_its_first_byte_ends_its_run_when_asked_to():
    house, backend = made(HALVES)
    async with lifespan(house.app):
        body = json.dumps({"input": "hello", "on_disconnect": "cancel"}).encode()
        fields = {**headers(), "content-type": "application/json"}
        exchange = begin(house.app, "POST", CHAT, headers=fields, body=body)
        exchange.fail_sends = OSError
        await exchange.end()
        [run] = (await http(house.app, "GET", "/api/v1/runs", headers=headers())).json()
        seen = await soon(http(house.app, "GET", f"/api/v1/runs/{run['run_id']}/stream", headers=headers()))
        assert b'"reason":"the client disconnected"' in seen.body
        assert backend.streams == 0


async def test_a_message_that_waits_for_its_turn_when_the_gateway_stops_is_kept_in_its_session(tmp_path):
    url = f"sqlite:///{tmp_path / 'kept.db'}"
    house, backend = made(HALVES, url=url, drain_s=0.2, total_s=8.0)
    async with lifespan(house.app), websocket(house.app, "/ws", headers=headers()) as peer:
        session_id = (await frame(peer))["session_id"]
        peer.put("one")
        await soon(backend.parked.wait())
        peer.put("two")
        peer.put("three")
        frames = []
        while [found["seq"] for found in frames if "seq" in found].count(1) < 3:
            frames.append(await frame(peer))
        house.drain.begin("test")
        ended = [(await until_closing(peer))[-1] for _ in range(3)]
        assert [found["code"] for found in ended] == ["cancelled"] * 3
        assert (await peer.end())["code"] == 1012
    house, _ = made(url=url)
    async with lifespan(house.app):
        whole = (await http(house.app, "GET", f"/api/v1/sessions/{session_id}", headers=headers())).json()
        runs = (await http(house.app, "GET", "/api/v1/runs", headers=headers())).json()
    said = [(found["role"], found["content"]) for found in whole["messages"]]
    assert said == [("user", "one"), ("assistant", "half "), ("user", "two"), ("user", "three")]
    assert [run["status"] for run in runs] == ["cancelled"] * 3
    assert backend.requests[1:] == []


class LateStore(MemoryStore):
    """A store that looks up idempotency keys when it is let."""

    def __init__(self):
        super().__init__(clock=SystemClock())
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def get_claim(self, scope, key):
        self.asked.set()
        await self.go.wait()
        return await super().get_claim(scope, key)


async def test_a_message_that_was_on_its_way_when_the_drain_ended_is_refused():
    store = LateStore()
    house = gateway(Config(), agent=ScriptedBackend(), sessions=store)
    async with lifespan(house.app):
        fields = {**headers(), "content-type": "application/json", "idempotency-key": "k"}
        late = begin(house.app, "POST", "/api/v1/agent/chat", headers=fields, body=b'{"message":"hello"}')
        await soon(store.asked.wait())
        house.drain.begin("test")
        await soon(house.drain.finished.wait())
        store.go.set()
        refused = await late.end()
        assert (refused.status, refused.json()["code"]) == (503, "draining")

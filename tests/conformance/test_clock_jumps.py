"""The wall clock jumps by an hour, forth and back: no socket is cut, no run ends, nobody is refused."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from processes import server
from recording import Talk, client, heard_frame
from websockets.asyncio.client import connect

pytestmark = pytest.mark.slow

SOCKETS = 20
FAKETIME = [
    Path(f"/usr/lib/{machine}/faketime/libfaketimeMT.so.1") for machine in ("x86_64-linux-gnu", "aarch64-linux-gnu")
]
KEY = "correct-horse-battery"
HEADERS = {"authorization": f"Bearer {KEY}"}
NOW, LATER, SOONER = "+0", "+3600", "-3600"
PATIENCE = timedelta(minutes=5)
"""How long the test itself may take between two looks."""


def library() -> Path:
    """Return libfaketime, which Debian has in its package `faketime`."""
    found = next((path for path in FAKETIME if path.exists()), None)
    if found is None:
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    return found


@asynccontextmanager
async def under_faketime(cwd: Path):
    """Hold a server whose wall clock is that of the file `clock`; its monotonic clocks are left alone."""
    (cwd / "clock").write_text(NOW)
    env = {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(cwd / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ARGENTOR_AUTH_API_KEYS": f"me:{KEY}",
        "ARGENTOR_LIMITS_ENABLED": "false",
    }
    async with server("hypercorn-asyncio", "slow_app:app", cwd=cwd, workers=0, env=env) as running:
        yield running


@asynccontextmanager
async def keyed_talk(port: int):
    """Open a socket with the key and hear its welcome."""
    async with connect(f"ws://127.0.0.1:{port}/ws", compression=None, additional_headers=HEADERS) as socket:
        yield Talk(socket, await heard_frame(socket))


async def pong(talk: Talk) -> None:
    await talk.say(type="ping")
    assert await talk.frame() == {"type": "pong"}


async def is_whole(http, talks: list[Talk]) -> datetime:
    """Check that every socket answers and a new run comes to its end; return when the server says that it began."""
    await asyncio.gather(*(pong(talk) for talk in talks))
    reply = await http.post("/api/v1/agent/chat", json={"message": "hello"})
    assert reply.status_code == 200, reply.text
    assert (await http.get("/health/ready")).status_code == 200
    made = (await http.get(f"/api/v1/runs/{reply.json()['run_id']}")).json()["created_at"]
    return datetime.fromisoformat(made)


async def test_nothing_ends_when_the_wall_clock_jumps_by_an_hour(tmp_path):
    gate = str(uuid4())
    async with under_faketime(tmp_path) as running, client(running.port) as http, AsyncExitStack() as stack:
        http.headers.update(HEADERS)
        talks = [await stack.enter_async_context(keyed_talk(running.port)) for _ in range(SOCKETS)]
        waiting = await stack.enter_async_context(keyed_talk(running.port))
        await waiting.say(content=f"model {gate}")
        await http.get(f"/gates/{gate}")
        before = await is_whole(http, talks)
        for jump, hours in ((LATER, 1), (SOONER, -1), (NOW, 0)):
            (tmp_path / "clock").write_text(jump)
            seen = await is_whole(http, talks)
            assert abs(seen - before - timedelta(hours=hours)) < PATIENCE, "the clock has not jumped"
        await http.post(f"/gates/{gate}")
        heard = await waiting.record()
        assert heard.closing["content"] == "half whole"

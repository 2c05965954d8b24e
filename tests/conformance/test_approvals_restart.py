"""A run that waits for a person outlives its process, however that ends, with real servers and a real file.

agent.md 8.7: the built-in model calls `calculator`, which `agent.approval_skills` puts before a person.
"""

import asyncio
import signal

import pytest
from processes import server
from recording import client, stream, talking

from argentor_asgi.protocol.grammar import check

pytestmark = pytest.mark.slow

APPROVALS = "/api/v1/approvals"
CHAT = "/api/v1/chat/stream"
ENV = {"ARGENTOR_AGENT_APPROVAL_SKILLS": "calculator", "ARGENTOR_SHUTDOWN_DRAIN_S": "2"}
STOP_S = 10.0
WAYS = [
    ("serve", signal.SIGTERM),
    ("serve", signal.SIGKILL),
    ("uvicorn", signal.SIGTERM),
    ("hypercorn-asyncio", signal.SIGTERM),
    ("granian", signal.SIGTERM),
]


async def rest(frames):
    return [frame async for frame in frames]


async def stopped(running, number):
    if number == signal.SIGKILL:
        running.terminate_group(number)
    else:
        running.terminate(number)
    await asyncio.to_thread(running.wait_s, STOP_S)


@pytest.mark.parametrize(("kind", "number"), WAYS)
async def test_a_run_that_waits_goes_on_with_the_answer_that_comes_after_the_restart(kind, number, tmp_path):
    async with server(kind, cwd=tmp_path, env=ENV) as running, client(running.port) as http:
        frames = stream(running.port, "POST", CHAT, json={"input": "what is 17*23?"})
        seen = [await anext(frames)]
        while seen[-1].event != "approval_request":
            seen.append(await anext(frames))
        [asked] = (await http.get(APPROVALS)).json()
        assert (asked["tool"], asked["status"]) == ("calculator", "pending")
        reading = asyncio.create_task(rest(frames))
        await stopped(running, number)
        assert number == signal.SIGKILL or await reading == []
        reading.cancel()
        await asyncio.wait([reading])
    async with (
        server(kind, cwd=tmp_path, env=ENV) as running,
        client(running.port) as http,
        talking(running.port) as talk,
    ):
        assert (await talk.frame())["task_id"] == asked["approval_id"]
        await talk.say(type="resume", run_id=asked["run_id"])
        decided = await http.post(f"{APPROVALS}/{asked['approval_id']}", json={"approved": True, "reason": "fine"})
        assert (decided.status_code, decided.json()["status"]) == (200, "approved")
        heard = await talk.record()
        check(heard.events)
        assert [heard.types.count(kind) for kind in ("run_started", "approval_request", "approval_resolved")] == [1] * 3
        assert (heard.last["type"], "391" in heard.last["text"]) == ("done", True)
        assert (await http.get(APPROVALS)).json() == []
        again = await http.post(f"{APPROVALS}/{asked['approval_id']}", json={"approved": False})
        assert (again.status_code, again.json()["approval_status"]) == (409, "approved")

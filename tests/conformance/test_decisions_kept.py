"""What a person said of a call holds, whatever the settings are by the time the run goes on, with real servers."""

import asyncio
import time

import pytest
from hosted_env import hosted_env
from processes import server
from raw_server import raw_server
from recording import client, streamed
from told_model import results, script, told

pytestmark = pytest.mark.slow

APPROVALS = "/api/v1/approvals"
CHAT = "/api/v1/agent/chat"
ASKING = {"agent_approval_skills": "calculator", "shutdown_drain_s": "1"}
STOP_S = 10.0
PATIENCE_S = 10.0


def computed(expression):
    return ("calculator", {"operation": "evaluate", "expression": expression})


async def waiting(http, count):
    """Return the approvals that wait, by what is to be computed, once there are so many."""
    until = time.monotonic() + PATIENCE_S
    while len(found := (await http.get(APPROVALS)).json()) != count:
        assert time.monotonic() < until, found
        await asyncio.sleep(0.02)
    return {each["arguments"]["expression"]: each for each in found}


async def ended(http, run_id):
    """Return the run once it is over."""
    until = time.monotonic() + PATIENCE_S
    while (run := (await http.get(f"/api/v1/runs/{run_id}")).json())["status"] in {"running", "waiting_approval"}:
        assert time.monotonic() < until, run
        await asyncio.sleep(0.02)
    return run


async def test_what_was_asked_stays_asked_when_the_settings_no_longer_ask_it(tmp_path):
    calls = [computed("1+1"), computed("2+2"), computed("3+3")]
    async with raw_server(told) as raw:
        before = server("serve", cwd=tmp_path, env=hosted_env(raw.url, **ASKING))
        async with before as running, client(running.port) as http:
            asking = asyncio.create_task(http.post(CHAT, json={"message": script(calls)}))
            asked = await waiting(http, 3)
            said = {"approved": True, "edited_arguments": computed("5*5")[1]}
            assert (await http.post(f"{APPROVALS}/{asked['2+2']['approval_id']}", json=said)).status_code == 200
            said = {"approved": False, "reason": "never"}
            assert (await http.post(f"{APPROVALS}/{asked['1+1']['approval_id']}", json=said)).status_code == 200
            running.terminate()
            await asyncio.to_thread(running.wait_s, STOP_S)
            await asyncio.wait([asking])
        async with server("serve", cwd=tmp_path, env=hosted_env(raw.url)) as running, client(running.port) as http:
            left = await waiting(http, 1)
            assert list(left) == ["3+3"]
            await http.post(f"{APPROVALS}/{left['3+3']['approval_id']}", json={"approved": True})
            run = await ended(http, left["3+3"]["run_id"])
            assert results(run["text"]) == ["The call was not approved: never.", '{"result":25}', '{"result":6}']


@pytest.mark.parametrize("now", [{"agent_deny_skills": "calc*"}, {"agent_permission_mode": "plan"}])
async def test_what_may_not_run_any_more_is_asked_no_longer_and_its_readers_hear_it(now, tmp_path):
    async with raw_server(told) as raw:
        before = server("serve", cwd=tmp_path, env=hosted_env(raw.url, **ASKING))
        async with before as running, client(running.port) as http:
            asking = asyncio.create_task(http.post(CHAT, json={"message": script([computed("1+1"), computed("2+2")])}))
            asked = await waiting(http, 2)
            await http.post(f"{APPROVALS}/{asked['2+2']['approval_id']}", json={"approved": True})
            running.terminate()
            await asyncio.to_thread(running.wait_s, STOP_S)
            await asyncio.wait([asking])
        async with server("serve", cwd=tmp_path, env=hosted_env(raw.url, **now)) as running:
            async with client(running.port) as http:
                run = await ended(http, asked["1+1"]["run_id"])
                late = await http.post(f"{APPROVALS}/{asked['1+1']['approval_id']}", json={"approved": True})
            heard = await streamed(running.port, "GET", f"/api/v1/runs/{run['run_id']}/stream")
    assert (run["status"], late.status_code, late.json()["approval_status"]) == ("done", 409, "cancelled")
    kinds = [kind for kind in heard.types if kind in {"approval_request", "approval_resolved", "tool_result"}]
    assert kinds == ["approval_request"] * 2 + ["approval_resolved"] * 2 + ["tool_result"] * 2
    assert [event["approved"] for event in heard.of("approval_resolved")] == [True, False]

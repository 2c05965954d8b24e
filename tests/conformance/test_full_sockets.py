"""A socket that has as many runs open as it may: what those runs wait for still gets through to them."""

import pytest
from hosted_env import hosted_env
from processes import server
from raw_server import raw_server
from recording import talking
from told_model import script, told

from argentor_asgi.gateway.conversation import FOLLOWED_RUNS

pytestmark = pytest.mark.slow

CALL = ("calculator", {"operation": "evaluate", "expression": "17*23"})


async def test_runs_that_wait_for_a_person_can_be_answered_on_the_socket_that_they_fill(tmp_path):
    async with raw_server(told) as raw:
        env = hosted_env(raw.url, agent_approval_skills="calculator")
        async with server("serve", cwd=tmp_path, env=env) as running, talking(running.port) as talk:
            asked = {}
            for number in range(FOLLOWED_RUNS):
                await talk.say(content=script([CALL], f"done {number}"), session_id=f"{number:032x}")
                asked[number] = await talk.until("approval_request")
            await talk.say(content="one more")
            while (refused := await talk.frame())["type"] != "error":
                assert refused["type"] == "approval_request"  # told beside the runs
            assert refused["code"] == "overloaded"

            await talk.say(type="approval_response", approval_id=asked[3]["approval_id"], approved=True)
            assert (await talk.until_closed())["content"] == "done 3"
            await talk.say(type="steer", run_id="no such run", content="?")
            assert (await talk.until_closed())["code"] == "run_not_found"

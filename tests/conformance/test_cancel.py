"""A run can be ended from outside wherever it is: in the model, in a skill, or waiting for its turn."""

from uuid import uuid4

import pytest
from processes import server
from recording import CLOSING, Heard, check_frames, client, stream, talking

pytestmark = pytest.mark.slow

CHAT = "/api/v1/chat/stream"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server("hypercorn-asyncio", "slow_app:app", cwd=tmp_path_factory.mktemp("cancel"), workers=0) as running:
        yield running.port


async def cancel_here(talk, _http, run_id):
    """Cancel on the socket that hears the run; its answer comes among the run's frames."""
    await talk.say(type="cancel", run_id=run_id)


async def cancel_over_http(_talk, http, run_id):
    """Cancel by a request; return its answer."""
    answer = await http.post(f"/api/v1/runs/{run_id}/cancel")
    assert answer.status_code == 202
    return answer.json()


CANCELS = [cancel_here, cancel_over_http]


async def cancelled(talk, http, run_id, cancel, taken):
    """Cancel the run; return how it met the cancel, and what the socket heard of it to its last frame."""
    met = await cancel(talk, http, run_id)
    heard = Heard()
    for frame in taken:
        heard.take(frame)
    while not (heard.closing and met):
        frame = await talk.frame()
        if frame.get("type") == "accepted":
            met = frame
        elif frame.get("type") in CLOSING:
            heard.closing = frame
        else:
            assert not heard.closing
            heard.take(frame)
    check_frames(heard)
    return met, heard


async def is_over(http, heard, text):
    """Check that a run is cancelled for good, and that its session goes on."""
    assert (heard.last["type"], heard.last["text"]) == ("cancelled", text)
    assert (heard.closing["type"], heard.closing["code"]) == ("error", "cancelled")
    run = (await http.get(f"/api/v1/runs/{heard.run_id}")).json()
    assert (run["status"], run["text"], run["last_seq"]) == ("cancelled", text, heard.last["seq"])
    again = await http.post(f"/api/v1/runs/{heard.run_id}/cancel")
    assert (again.status_code, again.json()) == (200, {"run_id": heard.run_id, "status": "cancelled"})
    reply = await http.post("/api/v1/agent/chat", json={"message": "go on", "session_id": heard.session_id})
    assert (reply.status_code, reply.json()["response"]) == (200, "you said go on")


async def transcript(http, session_id):
    whole = (await http.get(f"/api/v1/sessions/{session_id}")).json()
    return [(said["role"], said["content"]) for said in whole["messages"]]


@pytest.mark.parametrize("cancel", CANCELS)
async def test_a_run_in_the_model_is_cancelled_with_what_it_said_so_far(cancel, port):
    gate = str(uuid4())
    async with talking(port) as talk, client(port) as http:
        await talk.say(content=f"model {gate}")
        started = await talk.frame()
        await http.get(f"/gates/{gate}")
        met, heard = await cancelled(talk, http, started["run_id"], cancel, [started])
        assert met["status"] == "running"
        await is_over(http, heard, "half ")
        assert (await transcript(http, talk.session_id))[:2] == [("user", f"model {gate}"), ("assistant", "half ")]


@pytest.mark.parametrize("cancel", CANCELS)
async def test_a_run_in_a_skill_is_cancelled_and_its_call_is_answered(cancel, port):
    gate = str(uuid4())
    async with talking(port) as talk, client(port) as http:
        await talk.say(content=f"skill {gate}")
        started = await talk.frame()
        await http.get(f"/gates/{gate}")
        _, heard = await cancelled(talk, http, started["run_id"], cancel, [started])
        await is_over(http, heard, "")
        said = await transcript(http, talk.session_id)
        assert [role for role, _ in said] == ["user", "assistant", "tool", "user", "assistant"]
        assert "cancelled" in said[2][1]


@pytest.mark.parametrize("cancel", CANCELS)
async def test_a_run_behind_another_is_cancelled_before_its_turn_and_the_other_goes_on(cancel, port):
    gate = str(uuid4())
    async with talking(port) as talk, talking(port) as other, client(port) as http:
        await talk.say(content=f"model {gate}")
        started = await talk.frame()
        await http.get(f"/gates/{gate}")
        await other.say(content="behind", session_id=talk.session_id, run_options={"on_busy": "enqueue"})
        queued = await other.frame()
        run = (await http.get(f"/api/v1/runs/{queued['run_id']}")).json()
        assert run["status"] == "queued"
        met, heard = await cancelled(other, http, queued["run_id"], cancel, [queued])
        assert met["status"] == "queued"
        await http.post(f"/gates/{gate}")
        assert (await talk.record(taken=[started])).closing["content"] == "half whole"
        await is_over(http, heard, "")


async def test_cancelling_twice_at_once_ends_the_run_once(port):
    gate = str(uuid4())
    async with talking(port) as talk, client(port) as http:
        await talk.say(content=f"skill {gate}")
        started = await talk.frame()
        await http.get(f"/gates/{gate}")
        await talk.say(type="cancel", run_id=started["run_id"])
        _, heard = await cancelled(talk, http, started["run_id"], cancel_here, [started])
        assert heard.last["reason"] == "cancelled by the client"


@pytest.mark.parametrize("wanted", ["cancel", "continue"])
async def test_a_run_outlives_its_stream_unless_its_client_wants_it_to_end_with_it(wanted, port):
    # agent.md 1.10 D9
    gate = str(uuid4())
    frames = stream(port, "POST", CHAT, json={"input": f"model {gate}", "on_disconnect": wanted})
    run_id = (await anext(frames)).data["run_id"]
    async with client(port) as http:
        await http.get(f"/gates/{gate}")
        await frames.aclose()
        await outlives(port, http, gate, run_id, wanted)


@pytest.mark.parametrize("wanted", ["cancel", "continue"])
@pytest.mark.parametrize("is_abrupt", [True, False])
async def test_a_run_outlives_its_socket_unless_its_client_wants_it_to_end_with_it(wanted, is_abrupt, port):
    # agent.md 1.10 D9
    gate = str(uuid4())
    async with client(port) as http:
        async with talking(port) as talk:
            await talk.say(content=f"model {gate}", run_options={"on_disconnect": wanted})
            run_id = (await talk.frame())["run_id"]
            await http.get(f"/gates/{gate}")
            if is_abrupt:
                talk.socket.transport.abort()
        await outlives(port, http, gate, run_id, wanted)


async def outlives(port, http, gate, run_id, wanted):
    """Check that the run ends by itself, or is done once its gate opens."""
    if wanted == "continue":
        assert (await http.get(f"/api/v1/runs/{run_id}")).json()["status"] == "running"
        await http.post(f"/gates/{gate}")
    async with talking(port) as talk:
        heard = await talk.resume(run_id)
    ended = ("done", "half whole") if wanted == "continue" else ("cancelled", "half ")
    assert (heard.last["type"], heard.last["text"]) == ended
    if wanted == "cancel":
        assert heard.last["reason"] == "the client disconnected"


async def test_deleting_a_session_waits_until_nothing_works_in_it(port):
    gate = str(uuid4())
    async with talking(port) as talk, client(port) as http:
        await talk.say(content=f"model {gate}")
        started = await talk.frame()
        path = f"/api/v1/sessions/{talk.session_id}"
        refused = await http.delete(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "session_busy")
        await http.post(f"/gates/{gate}")
        await talk.record(taken=[started])
        assert (await http.delete(path)).json() == {"deleted": True, "session_id": talk.session_id}
        assert (await http.get(path)).status_code == 404
        assert (await http.get(f"/api/v1/runs/{started['run_id']}")).status_code == 404

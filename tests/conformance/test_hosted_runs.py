"""Hosted runs under one key, killed, and waiting through a restart, with real servers and a model that sees all.

agent.md 8.8 and 8.14: one key is one provider request; a kill leaves `interrupted` and a session that goes on; a run
that waits for a person goes on after the restart, and each of its calls is made once.
"""

import asyncio
import json
import signal
from uuid import uuid4

import pytest
from hosted_env import hosted_env
from hosted_models import named, openai_chunk
from processes import server
from raw_server import raw_server, sse
from recording import PATIENCE_S, client, stream, streamed, talking

from argentor_asgi.protocol.grammar import check

pytestmark = pytest.mark.slow

CHAT, STREAM, APPROVALS = "/api/v1/agent/chat", "/api/v1/chat/stream", "/api/v1/approvals"
HALF = "half an answer, which is long enough that the guardrails let a piece of it pass before the rest has come. "
SUM = '{"operation": "evaluate", "expression": "17*23"}'


def hosting(models, directory, wire="openai", **more):
    return server("hypercorn-asyncio", cwd=directory, env=hosted_env(models, wire, **more), workers=0)


def last_said(asked):
    return asked.json()["messages"][-1]["content"]


# --- one key -----------------------------------------------------------------------------------------------------


async def test_copies_of_a_request_under_one_key_are_one_request_to_the_provider_over_every_door(tmp_path):
    said = asyncio.Event()

    async def model(_, line):
        await line.events(openai_chunk({"content": HALF}), end=False)
        await said.wait()
        for event in (openai_chunk({"content": "whole"}), openai_chunk({}, "stop"), "[DONE]"):
            await line.chunk(sse(event))
        await line.end()

    headers, session = {"idempotency-key": str(uuid4())}, {"session_id": str(uuid4())}
    async with (
        raw_server(model) as raw,
        hosting(raw.url, tmp_path) as running,
        client(running.port) as http,
        talking(running.port) as talk,
    ):
        port = running.port
        question = {"input": "question", **session}
        copies = [asyncio.create_task(streamed(port, "POST", STREAM, json=question, headers=headers)) for _ in range(8)]
        asked = {"message": "question", **session}
        replies = [asyncio.create_task(http.post(CHAT, json=asked, headers=headers)) for _ in range(8)]
        await raw.heard()
        await talk.say(content="question", idempotency_key=headers["idempotency-key"], **session)
        started = await talk.frame()
        for body in ({"input": "another", **session}, {"input": "question", "session_id": str(uuid4())}):
            refused = await http.post(STREAM, json=body, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
        said.set()
        heard = await talk.record(taken=[started])
        streams = await asyncio.gather(*copies)
        answers = await asyncio.gather(*replies)
        assert heard.last["text"] == HALF + "whole"
        assert all(each.events == streams[0].events for each in streams)
        assert {each.run_id for each in streams} == {heard.run_id}
        assert {(each.status_code, each.json()["run_id"]) for each in answers} == {(200, heard.run_id)}
        again = await streamed(port, "POST", STREAM, json=question, headers=headers)
        assert again.events == streams[0].events
        assert len(raw.asked) == 1


# --- killed ------------------------------------------------------------------------------------------------------


async def breaks_off(asked, line):
    """Say or call half of what the user names, and wait for ever; answer anything else."""
    words = last_said(asked)
    function = {"name": "calculator", "arguments": SUM[:20]}
    halves = {
        "say": [openai_chunk({"content": HALF})],
        "call": [openai_chunk({"tool_calls": [{"index": 0, "id": "c1", "function": function}]})],
        "nothing": [],
    }
    if words in halves:
        await line.events(*halves[words], end=False)
        await line.stall()
    else:
        await line.events(openai_chunk({"content": f"you said {words}"}, "stop"), "[DONE]")


async def test_runs_of_a_hosted_model_that_are_killed_are_interrupted_and_their_sessions_go_on(tmp_path):
    """agent.md 1.10 D28: what the user said is stored before the model is asked."""
    words = ["say", "call", "nothing"]
    async with raw_server(breaks_off) as raw:
        async with hosting(raw.url, tmp_path) as running:
            begun = [await parked(running.port, each) for each in words]
            await raw.heard(len(words))
            running.terminate_group(signal.SIGKILL)
            await asyncio.to_thread(running.wait_s, PATIENCE_S)
            await asyncio.gather(*(line.gone() for line in raw.lines))
        async with hosting(raw.url, tmp_path) as running, client(running.port) as http:
            for started, asked in zip(begun, words, strict=True):
                await goes_on(running.port, http, raw, started, asked)


async def parked(port, words):
    """Begin a run, and leave it once its first piece has come, if any comes; return its first event."""
    frames = stream(port, "POST", STREAM, json={"input": words})
    started = await anext(frames)
    if words == "say":
        assert (await anext(frames)).event == "text"
    await frames.aclose()
    return started.data


async def goes_on(port, http, raw, started, words):
    """Check a run that was killed: its status, its events, and that its session is worked in again."""
    run = (await http.get(f"/api/v1/runs/{started['run_id']}")).json()
    assert (run["status"], run["error_code"]) == ("interrupted", "interrupted")
    async with talking(port) as talk:
        heard = await talk.resume(started["run_id"])
        check(heard.events)
        assert (heard.last["type"], heard.last["code"]) == ("error", "interrupted")
    body = {"message": "go on", "session_id": started["session_id"]}
    assert (await http.post(CHAT, json=body)).json()["response"] == "you said go on"
    said = raw.asked[-1].json()["messages"]
    assert [(each["role"], each["content"]) for each in said[1:]] == [("user", words), ("user", "go on")]


# --- waiting for a person ----------------------------------------------------------------------------------------


async def thinks_and_calls(asked, line):
    """Think, call the calculator twice, and then say what it came to, on Anthropic's wire."""
    if asked.json()["messages"][-1]["role"] == "user" and "tool_result" not in json.dumps(asked.json()["messages"]):
        blocks = [
            ({"type": "thinking", "thinking": "", "signature": ""}, thinking("I reckon."), signature("sig-1")),
            *(({"type": "tool_use", "id": each, "name": "calculator", "input": {}}, arguments()) for each in IDS),
        ]
        await line.events(*message(blocks, "tool_use"))
    else:
        await line.events(*message([({"type": "text", "text": ""}, words("It is 391."))], "end_turn"))


IDS = ("toolu_1", "toolu_2")


def thinking(piece):
    return {"type": "thinking_delta", "thinking": piece}


def signature(piece):
    return {"type": "signature_delta", "signature": piece}


def words(piece):
    return {"type": "text_delta", "text": piece}


def arguments():
    return {"type": "input_json_delta", "partial_json": SUM}


def message(blocks, reason):
    yield named("message_start", message={"id": "m1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}})
    for index, (block, *deltas) in enumerate(blocks):
        yield named("content_block_start", index=index, content_block=block)
        for delta in deltas:
            yield named("content_block_delta", index=index, delta=delta)
        yield named("content_block_stop", index=index)
    yield named("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2})
    yield named("message_stop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_hosted_run_that_waits_is_answered_after_a_restart_and_each_call_is_made_once(number, tmp_path):
    settings = {"agent_approval_skills": "calculator", "shutdown_drain_s": "1"}
    async with raw_server(thinks_and_calls) as raw:
        async with hosting(raw.url, tmp_path, "anthropic", **settings) as running, client(running.port) as http:
            frames = stream(running.port, "POST", STREAM, json={"input": "what is 17*23, twice?"})
            async for frame in frames:
                if frame.event == "approval_request" and frame.data["call_id"] == IDS[-1]:
                    break
            await frames.aclose()
            first, second = (await http.get(APPROVALS)).json()
            assert (await http.post(f"{APPROVALS}/{first['approval_id']}", json={"approved": True})).is_success
            assert (await http.get(f"/api/v1/runs/{first['run_id']}")).json()["status"] == "waiting_approval"
            running.terminate_group(number)
            await asyncio.to_thread(running.wait_s, PATIENCE_S)
        async with hosting(raw.url, tmp_path, "anthropic", **settings) as running, client(running.port) as http:
            assert (await http.get(f"/api/v1/runs/{first['run_id']}")).json()["status"] == "waiting_approval"
            assert [each["approval_id"] for each in (await http.get(APPROVALS)).json()] == [second["approval_id"]]
            assert (await http.post(f"{APPROVALS}/{second['approval_id']}", json={"approved": True})).is_success
            async with talking(running.port) as talk:
                heard = await talk.resume(first["run_id"])
        assert (heard.last["type"], heard.last["text"]) == ("done", "It is 391.")
        counts = [heard.types.count(kind) for kind in ("approval_request", "approval_resolved", "tool_result")]
        assert counts == [2, 2, 2]
        assert [event["is_error"] for event in heard.of("tool_result")] == [False, False]
        assert len(raw.asked) == 2
        _, thought, answered = raw.asked[1].json()["messages"]
        assert thought["content"][0] == {"type": "thinking", "thinking": "I reckon.", "signature": "sig-1"}
        assert [(each["type"], each["tool_use_id"]) for each in answered["content"]] == [
            ("tool_result", each) for each in IDS
        ]

"""Many copies of one request under one `Idempotency-Key` are one run, over every door, at once, and after a restart."""

import asyncio
from uuid import uuid4

import pytest
from processes import server
from recording import client, streamed, talking

pytestmark = pytest.mark.slow

COPIES = 50
CHAT, STREAM = "/api/v1/agent/chat", "/api/v1/chat/stream"


async def test_fifty_copies_are_one_run_and_one_answer_now_and_after_a_restart(tmp_path):
    headers, question = {"idempotency-key": str(uuid4())}, {"message": "generate 1 uuid"}
    async with server("hypercorn-uvloop", cwd=tmp_path, workers=0) as running, client(running.port) as http:
        replies = await asyncio.gather(*(http.post(CHAT, json=question, headers=headers) for _ in range(COPIES)))
        assert {(reply.status_code, reply.content) for reply in replies} == {(200, replies[0].content)}
        assert [run["run_id"] for run in (await http.get("/api/v1/runs")).json()] == [replies[0].json()["run_id"]]
    async with server("hypercorn-asyncio", cwd=tmp_path, workers=0) as running, client(running.port) as http:
        again = await http.post(CHAT, json=question, headers=headers)
        assert (again.status_code, again.json()) == (200, replies[0].json())
        other = await http.post(CHAT, json={"message": "generate 2 uuids"}, headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_copies_over_all_doors_join_the_run_that_is_under_way(tmp_path):
    gate, key = str(uuid4()), str(uuid4())
    headers = {"idempotency-key": key}
    async with server("hypercorn-asyncio", "slow_app:app", cwd=tmp_path, workers=0) as running:
        port = running.port
        async with client(port) as http, talking(port) as talk:
            session = {"session_id": talk.session_id}
            await talk.say(content=f"model {gate}", idempotency_key=key, **session)
            await http.get(f"/gates/{gate}")
            asked = {"message": f"model {gate}", **session}
            copies = [asyncio.create_task(http.post(CHAT, json=asked, headers=headers)) for _ in range(COPIES // 2)]
            said = {"input": f"model {gate}", **session}
            copies += [
                asyncio.create_task(streamed(port, "POST", STREAM, json=said, headers=headers))
                for _ in range(COPIES // 2)
            ]
            refused = await http.post(CHAT, json={"message": "another", **session}, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
            await http.post(f"/gates/{gate}")
            heard = await talk.record()
            answers = await asyncio.gather(*copies)
        for reply in answers[: COPIES // 2]:
            assert (reply.json()["run_id"], reply.json()["response"]) == (heard.run_id, "half whole")
        assert {(stream.run_id, stream.last["text"]) for stream in answers[COPIES // 2 :]} == {
            (heard.run_id, "half whole")
        }

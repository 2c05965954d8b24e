"""A fresh gateway answers a stranger: over every entry point, under every server, and again after a restart."""

import asyncio
import signal
from contextlib import nullcontext

import pytest
from alone import alone
from processes import KINDS, goodbyes, server
from recording import PATIENCE_S, Heard, client, streamed, talking

pytestmark = pytest.mark.slow

SUM = "what is 17*23?"
ANSWER = "17*23 = 391"
REX = "remember that my dog is called Rex"
EXIT_CODES = {"uvicorn": -signal.SIGTERM}
"""uvicorn raises the signal again when it has stopped."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_sum_is_calculated_over_every_entry_point_and_a_dog_known_after_a_restart(kind, tmp_path):
    async with server(kind, cwd=tmp_path) as running:
        await answers_by_calculator(running.port)
        async with talking(running.port) as talk:
            told = await talk.ask(REX)
            assert told.of("tool_result")[0]["name"] == "memory_store"
            running.terminate()
            code = await asyncio.to_thread(running.wait_s, PATIENCE_S)
            await asyncio.wait_for(talk.socket.wait_closed(), PATIENCE_S)
        assert code == EXIT_CODES.get(kind, 0)
        assert talk.socket.close_code in goodbyes(kind)
    async with server(kind, cwd=tmp_path) as running:
        await knows_rex(running.port, told.session_id)


async def answers_by_calculator(port):
    """Ask over the WebSocket, as server-sent events, and by one request; the model really calls the skill."""
    async with talking(port) as talk:
        over_ws = await talk.ask(SUM)
        assert over_ws.session_id == talk.session_id
    over_sse = await streamed(port, "POST", "/api/v1/chat/stream", json={"input": SUM})
    for heard in (over_ws, over_sse):
        by_calculator(heard)
        assert ANSWER in heard.last["text"]
    async with client(port) as http:
        reply = (await http.post("/api/v1/agent/chat", json={"message": SUM})).json()
        assert (reply["response"], reply["model"]) == (over_ws.last["text"], "argentor-builtin/1")
        stored = await streamed(port, "GET", f"/api/v1/runs/{reply['run_id']}/stream")
        by_calculator(stored)
        assert stored.session_id == reply["session_id"]


def by_calculator(heard: Heard):
    [call], [result] = heard.of("tool_call_end"), heard.of("tool_result")
    assert (call["name"], call["arguments"]["expression"]) == ("calculator", "17*23")
    assert (result["id"], result["name"], result["is_error"]) == (call["id"], "calculator", False)
    assert "391" in result["content"]


async def knows_rex(port, session_id):
    """Ask in a new session, then read the old one."""
    async with talking(port) as talk:
        heard = await talk.ask("what is my dog's name?")
    assert heard.session_id != session_id
    assert heard.of("tool_result")[0]["name"] == "memory_search"
    assert "Rex" in heard.last["text"]
    async with client(port) as http:
        listed = (await http.get("/api/v1/sessions")).json()
        assert session_id in [found["session_id"] for found in listed]
        whole = (await http.get(f"/api/v1/sessions/{session_id}")).json()
    assert (whole["messages"][0]["role"], whole["messages"][0]["content"]) == ("user", REX)
    assert [said["role"] for said in whole["messages"]] == ["user", "assistant", "tool", "assistant"]


@pytest.fixture(scope="module", params=[nullcontext, alone], ids=["as the machine is", "without any network"])
def port(request, tmp_path_factory):
    """Serve the built-in model, which needs nothing from outside (agent.md 8.13)."""
    with request.param(), server("hypercorn-asyncio", cwd=tmp_path_factory.mktemp("golden"), workers=0) as running:
        yield running.port


GOLDEN = [
    (SUM, ["calculator"], ANSWER),
    ("What's 15% of 240 plus 3?", ["calculator"], "39"),
    ("sqrt(2) to 5 digits", ["calculator"], "1.41421"),
    ("-2^2", ["calculator"], "-4"),
    ("0.1+0.2", ["calculator"], "0.3"),
    ("what date is 45 days after 2026-11-22?", ["datetime"], "2027-01-06"),
    ("what time is it in Madrid?", ["datetime"], "Europe/Madrid"),
    ("sha256 of hello", ["hash"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ('/tool json_query {"operation":"get","data":{"a":[1,2]},"path":"a.1"}', ["json_query"], "2"),
    ("¿cuánto es 17*23?", ["calculator"], ANSWER),
]


@pytest.mark.parametrize(("asked", "skills", "answer"), GOLDEN, ids=lambda value: str(value)[:24])
async def test_a_golden_example_is_answered_by_its_skill(asked, skills, answer, port):
    async with talking(port) as talk:
        heard = await talk.ask(asked)
    assert [call["name"] for call in heard.of("tool_call_end")] == skills
    assert [result["is_error"] for result in heard.of("tool_result")] == [False] * len(skills)
    assert answer in heard.closing["content"]


async def test_the_second_step_of_a_message_works_on_the_result_of_the_first(port):
    async with talking(port) as talk:
        heard = await talk.ask("calculate (12+8)/5 and then sha256 of it")
    first, second = heard.of("tool_call_end")
    assert (first["name"], second["name"]) == ("calculator", "hash")
    assert "4" in second["arguments"].values()
    assert "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a" in heard.last["text"]


async def test_a_note_is_found_again_from_a_new_socket_in_the_same_session(port):
    async with talking(port) as talk:
        told = await talk.ask(REX)
    async with talking(port) as talk:
        heard = await talk.ask("what is my dog's name?", session_id=told.session_id)
    assert heard.session_id == told.session_id
    assert heard.of("tool_result")[0]["name"] == "memory_search"
    assert "Rex" in heard.closing["content"]


async def test_a_skill_that_refuses_is_explained_in_words_and_the_run_is_done(port):
    async with talking(port) as talk:
        heard = await talk.ask("10/0")
    assert heard.of("tool_result")[0]["is_error"]
    assert "zero" in heard.closing["content"]
    assert heard.last["type"] == "done"


async def test_an_unknown_skill_is_answered_with_the_nearest_names(port):
    async with talking(port) as talk:
        heard = await talk.ask("/tool nope {}")
    assert heard.last["type"] == "done"
    assert "nope" in heard.closing["content"]
    assert any(name in heard.closing["content"] for name in ("calculator", "datetime", "json_query", "skills"))


async def test_what_no_rule_reads_is_answered_honestly_with_examples(port):
    async with talking(port) as talk:
        heard = await talk.ask("tell me a joke")
    assert (heard.of("tool_call_end"), heard.last["type"]) == ([], "done")
    assert "what is 17*23?" in heard.closing["content"]

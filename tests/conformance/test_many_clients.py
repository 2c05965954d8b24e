"""Many clients at once: nothing is lost, nothing changes its order, every reply belongs to what was asked."""

import asyncio
from hashlib import sha256
from itertools import groupby
from uuid import uuid4

import pytest
from processes import server
from recording import client, stream, streamed, talking

pytestmark = pytest.mark.slow

CLIENTS, SESSIONS, MESSAGES = 50, 10, 4
CHAT, STREAM = "/api/v1/agent/chat", "/api/v1/chat/stream"
BURST = 200


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server("hypercorn-uvloop", cwd=tmp_path_factory.mktemp("many"), workers=0) as running:
        yield running.port


@pytest.fixture(scope="module")
def slow_port(tmp_path_factory):
    with server("hypercorn-asyncio", "slow_app:app", cwd=tmp_path_factory.mktemp("busy"), workers=0) as running:
        yield running.port


def digest(word):
    return sha256(word.encode()).hexdigest()


def words(number):
    """Return what a client has to say, each word its own."""
    return [f"client-{number}-word-{turn}" for turn in range(MESSAGES)]


async def by_socket(port, session_id, number):
    """Say each word, each when the one before is answered."""
    async with talking(port) as talk:
        for word in words(number):
            heard = await talk.ask(f"sha256 of {word}", session_id=session_id)
            assert heard.session_id == session_id
            assert digest(word) in heard.closing["content"]


async def by_socket_at_once(port, session_id, number):
    """Say all words, then hear all answers; those of one session come in order."""
    async with talking(port) as talk:
        for word in words(number):
            await talk.say(content=f"sha256 of {word}", session_id=session_id)
        for word in words(number):
            while (frame := await talk.frame()).get("type") != "response":
                assert frame.get("msg_type") == "stream", frame
            assert digest(word) in frame["content"]


async def by_stream(port, session_id, number):
    for word in words(number):
        body = {"input": f"sha256 of {word}", "session_id": session_id, "on_busy": "enqueue"}
        heard = await streamed(port, "POST", STREAM, json=body)
        assert heard.session_id == session_id
        assert digest(word) in heard.last["text"]


async def by_request(port, session_id, number):
    async with client(port) as http:
        for word in words(number):
            body = {"message": f"sha256 of {word}", "session_id": session_id, "on_busy": "enqueue"}
            reply = await http.post(CHAT, json=body)
            assert reply.json()["session_id"] == session_id, reply.text
            assert digest(word) in reply.json()["response"]


async def by_asking_again(port, session_id, number):
    """Be refused while the session is busy, and ask again; each refusal says when."""
    async with client(port) as http:
        for word in words(number):
            body = {"message": f"sha256 of {word}", "session_id": session_id, "on_busy": "reject"}
            while (reply := await http.post(CHAT, json=body)).status_code == 409:
                assert (reply.json()["code"], reply.headers["retry-after"]) == ("session_busy", "1")
                await asyncio.sleep(0.02)
            assert digest(word) in reply.json()["response"], reply.text


CLIENT_KINDS = [by_socket, by_socket_at_once, by_stream, by_request, by_asking_again]


async def test_fifty_clients_on_ten_sessions_lose_no_message_and_no_order(port):
    # agent.md 1.10 D23
    sessions = [str(uuid4()) for _ in range(SESSIONS)]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            # Each session gets one client of each kind.
            talk = CLIENT_KINDS[number // SESSIONS]
            group.create_task(talk(port, sessions[number % SESSIONS], number))
    async with client(port) as http:
        for place, session_id in enumerate(sessions):
            whole = (await http.get(f"/api/v1/sessions/{session_id}")).json()
            holds_every_word(whole["messages"], range(place, CLIENTS, SESSIONS))


def holds_every_word(messages, numbers):
    """Check that the session has every word of its clients, each client's in order, each run's messages together."""
    asked = [said["content"].removeprefix("sha256 of ") for said in messages if said["role"] == "user"]
    assert sorted(asked) == sorted(word for number in numbers for word in words(number))
    for number in numbers:
        assert [word for word in asked if word in words(number)] == words(number)
    runs = [messages[at : at + 4] for at in range(0, len(messages), 4)]
    for user, call, result, reply in runs:
        roles = [said["role"] for said in (user, call, result, reply)]
        assert roles == ["user", "assistant", "tool", "assistant"]
        assert digest(user["content"].removeprefix("sha256 of ")) in reply["content"]


async def parked(talk, http, gate):
    """Begin a run that waits in the model; return its first frame."""
    await talk.say(content=f"model {gate}")
    started = await talk.frame()
    await http.get(f"/gates/{gate}")
    return started


async def contents(http, session_id):
    whole = (await http.get(f"/api/v1/sessions/{session_id}")).json()
    return [said["content"] for said in whole["messages"]]


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_a_busy_session_refuses_by_default_over_http_and_says_when_to_come_back(path, slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, client(slow_port) as http:
        started = await parked(talk, http, gate)
        body = {"message": "hello", "input": "hello", "session_id": talk.session_id}
        del body["input" if path == CHAT else "message"]
        refused = await http.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "session_busy")
        assert (refused.headers["retry-after"], refused.json()["retry_after"]) == ("1", 1)
        await talk.say(content="hello", run_options={"on_busy": "reject"})
        frame = await talk.until_closed()
        assert (frame["code"], frame["session_id"]) == ("session_busy", talk.session_id)
        await http.post(f"/gates/{gate}")
        await talk.until_closed()
        assert await contents(http, started["session_id"]) == [f"model {gate}", "half whole"]


async def test_a_busy_session_takes_messages_into_its_queue_in_order(slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, client(slow_port) as http:
        await parked(talk, http, gate)
        await talk.say(content="one")
        await talk.say(content="two", run_options={"on_busy": "enqueue"})
        await talk.until("run_started")
        await talk.until("run_started")
        body = {"message": "three", "session_id": talk.session_id, "on_busy": "enqueue"}
        third = asyncio.create_task(http.post(CHAT, json=body))
        async with client(slow_port) as other:
            await until_queued(other, talk.session_id, 3)
            await other.post(f"/gates/{gate}")
        assert (await third).json()["response"] == "you said three"
        said = await contents(http, talk.session_id)
    assert said[::2] == [f"model {gate}", "one", "two", "three"]
    assert said[1::2] == ["half whole", "you said one", "you said two", "you said three"]


async def until_queued(http, session_id, count):
    """Ask another process until so many runs wait in the session."""
    async with asyncio.timeout(5):
        while True:
            runs = (await http.get("/api/v1/runs", params={"session_id": session_id})).json()
            if [run["status"] for run in runs].count("queued") == count:
                return
            await asyncio.sleep(0.01)


async def test_a_session_queues_so_many_messages_and_refuses_the_next(slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, client(slow_port) as http:
        await parked(talk, http, gate)
        for number in range(17):
            await talk.say(content=f"say {number}")
        assert (await talk.until_closed())["code"] == "session_busy"
        await http.post(f"/gates/{gate}")
        closed = [await talk.until_closed() for _ in range(17)]
    assert [frame["content"] for frame in closed] == ["half whole", *(f"you said say {at}" for at in range(16))]


async def test_a_new_message_interrupts_the_run_before_it_and_keeps_what_that_said(slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, client(slow_port) as http:
        started = await parked(talk, http, gate)
        body = {"message": "instead", "session_id": talk.session_id, "on_busy": "interrupt"}
        reply = await http.post(CHAT, json=body)
        heard = await talk.record(taken=[started])
        assert (heard.last["type"], heard.last["reason"]) == ("cancelled", "interrupted by a new message")
        assert reply.json()["response"] == "you said instead"
        assert await contents(http, talk.session_id) == [f"model {gate}", "half ", "instead", "you said instead"]


@pytest.mark.parametrize("way", ["frame", "message", "request"])
async def test_a_running_turn_is_steered_by_whatever_way_the_words_come(way, slow_port):
    gate = str(uuid4())
    async with talking(slow_port) as talk, talking(slow_port) as other, client(slow_port) as http:
        await talk.say(content=f"skill {gate}")
        started = await talk.frame()
        await http.get(f"/gates/{gate}")
        body = {"input": "a hint", "session_id": talk.session_id, "on_busy": "steer"}
        if way == "frame":
            await other.say(type="steer", run_id=started["run_id"], content="a hint")
            accepted = await other.frame()
            assert accepted == {
                "type": "accepted", "request": "steer", "run_id": started["run_id"], "status": "running",
            }  # fmt: skip
        elif way == "message":
            await other.say(content="a hint", session_id=talk.session_id, run_options={"on_busy": "steer"})
            assert (await other.frame())["run_id"] == started["run_id"]
        else:
            first = await anext(stream(slow_port, "POST", STREAM, json=body))
            assert first.data["run_id"] == started["run_id"]
        await http.post(f"/gates/{gate}")
        heard = await talk.record(taken=[started])
        assert [event["text"] for event in heard.of("steered")] == ["a hint"]
        said = await contents(http, talk.session_id)
        assert said[0] == f"skill {gate}"
        assert "a hint" in said


async def test_one_key_starts_one_run_however_many_ask_at_once(port):
    key = {"idempotency-key": str(uuid4())}
    body = {"message": "generate 1 uuid"}
    async with client(port) as http:
        replies = await asyncio.gather(*(http.post(CHAT, json=body, headers=key) for _ in range(CLIENTS)))
        assert [reply.status_code for reply in replies] == [200] * CLIENTS
        [same] = [next(iter(group)) for _, group in groupby(reply.json() for reply in replies)]
        late = await http.post(CHAT, json=body, headers=key)
        assert late.json() == same
        runs = (await http.get("/api/v1/runs", params={"session_id": same["session_id"]})).json()
        assert [run["run_id"] for run in runs] == [same["run_id"]]
        other = await http.post(CHAT, json={"message": "generate 2 uuids"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_one_key_means_the_same_over_every_entry_point(port):
    key = str(uuid4())
    async with talking(port) as talk, client(port) as http:
        asked = {"content": "generate 1 uuid", "session_id": talk.session_id, "idempotency_key": key}
        first, again = await talk.ask(**asked), await talk.ask(**asked)
        assert again.events == first.events
        body = {"input": "generate 1 uuid", "session_id": talk.session_id}
        seen = await streamed(port, "POST", STREAM, json=body, headers={"idempotency-key": f'"{key}"'})
        assert (seen.run_id, seen.last) == (first.run_id, first.last)
        body = {"message": "generate 1 uuid", "session_id": talk.session_id}
        reply = await http.post(CHAT, json=body, headers={"idempotency-key": key})
        assert (reply.json()["run_id"], reply.json()["response"]) == (first.run_id, first.last["text"])
        assert len(await contents(http, talk.session_id)) == 4


async def test_a_key_that_is_claimed_while_its_run_goes_on_joins_that_run(slow_port):
    gate, key = str(uuid4()), {"idempotency-key": str(uuid4())}
    body = {"message": f"model {gate}"}
    async with client(slow_port) as http, client(slow_port) as other:
        first = asyncio.create_task(http.post(CHAT, json=body, headers=key))
        await other.get(f"/gates/{gate}")
        second = asyncio.create_task(http.post(CHAT, json=body, headers=key))
        refused = await other.post(CHAT, json={"message": "another"}, headers=key)
        assert refused.status_code == 422
        await other.post(f"/gates/{gate}")
        assert (await first).json() == (await second).json()


async def test_a_client_that_says_much_at_once_and_reads_hears_an_answer_to_all_of_it(port):
    async with talking(port) as talk:
        for _ in range(BURST):
            await talk.say(type="ping")
        assert [await talk.frame() for _ in range(BURST)] == [{"type": "pong"}] * BURST

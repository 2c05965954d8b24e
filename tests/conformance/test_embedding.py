"""Gateways inside another ASGI app: under a prefix, without a lifespan, with routes and skills of their own."""

import asyncio
import json
from urllib.parse import urljoin
from uuid import uuid4

import pytest
from processes import server
from recording import client, heard_frame, streamed, talking
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.slow

SUM = "what is 17*23?"
STOP_S = 3.0


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with server("hypercorn-asyncio", "embedded_apps:app", cwd=tmp_path_factory.mktemp("mounted"), workers=0) as running:
        yield running.port


async def test_a_mounted_gateway_serves_under_its_prefix_and_its_parent_the_rest(port):
    async with client(port) as http:
        assert (await http.get("/")).text == "parent"
        assert (await http.get("/api/v1/agent/status")).text == "parent"
        assert (await http.get("/one/health/ready")).status_code == 200
        assert (await http.get("/one/nowhere")).json()["code"] == "not_found"
        reply = await http.post("/one/api/v1/agent/chat", json={"message": SUM})
        assert "391" in reply.json()["response"]
    heard = await streamed(port, "POST", "/one/api/v1/chat/stream", json={"input": SUM})
    async with talking(port, path="/one/ws") as talk:
        again = await talk.resume(heard.run_id)
        assert again.last == heard.last
        assert "391" in (await talk.ask(SUM)).closing["content"]


async def test_the_first_requests_of_a_gateway_without_a_lifespan_start_it_once(tmp_path):
    async with server("hypercorn-uvloop", "embedded_apps:app", cwd=tmp_path, workers=0) as running:
        async with client(running.port) as http:
            body = {"message": SUM}
            replies = await asyncio.gather(*(http.post("/two/api/v1/agent/chat", json=body) for _ in range(10)))
            assert [reply.status_code for reply in replies] == [200] * 10
            assert len((await http.get("/two/api/v1/sessions")).json()) == 10
        assert {path.name for path in tmp_path.glob("*.db")} == {"two.db"}
        async with talking(running.port, path="/two/ws") as talk:
            told = await talk.ask("remember that my dog is called Rex")
    again = server("uvicorn", "embedded_apps:app", cwd=tmp_path)
    async with again as running, talking(running.port, path="/two/ws") as talk:
        heard = await talk.ask("what is my dog's name?")
        assert heard.session_id != told.session_id
        assert "Rex" in heard.closing["content"]


async def test_a_stop_reaches_gateways_whose_parent_tells_them_nothing(tmp_path):
    async with server("hypercorn-asyncio", "embedded_apps:app", cwd=tmp_path, workers=0) as running:
        async with talking(running.port, path="/one/ws") as one, talking(running.port, path="/two/ws") as two:
            running.terminate()
            code = await asyncio.to_thread(running.wait_s, STOP_S)
            for talk in (one, two):
                await asyncio.wait_for(talk.socket.wait_closed(), STOP_S)
        assert (code, one.socket.close_code, two.socket.close_code) == (0, 1012, 1012)


async def test_two_gateways_in_one_process_share_nothing(port):
    async with talking(port, path="/one/ws") as one, talking(port, path="/two/ws") as two, client(port) as http:
        heard = await one.ask("remember that my parrot is called Kiwi")
        assert "Kiwi" not in (await two.ask("what is my parrot's name?")).closing["content"]
        for path in (f"/api/v1/sessions/{heard.session_id}", f"/api/v1/runs/{heard.run_id}"):
            assert (await http.get(f"/one{path}")).status_code == 200
            assert (await http.get(f"/two{path}")).status_code == 404
        assert (await http.get("/one/api/v1/connections")).json()["session_ids"] == [one.session_id]
        before = (await http.get("/two/metrics")).text
        await http.get("/one/api/v1/skills")
        after = (await http.get("/two/metrics")).text
    route = 'route="/api/v1/skills"'
    assert [line for line in before.splitlines() if route in line] == [
        line for line in after.splitlines() if route in line
    ]


async def test_a_route_of_the_embedder_is_bound_checked_documented_and_counted_like_any_other(port):
    async with client(port) as http:
        greeting = (await http.get("/one/greetings/ana%20b", params={"times": 2})).json()
        assert greeting["words"] == "hello ana b hello ana b"
        assert (await http.get("/one/greetings/ana", params={"times": 4})).status_code == 422
        assert (await http.get("/one/greetings/nobody")).json()["code"] == "skill_not_found"
        assert (await http.post("/one/greetings/ana")).headers["allow"] == "GET, HEAD"
        assert (await http.get("/two/greetings/ana")).status_code == 404
        described = (await http.get("/one/openapi.json")).json()["paths"]
        assert described["/greetings/{name}"]["get"]["summary"] == "Greet somebody."
        assert "/greetings/{name}" not in (await http.get("/two/openapi.json")).json()["paths"]
        assert "/greetings/{name}" in (await http.get("/one/metrics")).text


async def test_a_socket_of_the_embedder_is_served(port):
    async with connect(f"ws://127.0.0.1:{port}/one/echo") as socket:
        await socket.send(json.dumps({"say": "back"}))
        assert await heard_frame(socket) == {"say": "back"}
    with pytest.raises(InvalidStatus):
        await connect(f"ws://127.0.0.1:{port}/two/echo")


async def test_a_skill_of_the_embedder_is_called_by_its_gateway_alone(port):
    async with talking(port, path="/one/ws") as one, talking(port, path="/two/ws") as two:
        heard = await one.ask('/tool dog_years {"years": 3}')
        assert heard.of("tool_result")[0]["content"] == '{"years":21,"owner":"anonymous"}'
        assert (await two.ask('/tool dog_years {"years": 3}')).of("tool_result") == []


async def test_the_next_page_is_found_from_under_the_prefix(port):
    async with client(port) as http:
        for _ in range(3):
            body = {"message": "hello", "session_id": str(uuid4())}
            await http.post("/one/api/v1/agent/chat", json=body)
        for path in ("/one/api/v1/sessions", "/one/api/v1/runs"):
            first = await http.get(path, params={"limit": 2})
            after = await http.get(urljoin(str(first.url), first.links["next"]["url"]))
            assert after.status_code == 200
            assert len(first.json()) == 2
            assert after.json()[0] not in first.json()
        path = f"/one/api/v1/sessions/{body['session_id']}"
        first = await http.get(path, params={"limit": 1})
        after = await http.get(urljoin(str(first.url), first.links["next"]["url"]))
        assert [said["content"] for said in first.json()["messages"]] == ["hello"]
        assert [said["role"] for said in after.json()["messages"]] == ["assistant"]

"""Skills from MCP servers over streamable HTTP."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import pytest
from mcp_house import HttpServer, Sourced
from processes import eventually

from argentor_asgi.agent.mcp import bridge
from argentor_asgi.agent.mcp.link import CALLS
from argentor_asgi.agent_sections import McpServer
from argentor_asgi.api_keys import Secret

pytestmark = pytest.mark.slow


@pytest.fixture(params=["", "json"])
def server(request):
    with HttpServer(request.param) as running:
        yield running


def at(url, timeout_s=30.0, **settings):
    return McpServer("demo", url=url, timeout_s=timeout_s, **settings)


async def test_tools_are_skills_whether_answers_are_streams_or_not(server):
    # agent.md 1.10 D22
    async with Sourced(at(server.url, read_only=("*",))) as sourced:
        await sourced.up()
        assert (await sourced.call("demo_add", a=1, b=2)).content == "3"
        assert (await sourced.call("demo_fail")).is_error
        together = await asyncio.gather(*(sourced.call("demo_add", a=n, b=n) for n in range(20)))
        assert [output.content for output in together] == [str(2 * n) for n in range(20)]


async def test_a_cancelled_call_closes_its_connection_and_the_server_sees_it(tmp_path):
    told = tmp_path / "told"
    with HttpServer() as running:
        async with Sourced(at(running.url)) as sourced:
            await sourced.up()
            call = asyncio.create_task(sourced.call("demo_slow", path=str(told)))
            await eventually(told.exists)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await eventually(lambda: "cancelled" in told.read_text())


async def test_an_answer_that_is_too_long_fails_its_call_alone(server):
    async with Sourced(at(server.url)) as sourced:
        await sourced.up()
        big = await sourced.call("demo_big", size=bridge.MESSAGE_BYTES + 1)
        assert big.is_error
        assert (await sourced.call("demo_add", a=1, b=2)).content == "3"


async def test_a_call_that_takes_too_long_is_given_up(tmp_path):
    """agent.md 1.10 D12: a call has a deadline."""
    told = tmp_path / "told"
    with HttpServer() as running:
        async with Sourced(at(running.url, timeout_s=2.0)) as sourced:
            await sourced.up()
            late = await sourced.call("demo_slow", path=str(told))
            assert late.is_error
            assert late.content == "The MCP server demo did not answer within 2 s."
            await eventually(lambda: "cancelled" in told.read_text())


async def test_a_server_that_is_not_there_yet_is_there_later_and_again_after_its_end(tmp_path, caplog):
    told = tmp_path / "told"
    running = HttpServer()
    async with Sourced(at(running.url)) as sourced:
        assert sourced.names == []
        assert "no connection could be made" in caplog.text
        await asyncio.to_thread(running.start)
        try:
            await sourced.up()
            call = asyncio.create_task(sourced.call("demo_slow", path=str(told)))
            await eventually(told.exists)
            await asyncio.to_thread(running.kill)
            assert (await call).is_error
            await eventually(lambda: not sourced.source.connected["demo"])
            assert "demo_add" in sourced.names
            await asyncio.to_thread(running.start)
            await sourced.up()
            assert (await sourced.call("demo_add", a=1, b=2)).content == "3"
        finally:
            running.kill()


class Handshaking:
    """A server of the handshake era with sessions, by hand. `forget` makes it answer 404 to those that there are."""

    def __init__(self):
        self.sessions, self.heard = [], []
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()

    def forget(self):
        self.sessions = [None] * len(self.sessions)

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                if b'"cut":true' in body:
                    writer.close()
                    return
                if b'"wait":true' in body:
                    self.waiting.set()
                    await self.go_on.wait()
                status, told, answered = self.answer(head.split(" ")[0], fields.get("mcp-session-id"), body)
                data = json.dumps(answered).encode() if answered else b""
                lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(data)}", *told]
                writer.write("\r\n".join([*lines, "", ""]).encode() + data)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    def answer(self, method, session, body):
        message = json.loads(body or b"{}")
        self.heard.append(message.get("method", method))
        if message.get("method") == "initialize":
            self.sessions.append(f"session-{len(self.sessions)}")
            told = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "h", "version": "1"}}
            return "200 OK", [f"Mcp-Session-Id: {self.sessions[-1]}"], self.result(message, told)
        if method == "delete":
            return "204 No Content", [], None
        if session not in self.sessions:
            return ("404 Not Found" if session else "400 Bad Request"), [], None
        if message.get("method") == "tools/list":
            return "200 OK", [], self.result(message, {"tools": [{"name": "which", "inputSchema": {"type": "object"}}]})
        if message.get("method") == "tools/call":
            return "200 OK", [], self.result(message, {"content": [{"type": "text", "text": session}]})
        return ("202 Accepted" if method == "post" else "405 Method Not Allowed"), [], None

    def result(self, message, told):
        return {"jsonrpc": "2.0", "id": message["id"], "result": told}


@asynccontextmanager
async def served(handshaking):
    """Let the server listen; yield it with a source that is connected to it."""
    async with await asyncio.start_server(handshaking.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with Sourced(at(f"http://127.0.0.1:{port}/mcp")) as sourced:
            await sourced.up()
            yield handshaking, sourced


async def test_a_session_that_its_server_forgot_is_made_anew_and_one_that_is_not_needed_is_ended():
    """agent.md 1.10 D22: the handshake era over HTTP."""
    async with served(Handshaking()) as (handshaking, sourced):
        assert (await sourced.call("demo_which")).content == "session-0"
        handshaking.forget()
        lost = await sourced.call("demo_which")
        assert lost.is_error
        assert "was lost" in lost.content
        assert (await sourced.call("demo_which")).content == "session-1"
    assert handshaking.heard[0] == "server/discover"
    assert handshaking.heard[-1] == "delete"


async def test_a_server_that_died_unseen_is_found_out_by_the_next_call():
    with HttpServer() as running:
        async with Sourced(at(running.url)) as sourced:
            await sourced.up()
            await asyncio.to_thread(running.kill)
            missed = await sourced.call("demo_add", a=1, b=2)
            assert missed.is_error
            assert "was not reached" in missed.content
            await eventually(lambda: not sourced.source.connected["demo"])
            await asyncio.to_thread(running.start)
            await sourced.up()
            assert (await sourced.call("demo_add", a=1, b=2)).content == "3"


async def test_more_calls_than_there_are_places_wait_for_theirs():
    with HttpServer() as running:
        async with Sourced(at(running.url)) as sourced:
            await sourced.up()
            napping = await asyncio.gather(*(sourced.call("demo_nap", seconds=0.1) for _ in range(2 * CALLS + 1)))
            assert 1 < max(int(output.content) for output in napping) <= CALLS


async def test_a_request_that_fails_leaves_the_others_alone():
    """The SDK gives up a connection for one request that fails; the bridge keeps that from it."""
    async with served(Handshaking()) as (handshaking, sourced):
        going_on = asyncio.create_task(sourced.call("demo_which", wait=True))
        await handshaking.waiting.wait()
        cut = await sourced.call("demo_which", cut=True)
        assert cut.is_error
        handshaking.go_on.set()
        assert (await going_on).content == "session-0"
        assert handshaking.sessions == ["session-0"]


async def test_where_nobody_may_connect_to_no_server_is(caplog):
    async with Sourced(at("http://169.254.169.254/mcp")) as sourced:
        assert sourced.source.connected == {"demo": False}
    assert "169.254.169.254 is link-local" in caplog.text


async def test_configured_headers_are_sent_and_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    heard = bytearray()

    async def refuse(reader, writer):
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        server = at(f"http://127.0.0.1:{port}/mcp", headers={"Authorization": Secret("Bearer s3cret")})
        async with Sourced(server) as sourced:
            assert sourced.source.connected == {"demo": False}
    assert b"authorization: bearer s3cret" in bytes(heard).lower()
    assert "s3cret" not in caplog.text

"""What a model makes the gateway ask for: nothing that is private, however it is written, named or led to.

The gateway, its model, a public site, a private one and a name server stand in a network of their own, so that names
resolve and public addresses are reached for real (agent.md 8.15, 1.10 D26).
"""

import asyncio
import gzip
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache

import psutil
import pytest
from alone import NamedServer, Names, alone, name_server
from doors import doors
from hosted_env import hosted_env
from hosted_models import openai_chunk
from raw_server import RawServer, raw_server
from recording import streamed
from scripted_backend import answer, call, calling

from argentor_asgi.agent.opt_in_skills.http_fetch import TIMEOUTS, http_fetch_skill
from argentor_asgi.agent.skills import OUTPUT_BYTES, TIMEOUT_S
from argentor_asgi.config import Capabilities
from argentor_asgi.net.http import Client, Timeouts

pytestmark = pytest.mark.slow

PUBLIC = "93.184.216.34"
PRIVATE_TEXT, PUBLIC_TEXT = b"the innermost", b"hello world"
BOMB_BYTES = 100 * 1024 * 1024
GROWTH_BYTES = 20 * 1024 * 1024
"""What the gateway's memory may grow by while it reads a bomb."""
NAMES = {
    "public.test": [[PUBLIC]],
    "rebind.test": [[PUBLIC], ["127.0.0.1"]],
    "both.test": [[PUBLIC, "127.0.0.1"]],
    "inner.test": [["127.0.0.1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "nothing.test": [["0.0.0.0"]],  # noqa: S104  what a name answers, and nothing that is bound
}
REFUSED = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://017700000001:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://public.test@127.0.0.1:{port}/",
    "http://public.test:80@127.0.0.1:{port}/",
    "http://public.test%40127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@public.test/",
    "http://127.0.0.1:{port}?@public.test/",
    "http://127.0.0.1:{port}\\@public.test/",
    "http://public.test\\@127.0.0.1:{port}/",
    "http://inner.test:{port}/",
    "http://both.test:{port}/",
    "http://mapped.test:{port}/",
    "http://metadata.test:{port}/",
    "http://nothing.test:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
]


async def model(asked, line):
    """Fetch what the user names, and answer once it is there."""
    said = asked.json()["messages"][-1]
    if said["role"] == "user":
        function = {"name": "http_fetch", "arguments": json.dumps({"url": said["content"]})}
        called = {"tool_calls": [{"index": 0, "id": "c1", "function": function}]}
        await line.events(openai_chunk(called), openai_chunk({}, "tool_calls"), "[DONE]")
    else:
        await line.events(openai_chunk({"content": "seen"}, "stop"), "[DONE]")


async def private(_, line):
    await line.answer(PRIVATE_TEXT)


async def public(asked, line):
    """Say hello; `/to?URL` leads there, `/bomb` unfolds to a hundred megabytes."""
    if asked.target.startswith("/to?"):
        await line.answer(b"moved", 302, location=asked.target[4:])
    elif asked.target == "/bomb":
        await line.answer(bomb(), content_encoding="gzip")
    else:
        await line.answer(PUBLIC_TEXT)


@cache
def bomb():
    """Return what unfolds to zeros without an end in sight."""
    return gzip.compress(bytes(BOMB_BYTES), compresslevel=1)


@dataclass
class Place:
    """All that stands in the network. Both sites listen on the same port, each at its address."""

    gateway: NamedServer
    private: RawServer
    public: RawServer
    names: Names

    async def fetched(self, url: str) -> dict:
        """Have the model fetch this; return what it is told, as an event."""
        sent = {"input": url.format(port=self.public.port)}
        heard = await streamed(self.gateway.port, "POST", "/api/v1/chat/stream", json=sent)
        assert (heard.last["type"], heard.last["text"]) == ("done", "seen")
        [result] = heard.of("tool_result")
        return result


@asynccontextmanager
async def network(directory):
    async with AsyncExitStack() as stack:
        stack.enter_context(alone(PUBLIC))
        names = await stack.enter_async_context(name_server(NAMES))
        inner = await stack.enter_async_context(raw_server(private))
        outer = await stack.enter_async_context(raw_server(public, host=PUBLIC, port=inner.port))
        models = await stack.enter_async_context(raw_server(model))
        env = hosted_env(models.url, agent_skills="http_fetch", capabilities_network_access="*")
        gateway = await stack.enter_async_context(NamedServer("serve", cwd=directory, env=env))
        yield Place(gateway, inner, outer, names)


async def test_a_model_reaches_public_addresses_alone_whatever_it_writes_and_wherever_it_is_led(tmp_path, subtests):
    async with network(tmp_path) as place:
        told = await place.fetched("http://public.test:{port}/")
        assert (told["is_error"], json.loads(told["content"])["text"]) == (False, PUBLIC_TEXT.decode())
        for url in REFUSED:
            with subtests.test(url=url):
                await refused(place, url)
        for url in REFUSED:
            if url.isascii() and "#" not in url:
                with subtests.test(redirect=url):
                    await refused(place, f"http://public.test:{{port}}/to?{url}")
        assert place.private.asked == []


async def refused(place, url):
    told = await place.fetched(url)
    assert told["is_error"], told
    assert PRIVATE_TEXT.decode() not in told["content"]
    assert place.private.lines == [], "it connected"


async def test_a_name_that_changes_its_mind_is_asked_once_and_what_was_judged_is_what_is_reached(tmp_path):
    async with network(tmp_path) as place:
        told = await place.fetched("http://rebind.test:{port}/")
        assert json.loads(told["content"])["text"] == PUBLIC_TEXT.decode()
        assert (place.names.asked["rebind.test"], place.private.lines) == (1, [])
        told = await place.fetched("http://public.test:{port}/to?http://rebind.test:{port}/")
        assert PRIVATE_TEXT.decode() not in told["content"]
        assert place.private.lines == []


async def test_a_body_that_unfolds_without_end_is_cut_while_it_is_read(tmp_path):
    async with network(tmp_path) as place:
        await place.fetched("http://public.test:{port}/")
        before = psutil.Process(place.gateway.pid).memory_info().rss
        told = await place.fetched("http://public.test:{port}/bomb")
        assert psutil.Process(place.gateway.pid).memory_info().rss - before < GROWTH_BYTES
        assert len(told["content"].encode()) <= OUTPUT_BYTES
        said = json.loads(told["content"])
        assert (said["truncated"], set(said["text"])) == (True, {"\x00"})


# --- sites that take their time ----------------------------------------------------------------------------------


async def drips_its_head(_, line):
    await line.send(b"HTTP/1.1 200 OK\r\n")
    while not line.closed.done():
        await line.send(b"x")
        await asyncio.sleep(0.02)


async def drips_its_body(_, line):
    await line.stream()
    while not line.closed.done():
        await line.chunk(b"x")
        await asyncio.sleep(0.02)


async def says_nothing(_, line):
    await line.stall()


@pytest.mark.parametrize("site", [drips_its_head, drips_its_body, says_nothing])
async def test_a_site_that_takes_its_time_is_left_and_the_run_goes_on(site):
    """A site that keeps every phase within its time is still cut by the time of the whole."""

    async def resolve(_host, _port):
        return ["127.0.0.1"]

    own = Client(timeouts=Timeouts(first_byte_s=0.5, idle_s=0.3, total_s=0.4), allow_private=True, resolve=resolve)
    async with raw_server(site) as raw:
        fetch = http_fetch_skill(own, ("slow.test",))
        script = calling(call("c1", "http_fetch", json.dumps({"url": f"http://slow.test:{raw.port}/"})))
        tables = {"capabilities": Capabilities(network_access=("slow.test",))}
        async with doors(script, answer("seen"), skills=[fetch], tables=tables) as house, house.talk() as talk:
            heard = await talk.ask("fetch")
        assert (heard.last["type"], heard.last["text"]) == ("done", "seen")
        [result] = heard.of("tool_result")
        assert result["is_error"]
        assert "could not be read" in result["content"]
        await raw.lines[0].gone()
    await own.aclose()


def test_a_fetch_ends_before_its_skill_does():
    assert TIMEOUTS.total_s < TIMEOUT_S

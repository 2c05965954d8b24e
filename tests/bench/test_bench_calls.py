import asyncio
import json
from importlib.util import find_spec

import pytest

from bench import bare, peers
from bench.calls import HEADERS, Exchange, http_scope, lifespan
from bench.harness import Plan


async def _get(app, path="/health"):
    async with lifespan(app) as state:
        exchange = Exchange(b"")
        await app(http_scope("GET", path, HEADERS, state), exchange.receive, exchange.send)
    return exchange


async def test_the_bare_callable_answers_what_the_gateway_answers():
    exchange = await _get(bare.app)
    assert (exchange.status, exchange.done, exchange.chunks) == (200, True, bare.BODY)


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.PEERS)
async def test_a_peer_answers_the_same_json(name):
    if find_spec(name) is None:
        assert f"{name} (not installed)" in peers.absent(Plan(1, 1.0))
        pytest.skip(f"{name} is not installed: pip install -e '.[bench]'")
    exchange = await _get(peers.PEERS[name]())
    assert (exchange.status, exchange.done, json.loads(exchange.chunks)) == (200, True, json.loads(bare.BODY))


@pytest.mark.parametrize("wanted", [True, False])
def test_every_peer_is_measured_or_named_as_absent(wanted):
    plan = Plan(1, 1.0, peers=wanted)
    unmeasured = {name.split()[0] for name in peers.absent(plan)}
    assert {*peers.present(plan), *unmeasured} >= set(peers.PEERS)
    assert not set(peers.present(plan)) & unmeasured


async def test_the_disconnect_comes_when_the_answer_is_complete():
    exchange = Exchange(b"question")
    assert await exchange.receive() == {"type": "http.request", "body": b"question", "more_body": False}
    waiting = asyncio.create_task(exchange.receive())
    await asyncio.sleep(0)
    await exchange.send({"type": "http.response.start", "status": 200, "headers": []})
    await exchange.send({"type": "http.response.body", "body": b"an", "more_body": True})
    await asyncio.sleep(0)
    assert not waiting.done()
    await exchange.send({"type": "http.response.body", "body": b"swer"})
    assert await waiting == {"type": "http.disconnect"}
    assert await exchange.receive() == {"type": "http.disconnect"}
    assert exchange.chunks == b"answer"


async def test_a_lifespan_is_started_and_shut_down_in_one_task():
    heard = []

    async def app(scope, receive, send):
        scope["state"]["here"] = True
        for what in ("startup", "shutdown"):
            heard.append((await receive())["type"])
            await send({"type": f"lifespan.{what}.complete"})

    async with lifespan(app) as state:
        assert state == {"here": True}
        assert heard == ["lifespan.startup"]
    assert heard == ["lifespan.startup", "lifespan.shutdown"]


async def test_an_application_without_a_lifespan_may_return():
    async def app(_scope, receive, _send):
        await receive()

    async with lifespan(app) as state:
        assert state == {}


async def test_an_application_that_refuses_to_start_is_not_measured():
    async def app(_scope, _receive, send):
        await send({"type": "lifespan.startup.failed", "message": "no key"})

    with pytest.raises(RuntimeError, match="no key"):
        async with lifespan(app):
            pass


async def test_an_application_that_raises_at_start_is_not_measured():
    async def app(_scope, _receive, _send):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with lifespan(app):
            pass

"""`argentor_asgi.api.ops`: what probes and operators ask, and that it is true."""

import json
import re
from datetime import UTC, datetime

import pytest
from asgi_driver import soon
from doors import CHAT, doors
from scripted_backend import Park, answer, call, calling

from argentor_asgi.compose import openapi
from argentor_asgi.errors import ProviderUnavailable, StorageUnavailable
from argentor_asgi.protocol.llm import Finish, TextPiece

pytestmark = pytest.mark.slow

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
OPENMETRICS = "application/openmetrics-text"


async def samples(house, **headers):
    """Return the values of a scrape by their series."""
    found = await house.get("/metrics", **headers)
    assert found.status == 200
    lines = [line for line in found.body.decode().splitlines() if line and not line.startswith("#")]
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


async def test_the_probes_tell_who_starts_and_stops_it():
    async with doors(keys=("me",)) as house:
        anyone = house.as_(None)
        assert (await anyone.get("/health")).json() == {"status": "ok", "service": "argentor"}
        assert (await anyone.get("/health/live")).json() == {"status": "alive", "service": "argentor"}
        ready = await anyone.get("/health/ready")
        checks = {"not_shutting_down": "ok", "rest_api": "ok", "control_plane": "not_mounted", "connections": "ok"}
        assert (ready.status, ready.json()["checks"]) == (200, {**checks, "store": "ok", "audit": "ok"})
        house.drain.begin("test")
        statuses = [(await anyone.get(path)).status for path in ("/health", "/health/live", "/health/ready")]
        assert statuses == [503, 200, 503]
        assert (await anyone.get("/health")).json()["status"] == "shutting_down"
        assert (await anyone.get("/health/ready")).json()["checks"]["not_shutting_down"] == "not_ready"


async def test_a_gateway_whose_store_fails_is_alive_and_not_ready():
    async with doors() as house:
        house.store.faults["check"] = StorageUnavailable("a secret")
        found = await house.get("/health/ready")
        assert (found.status, found.json()["checks"]["store"]) == (503, "not_ready")
        assert b"a secret" not in found.body
        assert (await house.get("/health")).status == 200


async def test_one_chat_is_counted_once_everywhere():
    tools = calling(call("c1", "echo", '{"text":"x"}'))
    async with doors(tools, answer("done"), [ProviderUnavailable()]) as house:
        before = await samples(house)
        assert before["argentor_runs_active"] == 0
        assert (await house.post(CHAT, {"message": "hi"})).status == 200
        assert (await house.post(CHAT, {"message": "hi"})).status == 502
        after = await samples(house)
        rose = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
        chat = 'method="POST",path="/api/v1/agent/chat"'
        expected = {
            'argentor_runs_total{status="done"}': 1,
            'argentor_runs_total{status="failed"}': 1,
            "argentor_run_duration_seconds_count": 2,
            'argentor_llm_calls_total{provider="scripted"}': 3,
            'argentor_turns_total{finish_reason="tool_calls",provider="scripted"}': 1,
            'argentor_turns_total{finish_reason="stop",provider="scripted"}': 1,
            'argentor_turns_total{finish_reason="provider_unavailable",provider="scripted"}': 1,
            'argentor_tokens_used_total{direction="input",provider="scripted"}': 6,
            'argentor_tokens_used_total{direction="output",provider="scripted"}': 4,
            f'argentor_http_requests_total{{{chat},status="200"}}': 1,
            f'argentor_http_requests_total{{{chat},status="502"}}': 1,
            'argentor_http_requests_total{method="GET",path="/metrics",status="200"}': 1,
        }
        assert expected.items() <= rose.items()


async def test_a_run_and_a_socket_are_active_while_they_are():
    async with doors(HALVES) as house:
        async with house.talk() as talk:
            talk.say(content="hi")
            await soon(house.backend.parked.wait())
            found = await samples(house)
            assert (found["argentor_runs_active"], found["argentor_active_connections"]) == (1, 1)
            house.backend.release.set()
            await talk.until_closed()
        found = await samples(house)
        assert (found["argentor_runs_active"], found["argentor_active_connections"]) == (0, 0)
        assert found['argentor_websocket_connections_total{path="/ws"}'] == 1


async def test_metrics_come_as_text_or_as_openmetrics_with_the_same_numbers():
    async with doors() as house:
        await house.post(CHAT, {"message": "hi"})
        text, openmetrics = await house.get("/metrics"), await house.get("/metrics", accept=OPENMETRICS)
        assert text.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        assert openmetrics.header("content-type") == f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
        assert openmetrics.body.endswith(b"# EOF\n")
        for found in (text, openmetrics):
            assert re.search(rb'^argentor_runs_total\{status="done"\} 1\.0$', found.body, re.MULTILINE)


async def test_the_description_is_that_of_the_declared_routes_and_asks_for_a_key_only_where_there_are_some():
    declared = json.loads(json.dumps(openapi()))
    async with doors(keys=("me",)) as house:
        found = await house.get("/openapi.json")
        assert (found.status, found.header("content-type")) == (200, "application/json")
        assert found.json() == declared
    async with doors() as house:
        described = (await house.get("/openapi.json")).json()
        assert described["paths"].keys() == declared["paths"].keys()
        assert {} in described["paths"]["/metrics"]["get"]["security"]


async def test_open_connections_are_ones_own():
    async with doors(keys=("me", "you")) as house, house.talk() as one, house.talk() as two:
        found = (await house.get("/api/v1/connections")).json()
        assert found == {"count": 2, "session_ids": sorted([one.session_id, two.session_id])}
        assert (await house.as_("you").get("/api/v1/connections")).json() == {"count": 0, "session_ids": []}
        two.peer.leave()
        await two.peer.end()
        assert (await house.get("/api/v1/connections")).json()["count"] == 1


async def test_the_main_numbers_are_ones_own():
    async with doors(keys=("me", "you")) as house, house.talk() as talk:
        await talk.ask("hi")
        await house.post(CHAT, {"message": "hi"})
        found = (await house.get("/api/v1/metrics")).json()
        skills = len((await house.get("/api/v1/skills")).json())
        age = datetime.now(UTC) - datetime.fromisoformat(found.pop("started_at"))
        assert 0 <= found.pop("uptime_seconds") <= age.total_seconds() < 60
        assert found == {"active_connections": 1, "active_sessions": 2, "skills_registered": skills}
        theirs = (await house.as_("you").get("/api/v1/metrics")).json()
        assert (theirs["active_connections"], theirs["active_sessions"]) == (0, 0)


async def test_numbers_of_a_store_that_fails_are_503():
    async with doors() as house:
        house.store.faults["count_sessions"] = StorageUnavailable()
        assert (await house.get("/api/v1/metrics")).status == 503


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/api/v1/connections", "/api/v1/metrics"])
async def test_what_operators_ask_needs_a_key(path):
    async with doors(keys=("me",)) as house:
        assert (await house.as_(None).get(path)).status == 401
        assert (await house.get(path)).status == 200

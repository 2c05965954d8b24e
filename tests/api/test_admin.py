"""`argentor_asgi.api.admin`: an operator's drain is the process's own, is audited, and can be waited for."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from asgi_driver import app_of, begin, http, soon

from argentor_asgi.api.admin import REASON_CHARS, begin_drain, drain_status
from argentor_asgi.asgi.app import Constant
from argentor_asgi.asgi.route import rows_of
from argentor_asgi.gateway.services import Services
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.security.identity import Principal

pytestmark = pytest.mark.slow

DRAIN = "/api/v1/admin/drain"
HOST = {"host": "localhost"}
OPERATOR = Principal("ops", "acme")


class Site:
    """The two routes over a real drain, whose one hook waits for `go`, and a real audit log."""

    def __init__(self, directory):
        self.go = asyncio.Event()
        self.drain = Drain(clock=SystemClock(), drain_s=5.0)
        self.drain.hook("drain", "work", self.go.wait)
        self.audit = Audit(directory, clock=SystemClock(), file_bytes=10**6, retention_days=1)
        services = SimpleNamespace(drain=self.drain, audit=self.audit, address_of=lambda request: request.client)
        provide = {Services: Constant(services), Principal: Constant(OPERATOR)}
        self.app = app_of(begin_drain, drain_status, provide=provide)

    def post(self, target=DRAIN, body=None):
        fields = HOST if body is None else {"content-type": "application/json", **HOST}
        return begin(self.app, "POST", target, headers=fields, body=b"" if body is None else json.dumps(body).encode())

    async def status(self):
        return (await http(self.app, "GET", DRAIN, headers=HOST)).json()


@pytest.fixture
async def site(tmp_path):
    made = Site(tmp_path / "audit")
    async with made.audit:
        yield made
        made.go.set()


def entries(directory):
    return [json.loads(line) for path in directory.glob("*.jsonl") for line in path.read_text().splitlines()]


async def test_it_begins_the_drain_and_answers_at_once(site):
    answer = await site.post(body={"reason": "an upgrade"}).end()
    said = answer.json()
    assert (answer.status, said["status"], said["report"]["reason"]) == (202, "draining", "ops: an upgrade")
    assert 0 < said["remaining_s"] <= 30
    assert site.drain.draining
    assert not site.drain.finished.is_set()
    site.go.set()
    await soon(site.drain.finished.wait())


async def test_who_waits_is_told_how_it_went(site):
    waiting = site.post(f"{DRAIN}?wait=true")
    await soon(site.drain.refused.wait())
    assert not waiting.task.done()
    site.go.set()
    answer = await waiting.end()
    said = answer.json()
    assert (answer.status, said["status"]) == (200, "finished")
    assert [(found["name"], found["success"]) for found in said["report"]["hook_results"]] == [("work", True)]


async def test_a_second_call_joins_the_drain_that_goes_on(site):
    await site.post(body={"reason": "first"}).end()
    second = site.post(f"{DRAIN}?wait=true", {"reason": "second"})
    site.go.set()
    assert (await second.end()).json()["report"]["reason"] == "ops: first"


async def test_a_waiting_operator_who_leaves_does_not_stop_the_drain(site):
    waiting = site.post(f"{DRAIN}?wait=true")
    await soon(site.drain.begun.wait())
    waiting.task.cancel()
    site.go.set()
    assert (await soon(site.drain.report())).hooks_succeeded == 1


async def test_the_status_is_there_before_during_and_after(site):
    seen = [await site.status()]
    site.drain.begin("test")
    seen.append(await site.status())
    site.go.set()
    await soon(site.drain.finished.wait())
    seen.append(await site.status())
    assert [found["status"] for found in seen] == ["serving", "draining", "finished"]
    assert [found["report"] is None for found in seen] == [True, False, False]
    assert seen[2]["report"]["completed_in_time"] is True


@pytest.mark.parametrize("reason", ["x" * (REASON_CHARS + 1), "two\nlines", "\x1b[2J", 5])
async def test_a_reason_is_one_short_line(site, reason):
    assert (await site.post(body={"reason": reason}).end()).status == 422
    assert not site.drain.draining


async def test_it_is_audited_with_who_and_why(site, tmp_path):
    await site.post(body={"reason": "an upgrade"}).end()
    await site.audit.flush()
    [entry] = [found for found in entries(tmp_path / "audit") if found["action"] == "drain"]
    assert (entry["outcome"], entry["principal"], entry["tenant"]) == ("success", "ops", "acme")
    assert entry["details"] == {"reason": "an upgrade"}


def test_both_routes_need_an_administrator_and_answer_while_the_gateway_stops():
    rows = [row for handler in (begin_drain, drain_status) for row in rows_of(handler)]
    assert [(row.method, row.needs, row.even_draining) for row in rows] == [
        ("POST", "admin", True),
        ("GET", "admin", True),
    ]

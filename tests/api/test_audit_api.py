"""`argentor_asgi.api.audit`: the log over HTTP, behind a guard that believes a header."""

from types import SimpleNamespace

import pytest
from asgi_driver import app_of, http
from audit_place import an_audit

from argentor_asgi.api import audit as api
from argentor_asgi.asgi.bind import Constant
from argentor_asgi.asgi.route import routes_in
from argentor_asgi.gateway.services import Services
from argentor_asgi.security.identity import Principal

pytestmark = pytest.mark.slow

ROOT = Principal("root")
ADMIN = Principal("admin", "acme", frozenset({"audit:read", "admin"}))
CLERK = Principal("clerk", "acme", frozenset({"audit:read"}))
LOGS, VIOLATIONS, STATS = (f"/api/v1/audit/{name}" for name in ("logs", "violations", "stats"))


class Doors:
    """The routes of the log over a log. `by`: who asks."""

    def __init__(self, audit):
        self.audit, self.by = audit, ROOT
        handlers = [row.handler for row in routes_in(api)]
        provide = {Services: Constant(SimpleNamespace(audit=audit)), Principal: lambda _: self.by}
        self.app = app_of(*handlers, provide=provide)

    async def get(self, target, by=ROOT):
        self.by = by
        await self.audit.flush()
        return await http(self.app, "GET", target, headers={"host": "localhost"})


@pytest.fixture
async def doors(tmp_path):
    async with an_audit(tmp_path / "audit") as audit:
        yield Doors(audit)


def header_texts(answer):
    return {name.decode(): value.decode() for name, value in answer.headers}


def test_every_route_needs_the_scope():
    assert {(row.template, row.needs) for row in routes_in(api)} == {
        (LOGS, "audit:read"),
        (VIOLATIONS, "audit:read"),
        (STATS, "audit:read"),
    }


async def test_a_log_is_a_bare_array_of_entries_newest_first(doors):
    doors.audit.record(
        "tool_call",
        outcome="success",
        principal="ci",
        tenant="acme",
        session_id="s",
        skill_name="echo",
        request_id="r",
        address="192.0.2.1",
        details={"call_id": "c", "token": "x"},
    )
    answer = await doors.get(LOGS)
    assert answer.status == 200
    assert [row["action"] for row in answer.json()] == ["tool_call", "audit_opened"]
    assert answer.json()[0] == {
        "timestamp": "2026-03-01T12:00:00Z",
        "session_id": "s",
        "action": "tool_call",
        "skill_name": "echo",
        "details": {"call_id": "c", "token": "***"},
        "outcome": "success",
        "principal": "ci",
        "tenant": "acme",
        "request_id": "r",
        "address": "192.0.2.1",
        "seq": 2,
    }
    assert not {"x-next-cursor", "link"} & set(header_texts(answer))


@pytest.mark.parametrize(("path", "limit"), [(LOGS, 2), (VIOLATIONS, 3)])
async def test_pages_are_followed_by_link_or_cursor_to_the_end(doors, path, limit):
    for _ in range(7):
        doors.audit.record("forbidden", outcome="denied")
    found, target = [], f"{path}?limit={limit}"
    while target:
        answer = await doors.get(target)
        found += [row["seq"] for row in answer.json()]
        headers = header_texts(answer)
        cursor = headers.get("x-next-cursor")
        target = cursor and f"{path}?limit={limit}&cursor={cursor}"
        if cursor:
            assert headers["link"] == f'<?limit={limit}&cursor={cursor}>; rel="next"'
    assert [seq for seq in found if seq > 1] == list(range(8, 1, -1))


async def test_a_caller_sees_its_tenant_alone_unless_it_is_an_admin(doors):
    for tenant in ("acme", "other", None):
        doors.audit.record("forbidden", outcome="denied", tenant=tenant)
    for by, count in ((CLERK, 1), (ADMIN, 3), (ROOT, 3)):
        assert len((await doors.get(VIOLATIONS, by)).json()) == count
        assert (await doors.get(STATS, by)).json()["violations_today"] == count
    assert [row["tenant"] for row in (await doors.get(LOGS, CLERK)).json()] == ["acme"]


async def test_a_violation_says_its_rule_how_severe_it_is_and_why(doors):
    doors.audit.record("forbidden", outcome="denied", session_id="s", details={"rule": "scope", "message": "no scope"})
    doors.audit.record("rate_limited", outcome="denied")
    doors.audit.record(
        "guardrail_input",
        outcome="success",
        details={"blocked": True, "rule_name": "pii", "reason": "an address", "severity": "warn"},
    )
    found = (await doors.get(VIOLATIONS)).json()
    assert [(row["rule"], row["severity"], row["message"], row["session_id"]) for row in found] == [
        ("pii", "warn", "an address", None),
        ("rate_limited", "block", "rate_limited", None),
        ("scope", "block", "no scope", "s"),
    ]
    assert set(found[0]) == {"timestamp", "session_id", "rule", "severity", "message", "seq"}


async def test_numbers_have_the_names_of_the_original(doors):
    doors.audit.record("forbidden", outcome="denied")
    assert (await doors.get(STATS)).json() == {
        "events_today": 2,
        "violations_today": 1,
        "block_rate_percent": 50.0,
        "total_events": 2,
    }


@pytest.mark.parametrize("path", [LOGS, VIOLATIONS])
@pytest.mark.parametrize("query", ["cursor=x", "cursor=0", "cursor=-3", "limit=0", "limit=x", "limit=1001"])
async def test_a_cursor_or_limit_that_is_none_is_refused_with_its_name(doors, path, query):
    answer = await doors.get(f"{path}?{query}")
    assert answer.status == 422
    assert answer.json()["details"][0]["pointer"].endswith(query.partition("=")[0])


async def test_violations_take_a_smaller_limit(doors):
    assert (await doors.get(f"{VIOLATIONS}?limit=501")).status == 422
    assert (await doors.get(f"{VIOLATIONS}?limit=500")).status == 200
    assert (await doors.get(f"{LOGS}?limit=1000")).status == 200


async def test_the_defaults_are_those_of_the_original(doors):
    for _ in range(130):
        doors.audit.record("forbidden", outcome="denied")
    assert len((await doors.get(LOGS)).json()) == 100
    assert len((await doors.get(VIOLATIONS)).json()) == 50


async def test_a_log_that_cannot_be_read_is_unavailable(doors, tmp_path):
    await doors.audit.flush()
    (tmp_path / "audit").rename(tmp_path / "away")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.jsonl").mkdir()
    answer = await http(doors.app, "GET", LOGS, headers={"host": "localhost"})
    assert (answer.status, answer.json()["code"]) == (503, "storage_unavailable")

"""The audit log as an auditor finds it: what is in it, that nobody changed it, and what outlives its process."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from itertools import pairwise

import pytest
from gatehouse import CHAT, CHEAP, KEYS, SERVERS, Line, ask, eventually, guarded, key, opened, secret
from prometheus_client.parser import text_string_to_metric_families
from recording import PATIENCE_S

from argentor_asgi.ops.audit_verify import verify

pytestmark = pytest.mark.slow

LOGS, VIOLATIONS, STATS = "/api/v1/audit/logs", "/api/v1/audit/violations", "/api/v1/audit/stats"
PLACE = "argentor.db-audit"
"""Where the log is by default: beside the database."""
SAID = "tell-nobody-what-i-said"
MANY = {"limits_requests_per_minute": 10_000, "limits_requests_per_hour": 10_000}
REPEATS = 300
served = pytest.mark.parametrize(("kind", "workers"), SERVERS)


def entries(directory):
    """Return every line of the log, in order."""
    return [json.loads(line) for line in (directory / PLACE / "audit.jsonl").read_bytes().splitlines()]


def actions(rows):
    return [row["action"] for row in rows]


def is_whole(directory):
    """Check the chain by the code and by the command, which is what an auditor has."""
    report = verify(directory / PLACE)
    assert report.first_break is None, report
    found = subprocess.run(  # noqa: S603  our own interpreter, our own arguments
        [sys.executable, "-m", "argentor_asgi", "audit", "verify", str(directory / PLACE)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (found.returncode, found.stdout.splitlines()[-1]) == (0, "the chain is whole"), found
    return report


@served
def test_what_was_done_and_refused_is_in_it_in_order_and_the_stop_is_the_last_of_it(kind, workers, tmp_path):
    keys = [key("root"), key("few", plan="few", tenant="acme"), key("blind", tenant="acme", scopes=["runs:read"])]
    plans = {"few": {"requests_per_minute": 1}}
    with guarded(kind, tmp_path, keys, workers=workers, plans=plans, **MANY) as running:
        port = running.port
        assert ask(port, "GET", CHEAP).status == 401
        assert ask(port, "GET", CHEAP, text="wrong").status == 401
        assert ask(port, "GET", CHEAP, who="blind").status == 403
        assert [ask(port, "GET", CHEAP, who="few").status for _ in range(2)] == [200, 429]
        made = ask(port, "POST", KEYS, {"name": "ci", "scopes": ["chat:write"]}, who="root").json()
        new = ask(port, "POST", f"{KEYS}/{made['id']}/rotate", who="root").json()
        assert ask(port, "DELETE", f"{KEYS}/{new['id']}", who="root").status == 200
        run = ask(port, "POST", CHAT, {"message": "what is 17*23?"}, who="root").json()
        assert ask(port, "POST", CHAT, {"message": SAID}, who="root").status == 200
        assert ask(port, "DELETE", f"/api/v1/sessions/{run['session_id']}", who="root").status == 200
        assert ask(port, "POST", "/api/v1/admin/drain", {"reason": "tested"}, who="root").status == 202
        running.terminate()
        running.wait_s(PATIENCE_S)
    rows = entries(tmp_path)
    is_chain(tmp_path, rows)
    told = [row for row in rows if row["action"] not in {"audit_opened", "audit_closed"}]
    expected = ["auth_failed", "auth_failed", "forbidden", "rate_limited", "key_create", "key_rotate", "key_revoke"]
    expected += ["run_start", "tool_call", "tool_result", "run_end", "run_start", "run_end", "session_delete", "drain"]
    assert actions(told) == expected
    by_action = {row["action"]: row for row in told}
    assert [row["details"]["reason"] for row in told[:2]] == ["missing", "invalid"]
    assert {row["outcome"] for row in told[:4]} == {"denied"}
    assert by_action["forbidden"]["details"]["needs"] == "skills:read"
    assert (by_action["rate_limited"]["principal"], by_action["rate_limited"]["tenant"]) == ("few", "acme")
    assert by_action["key_create"]["details"]["key_id"] == made["id"]
    assert by_action["key_rotate"]["details"]["new_key_id"] == new["id"]
    assert by_action["key_revoke"]["details"]["key_id"] == new["id"]
    assert by_action["tool_call"]["skill_name"] == by_action["tool_result"]["skill_name"] == "calculator"
    assert by_action["run_end"]["details"]["status"] == "done"
    assert by_action["session_delete"]["session_id"] == run["session_id"]
    assert by_action["drain"]["details"]["reason"] == "tested"
    text = json.dumps(rows)
    for hidden in (SAID, secret("root"), secret("few"), made["key"], new["key"], 'wrong"'):
        assert hidden not in text


def is_chain(directory, rows):
    """Check the numbers, the order, the ends, the modes and the hashes."""
    report = is_whole(directory)
    assert [row["seq"] for row in rows] == list(range(1, report.last_seq + 1))
    assert all(before["hash"] == after["prev"] for before, after in pairwise(rows))
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    assert times == sorted(times)
    assert (rows[0]["action"], rows[-1]["action"]) == ("audit_opened", "audit_closed")
    place = directory / PLACE
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


def test_a_line_that_is_changed_or_missing_shows(tmp_path):
    with guarded("serve", tmp_path, [key("root")]) as running:
        for number in range(3):
            ask(running.port, "POST", KEYS, {"name": f"key-{number}", "scopes": ["*"]}, who="root")
        running.terminate()
        running.wait_s(PATIENCE_S)
    path = tmp_path / PLACE / "audit.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for harmed in (
        whole.replace(b'"success"', b'"denied"', 1),
        b"".join(lines[:2] + lines[3:]),
        b"".join(lines[:-1]),
        b"".join([lines[1], lines[0], *lines[2:]]),
    ):
        path.write_bytes(harmed)
        assert verify(tmp_path / PLACE).exit_code == 1
    path.write_bytes(whole)
    is_whole(tmp_path)


@served
def test_what_was_answered_before_a_sigterm_is_in_it(kind, workers, tmp_path):
    with guarded(kind, tmp_path, [key("root")], workers=workers, **MANY) as running:
        with Line(running.port, "root") as line:
            ids = [line.ask("POST", KEYS, {"name": "x", "scopes": ["*"]}).json()["id"] for _ in range(REPEATS // 3)]
        running.terminate()
        running.wait_s(PATIENCE_S)
    kept = [row["details"]["key_id"] for row in entries(tmp_path) if row["action"] == "key_create"]
    assert kept == ids
    is_whole(tmp_path)


@served
def test_kill_9_leaves_a_log_that_is_whole_and_goes_on(kind, workers, tmp_path):
    with guarded(kind, tmp_path, [key("root")], workers=workers, **MANY) as running, Line(running.port, "root") as line:
        ids = [line.ask("POST", KEYS, {"name": "x", "scopes": ["*"]}).json()["id"] for _ in range(30)]
        eventually(lambda: ids[0] in (tmp_path / PLACE / "audit.jsonl").read_text())
        running.terminate_group(signal.SIGKILL)
        running.wait_s(PATIENCE_S)
    before = len(entries(tmp_path)) if is_whole(tmp_path) else 0
    with guarded(kind, tmp_path, [key("root")], workers=workers, **MANY) as running:
        assert ask(running.port, "GET", CHEAP).status == 401
        running.terminate()
        running.wait_s(PATIENCE_S)
    rows = entries(tmp_path)
    assert "audit_closed" not in actions(rows[:before])
    assert actions(rows[before:]) == ["audit_opened", "auth_failed", "audit_closed"]
    is_whole(tmp_path)


def test_a_full_disk_under_the_log_shows_in_readiness_and_metrics_and_nobody_is_refused(tmp_path):
    place = tmp_path / "elsewhere"
    with guarded("serve", tmp_path, [key("root")], audit_directory=str(place), **MANY) as running:
        assert ask(running.port, "GET", "/health/ready").status == 200
        hidden = tmp_path / "hidden"
        place.rename(hidden)
        place.write_text("in the way")
        got = eventually(lambda: unready(running.port))
        assert got["checks"]["audit"] == "not_ready"
        assert got["checks"]["store"] == "ok"
        assert ask(running.port, "GET", CHEAP, who="root").status == 200
        assert ask(running.port, "GET", "/health/live").status == 200
        assert errors(running.port) >= 1
        place.unlink()
        hidden.rename(place)
        eventually(lambda: ask(running.port, "GET", "/health/ready").status == 200)


def unready(port):
    got = ask(port, "GET", "/health/ready")
    return got.json() if got.status == 503 else None


def errors(port):
    text = ask(port, "GET", "/metrics", who="root").body.decode()
    family = next(family for family in text_string_to_metric_families(text) if family.name == "argentor_audit_errors")
    return family.samples[0].value


def test_a_place_that_cannot_be_written_refuses_the_start_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    env = {name: value for name, value in os.environ.items() if not name.startswith("ARGENTOR_")}
    found = subprocess.run(
        [sys.executable, "-m", "argentor_asgi", "serve", "--bind", "127.0.0.1:0"],
        cwd=tmp_path,
        env={**env, "ARGENTOR_AUDIT_DIRECTORY": str(tmp_path / "taken")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert found.returncode != 0
    assert "audit.directory" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A gateway whose log has entries of two tenants."""
    keys = [key("root"), key("boss", tenant="acme"), key("clerk", tenant="acme", scopes=["keys:write", "audit:read"])]
    with guarded("serve", tmp_path_factory.mktemp("filled"), keys, **MANY) as running:
        for number in range(25):
            who = ("root", "clerk")[number % 2]
            wish = {"name": f"key-{number}", "scopes": ["keys:write" if number % 5 else "admin"]}
            assert ask(running.port, "POST", KEYS, wish, who=who).status in {201, 403}
        with opened(running.port, "root") as talk:
            assert talk.asked("hello")["type"] == "response"
        eventually(lambda: "run_end" in actions(ask(running.port, "GET", LOGS, who="root").json()))
        yield running


@pytest.mark.parametrize("path", [LOGS, VIOLATIONS])
@pytest.mark.parametrize("who", ["root", "clerk"])
def test_its_pages_hang_together(filled, path, who):
    whole = ask(filled.port, "GET", f"{path}?limit=500", who=who).json()
    seqs = [row["seq"] for row in whole]
    assert seqs == sorted(seqs, reverse=True)
    paged, query = [], "?limit=3"
    while query:
        got = ask(filled.port, "GET", f"{path}{query}", who=who)
        assert len(got.json()) <= 3
        paged += got.json()
        link = got.headers.get("link", "")
        query = link[1 : link.index(">")] if link else ""
    assert paged == whole
    assert len({row["seq"] for row in paged}) == len(paged)
    assert ask(filled.port, "GET", f"{path}?cursor=none", who=who).code == "invalid_input"
    assert ask(filled.port, "GET", f"{path}?limit=0", who=who).code == "invalid_input"


def test_violations_are_what_was_refused_and_the_numbers_agree(filled):
    rows = ask(filled.port, "GET", f"{LOGS}?limit=500", who="clerk").json()
    assert {row["tenant"] for row in rows} == {"acme"}
    denied = [row["seq"] for row in rows if row["outcome"] == "denied"]
    assert len(denied) == 2
    found = ask(filled.port, "GET", VIOLATIONS, who="clerk").json()
    assert [row["seq"] for row in found] == denied
    assert {(row["rule"], row["severity"]) for row in found} == {("key_create", "block")}
    stats = ask(filled.port, "GET", STATS, who="clerk").json()
    assert (stats["events_today"], stats["total_events"], stats["violations_today"]) == (len(rows), len(rows), 2)
    everything = ask(filled.port, "GET", STATS, who="root").json()
    assert everything["total_events"] > stats["total_events"]


def test_a_flood_of_refusals_is_one_entry_now_and_their_number_at_the_end(tmp_path):
    with guarded("hypercorn-asyncio", tmp_path, [key("root")], workers=0) as running:
        with Line(running.port) as line:
            assert {line.ask("GET", CHEAP).status for _ in range(REPEATS)} == {401}
        running.terminate()
        running.wait_s(PATIENCE_S)
    told = [row["details"] for row in entries(tmp_path) if row["action"] == "auth_failed"]
    assert len(told) == 2
    assert told[1]["repeated"] == REPEATS - 1

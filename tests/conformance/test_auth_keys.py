"""Keys as their holders and their administrators use them, from the first one to the last refusal."""

import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from gatehouse import (
    CHAT,
    CHEAP,
    EVERY_SERVER,
    KEYS,
    SERVERS,
    STREAM,
    Line,
    ask,
    eventually,
    guarded,
    key,
    opened,
    secret,
)
from prometheus_client.parser import text_string_to_metric_families
from recording import PATIENCE_S
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.slow

TICKET = "/api/v1/ws-ticket"
LOGS = "/api/v1/audit/logs"
CHALLENGE = 'Bearer realm="argentor"'
AT_ONCE = 10
"""How many wrong keys an address may send at once."""
PROXIED = {"auth_trusted_proxies": "127.0.0.1"}
MANY = {"limits_requests_per_minute": 100_000, "limits_requests_per_hour": 100_000}
KEY = re.compile(r"agtr_[a-z0-9]{12}_[A-Za-z0-9_-]{43}")
BESIDES = {"date", "x-request-id", "x-trace-id"}
addresses = (f"198.51.100.{number}" for number in count(1))
served = pytest.mark.parametrize(("kind", "workers"), SERVERS)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A gateway that believes where its callers say that they are, so that no test's wrong keys throttle another's."""
    keys = [
        key("root"),
        key("clerk", tenant="acme", scopes=["keys:read", "keys:write", "chat:write"]),
        key("reader", scopes=["sessions:read"]),
        key("late", expires_at="2020-01-01T00:00:00Z"),
    ]
    with guarded("serve", tmp_path_factory.mktemp("house"), keys, **PROXIED, **MANY) as running:
        yield running


def elsewhere(**more):
    """Return the headers of a caller whom nobody has met before."""
    return {"X-Forwarded-For": next(addresses), **more}


def created(port, who="root", **wish):
    got = ask(port, "POST", KEYS, {"name": "ci", "scopes": ["*"], **wish}, who=who)
    assert got.status == 201, got.body
    assert got.headers["cache-control"] == "no-store"
    return got.json()


def status(port, text, method="GET", path=CHEAP, body=None):
    return ask(port, method, path, body, text=text, headers=elsewhere()).status


# --- carriers ---


@pytest.mark.parametrize(("kind", "workers"), EVERY_SERVER)
def test_a_key_comes_in_by_its_headers_a_page_by_its_ticket_and_a_query_only_where_that_is_allowed(
    kind, workers, tmp_path
):
    mine = secret("me")
    with guarded(kind, tmp_path, [key("me")], workers=workers) as running:

        def asked(path=CHEAP, **headers):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return ask(running.port, "GET", path, headers=named).status

        for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
            assert asked(authorization=f"{scheme} {mine}") == 200
        assert asked(x_api_key=mine) == 200
        assert asked(authorization="Bearer wrong", x_api_key=mine) == 401
        assert asked(authorization=f"Basic {mine}") == 401
        assert asked(f"{CHEAP}?api_key={mine}") == 401
        ticket = ask(running.port, "POST", TICKET, who="me").json()["ticket"]
        assert asked(f"{CHEAP}?ticket={ticket}") == 401
        with opened(running.port, path=f"/ws?ticket={ticket}") as talk:
            assert talk.asked("hello")["type"] == "response"
        assert refused(running.port, path=f"/ws?ticket={ticket}") == 401
        assert refused(running.port, path=f"/ws?api_key={mine}") == 401
        assert refused(running.port) == 401
        with opened(running.port, "me"):
            pass
    with guarded(kind, tmp_path, [key("me")], workers=workers, auth_allow_query_key=True) as running:
        assert ask(running.port, "GET", f"{CHEAP}?api_key={mine}").status == 200
        with opened(running.port, path=f"/ws?api_key={mine}"):
            pass


def refused(port, **how):
    """Return the status of the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as found, opened(port, **how):
        pass
    response = found.value.response
    if response.status_code == 401:
        assert response.headers["www-authenticate"] == CHALLENGE
    return response.status_code


def test_pages_of_other_origins_open_no_socket_with_whatever_credential(house):
    assert refused(house.port, who="root", Origin="https://evil.example") == 403
    with opened(house.port, "root", Origin=house.url):
        pass


def test_an_unknown_a_wrong_an_expired_and_a_revoked_key_are_answered_alike(house):
    made = created(house.port)
    wrong = f"{made['key'][:-1]}{'A' if made['key'][-1] != 'A' else 'B'}"
    ask(house.port, "DELETE", f"{KEYS}/{made['id']}", who="root")
    unknown = "agtr_abcdefghijkl_" + "x" * 43
    texts = [wrong, made["key"], unknown, secret("late"), "x", "x" * 5000]
    answers = [ask(house.port, "GET", CHEAP, text=text, headers=elsewhere()) for text in texts]
    assert {got.status for got in answers} == {401}
    assert {got.headers["www-authenticate"] for got in answers} == {CHALLENGE}
    assert len({json.dumps({**got.json(), "request_id": ""}) for got in answers}) == 1
    seen = {json.dumps({name: value for name, value in got.headers.items() if name not in BESIDES}) for got in answers}
    assert len(seen) == 1


# --- stored keys ---


@served
def test_a_key_is_made_used_rotated_and_revoked_and_its_sockets_go_with_it(kind, workers, tmp_path):
    with guarded(kind, tmp_path, [key("root")], workers=workers, **PROXIED, **MANY) as running:
        port = running.port
        made = created(port, scopes=["chat:write", "skills:read", "sessions:read"])
        assert KEY.fullmatch(made["key"])
        assert status(port, made["key"], "GET", "/api/v1/sessions") == 200
        first = ask(port, "POST", CHAT, {"message": "hello"}, text=made["key"]).json()
        got = ask(port, "POST", f"{KEYS}/{made['id']}/rotate", {"overlap_s": 60}, who="root")
        assert got.status == 201
        new = got.json()
        assert (new["owner"], new["scopes"]) == (made["owner"], made["scopes"])
        for text in (made["key"], new["key"]):
            seen = ask(port, "GET", "/api/v1/sessions", text=text).json()
            assert [session["session_id"] for session in seen] == [first["session_id"]]
        with opened(port, text=made["key"]) as old, opened(port, text=new["key"]) as other:
            ticket = ask(port, "POST", TICKET, text=made["key"]).json()["ticket"]
            assert ask(port, "DELETE", f"{KEYS}/{made['id']}", who="root").json() == {"revoked": True, "id": made["id"]}
            assert status(port, made["key"]) == 401
            assert refused(port, path=f"/ws?ticket={ticket}") == 401
            assert old.ended() == 1008
            assert other.asked("hello")["type"] == "response"
        assert status(port, new["key"]) == 200
        assert ask(port, "DELETE", f"{KEYS}/{made['id']}", who="root").code == "key_not_found"


def test_no_listing_shows_a_secret_or_what_is_kept_of_one(house):
    made = created(house.port)
    listed, single = (ask(house.port, "GET", f"{KEYS}{path}", who="root") for path in ("", f"/{made['id']}"))
    kept = {name: value for name, value in made.items() if name != "key"}
    assert single.json() == kept
    assert kept in listed.json()
    shown = listed.body + single.body
    assert made["key"].rpartition("_")[2].encode() not in shown
    assert b"digest" not in shown
    assert b"sha256" not in shown
    assert not re.search(rb"[0-9a-f]{64}", shown)


def test_a_key_may_do_what_its_scopes_say_and_nothing_else(house):
    made = created(house.port, scopes=["chat:write"])
    allowed = [("POST", CHAT, {"message": "hello"}), ("POST", STREAM, {"input": "hello"}), ("POST", TICKET, None)]
    denied = [
        ("GET", CHEAP, None),
        ("GET", "/api/v1/sessions", None),
        ("GET", "/api/v1/runs", None),
        ("GET", KEYS, None),
        ("POST", KEYS, {"name": "more", "scopes": ["*"]}),
        ("GET", LOGS, None),
        ("GET", "/metrics", None),
        ("GET", "/openapi.json", None),
        ("GET", "/api/v1/connections", None),
        ("POST", "/api/v1/admin/drain", None),
        ("DELETE", "/api/v1/sessions/00000000-0000-4000-8000-000000000000", None),
    ]
    assert {status(house.port, made["key"], *call) for call in allowed} <= {200, 201}
    assert {status(house.port, made["key"], *call) for call in denied} == {403}
    assert refused(house.port, who="reader") == 403
    assert ask(house.port, "GET", "/health/ready", who="reader").status == 200


def test_nobody_lifts_themselves_or_reaches_into_another_tenant_by_keys(house):
    theirs = created(house.port, who="root", scopes=["chat:write"])
    assert ask(house.port, "POST", KEYS, {"name": "x", "scopes": ["*"]}, who="clerk").status == 403
    assert ask(house.port, "POST", KEYS, {"name": "x", "scopes": ["admin"]}, who="clerk").status == 403
    other = {"name": "x", "scopes": ["chat:write"], "tenant": "hq"}
    assert ask(house.port, "POST", KEYS, other, who="clerk").status == 403
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        assert ask(house.port, method, f"{KEYS}/{theirs['id']}{path}", who="clerk").code == "key_not_found"
    mine = created(house.port, who="clerk", scopes=["chat:write"])
    assert mine["tenant"] == "acme"
    assert {row["tenant"] for row in ask(house.port, "GET", KEYS, who="clerk").json()} == {"acme"}
    assert ask(house.port, "DELETE", f"{KEYS}/root", who="root").status == 422


def test_an_expired_key_opens_nothing_from_its_time_on(house):
    ends = datetime.now(UTC) + timedelta(seconds=1)
    made = created(house.port, expires_at=ends.isoformat())
    assert status(house.port, made["key"]) == 200
    eventually(lambda: status(house.port, made["key"]) == 401)
    assert datetime.now(UTC) >= ends
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    assert ask(house.port, "POST", KEYS, {"name": "x", "scopes": ["*"], "expires_at": past}, who="root").status == 422


def test_the_first_key_locks_the_door_behind_the_anonymous_and_a_restart_keeps_all_of_it(tmp_path):
    with guarded("hypercorn-asyncio", tmp_path, workers=0) as running:
        port = running.port
        assert ask(port, "POST", KEYS, {"name": "ci", "scopes": ["chat:write"]}).status == 422  # would lock all out
        first = ask(port, "POST", KEYS, {"name": "first", "scopes": ["*"]}).json()
        assert ask(port, "GET", CHEAP).status == 401
        assert "ratelimit" in ask(port, "GET", CHEAP, text=first["key"]).headers
        second, gone = (
            ask(port, "POST", KEYS, {"name": name, "scopes": ["skills:read"]}, text=first["key"]).json()
            for name in ("second", "gone")
        )
        assert ask(port, "DELETE", f"{KEYS}/{gone['id']}", text=first["key"]).status == 200
        listed = ask(port, "GET", KEYS, text=first["key"]).json()
    with guarded("hypercorn-asyncio", tmp_path, workers=0) as running:
        port = running.port
        assert [ask(port, "GET", CHEAP, text=made["key"]).status for made in (first, second, gone)] == [200, 200, 401]
        assert ask(port, "GET", CHEAP).status == 401
        again = ask(port, "GET", KEYS, text=first["key"]).json()
        assert [row["id"] for row in again] == [row["id"] for row in listed]
        assert next(row for row in again if row["id"] == first["id"])["last_used_at"] is not None


# --- the configuration ---


def ran(directory, *words, **env):
    """Run a module of Python's with these arguments to its end."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ARGENTOR_")}
    return subprocess.run(  # noqa: S603  our own interpreter, our own arguments
        [sys.executable, "-m", *words],
        cwd=directory,
        env={**plain, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("env", "toml", "named"),
    [
        ({"ARGENTOR_AUTH_API_KEYS": ""}, "", "auth.api_keys"),
        ({"ARGENTOR_AUTH_API_KEYS": "me:"}, "", "auth.api_keys"),
        ({}, '[auth]\napi_keys = ["${NOT_SET}"]', "NOT_SET"),
        ({"ARGENTOR_AUTH_KEYS": '[{"name": "me", "key": ""}]'}, "", "auth.keys"),
        ({"ARGENTOR_AUTH_KEYS": '[{"name": "me", "key": "k", "plan": "none"}]'}, "", "plan"),
    ],
    ids=["empty", "empty behind a name", "unset variable", "empty in a row", "unknown plan"],
)
def test_a_key_that_cannot_be_refuses_the_start_in_one_line(env, toml, named, tmp_path):
    (tmp_path / "argentor.toml").write_text(toml)
    found = ran(tmp_path, "argentor_asgi", "serve", **env)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("argentor: ")
    assert found.stderr.count("\n") == 1
    assert named in found.stderr
    plain = ran(tmp_path, "hypercorn", "-w", "0", "-b", "127.0.0.1:0", "argentor_asgi:app", **env)
    assert plain.returncode != 0
    assert named in plain.stderr


def test_what_new_key_prints_works_in_the_configuration_that_it_is_pasted_into(tmp_path):
    plain = ran(tmp_path, "argentor_asgi", "new-key", "me").stdout
    rights = ran(tmp_path, "argentor_asgi", "new-key", "ci", "--scopes", "skills:read", "--expires", "1d").stdout
    mine, ours = (KEY.search(text)[0] for text in (plain, rights))
    entry = plain.splitlines()[-1].strip()
    rows = re.sub(r"^  ", "", rights[rights.index("  [[auth.keys]]") :], flags=re.MULTILINE)
    toml = f"[auth]\napi_keys = [{json.dumps(entry)}]\n\n{rows}"
    assert tomllib.loads(toml)["auth"]["keys"][0]["name"] == "ci"
    (tmp_path / "argentor.toml").write_text(toml)
    with guarded("serve", tmp_path) as running:
        assert [ask(running.port, "GET", CHEAP, text=text).status for text in (mine, ours, entry)] == [200, 200, 401]
        assert ask(running.port, "GET", "/api/v1/sessions", text=mine).status == 200
        assert ask(running.port, "GET", "/api/v1/sessions", text=ours).status == 403


# --- guessing ---


@served
def test_guessing_is_stopped_counted_and_audited_once_and_keys_in_use_go_on(kind, workers, tmp_path):
    with guarded(kind, tmp_path, [key("root")], workers=workers, **MANY) as running:
        port = running.port
        assert ask(port, "GET", CHEAP, who="root").status == 200
        with Line(port) as line:
            answers = [
                line.ask("GET", CHEAP, headers={"authorization": f"Bearer guess-{number}"}) for number in range(30)
            ]
        statuses = [got.status for got in answers]
        assert statuses[:AT_ONCE] == [401] * AT_ONCE
        assert set(statuses[AT_ONCE + 1 :]) == {429}
        last = answers[-1]
        assert last.code == "too_many_failures"
        assert 1 <= int(last.headers["retry-after"]) <= 6
        assert ask(port, "GET", CHEAP, who="root").status == 200
        wrong, throttled = statuses.count(401), statuses.count(429)
        assert failures(port) == {"invalid": wrong, "throttled": throttled}
        rows = ask(port, "GET", LOGS, who="root").json()
        told = [(row["action"], row["details"].get("reason")) for row in rows if row["action"].startswith("auth_")]
        assert told == [("auth_throttled", None), ("auth_failed", "invalid")]  # the others are counted, for a minute
        assert {row["address"] for row in rows if row["action"].startswith("auth_")} == {"127.0.0.1"}
        assert "guess-" not in running.log


def failures(port):
    families = text_string_to_metric_families(ask(port, "GET", "/metrics", who="root").body.decode())
    family = next(family for family in families if family.name == "argentor_auth_failures")
    return {sample.labels["reason"]: sample.value for sample in family.samples}


# --- secrets ---


def test_no_secret_is_in_anything_that_the_gateway_says_or_writes(tmp_path):
    with guarded("serve", tmp_path, [key("root")], auth_allow_query_key=True, log_level="debug", **MANY) as running:
        port = running.port
        made = created(port)
        ticket = ask(port, "POST", TICKET, text=made["key"]).json()["ticket"]
        wrong = "agtr_aaaaaaaaaaaa_" + "w" * 43
        hidden = [secret("root"), made["key"], made["key"].rpartition("_")[2], ticket, wrong, "w" * 43]
        for path in (CHEAP, "/no/such/route", f"{KEYS}/{made['id']}"):
            ask(port, "GET", f"{path}?api_key={secret('root')}")
            ask(port, "GET", f"{path}?api_key={wrong}")
            ask(port, "GET", path, headers={"x-api-key": wrong})
        ask(port, "POST", CHAT, {"message": 7, "key": made["key"]}, text=made["key"])
        ask(port, "POST", KEYS, {"name": "x", "scopes": [secret("root")]}, text=wrong)
        with opened(port, path=f"/ws?ticket={ticket}"):
            pass
        created(port, name="another")
        ask(port, "DELETE", f"{KEYS}/{made['id']}", who="root")
        said = [
            ask(port, "GET", path, who="root").body
            for path in ("/metrics", "/openapi.json", LOGS, "/api/v1/audit/violations", KEYS, "/api/v1/metrics")
        ]
        running.terminate()
        assert running.wait_s(PATIENCE_S) == 0
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {"server.log", "audit.jsonl", "argentor.db"} <= {path.name for path in files}
        everything = b"\n".join([*said, *(path.read_bytes() for path in files)])
    assert [text for text in hidden if text.encode() in everything] == []

"""What is one caller's is not there for another, by whichever door, in another tenant or in the same.

`mine` owns a session, an ended run, a live run that waits at a gate, and a socket. `theirs` may do everything, in
another tenant; `beside` may, in the same one.
"""

import json
from uuid import uuid4

import pytest
from gatehouse import CHAT, SERVERS, STREAM, Line, ask, eventually, guarded, key, opened, secret

pytestmark = pytest.mark.slow

NOWHERE = str(uuid4())
STRANGERS = ("theirs", "beside")
LOGS = "/api/v1/audit/logs"
SCOPES = [
    f"{what}:{how}"
    for what in ("chat", "runs", "sessions", "keys", "connections", "audit", "skills", "ops")
    for how in ("read", "write")
]
"""All but `admin` and `*`, whose holders see every tenant's keys and audit."""
MINE = "the secret of the house is a blue door"


class Estate:
    """What `mine` owns. `stranger`: who asks for it."""

    def __init__(self, running, stranger):
        self.port, self.stranger = running.port, stranger
        self.line = Line(running.port, "mine")
        done = self.line.ask("POST", CHAT, {"message": MINE}).json()
        self.session, self.done = done["session_id"], done["run_id"]
        self.gate = uuid4().hex
        self.stream = self.line.begin("POST", STREAM, {"input": f"model {self.gate}"})
        while not (found := self.stream.readline()).startswith(b"id: "):
            assert found
        self.live = found[4:].decode().rpartition(":")[0]
        assert ask(running.port, "GET", f"/gates/{self.gate}", who="root").status == 200
        self.busy = self.get("mine", f"/api/v1/runs/{self.live}").json()["session_id"]

    def get(self, who, path):
        return ask(self.port, "GET", path, who=who)

    def asked(self, method, path, body=None, **headers):
        return ask(self.port, method, path, body, who=self.stranger, headers=headers)


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server[0])
def running(request, tmp_path_factory):
    kind, workers = request.param
    keys = [key("root"), key("mine", tenant="acme", scopes=SCOPES)]
    keys += [key("theirs", tenant="hq", scopes=SCOPES), key("beside", tenant="acme", scopes=SCOPES)]
    app = "slow_app:made" if kind == "serve" else "slow_app:app"
    options = {"workers": workers, "shutdown_drain_s": 0.2, "limits_requests_per_minute": 10_000}
    with guarded(kind, tmp_path_factory.mktemp("estate"), keys, app=app, **options) as found:
        yield found


@pytest.fixture(params=STRANGERS)
def estate(running, request):
    found = Estate(running, request.param)
    yield found
    ask(running.port, "POST", f"/gates/{found.gate}", who="root")
    assert b"event: done" in found.stream.read()
    found.line.http.close()


def test_over_rest_another_s_session_and_runs_are_not_there(estate):
    for method in ("GET", "DELETE"):
        for id_ in (estate.session, NOWHERE):
            assert estate.asked(method, f"/api/v1/sessions/{id_}").code == "session_not_found"
        assert estate.asked(method, f"/api/v1/sessions/{estate.busy}").code == "session_not_found"
    for run_id in (estate.done, estate.live, NOWHERE):
        assert estate.asked("GET", f"/api/v1/runs/{run_id}").code == "run_not_found"
        assert estate.asked("GET", f"/api/v1/runs/{run_id}/stream").code == "run_not_found"
        assert estate.asked("POST", f"/api/v1/runs/{run_id}/cancel").code == "run_not_found"
    assert estate.get("mine", f"/api/v1/sessions/{estate.session}").json()["message_count"] == 2
    assert estate.get("mine", f"/api/v1/runs/{estate.live}").json()["status"] == "running"


def test_nobody_speaks_in_another_s_session(estate):
    # agent.md 1.10 D23
    for session in (estate.session, estate.busy):
        got = estate.asked("POST", CHAT, {"message": "hi", "session_id": session})
        assert got.code == "session_not_found"
        assert estate.asked("POST", STREAM, {"input": "hi", "session_id": session}).code == "session_not_found"
        for on_busy in ("enqueue", "interrupt", "steer"):
            body = {"message": "hi", "session_id": session, "on_busy": on_busy}
            assert estate.asked("POST", CHAT, body).code == "session_not_found"
    with opened(estate.port, estate.stranger) as talk:
        assert talk.asked("hi", session_id=estate.session)["code"] == "session_not_found"
        assert talk.asked("hi", session_id=estate.busy)["code"] == "session_not_found"
    assert estate.get("mine", f"/api/v1/sessions/{estate.session}").json()["message_count"] == 2


def test_nobody_resumes_steers_or_cancels_another_s_run(estate):
    got = estate.asked("POST", STREAM, {"input": "hi"}, **{"Last-Event-ID": f"{estate.live}:1"})
    assert got.code == "run_not_found"
    with opened(estate.port, estate.stranger) as talk:
        for run_id in (estate.live, estate.done, NOWHERE):
            for frame in (
                {"type": "resume", "run_id": run_id, "after_seq": 0},
                {"type": "cancel", "run_id": run_id},
                {"type": "steer", "run_id": run_id, "content": "stop"},
            ):
                talk.say(**frame)
                assert talk.closing()["code"] == "run_not_found"
    assert estate.get("mine", f"/api/v1/runs/{estate.live}").json()["status"] == "running"


def test_no_listing_has_a_row_of_another(estate):
    with opened(estate.port, "mine") as talk, opened(estate.port, estate.stranger) as own:
        session = talk.welcome["session_id"]
        seen = {
            path: estate.asked("GET", path).body.decode()
            for path in ("/api/v1/sessions", "/api/v1/runs", "/api/v1/connections", "/api/v1/metrics")
        }
        ours = json.loads(seen["/api/v1/connections"])
        assert ours == {"count": 1, "session_ids": [own.welcome["session_id"]]}
        assert json.loads(seen["/api/v1/metrics"])["active_connections"] == 1
        listed = estate.asked("GET", f"/api/v1/runs?session_id={estate.session}").json()
    assert listed == []
    for text in seen.values():
        for hidden in (session, estate.session, estate.busy, estate.done, estate.live, MINE):
            assert hidden not in text


def test_the_same_idempotency_key_of_another_is_another_request(estate):
    name = {"Idempotency-Key": uuid4().hex}
    mine = ask(estate.port, "POST", CHAT, {"message": MINE}, who="mine", headers=name).json()
    other = estate.asked("POST", CHAT, {"message": "hi"}, **name).json()
    assert other["run_id"] != mine["run_id"]
    assert other["response"] == "you said hi"


def test_the_audit_log_shows_each_tenant_its_own_and_everything_to_an_admin(estate):
    made = ask(estate.port, "POST", "/api/v1/keys", {"name": "x", "scopes": ["chat:write"]}, who="mine").json()
    gone = ask(estate.port, "DELETE", f"/api/v1/sessions/{estate.session}", who="mine")
    assert gone.status == 200

    def seen(who):
        rows = ask(estate.port, "GET", f"{LOGS}?limit=1000", who=who).json()
        return {row["tenant"] for row in rows}, json.dumps(rows)

    eventually(lambda: estate.session in seen("mine")[1])
    tenants, text = seen(estate.stranger)
    if estate.stranger == "theirs":
        assert tenants <= {"hq"}
        assert made["id"] not in text
        assert estate.session not in text
    else:
        assert tenants == {"acme"}
    assert {"acme", None} <= seen("root")[0]
    assert ask(estate.port, "GET", f"/api/v1/keys/{made['id']}", who="theirs").code == "key_not_found"


def test_a_key_of_the_same_principal_sees_what_the_rotated_one_made(running):
    made = ask(running.port, "POST", "/api/v1/keys", {"name": "x", "scopes": SCOPES}, who="mine").json()
    done = ask(running.port, "POST", CHAT, {"message": "hi"}, text=made["key"]).json()
    new = ask(running.port, "POST", f"/api/v1/keys/{made['id']}/rotate", who="mine").json()
    assert ask(running.port, "GET", f"/api/v1/runs/{done['run_id']}", text=new["key"]).status == 200
    assert ask(running.port, "GET", f"/api/v1/runs/{done['run_id']}", who="mine").code == "run_not_found"
    assert secret("mine") not in json.dumps([made, new])

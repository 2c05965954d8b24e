"""How much a caller may use, as its clients find it: what is refused, what they are told, and that they get back in."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest
from gatehouse import CHAT, CHEAP, EVERY_SERVER, SERVERS, STREAM, Line, ask, eventually, guarded, key, opened, secret
from processes import server
from structured_fields import items
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.slow

PROBES = ("/health", "/health/live", "/health/ready")
NOWHERE = "/api/v1/no/such/route"
NO_UUID = "no-uuid"
DAY_S = 86_400
ANYBODY = {"auth_allow_anonymous": True, "limits_enabled": True}
served = pytest.mark.parametrize(("kind", "workers"), SERVERS)


PLANS = {
    "sixty": {"requests_per_minute": 60},
    "few": {"requests_per_minute": 3},
    "many": {"requests_per_hour": 5},
    "none": {"requests_per_minute": 0},
    "single": {"requests_per_minute": 1},
    "one": {"runs": 1, "streams": 1, "connections": 1},
    "thrifty": {"tokens_per_day": 1500},
    "careful": {"tokens_per_day": 1500, "runs": 1, "streams": 1},
}
"""Each test uses up the plans of its own."""


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server[0])
def house(request, tmp_path_factory):
    """A gateway whose runs wait at gates, with plans for all of them, the one of `usual` being four a minute."""
    kind, workers = request.param
    app = "slow_app:made" if kind == "serve" else "slow_app:app"
    keys = [
        *(key(plan, plan=plan) for plan in PLANS),
        key("talker", plan="sixty"),
        key("usual"),
        key("free", plan="free"),
    ]
    plans = PLANS | {"free": {"requests_per_minute": 10_000, "requests_per_hour": 10_000}}
    plans = {name: {"requests_per_minute": 1_000} | plan for name, plan in plans.items()}
    options = {"limits_requests_per_minute": 4, "shutdown_drain_s": 0.2, "plans": plans}
    with guarded(kind, tmp_path_factory.mktemp("house"), keys, app=app, workers=workers, **options) as running:
        yield running


def limit_fields(got):
    """Return both structured fields, by the name of the policy."""
    found = (items(got.headers[name].encode()) for name in ("ratelimit", "ratelimit-policy"))
    return tuple(dict(each) for each in found)


@pytest.mark.parametrize(("kind", "workers"), EVERY_SERVER)
def test_of_a_hundred_calls_at_fifty_a_minute_fifty_pass_and_the_others_are_told_when(kind, workers, tmp_path):
    with guarded(kind, tmp_path, [key("me")], workers=workers, limits_requests_per_minute=50) as running:
        began = time.monotonic()
        with Line(running.port, "me") as line:
            answers = [line.ask("GET", CHEAP) for _ in range(100)]
        took = time.monotonic() - began
        now = time.time()
    passed = [got for got in answers if got.status == 200]
    refused = [got for got in answers if got.status == 429]
    assert len(passed) + len(refused) == 100
    assert 50 <= len(passed) <= 50 + math.ceil(took / 1.2)  # one is regained every 1.2 s
    assert [got.status for got in answers[:50]] == [200] * 50
    first, tenth = answers[0], answers[9]
    assert (first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == ("50", "49")
    assert int(tenth.headers["x-ratelimit-remaining"]) in {40, 41}
    for got in refused:
        is_refused(got, now)
    state, policy = limit_fields(answers[49])
    assert (policy["minute"], state["minute"]["r"]) == ({"q": 50, "w": 60}, 0)


def is_refused(got, now):
    """Check all that a refusal for the minute tells."""
    problem, wait_s = got.json(), int(got.headers["retry-after"])
    assert got.code == "rate_limit_exceeded"
    assert 1 <= wait_s <= 2
    assert problem == problem | {
        "error": "rate_limit_exceeded",
        "message": "requests per minute limit exceeded",
        "title": "Too Many Requests",
        "retry_after": wait_s,
        "violated-policies": ["minute"],
        "request_id": got.headers["x-request-id"],
    }
    assert (got.headers["x-ratelimit-limit"], got.headers["x-ratelimit-remaining"]) == ("50", "0")
    assert now - 60 <= int(got.headers["x-ratelimit-reset"]) <= now + 60
    state, policy = limit_fields(got)
    assert state == {"minute": {"r": 0, "t": wait_s}}
    assert policy == {"minute": {"q": 50, "w": 60}, "hour": {"q": 1000, "w": 3600}}


def test_who_comes_back_after_the_time_that_they_were_told_is_let_in_and_not_before(house):
    with Line(house.port, "sixty") as me:
        while (refused := me.ask("GET", CHEAP)).status == 200:
            pass
        told_at, wait_s = time.monotonic(), int(refused.headers["retry-after"])
        assert wait_s >= 1
        eventually(lambda: time.monotonic() >= told_at + wait_s)
        assert me.ask("GET", CHEAP).status == 200
        assert me.ask("GET", CHEAP).status == 429


def test_each_key_has_the_numbers_of_its_plan_and_uses_up_only_its_own(house):
    seen = {who: [ask(house.port, "GET", CHEAP, who=who) for _ in range(7)] for who in ("few", "many", "usual")}
    admitted = {who: [got.status for got in answers].count(200) for who, answers in seen.items()}
    assert admitted == {"few": 3, "many": 5, "usual": 4}
    assert seen["few"][0].headers["x-ratelimit-limit"] == "3"
    of_hour = seen["many"][-1]
    assert of_hour.json()["message"] == "requests per hour limit exceeded"
    assert 1 <= int(of_hour.headers["retry-after"]) <= 720
    assert limit_fields(of_hour)[0].keys() == {"hour"}
    assert ask(house.port, "GET", CHEAP, who="none").code == "forbidden"


def test_messages_on_an_open_socket_are_limited_as_requests_are_and_it_stays_open(house):
    with opened(house.port, "talker") as mine, opened(house.port, "free") as yours:
        assert mine.asked("hello")["type"] == "response"
        frames = [mine.asked("hello", session_id=NO_UUID) for _ in range(70)]
        assert [frame["code"] for frame in frames[:50]] == ["invalid_input"] * 50
        refused = frames[-1]
        assert (refused["code"], refused["message"]) == ("rate_limit_exceeded", "requests per minute limit exceeded")
        assert refused["retryable"] is True
        assert 1 <= refused["retry_after"] <= 2
        mine.say(type="ping")
        assert mine.frame() == {"type": "pong"}
        assert yours.asked("hello")["type"] == "response"
        assert ask(house.port, "GET", CHEAP, who="talker").code == "rate_limit_exceeded"
        eventually(lambda: mine.asked("hello")["type"] == "response")


def test_a_key_in_the_query_is_limited_like_any_other(tmp_path):
    settings = {"auth_allow_query_key": True, "limits_requests_per_minute": 3}
    with guarded("serve", tmp_path, [key("me")], **settings) as running:
        answers = [ask(running.port, "GET", f"{CHEAP}?api_key={secret('me')}") for _ in range(4)]
        assert [got.status for got in answers] == [200, 200, 200, 429]
        assert ask(running.port, "GET", CHEAP, who="me").status == 429
        assert secret("me") not in running.log


async def test_the_gateway_as_a_whole_has_a_bucket_that_no_caller_can_pass(tmp_path):
    limits = {"limits_requests_per_second": 1, "limits_burst": 10}
    with guarded("serve", tmp_path, [key("me"), key("you")], **limits) as running:
        async with httpx2.AsyncClient(base_url=running.url, trust_env=False) as http:
            asked = [
                await http.get(CHEAP, headers={"x-api-key": secret(("me", "you")[number % 2])}) for number in range(16)
            ]
            probes = [await http.get(path) for path in PROBES for _ in range(10)]
    statuses = [answer.status_code for answer in asked]
    assert statuses[:10] == [200] * 10
    assert statuses.count(429) >= 3
    refused = next(answer for answer in asked if answer.status_code == 429)
    assert refused.json()["message"] == "gateway request limit exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    assert dict(items(refused.headers["ratelimit"].encode())).keys() == {"gateway"}
    assert {answer.status_code for answer in probes} == {200}


def test_probes_are_never_limited_and_what_is_not_there_needs_no_quota(house):
    with Line(house.port, "single") as me:
        assert [me.ask("GET", CHEAP).status for _ in range(2)] == [200, 429]
        for path in PROBES * 20:
            got = me.ask("GET", path)
            assert got.status == 200
            assert "x-ratelimit-limit" not in got.headers
        assert me.ask("GET", NOWHERE).status == 404


def is_overloaded(got):
    assert (got.status, got.code) == (503, "overloaded")
    assert int(got.headers["retry-after"]) >= 1


def test_a_caller_has_so_many_runs_at_one_time(house):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, house.port, "POST", CHAT, {"message": "model a"}, who="one")
        assert ask(house.port, "GET", "/gates/a", who="free").status == 200
        is_overloaded(ask(house.port, "POST", CHAT, {"message": "hi"}, who="one"))
        is_overloaded(ask(house.port, "POST", STREAM, {"input": "hi"}, who="one"))
        with opened(house.port, "one") as talk:
            assert talk.asked("hi")["code"] == "overloaded"
        assert ask(house.port, "POST", CHAT, {"message": "hi"}, who="free").status == 200
        assert ask(house.port, "POST", "/gates/a", who="free").status == 200
        assert first.result().status == 200
        assert ask(house.port, "POST", CHAT, {"message": "hi"}, who="one").status == 200


def test_a_caller_has_so_many_streams_and_a_stream_that_ends_or_is_left_makes_room(house):
    with Line(house.port, "one") as first:
        stream = first.begin("POST", STREAM, {"input": "model b"})
        run_id = run_of(stream)
        again = f"/api/v1/runs/{run_id}/stream"
        is_overloaded(ask(house.port, "GET", again, who="one"))
    eventually(lambda: is_streamed(house.port, again))
    assert ask(house.port, "POST", "/gates/b", who="free").status == 200
    assert ask(house.port, "GET", again, who="one").body.count(b"event: done") == 1
    assert ask(house.port, "GET", again, who="one").status == 200


def run_of(stream):
    """Return the id of the run whose stream this is, from its first event."""
    while not (line := stream.readline()).startswith(b"id: "):
        assert line
    return line[4:].decode().rpartition(":")[0]


def is_streamed(port, path):
    """Say whether one more stream is admitted; it is left at once."""
    with Line(port, "one") as line:
        return line.begin("GET", path).status == 200


def test_a_caller_has_so_many_sockets_and_one_that_is_closed_makes_room(house):
    with opened(house.port, "free"):
        with opened(house.port, "one"):
            with pytest.raises(InvalidStatus) as refused, opened(house.port, "one"):
                pass
            assert refused.value.response.status_code == 503
            assert int(refused.value.response.headers["retry-after"]) >= 1
        eventually(lambda: is_let_in(house.port))


def is_let_in(port):
    try:
        with opened(port, "one"):
            return True
    except InvalidStatus:
        return False


def test_what_fails_or_is_cancelled_gives_back_what_it_held(house):
    for body in ({"message": " "}, {"message": "x" * 200_000}, {"message": 7}) * 3:
        assert ask(house.port, "POST", CHAT, body, who="careful").status in {400, 413, 422}
    for number in range(3):  # each reserves more than half of a day
        with Line(house.port, "careful") as line:
            run_id = run_of(line.begin("POST", STREAM, {"input": f"model e{number}"}))
            assert ask(house.port, "POST", f"/api/v1/runs/{run_id}/cancel", who="careful").status == 202
        eventually(lambda run_id=run_id: is_cancelled(house.port, run_id))
    got = eventually(lambda: ask(house.port, "POST", CHAT, {"message": "hi"}, who="careful"))
    assert got.status == 200


def is_cancelled(port, run_id):
    return ask(port, "GET", f"/api/v1/runs/{run_id}", who="careful").json()["status"] == "cancelled"


def test_tokens_of_a_day_are_counted_as_used_and_remembered_over_a_restart(tmp_path):
    plans = {"few": {"tokens_per_day": 150}}
    keys = [key("few", plan="few"), key("usual")]
    with guarded("serve", tmp_path, keys, plans=plans) as running:
        used = 0
        while used < 150:
            got = ask(running.port, "POST", CHAT, {"message": "what is 17*23?"}, who="few")
            assert got.status == 200
            used += sum(got.json()["usage"][name] for name in ("input_tokens", "output_tokens"))
        out_of_tokens(running)
    with guarded("serve", tmp_path, keys, plans=plans) as running:
        out_of_tokens(running)


def out_of_tokens(running: server):
    for body in ({"message": "again"}, None):
        method, path = ("POST", CHAT) if body else ("GET", CHEAP)
        got = ask(running.port, method, path, body, who="few")
        assert got.code == "rate_limit_exceeded"
        assert got.json()["message"] == "daily token quota exceeded"
        left_s = DAY_S - time.time() % DAY_S
        assert left_s <= int(got.headers["retry-after"]) <= left_s + 10
        state, policy = limit_fields(got)
        assert (state["day"]["r"], policy["day"]) == (0, {"q": 150, "w": DAY_S, "qu": "tokens"})
    assert ask(running.port, "POST", CHAT, {"message": "hello"}, who="usual").status == 200


def test_runs_that_go_on_have_their_tokens_set_aside(house):
    with ThreadPoolExecutor(2) as pool:
        going = []
        for gate in ("c", "d"):
            going.append(pool.submit(ask, house.port, "POST", CHAT, {"message": f"model {gate}"}, who="thrifty"))
            assert ask(house.port, "GET", f"/gates/{gate}", who="free").status == 200
        third = ask(house.port, "POST", CHAT, {"message": "hi"}, who="thrifty")
        for gate in ("c", "d"):
            ask(house.port, "POST", f"/gates/{gate}", who="free")
        assert third.code == "rate_limit_exceeded"
        assert int(third.headers["retry-after"]) >= 1
        assert [each.result().status for each in going] == [200, 200]
        assert ask(house.port, "POST", CHAT, {"message": "hi"}, who="thrifty").status == 200


@served
def test_callers_without_a_key_are_told_apart_by_address_and_a_proxy_nobody_trusts_changes_nothing(
    kind, workers, tmp_path
):
    with guarded(kind, tmp_path, workers=workers, limits_requests_per_minute=2, **ANYBODY) as running:
        made_up = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(4)]
        made_up += [{"Forwarded": f"for=192.0.2.{number}"} for number in range(4)]
        statuses = [ask(running.port, "GET", CHEAP, headers=headers).status for headers in made_up]
        assert statuses == [200, 200, *[429] * 6]


def test_a_key_that_a_caller_makes_up_is_no_quota_of_its_own(tmp_path):
    with guarded("serve", tmp_path, limits_requests_per_minute=2, **ANYBODY) as running:
        statuses = [ask(running.port, "GET", CHEAP, text=f"made-up-{number}").status for number in range(6)]
        assert statuses == [200, 200, 429, 429, 429, 429]


def test_a_caller_who_is_refused_takes_nothing_from_the_others(tmp_path):
    limits = {"limits_requests_per_second": 1, "limits_burst": 10, "plans": {"few": {"requests_per_minute": 3}}}
    with guarded("serve", tmp_path, [key("few", plan="few"), key("you")], **limits) as running:
        with Line(running.port, "few") as line:
            assert [line.ask("GET", CHEAP).status for _ in range(100)].count(200) == 3
        assert [ask(running.port, "GET", CHEAP, who="you").status for _ in range(7)] == [200] * 7


@served
def test_behind_a_trusted_proxy_each_client_has_its_own_quota_and_cannot_make_up_another(kind, workers, tmp_path):
    settings = {"auth_trusted_proxies": "127.0.0.1", "limits_requests_per_minute": 2, **ANYBODY}
    with guarded(kind, tmp_path, workers=workers, **settings) as running:

        def asked(name, value):
            return ask(running.port, "GET", CHEAP, headers={name: value}).status

        assert [asked("X-Forwarded-For", "192.0.2.1") for _ in range(3)] == [200, 200, 429]
        assert asked("X-Forwarded-For", "203.0.113.9, 192.0.2.1") == 429
        assert [asked("X-Forwarded-For", "192.0.2.2") for _ in range(3)] == [200, 200, 429]
        assert [asked("Forwarded", 'for="[2001:db8::1]:4711"') for _ in range(2)] == [200, 200]
        assert asked("Forwarded", 'for="[2001:db8::2]"') == 429  # the same /64
        assert asked("Forwarded", 'for="[2001:db8:0:1::2]"') == 200


def test_sockets_without_a_key_are_limited_by_address_too(tmp_path):
    settings = {"auth_trusted_proxies": "127.0.0.1", "limits_requests_per_minute": 2, **ANYBODY}
    with guarded("serve", tmp_path, **settings) as running, ExitStack() as sockets:
        mine = [
            sockets.enter_context(opened(running.port, **{"X-Forwarded-For": f"192.0.2.{number}"})) for number in (1, 2)
        ]
        for talk in mine:
            assert [talk.asked("hello")["type"] for _ in range(2)] == ["response", "error"]


def test_without_keys_nobody_is_limited_unless_asked_for(tmp_path):
    with guarded("serve", tmp_path, limits_requests_per_minute=1) as running:
        answers = [ask(running.port, "GET", CHEAP) for _ in range(10)]
        assert {got.status for got in answers} == {200}
        assert not any("ratelimit" in got.headers for got in answers)

"""`argentor_asgi.security.gate`: who is let in to what, in which order that is asked, and what is remembered of it."""

import time
from typing import Any

import pytest
from asgi_driver import app_of, http, websocket
from audit_place import an_audit
from hypothesis import given, settings
from hypothesis import strategies as st
from keyhouse import Hands

from argentor_asgi.api_keys import Key
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.route import route, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.config import Auth, Limits, Plan, Secret
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.security.gate import BEARER_BYTES, BEARERS, Gate
from argentor_asgi.security.guard import Authenticator
from argentor_asgi.security.keys import Credential, Keys
from argentor_asgi.security.limits import Limiter
from argentor_asgi.security.refusals import Refusals
from argentor_asgi.security.throttle import BURST, GAP_S
from argentor_asgi.security.tickets import Tickets

HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit", "ratelimit-policy")
PLANS = {"few": Plan(requests_per_minute=2)}


@route("GET", "/read", needs="sessions:read")
async def read(request: Request) -> dict[str, str]:
    """Say who reads, on whose account."""
    return {"id": request.principal.id, "account": request.account.key}


@route("POST", "/write", needs="sessions:write")
async def write(request: Request) -> dict[str, str]:
    """Say who writes."""
    return {"id": request.principal.id}


@route("GET", "/public", needs=None)
async def public(request: Request) -> dict[str, bool]:
    """Say whether anybody was asked who they are."""
    return {"asked": request.principal is not None}


@route("GET", "/drain", needs="admin", even_draining=True)
async def even_draining() -> dict[str, bool]:
    """Answer while the gateway stops."""
    return {"ok": True}


@socket("/ws", needs="chat:write")
async def talk(websocket: WebSocket) -> None:
    """Say who came in."""
    await websocket.accept()
    await websocket.send(f"{websocket.principal.id} {websocket.account.key}")


@socket("/open", needs=None)
async def anybody(websocket: WebSocket) -> None:
    """Take anybody."""
    await websocket.accept()


class Porch:
    """A gate before some routes. `enabled` None: callers are limited as soon as there are keys."""

    def __init__(self, *keys: Key, enabled: bool | None = None, limits: dict[str, Any] | None = None, **auth: Any):
        self.clock = Hands()
        held = Auth(keys=keys, **auth)
        self.keys, self.tickets = Keys(held.held), Tickets()
        self.metrics = Metrics(clock=self.clock)
        self.drain = Drain(clock=self.clock, drain_s=4.0)
        refusals = Refusals(self.metrics, an_audit(None, enabled=False))
        self.limiter = Limiter(
            Limits(**(limits or {})),
            PLANS,
            clock=self.clock.monotonic,
            now=self.clock.now,
            enabled=bool(enabled),
            on_reject=refusals.limited,
        )
        authenticator = Authenticator(
            held,
            self.keys,
            tickets=self.tickets,
            on_refused=refusals.unknown,
            on_throttled=refusals.throttled,
        )
        self.gate = Gate(
            authenticator,
            self.limiter,
            refusals,
            self.drain,
            self.clock.monotonic,
            limits_enabled=lambda: len(self.keys) > 0 if enabled is None else enabled,
        )
        rows = (read, write, public, even_draining, talk, anybody)
        self.app = app_of(*rows, guards=(self.gate.http,), socket_guards=(self.gate.socket,))

    async def ask(self, target: str = "/read", method: str = "GET", client: str = "127.0.0.1", **headers: str):
        """Return the answer; `headers` with underscores for dashes."""
        fields = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await http(self.app, method, target, headers=fields, client=(client, 50000))

    async def status(self, target: str = "/read", **more: str) -> int:
        return (await self.ask(target, **more)).status

    async def knock(self, target: str = "/ws", **headers: str) -> int | str:
        """Open a socket and return what it says first, or the status of its refusal."""
        async with websocket(self.app, target, headers={"host": "localhost", **headers}) as peer:
            if peer.accepted is None:
                return peer.refusal.status
            return await peer.get() if target.startswith("/ws") else "in"

    async def refused(self) -> dict[str, int]:
        """Return how many callers were turned away, by reason."""
        text = (await self.metrics.render(None))[0].decode()
        lines = [line for line in text.splitlines() if line.startswith("argentor_auth_failures_total{")]
        found = {line.split('"')[1]: int(float(line.rsplit(" ", 1)[1])) for line in lines}
        return {reason: count for reason, count in found.items() if count}


def key(name: str = "ops", *scopes: str, **more: Any) -> Key:
    return Key(name, Secret(secret(name)), scopes=scopes or ("*",), **more)


def secret(name: str = "ops") -> str:
    return f"k-{name}-0123456789"


def bearer(name: str = "ops") -> dict[str, str]:
    return {"authorization": f"Bearer {secret(name)}"}


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


def limited(answer: Any) -> bool:
    """Say whether the answer has the rate-limit headers, each or none."""
    found = {answer.header(name) is not None for name in HEADERS}
    assert len(found) == 1
    return found.pop()


def remaining(answer: Any) -> int:
    return int(answer.header("x-ratelimit-remaining"))


# --- what passes ---------------------------------------------------------------------------------------------------


async def test_who_passes_is_known_to_the_endpoint_with_its_account_and_its_answer_has_the_limits():
    porch = Porch(key(tenant="acme"))
    for _ in range(2):
        answer = await porch.ask(**bearer())
        assert (answer.status, answer.json()) == (200, {"id": "ops", "account": "acme/ops"})
        assert limited(answer)
    assert remaining(answer) == 58


async def test_a_public_row_is_its_endpoint_as_it_is():
    porch = Porch(key())
    answer = await porch.ask("/public", authorization="Bearer wrong")
    assert (answer.status, answer.json(), limited(answer)) == (200, {"asked": False}, False)
    assert await porch.knock("/open") == "in"


async def test_a_caller_without_a_key_is_401_and_nobodys_requests_are_counted():
    porch = Porch(key())
    answer = await porch.ask()
    assert (code_of(answer), limited(answer)) == ((401, "unauthenticated"), False)
    assert answer.header("www-authenticate") == 'Bearer realm="argentor"'
    assert remaining(await porch.ask(**bearer())) == 59


async def test_a_socket_is_guarded_as_a_route_is():
    porch = Porch(key(), key("reader", "sessions:read"))
    assert [await porch.knock() for _ in range(2)] == [401, 401]
    assert await porch.knock(**bearer("reader")) == 403
    assert [await porch.knock(**bearer()) for _ in range(2)] == ["ops default/ops"] * 2


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [
        (("*",), [200, 200, 200]),
        (("sessions:read",), [200, 403, 403]),
        (("sessions:write", "sessions:read"), [200, 200, 403]),
        (("admin",), [403, 403, 200]),
        (("sessions",), [403, 403, 403]),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
async def test_a_route_needs_its_scope(scopes, statuses, times):
    porch = Porch(key("ops", *scopes) if scopes != ("sessions",) else key("ops", "chat:read"))
    for _ in range(times):
        asked = [("/read", "GET"), ("/write", "POST"), ("/drain", "GET")]
        assert [await porch.status(target, method=method, **bearer()) for target, method in asked] == statuses


async def test_a_caller_without_the_scope_is_told_which_and_how_much_is_left():
    porch = Porch(key("ops", "chat:write"))
    answer = await porch.ask(**bearer())
    assert (code_of(answer), limited(answer), remaining(answer)) == ((403, "forbidden"), True, 59)
    assert "sessions:read" in answer.json()["message"]
    assert await porch.refused() == {"forbidden": 1}


# --- in which order ------------------------------------------------------------------------------------------------


async def test_a_gateway_that_stops_refuses_before_it_asks_who():
    porch = Porch(key())
    await porch.ask(**bearer())
    porch.drain.begin("test")
    for headers in ({}, bearer(), {"authorization": "Bearer wrong"}):
        answer = await porch.ask(**headers)
        assert (code_of(answer), answer.header("retry-after")) == ((503, "draining"), "30")
        assert await porch.knock(**headers) == 503
    assert await porch.refused() == {}


async def test_the_longer_it_stops_the_sooner_another_is_there():
    porch = Porch(key())
    porch.drain.begin("test")
    for passed_s, left in ((0.5, "30"), (28.0, "2"), (100.0, "1")):
        porch.clock.passed_s = passed_s
        assert (await porch.ask()).header("retry-after") == left


async def test_rows_that_answer_even_then_do_to_whom_they_may():
    porch = Porch(key(), key("reader", "sessions:read"))
    porch.drain.begin("test")
    statuses = [await porch.status("/drain", **headers) for headers in ({}, bearer("reader"), bearer())]
    assert statuses == [401, 403, 200]
    assert await porch.status("/public") == 200


async def test_while_readiness_is_off_work_is_still_taken():
    porch = Porch(key())
    porch.drain.ready_delay_s = 5.0
    porch.drain.begin("test")
    assert (porch.drain.draining, await porch.status(**bearer())) == (True, 200)
    porch.drain.begin("now", at_once=True)
    await porch.drain.finished.wait()
    assert await porch.status(**bearer()) == 503


async def test_a_wrong_key_is_401_before_any_limit_is_asked():
    porch = Porch(key(plan="few"))
    assert [await porch.status(**bearer()) for _ in range(3)] == [200, 200, 429]
    assert await porch.status(authorization="Bearer wrong") == 401


async def test_a_caller_at_its_limit_is_429_before_its_scope_is_asked():
    porch = Porch(key("ops", "chat:write", plan="few"))
    answers = [await porch.ask(**bearer()) for _ in range(3)]
    assert [answer.status for answer in answers] == [403, 403, 429]
    assert limited(answers[2])
    assert 1 <= int(answers[2].header("retry-after")) <= 60
    assert await porch.refused() == {"forbidden": 2}


# --- what is remembered --------------------------------------------------------------------------------------------


CARRIERS = [bearer(), {"authorization": f"bEARER  {secret()}"}, {"x_api_key": secret()}]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("asked_before", [0, 1, 3])
async def test_a_revoked_key_is_refused_at_the_very_next_request(carrier, asked_before):
    porch = Porch(key(), key("other"))
    assert [await porch.status(**carrier) for _ in range(asked_before)] == [200] * asked_before
    porch.keys.remove("ops")
    assert [await porch.status(**carrier) for _ in range(2)] == [401, 401]
    assert await porch.status(**bearer("other")) == 200


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_an_expired_key_is_refused_at_the_very_next_request(carrier):
    porch = Porch(key(), key("other"))
    assert await porch.status(**carrier) == 200
    porch.keys.get("ops").expires_s = time.time() - 0.001
    assert [await porch.status(**carrier) for _ in range(2)] == [401, 401]


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_key_that_comes_back_under_its_name_opens_as_what_it_is_now(carrier):
    porch = Porch(key())
    assert await porch.status(**carrier) == 200
    old = porch.keys.remove("ops")
    new = Credential(type(old.principal)("ops", scopes=frozenset({"chat:write"}), key_id="ops"), old.digest)
    porch.keys.add(new)
    assert await porch.status(**carrier) == 403


async def test_a_remembered_key_counts_as_used():
    porch = Porch(key())
    for _ in range(2):
        porch.keys.get("ops").is_used = False
        assert await porch.status(**bearer()) == 200
        assert porch.keys.get("ops").is_used


@pytest.mark.parametrize("other", ["Basic b3BzOg==", "bearerless", "Digest x", ""])
async def test_the_header_of_another_scheme_beside_a_key_never_opens_by_itself(other):
    porch = Porch(key(), allow_query_key=True)
    assert await porch.status(authorization=other, x_api_key=secret()) == 200
    assert await porch.status(f"/read?api_key={secret()}", authorization=other) == 200
    assert await porch.status(authorization=other) == 401


async def test_a_key_on_its_way_past_a_remembered_one_decides_by_its_own():
    porch = Porch(key(), key("other"))
    for _ in range(2):
        assert (await porch.ask(**bearer(), x_api_key=secret("other"))).json()["id"] == "ops"
        assert (await porch.ask(**bearer("other"))).json()["id"] == "other"


async def test_only_so_many_headers_are_remembered():
    porch = Porch(key())
    seen = 0
    for spaces in range(1, 2 + BEARERS // 64):
        for bits in range(64):
            word = "".join(char.upper() if bits >> at & 1 else char for at, char in enumerate("bearer"))
            fields = {"authorization": f"{word}{' ' * spaces}{secret()}"}
            porch.gate._recognised(Request(*_parts(fields)), 0.0)
            seen += 1
            assert len(porch.gate._bearers) <= BEARERS
    assert seen > BEARERS
    assert await porch.status(**bearer()) == 200


async def test_a_header_that_is_padded_opens_and_is_not_remembered():
    porch = Porch(key())
    for padded in (BEARER_BYTES, BEARER_BYTES + 1):
        header = f"Bearer{' ' * (padded - len('Bearer') - len(secret()))}{secret()}"
        assert await porch.status(authorization=header) == 200
        assert (header.encode() in porch.gate._bearers) == (padded == BEARER_BYTES)


def _parts(headers: dict[str, str]) -> tuple[Any, ...]:
    fields = {name.encode(): value.encode() for name, value in headers.items()}
    return {"type": "http", "client": None}, None, fields, b"id"


async def test_a_caller_beyond_those_with_an_account_of_their_own_is_still_who_they_are():
    porch = Porch(key("ops", "sessions:read"), key("other"))
    porch.limiter._known._limit = 0
    for _ in range(2):
        assert (await porch.ask(**bearer())).json() == {"id": "ops", "account": "others"}
        assert await porch.status("/write", method="POST", **bearer()) == 403


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "revoke", "expire"]), st.sampled_from(["a", "b"]), st.integers(0, 2)), max_size=12
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
async def test_whatever_came_before_a_key_opens_exactly_while_it_is_good(steps):
    porch = Porch(key("a"), key("b"), key("stays"))
    good = {"a", "b"}
    for step, name, carrier in steps:
        if step == "ask":
            headers = [
                {"authorization": f"Bearer {secret(name)}"},
                {"x_api_key": secret(name)},
                {"x_api_key": secret(name), "authorization": "Basic x"},
            ][carrier]
            porch.clock.wait(60)
            assert (await porch.status(**headers) == 200) == (name in good)
        else:
            if step == "revoke":
                porch.keys.remove(name)
            elif (credential := porch.keys.get(name)) is not None:
                credential.expires_s = 0.0
            good -= {name}


# --- pages, tickets ------------------------------------------------------------------------------------------------


async def test_a_page_of_another_origin_uses_a_key_for_requests_and_never_for_sockets():
    porch = Porch(key(), allowed_origins=("https://app.example",))
    for _ in range(2):
        assert await porch.status("/write", method="POST", origin="https://evil.example", **bearer()) == 200
        assert await porch.knock(origin="https://evil.example", **bearer()) == 403
        assert await porch.knock(origin="https://app.example", **bearer()) == "ops default/ops"
    assert await porch.refused() == {"foreign_origin": 2}


async def test_a_ticket_opens_one_socket_on_the_account_of_its_key():
    porch = Porch(key())
    ticket = porch.tickets.issue(porch.keys.get("ops"), time.time())
    assert await porch.status(f"/read?ticket={ticket}") == 401
    assert [await porch.knock(f"/ws?ticket={ticket}") for _ in range(2)] == ["ops default/ops", 401]


# --- limits --------------------------------------------------------------------------------------------------------


async def test_limits_come_with_the_first_key_and_go_with_the_last():
    porch = Porch()
    answer = await porch.ask()
    assert (answer.json()["id"], limited(answer)) == ("anonymous", False)
    made = Keys([key().held]).get("ops")
    porch.keys.add(made)
    assert await porch.status() == 401
    assert [limited(await porch.ask(**bearer())) for _ in range(2)] == [True, True]
    porch.keys.remove("ops")
    answer = await porch.ask(**bearer())
    assert (answer.json()["id"], limited(answer)) == ("anonymous", False)


@pytest.mark.parametrize("enabled", [True, False])
async def test_configured_limits_stay_as_they_are_whatever_keys_there_are(enabled):
    porch = Porch(enabled=enabled)
    assert limited(await porch.ask()) == enabled
    porch.keys.add(Keys([key().held]).get("ops"))
    assert limited(await porch.ask(**bearer())) == enabled


async def left_of(porch, client, said=None):
    more = {} if said is None else {"x_forwarded_for": said}
    return remaining(await porch.ask(client=client, **more))


async def test_callers_without_a_key_are_counted_by_address():
    porch = Porch(enabled=True, allow_anonymous=True)
    assert [await left_of(porch, "192.0.2.1") for _ in range(2)] == [59, 58]
    assert await left_of(porch, "192.0.2.2") == 59
    assert [await left_of(porch, f"2001:db8::{host}") for host in (1, 2)] == [59, 58]
    assert await left_of(porch, "2001:db8:0:1::1") == 59


async def test_behind_a_trusted_proxy_they_are_counted_by_the_address_that_it_tells():
    porch = Porch(enabled=True, allow_anonymous=True, trusted_proxies=("10.0.0.0/8",))
    assert [await left_of(porch, "10.0.0.1", "203.0.113.1") for _ in range(2)] == [59, 58]
    assert await left_of(porch, "10.0.0.2", "203.0.113.2") == 59
    assert await left_of(porch, "10.0.0.2", "1.1.1.1, 203.0.113.1") == 57


async def test_nobody_else_is_believed_about_addresses():
    porch = Porch(enabled=True, allow_anonymous=True, trusted_proxies=("10.0.0.0/8",))
    assert [await left_of(porch, "192.0.2.1", f"203.0.113.{host}") for host in range(3)] == [59, 58, 57]


# --- guessing ------------------------------------------------------------------------------------------------------


async def test_after_ten_wrong_keys_the_next_is_429_while_a_key_in_use_goes_on():
    porch = Porch(key(), key("late"))
    assert await porch.status(**bearer()) == 200
    wrong = {"authorization": "Bearer wrong"}
    assert [await porch.status(**wrong) for _ in range(BURST)] == [401] * BURST
    for headers in (wrong, bearer("late")):
        answer = await porch.ask(**headers)
        assert (code_of(answer), answer.header("retry-after")) == ((429, "too_many_failures"), str(GAP_S))
    assert await porch.knock(**wrong) == 429
    assert await porch.status(**bearer()) == 200
    assert await porch.status(x_api_key=secret()) == 200
    assert await porch.status() == 401
    assert await porch.status(client="192.0.2.1", **bearer("late")) == 200
    porch.clock.wait(GAP_S)
    assert [await porch.status(**wrong) for _ in range(2)] == [401, 429]
    assert await porch.refused() == {"invalid": BURST + 1, "throttled": 4, "missing": 1}


async def test_a_missing_key_is_never_throttled():
    porch = Porch(key())
    assert {await porch.status() for _ in range(3 * BURST)} == {401}
    assert await porch.status(**bearer()) == 200


async def test_guessers_behind_a_trusted_proxy_are_told_apart():
    porch = Porch(key(), trusted_proxies=("127.0.0.1",))
    for _ in range(BURST):
        await porch.ask(authorization="Bearer wrong", x_forwarded_for="203.0.113.1")
    statuses = [await porch.status(**bearer(), x_forwarded_for=f"203.0.113.{host}") for host in (1, 2)]
    assert statuses == [429, 200]

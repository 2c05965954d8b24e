"""`argentor_asgi.api.keys`: keys and tickets over HTTP, behind a guard that believes a header."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace

import pytest
from asgi_driver import app_of, http, soon, until
from hypothesis import given, settings
from hypothesis import strategies as st
from keyhouse import ADMIN, CLERK, ROOT, START, KeyHouse, failing

from argentor_asgi.api import keys as api
from argentor_asgi.api_keys import ApiKey
from argentor_asgi.asgi.bind import Constant
from argentor_asgi.asgi.route import routes_in
from argentor_asgi.gateway.connections import Connections
from argentor_asgi.gateway.services import Services
from argentor_asgi.security.identity import ANONYMOUS, Principal

pytestmark = pytest.mark.slow

OPS = ApiKey("ops", sha256(b"configured").digest(), plan="pro")
KEYS = "/api/v1/keys"
TICKET = "/api/v1/ws-ticket"


@dataclass
class Recorded:
    """An audit log that keeps what it is told."""

    entries: list[tuple[str, dict]] = field(default_factory=list)

    def record(self, action, **said):
        self.entries.append((action, said))


class Doors:
    """The routes of keys over a house of keys. `by`: who asks."""

    def __init__(self, *configured, by=ROOT):
        self.house = KeyHouse(*configured)
        self.audit = Recorded()
        self.by = by
        house = self.house
        services = SimpleNamespace(
            keyring=house.ring,
            tickets=house.tickets,
            clock=house.clock,
            audit=self.audit,
            connections=Connections(limit=1),
            address_of=lambda request: request.client,
        )
        handlers = [row.handler for row in routes_in(api)]
        provide = {Services: Constant(services), Principal: lambda _: self.by}
        self.app = app_of(*handlers, provide=provide)

    async def ask(self, method, target, body=None):
        headers = {"host": "localhost"} | ({} if body is None else {"content-type": "application/json"})
        data = b"" if body is None else json.dumps(body).encode()
        return await http(self.app, method, target, headers=headers, body=data)

    async def make(self, **wish):
        found = await self.ask("POST", KEYS, {"name": "ci", "scopes": ["chat:write"], **wish})
        assert found.status == 201, found.body
        return found.json()


def code_of(found):
    return found.status, found.json()["code"]


def pointers(found):
    return [detail["pointer"] for detail in found.json().get("details", ())]


async def test_a_key_is_made_and_shown_once():
    doors = Doors(OPS)
    found = await doors.ask("POST", KEYS, {"name": "ci", "scopes": ["chat:write"], "tenant": "acme", "plan": "pro"})
    made = found.json()
    key = made.pop("key")
    assert (found.status, found.header("cache-control")) == (201, "no-store")
    assert doors.house.keys.verify(key.encode(), 0.0).principal == Principal(made["owner"], "acme")
    assert made == {
        "id": made["id"],
        "name": "ci",
        "source": "stored",
        "owner": f"key:{made['id']}",
        "tenant": "acme",
        "scopes": ["chat:write"],
        "plan": "pro",
        "created_at": "2030-01-01T00:00:00Z",
        "created_by": "root",
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
        "replaced_by": None,
    }
    read, listed = await doors.ask("GET", f"{KEYS}/{made['id']}"), await doors.ask("GET", KEYS)
    assert read.json() == listed.json()[0] == made


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "ci"}, "/scopes"),
        ({"name": "ci", "scopes": []}, "/scopes"),
        ({"name": "ci", "scopes": ["chat"]}, "/scopes/0"),
        ({"name": "ci", "scopes": ["*"], "plan": "gold"}, "/plan"),
        ({"name": "ci", "scopes": ["*"], "tenant": "a b"}, "/tenant"),
        ({"name": "ci", "scopes": ["*"], "expires_at": "2029-12-31T23:59:59Z"}, "/expires_at"),
        ({"name": "ci", "scopes": ["*"], "expires_at": "2031-01-01T00:00:00"}, "/expires_at"),
        ({"name": "ci", "scopes": ["*"], "expires_at": "9999-12-31T23:59:59-08:00"}, "/expires_at"),
        ({"name": "x" * 101, "scopes": ["*"]}, "/name"),
        ({"name": "\u0000", "scopes": ["*"]}, "/name"),
    ],
)
async def test_a_wrong_field_is_422_with_its_pointer(body, pointer):
    found = await Doors(OPS).ask("POST", KEYS, body)
    assert code_of(found) == (422, "invalid_input")
    assert pointers(found) == [pointer]


async def test_a_first_key_that_would_lock_everybody_out_is_422_and_the_next_one_needs_it():
    doors = Doors(by=ANONYMOUS)
    found = await doors.ask("POST", KEYS, {"name": "ci", "scopes": ["chat:write"]})
    assert (code_of(found), pointers(found)) == ((422, "invalid_input"), ["/scopes"])
    await doors.make(scopes=["*"])
    assert code_of(await doors.ask("POST", KEYS, {"name": "ci", "scopes": ["*"]})) == (403, "forbidden")


async def test_what_is_not_for_the_caller_is_403_and_a_foreign_key_404():
    doors = Doors(OPS)
    foreign, strong = await doors.make(), await doors.make(tenant="acme", scopes=["*"])
    doors.by = CLERK
    refused = [
        await doors.ask("POST", KEYS, {"name": "more", "scopes": ["*"]}),
        await doors.ask("POST", KEYS, {"name": "there", "scopes": ["chat:write"], "tenant": "hq"}),
        await doors.ask("DELETE", f"{KEYS}/{strong['id']}"),
        await doors.ask("POST", f"{KEYS}/{strong['id']}/rotate"),
    ]
    assert {code_of(found) for found in refused} == {(403, "forbidden")}
    for key_id in (foreign["id"], "nothing", "ops"):
        for method, target in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            assert code_of(await doors.ask(method, f"{KEYS}/{key_id}{target}")) == (404, "key_not_found")


async def test_keys_are_listed_page_by_page_with_the_configured_ones_behind():
    doors = Doors(OPS)
    made = []
    for _ in range(3):
        made.append((await doors.make())["id"])
        doors.house.clock.wait(1)
    doors.house.keys.verify(b"configured", 0.0)
    await doors.house.ring.flush_used()
    found, target = [], f"{KEYS}?limit=2"
    while target:
        answer = await doors.ask("GET", target)
        found += answer.json()
        link = answer.header("link")
        target = KEYS + link.partition("; ")[0].strip("<>") if link else None
    assert [key["id"] for key in found] == [*made[::-1], "ops"]
    config = found[-1]
    assert (config["source"], config["owner"], config["plan"], config["created_at"]) == ("config", "ops", "pro", None)
    assert config["last_used_at"] == "2030-01-01T00:00:03Z"
    assert config == (await doors.ask("GET", f"{KEYS}/ops")).json()


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?cursor=nonsense", "?cursor=config.x"])
async def test_a_query_out_of_range_is_422(query):
    assert code_of(await Doors(OPS).ask("GET", KEYS + query)) == (422, "invalid_input")


async def test_a_key_is_revoked_once_and_then_only_history():
    doors = Doors(OPS)
    made = await doors.make()
    target = f"{KEYS}/{made['id']}"
    found = await doors.ask("DELETE", target)
    assert (found.status, found.json()) == (200, {"revoked": True, "id": made["id"]})
    assert doors.house.keys.verify(made["key"].encode(), 0.0) is None
    assert code_of(await doors.ask("DELETE", target)) == (404, "key_not_found")
    assert code_of(await doors.ask("POST", f"{target}/rotate")) == (404, "key_not_found")
    assert code_of(await doors.ask("GET", target)) == (404, "key_not_found")
    assert (await doors.ask("GET", KEYS)).json()[0]["revoked_at"] == "2030-01-01T00:00:00Z"


async def test_a_configured_key_can_be_neither_revoked_nor_replaced_here():
    doors = Doors(OPS)
    for method, target in (("DELETE", f"{KEYS}/ops"), ("POST", f"{KEYS}/ops/rotate")):
        found = await doors.ask(method, target)
        assert code_of(found) == (422, "invalid_input")
        assert "configured" in found.json()["message"]


async def test_a_key_is_replaced_with_an_overlap():
    doors = Doors(OPS)
    old = await doors.make(expires_at=(START + timedelta(days=9)).isoformat())
    found = await doors.ask("POST", f"{KEYS}/{old['id']}/rotate", {"overlap_s": 5})
    new = found.json()
    assert (found.status, found.header("cache-control")) == (201, "no-store")
    assert (new["owner"], new["name"], new["expires_at"]) == (old["owner"], "ci", old["expires_at"])
    kept = (await doors.ask("GET", f"{KEYS}/{old['id']}")).json()
    assert (kept["replaced_by"], kept["expires_at"]) == (new["id"], "2030-01-01T00:00:05Z")
    now_s = START.timestamp()
    opens = [
        doors.house.keys.verify(key["key"].encode(), at_s) is not None
        for at_s in (now_s + 4, now_s + 5)
        for key in (old, new)
    ]
    assert opens == [True, True, False, True]
    assert code_of(await doors.ask("POST", f"{KEYS}/{old['id']}/rotate")) == (422, "invalid_input")


@pytest.mark.parametrize("overlap_s", [-1, 604_801, 1.5, "5", None])
async def test_an_overlap_out_of_range_is_422(overlap_s):
    doors = Doors(OPS)
    made = await doors.make()
    found = await doors.ask("POST", f"{KEYS}/{made['id']}/rotate", {"overlap_s": overlap_s})
    assert (code_of(found), pointers(found)) == ((422, "invalid_input"), ["/overlap_s"])


async def test_a_ticket_stands_for_its_caller_and_their_key():
    doors = Doors(OPS)
    credential = doors.house.keys.verify(b"configured", START.timestamp())
    doors.by = credential.principal
    found = await doors.ask("POST", TICKET)
    assert (found.status, found.header("cache-control")) == (201, "no-store")
    given_ = found.json()
    assert (given_["expires_in_s"], given_["expires_at"]) == (30.0, "2030-01-01T00:00:30Z")
    holder = doors.house.tickets.redeem(given_["ticket"].encode(), START.timestamp() + 29)
    assert (holder.principal, holder.credential) == (credential.principal, credential)


async def test_a_caller_without_a_key_gets_a_ticket_until_too_many_wait():
    doors = Doors(by=ANONYMOUS)
    found = [await doors.ask("POST", TICKET) for _ in range(101)]
    assert [each.status for each in found] == [201] * 100 + [503]
    assert found[-1].header("retry-after") == "30"


async def test_what_is_done_and_what_is_refused_is_audited_without_a_secret():
    doors = Doors(OPS, by=ADMIN)
    made = await doors.make()
    new = (await doors.ask("POST", f"{KEYS}/{made['id']}/rotate")).json()
    await doors.ask("DELETE", f"{KEYS}/{new['id']}")
    await doors.ask("DELETE", f"{KEYS}/{new['id']}")
    ticket = (await doors.ask("POST", TICKET)).json()["ticket"]
    doors.house.store.add_key = failing
    await doors.ask("POST", KEYS, {"name": "ci", "scopes": ["*"]})
    assert [(action, said["outcome"]) for action, said in doors.audit.entries] == [
        ("key_create", "success"),
        ("key_rotate", "success"),
        ("key_revoke", "success"),
        ("key_revoke", "denied"),
        ("ws_ticket", "success"),
        ("key_create", "error"),
    ]
    said = [said for _, said in doors.audit.entries]
    assert all((each["principal"], each["tenant"], each["address"]) == ("boss", "hq", "127.0.0.1") for each in said)
    assert all(each["request_id"] for each in said)
    assert said[1]["details"] == {
        "by_key": None,
        "key_id": made["id"],
        "overlap_s": 3600,
        "new_key_id": new["id"],
    }
    assert said[3]["details"]["code"] == "key_not_found"
    assert not any(secret in repr(said) for secret in (made["key"], new["key"], ticket))


async def test_a_caller_who_leaves_is_audited_too():
    doors = Doors(OPS)
    reached, never = asyncio.Event(), asyncio.Event()

    async def park(_):
        reached.set()
        await never.wait()

    doors.house.store.add_key = park
    asking = asyncio.create_task(doors.ask("POST", KEYS, {"name": "ci", "scopes": ["*"]}))
    await soon(reached.wait())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: doors.audit.entries)
    assert [(action, said["outcome"], said["details"]["code"]) for action, said in doors.audit.entries] == [
        ("key_create", "error", "CancelledError")
    ]


@pytest.mark.parametrize(
    ("method", "target", "fault"),
    [
        ("GET", KEYS, "list_keys"),
        ("GET", f"{KEYS}/x", "get_key"),
        ("DELETE", f"{KEYS}/x", "get_key"),
        ("POST", f"{KEYS}/x/rotate", "get_key"),
    ],
)
async def test_a_store_that_fails_is_503(method, target, fault):
    doors = Doors(OPS)
    setattr(doors.house.store, fault, failing)
    assert code_of(await doors.ask(method, target)) == (503, "storage_unavailable")


async def test_no_answer_but_the_first_holds_anything_of_a_key():
    doors = Doors(OPS)
    made = await doors.make()
    stored = await doors.house.store.get_key(made["id"])
    secret = made["key"].split("_", 2)[2]
    answers = [
        await doors.ask("GET", KEYS),
        await doors.ask("GET", f"{KEYS}/{made['id']}"),
        await doors.ask("DELETE", f"{KEYS}/{made['id']}"),
        await doors.ask("GET", f"{KEYS}/{made['id']}"),
    ]
    for found in answers:
        assert secret.encode() not in found.body
        assert stored.digest.hex().encode() not in found.body
        assert OPS.digest.hex().encode() not in found.body
    created = api._created(stored, made["key"])
    assert made["key"] not in repr(created) + str(created)
    assert "t-secret" not in repr(api.Ticket("t-secret", 30.0, START))


def test_every_route_says_what_it_needs():
    needs = {(row.method, row.template): row.needs for row in routes_in(api)}
    assert needs == {
        ("POST", KEYS): "keys:write",
        ("GET", KEYS): "keys:read",
        ("GET", KEYS + "/{key_id}"): "keys:read",
        ("DELETE", KEYS + "/{key_id}"): "keys:write",
        ("POST", KEYS + "/{key_id}/rotate"): "keys:write",
        ("POST", TICKET): "chat:write",
    }


BODIES = st.dictionaries(
    st.sampled_from(["name", "scopes", "tenant", "plan", "expires_at"]),
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=5)
    | st.lists(st.sampled_from(["*", "chat:write", "x"]), max_size=2),
)


@settings(max_examples=5, deadline=None)
@given(bodies=st.lists(BODIES, min_size=10, max_size=20))
async def test_any_body_makes_a_key_or_is_refused(bodies):
    doors = Doors(OPS)
    for body in bodies:
        before = len(doors.house.keys)
        found = await doors.ask("POST", KEYS, body)
        assert found.status in {201, 422}
        assert len(doors.house.keys) == before + (found.status == 201)

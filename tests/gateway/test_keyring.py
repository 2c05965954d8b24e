"""`argentor_asgi.gateway.keyring`: keys that are made, replaced and revoked at run time, and who may."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import combinations, product

import pytest
from asgi_driver import until
from keyhouse import ADMIN, CHAT, CLERK, ROOT, START, KeyHouse, failing

from argentor_asgi.api_keys import ApiKey
from argentor_asgi.errors import Forbidden, InvalidInput, KeyNotFound, Overloaded, StorageUnavailable
from argentor_asgi.gateway.keyring import LONGEST_LIFE, LONGEST_OVERLAP_S, OVERLAP_S, Wish
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.sessions.records import KEYS

OPS = ApiKey("ops", sha256(b"configured").digest())
SOON = START + timedelta(days=90)


def wrong(caught):
    return [(detail.pointer, detail.message) for detail in caught.value.details]


# --- make --------------------------------------------------------------------------------------------------------


async def test_a_key_that_is_made_opens_at_once_and_after_a_restart():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, Wish("ci", ("chat:write", "runs:read"), "acme", "pro", SOON))
    for each in (house, await house.restarted()):
        found = each.verify(text)
        assert found.principal == Principal(f"key:{key.id}", "acme")
        assert (found.principal.key_id, found.principal.plan) == (key.id, "pro")
        assert (found.principal.scopes, found.expires_s) == ({"chat:write", "runs:read"}, SOON.timestamp())
    assert text.reveal().split("_")[:2] == ["agtr", key.id]


async def test_what_is_stored_says_who_made_it_and_does_not_hold_the_key():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(CLERK, CHAT)
    stored = await house.store.get_key(key.id)
    assert stored == key
    assert (key.name, key.tenant, key.created_at, key.created_by) == ("chat", "acme", START, "clerk")
    assert key.digest == sha256(text.reveal().encode()).digest()
    assert text.reveal() not in repr(stored) + repr((key, text)) + repr(house.ring) + repr(vars(house.ring))


async def test_scopes_are_kept_once_each():
    key, _ = await KeyHouse(OPS).ring.create(ROOT, Wish("ci", ("chat:write", "admin", "chat:write")))
    assert key.scopes == ("chat:write", "admin")


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        (Wish("", ("*",)), "/name"),
        (Wish(" ", ("*",)), "/name"),
        (Wish("a\nb", ("*",)), "/name"),
        (Wish("x" * 101, ("*",)), "/name"),
        (Wish("\ud800", ("*",)), "/name"),
        (Wish("ci", ()), "/scopes"),
        (Wish("ci", ("chat",)), "/scopes"),
        (Wish("ci", ("a:read",) * 65), "/scopes"),
        (Wish("ci", ("*",), tenant="a b"), "/tenant"),
        (Wish("ci", ("*",), tenant=""), "/tenant"),
        (Wish("ci", ("*",), plan="gold"), "/plan"),
        (Wish("ci", ("*",), expires_at=START), "/expires_at"),
        (Wish("ci", ("*",), expires_at=START - timedelta(days=1)), "/expires_at"),
        (Wish("ci", ("*",), expires_at=START + LONGEST_LIFE + timedelta(seconds=1)), "/expires_at"),
        (Wish("ci", ("*",), expires_at=datetime.max.replace(tzinfo=UTC)), "/expires_at"),
    ],
)
async def test_a_key_that_could_not_be_is_refused_at_its_field(wish, pointer):
    house = KeyHouse(OPS)
    with pytest.raises(InvalidInput) as caught:
        await house.ring.create(ROOT, wish)
    assert [at for at, _ in wrong(caught)] == [pointer]
    assert (await house.store.all_keys(), len(house.keys)) == ([], 1)


async def test_every_wrong_field_is_said_at_once():
    with pytest.raises(InvalidInput) as caught:
        await KeyHouse(OPS).ring.create(ROOT, Wish("", ("x",), "a b", "gold", START))
    assert [at for at, _ in wrong(caught)] == ["/name", "/scopes", "/tenant", "/plan", "/expires_at"]


async def test_a_key_at_the_edge_of_each_field_is_made():
    house = KeyHouse(OPS)
    wish = Wish("x" * 100, tuple(f"a{n}:read" for n in range(64)), "t" * 64, "pro", START + LONGEST_LIFE)
    assert (await house.ring.create(ROOT, wish))[0].expires_at == START + LONGEST_LIFE


async def test_the_bound_of_stored_keys_is_an_overload():
    house = KeyHouse(OPS)
    first, _ = await house.ring.create(ROOT, CHAT)
    house.store._keys.update({str(n): first for n in range(KEYS - 1)})
    with pytest.raises(Overloaded, match=str(KEYS)):
        await house.ring.create(ROOT, CHAT)
    assert len(house.keys) == 2


@pytest.mark.parametrize("scopes", [("chat:write",), ("admin",), ("keys:read",)])
async def test_the_first_key_must_be_able_to_make_others(scopes):
    house = KeyHouse()
    with pytest.raises(InvalidInput) as caught:
        await house.ring.create(ANONYMOUS, Wish("first", scopes))
    assert wrong(caught)[0][0] == "/scopes"
    assert "locked out" in wrong(caught)[0][1]
    assert len(house.keys) == 0


@pytest.mark.parametrize("scopes", [("*",), ("keys:write", "chat:write")])
async def test_the_first_key_may_be_made_without_one_and_only_the_first(scopes):
    house = KeyHouse()
    key, text = await house.ring.create(ANONYMOUS, Wish("first", scopes))
    assert house.opens(text)
    for call in (
        house.ring.create(ANONYMOUS, Wish("second", ("*",))),
        house.ring.rotate(ANONYMOUS, key.id),
        house.ring.revoke(ANONYMOUS, key.id),
        house.ring.read(ANONYMOUS, key.id),
        house.ring.page(ANONYMOUS, limit=1),
    ):
        with pytest.raises(Forbidden, match="Only the first key"):
            await call


async def test_of_two_first_keys_at_once_the_second_needs_the_first():
    house = KeyHouse()
    made = await asyncio.gather(
        *(house.ring.create(ANONYMOUS, Wish("first", ("*",))) for _ in range(2)), return_exceptions=True
    )
    assert [isinstance(each, Forbidden) for each in made] == [False, True]


# --- who may -----------------------------------------------------------------------------------------------------


async def test_nobody_gives_away_scopes_that_they_do_not_hold():
    house = KeyHouse(OPS)
    for scopes in (("*",), ("admin",), ("chat:write", "runs:read")):
        with pytest.raises(Forbidden, match="scopes you hold"):
            await house.ring.create(CLERK, Wish("more", scopes))
    assert (await house.ring.create(CLERK, Wish("less", ("chat:write", "keys:write"))))[0].tenant == "acme"
    assert (await house.ring.create(ADMIN, Wish("any", ("*",))))[0].tenant == "hq"


async def test_nobody_makes_keys_for_another_tenant_but_the_all_powerful():
    house = KeyHouse(OPS)
    with pytest.raises(Forbidden, match="own tenant"):
        await house.ring.create(CLERK, replace(CHAT, tenant="hq"))
    for by in (ROOT, ADMIN):
        assert (await house.ring.create(by, replace(CHAT, tenant="acme")))[0].tenant == "acme"


async def test_a_key_of_another_tenant_reads_as_absent():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    for call in (house.ring.read, house.ring.rotate, house.ring.revoke):
        for key_id in (key.id, "ops", "nothing", "", "\ud800"):
            with pytest.raises(KeyNotFound):
                await call(CLERK, key_id)
    assert house.opens(text)
    assert await house.ring.read(ADMIN, key.id) == key


async def test_a_key_that_may_more_than_its_manager_is_seen_and_left_alone():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, Wish("strong", ("*",), "acme"))
    assert await house.ring.read(CLERK, key.id) == key
    for call in (house.ring.rotate, house.ring.revoke):
        with pytest.raises(Forbidden, match="scopes you hold"):
            await call(CLERK, key.id)
    assert house.opens(text)


SETS = [set(held) for size in range(1, 5) for held in combinations(("*", "admin", "a:read", "b:write"), size)]


async def test_whoever_makes_a_key_gains_nothing_by_it():
    house = KeyHouse(OPS)
    for mine, wanted, tenant in product(SETS, SETS, ("acme", "hq")):
        by = Principal("me", "acme", frozenset(mine))
        try:
            await house.ring.create(by, Wish("k", tuple(wanted), tenant))
            made = True
        except Forbidden:
            made = False
        assert made == (bool(mine & {"*", "admin"}) or (wanted <= mine and tenant == "acme"))


# --- replace -----------------------------------------------------------------------------------------------------


async def test_a_replaced_key_opens_for_its_overlap_and_the_new_one_at_once_for_the_same_principal():
    house = KeyHouse(OPS)
    old, old_text = await house.ring.create(ROOT, Wish("ci", ("chat:write",), "acme", "pro"))
    house.clock.wait(1000)
    new, new_text = await house.ring.rotate(CLERK, old.id, 60)
    assert (new.name, new.owner, new.tenant, new.scopes, new.plan) == ("ci", old.owner, "acme", old.scopes, "pro")
    assert (new.created_by, new.expires_at) == ("clerk", None)
    assert new.id != old.id
    assert house.verify(old_text).principal == house.verify(new_text).principal
    kept = await house.store.get_key(old.id)
    assert (kept.replaced_by, kept.expires_at) == (new.id, house.clock.now() + timedelta(seconds=60))
    for each in (house, await house.restarted()):
        assert [each.opens(old_text), each.opens(new_text)] == [True, True]
    house.clock.wait(59.999)
    assert house.opens(old_text)
    house.clock.wait(0.001)
    for each in (house, await house.restarted()):
        assert [each.opens(old_text), each.opens(new_text)] == [False, True]


async def test_without_an_overlap_the_old_key_is_over_at_once():
    house = KeyHouse(OPS)
    old, text = await house.ring.create(ROOT, CHAT)
    house.opens(text)
    await house.ring.rotate(ROOT, old.id, 0)
    assert not house.opens(text)


async def test_an_overlap_is_an_hour_and_prolongs_no_life():
    house = KeyHouse(OPS)
    one, _ = await house.ring.create(ROOT, CHAT)
    other, _ = await house.ring.create(ROOT, replace(CHAT, expires_at=START + timedelta(seconds=100)))
    for key in (one, other):
        await house.ring.rotate(ROOT, key.id)
    ends = [(await house.store.get_key(key.id)).expires_at for key in (one, other)]
    assert ends == [START + timedelta(seconds=OVERLAP_S), START + timedelta(seconds=100)]
    assert LONGEST_OVERLAP_S == 604_800


async def test_a_key_that_was_to_expire_is_followed_by_one_of_the_same_life():
    house = KeyHouse(OPS)
    old, _ = await house.ring.create(ROOT, replace(CHAT, expires_at=SOON))
    house.clock.wait(3600)
    new, _ = await house.ring.rotate(ROOT, old.id)
    assert new.expires_at == SOON + timedelta(hours=1)


async def test_a_key_is_replaced_once_and_while_it_lives():
    house = KeyHouse(OPS)
    old, _ = await house.ring.create(ROOT, CHAT)
    new, _ = await house.ring.rotate(ROOT, old.id)
    with pytest.raises(InvalidInput, match=f"replaced by {new.id}"):
        await house.ring.rotate(ROOT, old.id)
    brief, _ = await house.ring.create(ROOT, replace(CHAT, expires_at=START + timedelta(seconds=1)))
    house.clock.wait(1)
    with pytest.raises(InvalidInput, match="has expired"):
        await house.ring.rotate(ROOT, brief.id)
    await house.ring.revoke(ROOT, new.id)
    with pytest.raises(KeyNotFound):
        await house.ring.rotate(ROOT, new.id)


async def test_of_many_who_replace_a_key_at_once_one_does():
    house = KeyHouse(OPS)
    old, _ = await house.ring.create(ROOT, CHAT)
    made = await asyncio.gather(*(house.ring.rotate(ROOT, old.id) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, InvalidInput) for each in made) == 9
    assert len(await house.store.all_keys()) == 2


# --- revoke ------------------------------------------------------------------------------------------------------


async def test_a_revoked_key_and_its_tickets_open_nothing_also_after_a_restart():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    credential = house.verify(text)
    ticket = house.tickets.issue(credential, START.timestamp())
    house.clock.wait(5)
    revoked = await house.ring.revoke(replace(CLERK, tenant="default"), key.id)
    assert (revoked.revoked_at, revoked.id) == (house.clock.now(), key.id)
    assert house.tickets.redeem(ticket.encode(), START.timestamp()) is None
    assert credential.expires_s < 0
    for each in (house, await house.restarted()):
        assert not each.opens(text)
    with pytest.raises(KeyNotFound):
        await house.ring.read(ROOT, key.id)
    assert (await house.ring.page(ROOT, limit=1)).rows == (revoked,)


async def test_a_key_is_revoked_once():
    house = KeyHouse(OPS)
    key, _ = await house.ring.create(ROOT, CHAT)
    await house.ring.revoke(ROOT, key.id)
    with pytest.raises(KeyNotFound):
        await house.ring.revoke(ROOT, key.id)


async def test_a_configured_key_is_changed_in_the_configuration():
    house = KeyHouse(OPS)
    for call in (house.ring.rotate, house.ring.revoke):
        with pytest.raises(InvalidInput, match="is configured"):
            await call(ROOT, "ops")
    assert house.keys.get("ops") is not None


async def test_a_key_that_cannot_be_stored_as_revoked_opens_nothing_all_the_same_and_can_be_revoked_again():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    save, house.store.save_key = house.store.save_key, failing
    with pytest.raises(StorageUnavailable):
        await house.ring.revoke(ROOT, key.id)
    assert not house.opens(text)
    house.store.save_key = save
    assert (await house.ring.revoke(ROOT, key.id)).revoked_at == START


async def test_a_key_that_cannot_be_stored_does_not_open():
    house = KeyHouse(OPS)
    house.store.add_key = failing
    with pytest.raises(StorageUnavailable):
        await house.ring.create(ROOT, CHAT)
    assert len(house.keys) == 1


async def test_a_rotation_that_fails_leaves_the_old_key_as_it_was():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    house.store.save_key = failing
    with pytest.raises(StorageUnavailable):
        await house.ring.rotate(ROOT, key.id, 0)
    assert house.opens(text)
    assert await house.store.get_key(key.id) == key


async def test_one_who_gives_up_waiting_leaves_the_keyring_usable():
    house = KeyHouse(OPS)
    held, original = asyncio.Event(), house.store.add_key

    async def slow(key):
        await held.wait()
        return await original(key)

    house.store.add_key = slow
    calls = [asyncio.create_task(house.ring.create(ROOT, CHAT)) for _ in range(2)]
    await until(house.ring._lock.locked)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    held.set()
    assert house.opens((await house.ring.create(ROOT, CHAT))[1])

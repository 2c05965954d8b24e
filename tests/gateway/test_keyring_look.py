"""`argentor_asgi.gateway.keyring`: keys that are listed, seen in use, and there again after a restart."""

import logging
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from keyhouse import CHAT, CLERK, ROOT, START, KeyHouse, failing

from argentor_asgi.api_keys import ApiKey
from argentor_asgi.errors import InvalidInput, StorageUnavailable
from argentor_asgi.gateway.keyring import Wish
from argentor_asgi.security.identity import ANONYMOUS, Principal

OPS = ApiKey("ops", sha256(b"configured").digest())


def wrong(caught):
    return [(detail.pointer, detail.message) for detail in caught.value.details]


async def ids_page_by_page(house, by, limit):
    found, cursor = [], None
    while True:
        page = await house.ring.page(by, limit=limit, cursor=cursor)
        assert len(page.rows) <= limit
        found.append([key.name for key in page.rows])
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
async def test_stored_keys_are_listed_newest_first_then_the_configured_ones_page_by_page(limit):
    house = KeyHouse(OPS, ApiKey("dev", bytes(32)), ApiKey("far", bytes(31) + b"1", tenant="acme"))
    for name in ("one", "two"):
        await house.ring.create(ROOT, Wish(name, ("*",)))
        house.clock.wait(1)
    pages = await ids_page_by_page(house, ROOT, limit)
    assert [name for page in pages for name in page] == ["two", "one", "ops", "dev", "far"]
    assert all(len(page) == limit for page in pages[:-1])


async def test_whoever_is_not_all_powerful_sees_their_own_tenants():
    house = KeyHouse(OPS, ApiKey("dev", bytes(32), tenant="acme"))
    for tenant in ("acme", "hq"):
        await house.ring.create(ROOT, Wish(f"of-{tenant}", ("*",), tenant))
    assert await ids_page_by_page(house, CLERK, 10) == [["of-acme", "dev"]]
    assert await ids_page_by_page(house, replace(CLERK, tenant="nobody"), 10) == [[]]


@pytest.mark.parametrize("cursor", ["config.", "config.x", "config.-1", "config.²", "config." + "9" * 6, "nonsense"])
async def test_a_cursor_that_is_none_is_refused(cursor):
    with pytest.raises(InvalidInput) as caught:
        await KeyHouse(OPS).ring.page(ROOT, limit=1, cursor=cursor)
    assert wrong(caught)[0][0] == "/cursor"


async def test_the_credential_of_a_principal_is_that_of_its_key():
    house = KeyHouse(OPS)
    _, text = await house.ring.create(ROOT, CHAT)
    found = house.verify(text)
    assert house.ring.credential(found.principal) is found
    assert house.ring.credential(ANONYMOUS) is None
    assert house.ring.credential(Principal("gone", key_id="gone")) is None


# --- use, and restarts -------------------------------------------------------------------------------------------


async def test_what_was_used_is_stored_once_for_each_use():
    house = KeyHouse(OPS)
    (used, text), (idle, _) = [await house.ring.create(ROOT, CHAT) for _ in range(2)]
    house.opens(text)
    house.keys.verify(b"configured", 0.0)
    house.clock.wait(60)
    await house.ring.flush_used()
    assert (await house.store.get_key(used.id)).last_used_at == house.ring.last_used("ops") == house.clock.now()
    assert (await house.store.get_key(idle.id)).last_used_at is None
    flushed = house.clock.now()
    house.clock.wait(60)
    await house.ring.flush_used()
    assert (await house.store.get_key(used.id)).last_used_at == house.ring.last_used("ops") == flushed


async def test_uses_that_cannot_be_stored_wait_for_the_next_time():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    house.opens(text)
    mark, house.store.mark_used = house.store.mark_used, failing
    with pytest.raises(StorageUnavailable):
        await house.ring.flush_used()
    house.store.mark_used = mark
    await house.ring.flush_used()
    assert (await house.store.get_key(key.id)).last_used_at == START


async def test_a_stored_key_that_is_configured_too_opens_by_the_configuration_and_is_named(caplog):
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    digest = sha256(text.reveal().encode()).digest()
    for configured in (ApiKey("mine", digest), ApiKey(key.id, bytes(32))):
        other = KeyHouse(configured, store=house.store, clock=house.clock)
        with caplog.at_level(logging.ERROR):
            await other.ring.load()
        assert [each.principal.id for each in other.keys] == [configured.name]
        assert key.id in caplog.text
        assert text.reveal() not in caplog.text


async def test_a_store_that_cannot_be_read_at_the_start_is_said():
    house = KeyHouse(OPS)
    house.store.all_keys = failing
    with pytest.raises(StorageUnavailable):
        await house.ring.load()


async def test_loading_again_changes_nothing(caplog):
    house = KeyHouse(OPS)
    _, text = await house.ring.create(ROOT, CHAT)
    credential = house.verify(text)
    await house.ring.load()
    assert (house.verify(text), caplog.records) == (credential, [])


async def test_the_index_keeps_no_more_expired_keys_than_there_were_since_one_was_made():
    house = KeyHouse(OPS, ApiKey("old", bytes(32), expires_at=START))
    for _ in range(20):
        await house.ring.create(ROOT, replace(CHAT, expires_at=house.clock.now() + timedelta(seconds=1)))
        house.clock.wait(1)
    assert len(house.keys) == 3
    _, text = await house.ring.create(ROOT, CHAT)
    assert [each.principal.id for each in house.keys] == ["ops", "old", house.verify(text).principal.id]


async def test_a_key_that_was_left_out_can_be_replaced_by_one_that_opens():
    house = KeyHouse(OPS)
    key, text = await house.ring.create(ROOT, CHAT)
    mine = ApiKey("mine", sha256(text.reveal().encode()).digest())
    other = KeyHouse(mine, store=house.store, clock=house.clock)
    await other.ring.load()
    _, new_text = await other.ring.rotate(ROOT, key.id)
    assert other.verify(new_text).principal.id == key.owner

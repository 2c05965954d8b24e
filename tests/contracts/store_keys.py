"""What every store promises of keys, and of the tokens that limits begin with."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from contracts.store_values import ME, OTHERS, PROPERTY, START, FreshStores, a_key, a_run, begin, pages
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import InvalidInput
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.sessions.records import KEY_KEPT_DAYS, KEYS, Used

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
WHOLE = a_key(
    name="für alle\ud800\0",
    digest=bytes(range(32)),
    scopes=("chat:write", "audit:read"),
    plan="gold",
    expires_at=START + DAY + TICK,
    last_used_at=START + TICK,
    revoked_at=START + 2 * TICK,
    replaced_by="k2",
)


class KeyStoreContract(FreshStores):
    """The promises of `KeyStore` and of `usage_since`, one test each."""

    async def test_a_key_is_kept_whole(self, store):
        assert await store.add_key(WHOLE) is True
        kept = replace(WHOLE, name="für alle\ufffd\0")
        assert await store.get_key("k") == kept
        assert list(await store.all_keys()) == [kept]
        assert list((await store.list_keys(None, limit=1)).rows) == [kept]

    async def test_a_key_without_scopes_plan_or_end_is_kept_so(self, store):
        bare = a_key(scopes=(), name="")
        await store.add_key(bare)
        assert await store.get_key("k") == bare

    async def test_an_unknown_key_is_none(self, store):
        assert await store.get_key("nobody") is None
        assert await store.get_key("\ud800") is None
        assert list(await store.all_keys()) == []

    @pytest.mark.parametrize("again", [a_key("k", digest=b"other"), a_key("k2", digest=b"k")])
    async def test_an_id_and_a_digest_are_stored_once(self, store, again):
        await store.add_key(a_key())
        with pytest.raises(ValueError, match="already stored"):
            await store.add_key(again)
        assert list(await store.all_keys()) == [a_key()]

    @pytest.mark.parametrize("field", ["id", "owner", "tenant", "created_by", "plan", "replaced_by", "scopes"])
    async def test_text_of_a_key_that_utf8_cannot_carry_is_refused(self, store, field):
        await store.add_key(a_key())
        bad = replace(a_key("k2"), **{field: ("\ud800",) if field == "scopes" else "\ud800"})
        for call in (store.add_key(bad), store.save_key(bad)):
            with pytest.raises(InvalidInput):
                await call
        assert list(await store.all_keys()) == [a_key()]

    async def test_saving_a_key_replaces_its_fields(self, store):
        await store.add_key(a_key())
        await store.add_key(a_key("other"))
        await store.save_key(replace(WHOLE, name="new"))
        assert await store.get_key("k") == replace(WHOLE, name="new")
        await store.save_key(a_key(tenant="acme"))
        assert await store.get_key("k") == a_key(tenant="acme")
        assert await store.get_key("other") == a_key("other")

    async def test_saving_an_absent_key_stores_nothing(self, store):
        await store.save_key(a_key())
        assert list(await store.all_keys()) == []

    async def test_a_digest_cannot_become_two_keys(self, store):
        await store.add_key(a_key("a"))
        await store.add_key(a_key("b"))
        with pytest.raises(ValueError, match="another key's"):
            await store.save_key(a_key("a", digest=b"b"))
        assert await store.get_key("a") == a_key("a")

    async def test_use_is_marked_and_never_goes_back(self, store):
        for key_id in ("a", "b", "c"):
            await store.add_key(a_key(key_id))
        await store.mark_used({"a": START + DAY, "b": START, "nobody": START})
        await store.mark_used({"a": START, "b": START + TICK})
        await store.mark_used({})
        found = [(await store.get_key(key_id)).last_used_at for key_id in ("a", "b", "c")]
        assert found == [START + DAY, START + TICK, None]

    @given(times=st.lists(st.integers(0, 3), max_size=8), limit=st.integers(1, 9))
    @PROPERTY
    def test_pages_hold_every_key_of_the_tenant_once_newest_first(self, times, limit):
        async def scenario(store):
            for n, at in enumerate(times):
                await store.add_key(a_key(f"k{n}", ("default", "acme")[n % 2], START + at * TICK))
            for tenant in (None, "default", "acme", "nobody"):
                rows, sizes = await pages(lambda tenant=tenant, **page: store.list_keys(tenant, **page), limit)
                mine = [key for key in await store.all_keys() if tenant in (None, key.tenant)]
                assert [key.id for key in rows] == [key.id for key in reversed(mine)]
                assert all(size == limit for size in sizes[:-1])

        self.run_fresh(scenario)

    async def test_all_keys_are_read_oldest_first_however_many(self, store):
        for n in range(130):
            await store.add_key(a_key(f"k{n:03}", at=START - n * TICK))
        assert [key.id for key in await store.all_keys()] == [f"k{n:03}" for n in reversed(range(130))]

    @pytest.mark.parametrize("cursor", ["", "x", "cy4xLmE", "\ud800"])
    async def test_a_cursor_of_another_list_is_refused(self, store, cursor):
        with pytest.raises(InvalidInput):
            await store.list_keys(None, limit=1, cursor=cursor)

    @pytest.mark.slow
    async def test_the_store_is_full_of_keys_at_its_bound(self, store):
        assert all(await asyncio.gather(*(store.add_key(a_key(f"k{n}")) for n in range(KEYS))))
        assert await store.add_key(a_key("one more")) is False
        with pytest.raises(ValueError, match="already stored"):
            await store.add_key(a_key("k1"))
        assert len(await store.all_keys()) == KEYS
        await store.save_key(a_key("k5", revoked_at=START - 2 * KEY_KEPT_DAYS * DAY))
        assert await store.prune(START) == 1
        assert await store.add_key(a_key("one more")) is True

    async def test_pruning_drops_keys_that_are_over_for_long(self, store, clock):
        await store.add_key(a_key("live", last_used_at=START))
        await store.add_key(a_key("revoked", revoked_at=START))
        await store.add_key(a_key("expired", expires_at=START))
        await store.add_key(a_key("later", expires_at=START + TICK, replaced_by="live"))
        clock.pass_by(KEY_KEPT_DAYS * 86_400)
        assert await store.prune(START) == 0
        clock.at += TICK
        assert await store.prune(START) == 2
        assert {key.id for key in await store.all_keys()} == {"live", "later"}
        assert await store.add_key(a_key("revoked")) is True

    async def test_usage_is_added_up_by_scope_from_a_moment_on(self, store):
        for n, (scope, at) in enumerate(
            [(ME, START - TICK), (ME, START), (ME, START + DAY), *((o, START) for o in OTHERS)]
        ):
            run = a_run(
                f"r{n}", f"s{n}", scope, at, usage=Usage(10, n, 7), cost_micros=5 * n, work_ms=100 + n, tool_calls=n
            )
            await begin(store, run)
        await begin(store, a_run("idle", "s1", at=START))
        found = await store.usage_since(START)
        others = [(scope, Used(10 + n, 5 * n, 100 + n, n)) for n, scope in enumerate(OTHERS, 3)]
        mine = (ME, Used(10 + 1 + 10 + 2, 5 + 10, 101 + 102, 1 + 2))
        assert found == sorted([mine, *others], key=lambda one: (one[0].tenant, one[0].owner))
        assert list(await store.usage_since(START + 2 * DAY)) == []

    async def test_usage_follows_a_run_as_it_changes(self, store):
        await begin(store)
        assert list(await store.usage_since(START)) == []
        await store.save_run(a_run(status="done", usage=Usage(5, 6), cost_micros=7, work_ms=8, tool_calls=9))
        assert list(await store.usage_since(START)) == [(ME, Used(11, 7, 8, 9))]
        await store.delete_session(ME, "s")
        assert list(await store.usage_since(START)) == []

    async def test_a_cost_that_is_not_known_counts_nothing_beside_those_that_are(self, store):
        await begin(store, a_run("a", "s1", usage=Usage(1, 1), cost_micros=None))
        assert list(await store.usage_since(START)) == [(ME, Used(2))]
        await begin(store, a_run("b", "s2", usage=Usage(1, 1), cost_micros=3))
        assert list(await store.usage_since(START)) == [(ME, Used(4, 3))]

    @pytest.mark.parametrize("field", ["cost_micros", "work_ms", "tool_calls"])
    async def test_who_used_one_thing_alone_is_told_of(self, store, field):
        await begin(store, a_run(**{field: 1}))
        assert list(await store.usage_since(START)) == [(ME, Used(**{field: 1}))]

"""`argentor_asgi.lifecycle`: what is opened and closed in which order, and what is seen to meanwhile and at the end."""

import asyncio
import logging
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from asgi_driver import StartupFailed, lifespan, soon, until
from audit_place import actions
from contracts.store_values import a_key, a_message, a_run, a_session
from doors import CHAT, doors
from faulty_store import FaultyStore
from scripted_backend import ScriptedBackend

from argentor_asgi import compose
from argentor_asgi.asgi.route import route
from argentor_asgi.assembly import assemble
from argentor_asgi.config import Audit, Auth, Config, Limits, Log, Secret, Shutdown, Storage
from argentor_asgi.equipment import authenticator, equip
from argentor_asgi.errors import ConfigError, StorageUnavailable
from argentor_asgi.gateway.connections import KEY_REVOKED
from argentor_asgi.gateway.services import Services
from argentor_asgi.lifecycle import Parts, _every, _prune, _sweep, living
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import Scope

pytestmark = pytest.mark.slow

ME = Scope("me")


class Recorder(list):
    """What happened, in order."""

    def store(self, seen=lambda: None):
        """Return a store that tells of itself; `seen`: what to look at when it closes."""
        told = self

        class Store(FaultyStore):
            async def __aenter__(self):
                told.append("store opened")
                return await super().__aenter__()

            async def __aexit__(self, *error):
                told.append(("store closed", seen()))
                await super().__aexit__(*error)

            async def interrupt_live(self, now):
                told.append("left-overs ended")
                return await super().interrupt_live(now)

            async def all_keys(self):
                told.append("keys read")
                return await super().all_keys()

            async def usage_since(self, moment):
                told.append("usage read")
                return await super().usage_since(moment)

            async def mark_used(self, used):
                told.append("use noted")
                await super().mark_used(used)

        return Store()

    def backend(self):
        told = self

        class Backend(ScriptedBackend):
            async def aclose(self):
                told.append("backend closed")
                await super().aclose()

        return Backend()

    def access(self):
        told = self

        class Log(AccessLog):
            async def close(self, timeout_s=2.0):
                told.append("access log closed")
                await super().close(timeout_s)

        return Log("json")


def parts_of(config, *, store=None, backend=None, access=None):
    """Return what `compose` hands to the lifecycle."""
    tools = equip(config, version="0")
    store, backend = store or FaultyStore(), backend or ScriptedBackend()
    agency = assemble(config, tools, store, agent=backend, skills=(), permissions=None)
    by = authenticator(config, tools)
    services = compose._services(config, tools, agency, store, openapi=b"{}", address_of=by.address_of)
    return Parts(services, tools.keys, by, access, agency.opted, agency.mcp, agency.budgets.days)


def config(directory=None, **more):
    audit = Audit(directory=None if directory is None else str(directory))
    return Config(storage=Storage(url="memory://"), audit=audit, log=Log(access=False), **more)


def key(name="ci", **fields):
    return a_key(name, at=SystemClock().now(), owner=name, scopes=("*",), **fields)


# --- the order -----------------------------------------------------------------------------------------------------


async def test_things_are_opened_in_order_and_closed_in_the_reverse_once_the_drain_is_over(tmp_path):
    told = Recorder()
    store = told.store(lambda: actions(tmp_path)[-1])
    await store.add_key(key())
    parts = parts_of(config(tmp_path), store=store, backend=told.backend(), access=told.access())
    services = parts.services

    async def last():
        told.append(("drained", actions(tmp_path)[-1], services.backend.is_closed))

    services.drain.hook("final", "test", last)
    async with living(parts):
        assert told == ["store opened", "left-overs ended", "keys read", "usage read"]
        told.clear()
        parts.keys.get("ci").is_used = True
        services.audit.record("key_create", outcome="success")
    assert told == [
        ("drained", "key_create", False),
        "use noted",
        "backend closed",
        ("store closed", "audit_closed"),
        "access log closed",
    ]


async def test_the_audit_log_says_when_it_was_opened_and_closed_each_time(tmp_path):
    for times in (1, 2):
        async with living(parts_of(config(tmp_path))):
            pass
        assert actions(tmp_path) == ["audit_opened", "audit_closed"] * times


async def test_whoever_stops_it_it_drains_once(caplog):
    caplog.set_level(logging.INFO, "argentor.drain")
    parts = parts_of(config())
    async with living(parts):
        parts.services.drain.begin("an operator")
        await soon(parts.services.drain.finished.wait())
    assert [record.getMessage() for record in caplog.records if "draining" in record.getMessage()] == [
        "draining for up to 15 s: an operator"
    ]


async def test_no_task_outlives_it():
    before = asyncio.all_tasks()
    async with living(parts_of(config())):
        names = {task.get_name() for task in asyncio.all_tasks() - before}
        assert {"prune", "used keys", "sweep"} <= names
    await until(lambda: asyncio.all_tasks() <= before)


async def test_a_start_that_fails_closes_what_was_opened():
    told = Recorder()
    store = told.store()
    store.faults["usage_since"] = StorageUnavailable()
    parts = parts_of(config(), store=store, backend=told.backend(), access=told.access())
    before = asyncio.all_tasks()
    with pytest.raises(StorageUnavailable):
        async with living(parts):
            raise AssertionError("it opened")
    assert told[-3:] == ["backend closed", ("store closed", None), "access log closed"]
    assert asyncio.all_tasks() == before


async def test_a_model_that_cannot_be_closed_keeps_nothing_else_open():
    class Stuck(ScriptedBackend):
        async def aclose(self):
            raise RuntimeError("stuck")

    told = Recorder()
    with pytest.raises(RuntimeError, match="stuck"):
        async with living(parts_of(config(), store=told.store(), backend=Stuck(), access=told.access())):
            pass
    assert told[-2:] == [("store closed", None), "access log closed"]


# --- the audit log that cannot be -----------------------------------------------------------------------------------


async def test_an_audit_log_that_cannot_be_opened_is_a_failed_startup_of_one_line(tmp_path):
    (tmp_path / "file").touch()
    told = Recorder()
    app = compose.create_app(config(tmp_path / "file" / "audit"), agent=told.backend(), sessions=told.store())
    with pytest.raises(StartupFailed, match=r"^[^\n]*audit\.directory[^\n]*$"):
        async with lifespan(app):
            pass
    assert told == ["store opened", "backend closed", ("store closed", None)]


async def test_it_can_do_without_an_audit_log(tmp_path):
    quiet = replace(config(tmp_path / "audit"), audit=Audit(enabled=False, directory=str(tmp_path / "audit")))
    async with living(parts_of(quiet)) as _:
        pass
    assert not (tmp_path / "audit").exists()


async def test_two_gateways_cannot_share_an_audit_log(tmp_path):
    async with living(parts_of(config(tmp_path))):
        second = parts_of(config(tmp_path))
        second.services.audit._lock_wait_s = 0.01
        with pytest.raises(ConfigError, match=r"in use by another process"):
            async with living(second):
                pass


# --- what a restart knows -------------------------------------------------------------------------------------------


async def test_stored_keys_open_from_the_first_request_on_and_revoked_ones_do_not():
    store = FaultyStore()
    await store.add_key(key("good"))
    await store.add_key(key("gone", revoked_at=SystemClock().now()))
    parts = parts_of(config(), store=store)
    async with living(parts):
        assert [credential.principal.id for credential in parts.keys] == ["good"]


async def test_what_was_used_today_is_still_used_after_a_restart():
    store = FaultyStore()
    limits = {"tokens_per_day": 5}
    async with doors(keys=("me", "you"), limits=limits, store=store) as house:
        assert [(await house.post(CHAT, {"message": "hi"})).status for _ in range(2)] == [200, 429]
    async with doors(keys=("me", "you"), limits=limits, store=store) as house:
        assert (await house.post(CHAT, {"message": "hi"})).status == 429
        assert (await house.as_("you").post(CHAT, {"message": "hi"})).status == 200


async def test_what_was_used_yesterday_is_not():
    store, now = FaultyStore(), SystemClock().now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for name, at in (("before", midnight - timedelta(seconds=1)), ("since", midnight)):
        run = a_run(name, name, ME, at, usage=Usage(input_tokens=100, output_tokens=len(name)))
        run = replace(run, status="done")
        await store.begin_run(run, session=a_session(name, ME), message=a_message(session_id=name))
    parts = parts_of(config(), store=store)
    async with living(parts):
        limiter = parts.services.limiter
        assert limiter.stats(limiter.account(Principal("me"), None)).tokens_today == 105


# --- chores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [StorageUnavailable(), RuntimeError("a bug of the store")])
async def test_a_chore_that_fails_is_logged_and_goes_on_until_it_is_ended(fault, caplog):
    store = FaultyStore()
    gate = store.gate("prune")
    parts = parts_of(config(), store=store)
    pruning = asyncio.create_task(_every(0.0, lambda: _prune(parts.services)))
    await soon(store.reached.wait())
    store.faults["prune"] = fault
    with caplog.at_level(logging.ERROR):
        gate.set()
        await until(lambda: len(caplog.records) > 1)
    assert {record.getMessage() for record in caplog.records} == {"a chore failed"}
    del store.faults["prune"]
    store.gate("prune")
    await soon(store.reached.wait())
    pruning.cancel()
    await asyncio.wait({pruning})
    assert pruning.cancelled()


async def test_which_keys_were_used_is_stored_at_the_end():
    store = FaultyStore()
    await store.add_key(key())
    parts = parts_of(config(), store=store)
    async with living(parts):
        parts.keys.get("ci").is_used = True
    assert (await store.get_key("ci")).last_used_at is not None


async def test_an_end_at_which_that_cannot_be_stored_is_an_end_all_the_same():
    told = Recorder()
    store = told.store()
    await store.add_key(key())
    parts = parts_of(config(), store=store, backend=told.backend())
    async with living(parts):
        parts.keys.get("ci").is_used = True
        store.faults["mark_used"] = StorageUnavailable()
    assert told[-2:] == ["backend closed", ("store closed", None)]


async def test_a_sweep_forgets_who_has_nothing_left_to_remember():
    parts = parts_of(config(auth=Auth(api_keys=(Secret("me:k-0123456789abcdef"),)), limits=Limits(enabled=True)))
    services = parts.services
    idle = services.limiter.account(Principal("idle"), None)
    busy = services.limiter.account(Principal("busy"), None)
    services.limiter.take(busy)
    services.tickets.issue(Principal("idle"), time.time() - 60)
    parts.authenticator._throttle.failed("192.0.2.1", services.clock.monotonic() - 3600)
    await _sweep(parts)
    assert services.limiter.account(Principal("idle"), None) is not idle
    assert services.limiter.account(Principal("busy"), None) is busy
    assert (len(services.tickets), len(parts.authenticator._throttle)) == (0, 0)


async def test_a_sweep_closes_the_sockets_of_a_key_that_has_expired():
    grabbed = []

    @route("GET", "/grab", needs=None)
    async def grab(services: Services) -> None:
        grabbed.append(services)

    async with doors(keys=("me", "you"), routes=[grab]) as house:
        await house.get("/grab")
        (services,) = grabbed
        parts = replace(parts_of(config()), services=services, keys=services.keyring._keys)
        async with house.talk() as mine, house.as_("you").talk() as yours:
            await _sweep(parts)
            await mine.is_silent()
            parts.keys.get("me").expires_s = time.time() - 1
            await _sweep(parts)
            assert (await mine.peer.end())["code"] == KEY_REVOKED.code
            await yours.is_silent()


def test_the_drain_has_the_times_that_are_configured():
    drain = parts_of(config(shutdown=Shutdown(drain_s=7.0, total_s=9.0, ready_delay_s=1.0))).services.drain
    assert (drain.drain_s, drain.total_s, drain.ready_delay_s) == (7.0, 9.0, 1.0)

"""`argentor_asgi.ops.health`: what the three probes answer, and that no probe can hold or flood them."""

import asyncio
import json
import logging

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from still_clock import StillClock

from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.health import Health


class Dependency:
    """Something to probe: says how often it was asked, and fails or hangs when told to."""

    def __init__(self):
        self.asked = 0
        self.error = None
        self.free = asyncio.Event()
        self.free.set()

    async def check(self):
        self.asked += 1
        await self.free.wait()
        if self.error:
            raise self.error


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def store():
    return Dependency()


@pytest.fixture
def drain(clock):
    return Drain(clock=clock, drain_s=1)


@pytest.fixture
def health(clock, store, drain):
    return Health(
        probes={"storage": store.check},
        drain=drain,
        clock=clock,
        mounted={"rest_api": True, "control_plane": False},
        timeout_s=0.05,
    )


async def test_health_says_ok_until_the_drain_begins(health, drain):
    assert json.loads(orjson.dumps(health.health()[1])) == {"status": "ok", "service": "argentor"}
    assert health.health()[0] == 200
    drain.begin("test")
    assert health.health()[0] == 503
    assert json.loads(orjson.dumps(health.health()[1])) == {"status": "shutting_down", "service": "argentor"}


async def test_the_process_is_alive_even_when_it_drains(health, drain):
    drain.begin("test")
    status, body = health.live()
    assert (status, json.loads(orjson.dumps(body))) == (200, {"status": "alive", "service": "argentor"})


async def test_a_part_that_is_not_mounted_does_not_count_against_readiness(health):
    status, body = await health.ready()
    assert status == 200
    assert json.loads(orjson.dumps(body)) == {
        "status": "ready",
        "service": "argentor",
        "checks": {
            "not_shutting_down": "ok",
            "rest_api": "ok",
            "control_plane": "not_mounted",
            "connections": "ok",
            "storage": "ok",
        },
    }


async def test_a_draining_gateway_is_not_ready(health, drain):
    drain.begin("test")
    status, body = await health.ready()
    assert (status, body.status, body.checks["not_shutting_down"]) == (503, "not_ready", "not_ready")


async def test_a_failing_probe_makes_it_not_ready_and_tells_only_the_log(health, store, caplog):
    store.error = RuntimeError("password=hunter2")
    status, body = await health.ready()
    assert (status, body.checks["storage"]) == (503, "not_ready")
    assert b"hunter2" not in orjson.dumps(body)
    assert "RuntimeError: password=hunter2" in caplog.text


async def test_the_log_hears_of_each_change_once(health, store, clock, caplog):
    caplog.set_level(logging.INFO, "argentor.health")
    for error in (None, OSError("gone"), OSError("gone"), None, None):
        store.error = error
        await health.ready()
        clock.at += 2
    assert [record.getMessage() for record in caplog.records] == [
        "storage is not ready: OSError: gone",
        "storage is ready again",
    ]


async def test_results_are_reused_while_they_are_fresh(health, store, clock):
    for _ in range(5):
        await health.ready()
    assert store.asked == 1
    clock.at += 0.999
    await health.ready()
    assert store.asked == 1
    clock.at += 0.002
    await health.ready()
    assert store.asked == 2


async def test_many_callers_at_once_make_one_probe(health, store):
    answers = await asyncio.gather(*(health.ready() for _ in range(50)))
    assert store.asked == 1
    assert {status for status, _ in answers} == {200}


async def test_a_probe_that_hangs_is_not_ready_after_its_time(health, store):
    store.free.clear()
    status, body = await health.ready()
    assert (status, body.checks["storage"]) == (503, "not_ready")


async def test_probes_run_beside_each_other(clock, drain):
    """Each waits for the other, so that one after the other would run into the timeout."""
    first, second = asyncio.Event(), asyncio.Event()

    async def one():
        first.set()
        await second.wait()

    async def two():
        second.set()
        await first.wait()

    health = Health(probes={"one": one, "two": two}, drain=drain, clock=clock, mounted={})
    assert (await health.ready())[0] == 200


async def test_a_probe_that_refuses_to_be_cancelled_is_not_started_again(clock, drain):
    release, started = asyncio.Event(), []

    async def stubborn():
        started.append(1)
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        raise OSError("too late")

    health = Health(probes={"disk": stubborn}, drain=drain, clock=clock, mounted={}, timeout_s=0.01, fresh_s=0)
    for _ in range(3):
        assert (await health.ready())[0] == 503
    assert len(started) == 1
    release.set()
    await asyncio.wait(health._running.values())


async def test_a_caller_that_goes_away_leaves_the_probe_to_the_others(health, store):
    store.free.clear()
    gone = asyncio.create_task(health.ready())
    stays = asyncio.create_task(health.ready())
    await asyncio.sleep(0)
    gone.cancel()
    store.free.set()
    assert (await stays)[0] == 200
    assert gone.cancelled()
    assert store.asked == 1


async def test_a_probe_that_cancels_itself_is_not_ready(clock, drain):
    async def odd():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    health = Health(probes={"odd": odd}, drain=drain, clock=clock, mounted={})
    assert (await health.ready())[1].checks["odd"] == "not_ready"


async def test_a_probe_named_as_a_check_of_the_original_stands_for_it(clock, drain, store):
    store.error = OSError("full")
    health = Health(probes={"connections": store.check}, drain=drain, clock=clock, mounted={"rest_api": True})
    assert (await health.ready())[1].checks["connections"] == "not_ready"


@given(
    probes=st.dictionaries(st.text(min_size=1), st.booleans(), max_size=5), draining=st.booleans(), rest=st.booleans()
)
def test_ready_is_200_exactly_when_nothing_that_counts_fails(probes, draining, rest):
    def probe(works):
        async def check():
            if not works:
                raise OSError

        return check

    async def asked():
        drain = Drain(clock=StillClock(), drain_s=1)
        asking = {f"probe-{name}": probe(works) for name, works in probes.items()}
        health = Health(probes=asking, drain=drain, clock=StillClock(), mounted={"rest_api": rest})
        if draining:
            drain.begin("test")
        return await health.ready()

    status, body = asyncio.run(asked())
    assert (status == 200) == (all(probes.values()) and not draining)
    assert (body.status == "ready") == (status == 200)

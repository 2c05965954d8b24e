"""`argentor_asgi.gateway.connections`: who is connected, within two bounds, and how all of them are told to go."""

import asyncio
from contextlib import ExitStack

import pytest
from asgi_driver import soon, until
from contracts.approval_store import an_approval
from house import ME, TENANT, YOU
from hypothesis import given
from hypothesis import strategies as st
from still_clock import StillClock

from argentor_asgi.errors import Overloaded
from argentor_asgi.gateway.connections import KEY_REVOKED, RESTART, SLOTS, Connection, Connections
from argentor_asgi.security.identity import Principal


class Ending:
    """A socket that says goodbye when all that are expected do."""

    def __init__(self, together):
        self.together = together
        self.told = []

    def end(self, farewell):
        self.told.append(farewell)

    def beat(self, ping):
        self.told.append(ping)

    def announce(self, approval):
        self.told.append(approval)

    async def goodbye(self, farewell, *, within_s):
        self.told.append((farewell, within_s))
        await self.together.wait()


def connection(number, principal=ME, socket=None):
    return Connection(f"c{number}", f"s{number}", principal, socket)


def test_connections_are_counted_while_they_are_open_and_by_their_principal():
    connections = Connections(limit=9)
    with ExitStack() as stack:
        for number, principal in enumerate([ME, YOU, ME, TENANT]):
            stack.enter_context(connections.opened(connection(number, principal)))
        assert len(connections) == 4
        assert [connections.count(principal) for principal in (ME, YOU, TENANT)] == [2, 1, 1]
        assert connections.session_ids(ME) == ["s0", "s2"]
        assert connections.session_ids(TENANT) == ["s3"]
    assert (len(connections), connections.count(ME), connections.session_ids(ME)) == (0, 0, [])
    assert connections._open == {}


def test_a_session_with_two_connections_is_listed_once():
    connections = Connections(limit=9)
    with (
        connections.opened(Connection("a", "s", ME, None)),
        connections.opened(Connection("b", "s", ME, None)),
    ):
        assert (connections.session_ids(ME), connections.count(ME)) == (["s"], 2)


def test_at_its_bound_one_more_is_refused_until_one_has_gone():
    connections = Connections(limit=2)
    with connections.opened(connection(0)):
        with connections.opened(connection(1, YOU)):
            with pytest.raises(Overloaded, match="no room") as refused, connections.opened(connection(2)):
                pass
            assert refused.value.retry_after == 1
            assert len(connections) == 2
        with connections.opened(connection(2)):
            assert len(connections) == 2


@given(st.lists(st.sampled_from([ME, YOU, TENANT]), max_size=12), st.integers(1, 6))
def test_no_bound_is_ever_passed(principals, limit):
    connections, opened = Connections(limit=limit), []
    with ExitStack() as stack:
        for number, principal in enumerate(principals):
            try:
                stack.enter_context(connections.opened(connection(number, principal)))
                opened.append(principal)
            except Overloaded:
                assert len(opened) == limit
        assert [connections.count(each) for each in (ME, YOU, TENANT)] == [opened.count(e) for e in (ME, YOU, TENANT)]
    assert len(connections) == 0


def test_a_connection_that_fails_is_counted_no_more():
    connections = Connections(limit=1)
    with pytest.raises(ZeroDivisionError), connections.opened(connection(0)):
        raise ZeroDivisionError
    with connections.opened(connection(0)):
        assert len(connections) == 1


async def test_a_drain_says_goodbye_to_all_at_once_and_waits_for_them():
    connections, together = Connections(limit=9), asyncio.Event()
    sockets = [Ending(together) for _ in range(3)]
    with ExitStack() as stack:
        for number, socket in enumerate(sockets):
            stack.enter_context(connections.opened(connection(number, socket=socket)))
        draining = asyncio.create_task(connections.drain(2.5))
        for _ in range(3):
            await asyncio.sleep(0)
        assert [socket.told for socket in sockets] == [[(RESTART, 2.5)]] * 3
        assert not draining.done()
        together.set()
        await soon(draining)


async def test_a_drain_without_connections_is_over_at_once():
    await soon(Connections(limit=1).drain(60.0))


# --- pings -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 3 * SLOTS), st.integers(0, 3))
def test_a_round_pings_each_connection_once_and_spreads_them_evenly(count, rounds):
    connections = Connections(limit=100, clock=StillClock())
    sockets = [Ending(None) for _ in range(count)]
    with ExitStack() as stack:
        for number, socket in enumerate(sockets):
            stack.enter_context(connections.opened(connection(number, socket=socket)))
        for _ in range(rounds * SLOTS):
            before = sum(len(socket.told) for socket in sockets)
            connections.beat()
            assert sum(len(socket.told) for socket in sockets) - before <= -(-count // SLOTS)
    assert [socket.told for socket in sockets] == [[b'{"type":"ping","t":1767225600000}'] * rounds] * count
    assert not any(connections._slots)


async def test_one_timer_runs_while_anyone_is_connected():
    connections, socket = Connections(limit=9, heartbeat_s=0.02, clock=StillClock()), Ending(None)
    assert connections._timer is None
    with connections.opened(connection(0, socket=socket)):
        with connections.opened(connection(1, socket=Ending(None))):
            timer = connections._timer
        assert connections._timer is timer
        await until(lambda: len(socket.told) > 2)
    assert connections._timer is None


def test_a_connection_that_ends_another_in_its_beat_disturbs_no_round():
    connections, stack = Connections(limit=100), ExitStack()

    class Last(Ending):
        def beat(self, ping):
            super().beat(ping)
            stack.close()

    for number in range(2 * SLOTS):
        stack.enter_context(connections.opened(connection(number, socket=Last(None))))
    connections.beat()
    assert len(connections) == 0


# --- whose -------------------------------------------------------------------------------------------------------


def test_a_revoked_key_ends_its_own_connections_and_no_others():
    connections = Connections(limit=9)
    sockets = [Ending(None) for _ in range(4)]
    keys = ["one", "two", None, "one"]
    with ExitStack() as stack:
        for number, (socket, key) in enumerate(zip(sockets, keys, strict=True)):
            who = Principal("me", key_id=key)
            stack.enter_context(connections.opened(connection(number, who, socket)))
        assert connections.evict("one") == 2
        assert connections.evict("three") == 0
    assert [socket.told for socket in sockets] == [[KEY_REVOKED], [], [], [KEY_REVOKED]]


def test_a_call_that_waits_is_announced_to_those_of_its_owner_who_may_know_of_it():
    """core.md G2: nobody else hears of it."""
    connections = Connections(limit=9)
    guest = Principal("me", scopes=frozenset({"chat:write"}))
    sockets = [Ending(None) for _ in range(5)]
    approval = an_approval()
    with ExitStack() as stack:
        for number, principal in enumerate([ME, YOU, TENANT, guest, ME]):
            stack.enter_context(connections.opened(connection(number, principal, sockets[number])))
        connections.announce(approval)
    connections.announce(approval)
    assert [socket.told for socket in sockets] == [[approval], [], [], [], [approval]]

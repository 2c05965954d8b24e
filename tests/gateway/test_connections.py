"""`argentor_asgi.gateway.connections`: who is connected, within two bounds, and how all of them are told to go."""

import asyncio
from contextlib import ExitStack

import pytest
from asgi_driver import soon
from house import ME, TENANT, YOU
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.errors import Overloaded
from argentor_asgi.gateway.connections import Connection, Connections


class Ending:
    """A socket that says goodbye when all that are expected do."""

    def __init__(self, together):
        self.together = together
        self.told = []

    async def goodbye(self, code, reason, *, within_s):
        self.told.append((code, reason, within_s))
        await self.together.wait()


def connection(number, principal=ME, socket=None):
    return Connection(f"c{number}", f"s{number}", principal, socket)


def test_connections_are_counted_while_they_are_open_and_by_their_principal():
    connections = Connections(limit=9, per_principal=9)
    with ExitStack() as stack:
        for number, principal in enumerate([ME, YOU, ME, TENANT]):
            stack.enter_context(connections.opened(connection(number, principal)))
        assert len(connections) == 4
        assert [connections.count(principal) for principal in (ME, YOU, TENANT)] == [2, 1, 1]
        assert connections.session_ids(ME) == ["s0", "s2"]
        assert connections.session_ids(TENANT) == ["s3"]
    assert (len(connections), connections.count(ME), connections.session_ids(ME)) == (0, 0, [])
    assert (connections._open, connections._of) == ({}, {})


def test_a_session_with_two_connections_is_listed_once():
    connections = Connections(limit=9, per_principal=9)
    with (
        connections.opened(Connection("a", "s", ME, None)),
        connections.opened(Connection("b", "s", ME, None)),
    ):
        assert (connections.session_ids(ME), connections.count(ME)) == (["s"], 2)


@pytest.mark.parametrize(
    ("bounds", "second", "words"),
    [
        ({"limit": 2, "per_principal": 9}, YOU, "no room"),
        ({"limit": 9, "per_principal": 2}, ME, "too many open"),
    ],
)
def test_at_its_bound_one_more_is_refused_until_one_has_gone(bounds, second, words):
    connections = Connections(**bounds)
    with connections.opened(connection(0)):
        with connections.opened(connection(1, second)):
            with pytest.raises(Overloaded, match=words) as refused, connections.opened(connection(2)):
                pass
            assert refused.value.retry_after == 1
            assert len(connections) == 2
        with connections.opened(connection(2)):
            assert len(connections) == 2


def test_one_principals_bound_is_not_anothers():
    connections = Connections(limit=9, per_principal=1)
    with connections.opened(connection(0, ME)), connections.opened(connection(1, TENANT)):
        connections.check(YOU)
        with pytest.raises(Overloaded):
            connections.check(ME)


@given(st.lists(st.sampled_from([ME, YOU, TENANT]), max_size=12), st.integers(1, 6), st.integers(1, 4))
def test_no_bound_is_ever_passed(principals, limit, per_principal):
    connections = Connections(limit=limit, per_principal=per_principal)
    expected: dict[object, int] = {}
    with ExitStack() as stack:
        for number, principal in enumerate(principals):
            has_room = sum(expected.values()) < limit and expected.get(principal, 0) < per_principal
            try:
                stack.enter_context(connections.opened(connection(number, principal)))
                expected[principal] = expected.get(principal, 0) + 1
            except Overloaded:
                assert not has_room
            else:
                assert has_room
        assert all(connections.count(principal) == count for principal, count in expected.items())
    assert (len(connections), connections._of) == (0, {})


def test_a_connection_that_fails_is_counted_no_more():
    connections = Connections(limit=1, per_principal=1)
    with pytest.raises(ZeroDivisionError), connections.opened(connection(0)):
        raise ZeroDivisionError
    connections.check(ME)


async def test_a_drain_says_goodbye_to_all_at_once_and_waits_for_them():
    connections, together = Connections(limit=9, per_principal=9), asyncio.Event()
    sockets = [Ending(together) for _ in range(3)]
    with ExitStack() as stack:
        for number, socket in enumerate(sockets):
            stack.enter_context(connections.opened(connection(number, socket=socket)))
        draining = asyncio.create_task(connections.drain(2.5))
        for _ in range(3):
            await asyncio.sleep(0)
        assert [socket.told for socket in sockets] == [[(1012, "the gateway restarts", 2.5)]] * 3
        assert not draining.done()
        together.set()
        await soon(draining)


async def test_a_drain_without_connections_is_over_at_once():
    await soon(Connections(limit=1, per_principal=1).drain(60.0))

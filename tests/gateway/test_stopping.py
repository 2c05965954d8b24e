"""`argentor_asgi.gateway.stopping`: runs, streams and sockets end side by side, each behind what it owes."""

import asyncio
from contextlib import ExitStack

from asgi_driver import soon, until
from doors import doors
from house import House
from hypothesis import given
from hypothesis import strategies as st
from scripted_backend import Park

from argentor_asgi.gateway.connections import BATCH, RESTART, Connection, Connections
from argentor_asgi.gateway.stopping import ENDING_S, Stopping, Streams, run_time
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.security.identity import Principal

ME = Principal("me")
HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]


class Socket:
    """A socket that closes when it is let."""

    def __init__(self, go=None, *, fails=False):
        self.told = False
        self.go, self.fails = go, fails

    async def goodbye(self, farewell, *, within_s):
        assert (farewell, within_s > 0) == (RESTART, True)
        self.told = True
        if self.fails:
            raise RuntimeError("broken socket")
        if self.go:
            await self.go.wait()


def opened(stack, sockets):
    """Return connections with these sockets."""
    connections = Connections(limit=len(sockets))
    for number, socket in enumerate(sockets):
        stack.enter_context(connections.opened(Connection(f"{number}", "session", ME, socket)))
    return connections


async def test_a_drain_says_goodbye_in_batches_so_that_others_have_their_turn():
    sockets = [Socket() for _ in range(2 * BATCH + 1)]
    with ExitStack() as stack:
        connections = opened(stack, sockets)
        draining = asyncio.create_task(connections.drain(5.0))
        most = told = 0
        while told < len(sockets):
            await asyncio.sleep(0)
            before, told = told, sum(socket.told for socket in sockets)
            most = max(most, told - before)
        await soon(draining)
    assert most == BATCH


async def test_a_goodbye_that_fails_keeps_no_other_from_its_own(caplog):
    go = asyncio.Event()
    sockets = [Socket(fails=True), Socket(go)]
    with ExitStack() as stack:
        draining = asyncio.create_task(opened(stack, sockets).drain(5.0))
        await until(lambda: sockets[1].told)
        assert not draining.done()
        go.set()
        await soon(draining)
    assert "a connection could not be closed" in caplog.text


async def test_streams_are_gone_when_the_last_one_is():
    streams = Streams()
    await soon(streams.gone())
    with streams.opened():
        gone = asyncio.create_task(streams.gone())
        with streams.opened():
            assert len(streams) == 2
        await asyncio.sleep(0)
        assert not gone.done()
    await soon(gone)
    assert len(streams) == 0


async def test_work_is_over_when_runs_streams_and_sockets_all_are():
    house, go, streams = House(HALVES), asyncio.Event(), Streams()
    run = await house.start()
    await soon(house.backend.parked.wait())
    with ExitStack() as stack:
        connections = opened(stack, [socket := Socket(go)])
        stopping = Stopping(runs=house.runs, streams=streams, connections=connections, drain=house.drain)
        with streams.opened():
            house.drain.hook("drain", "work", stopping)
            house.drain.begin("test")
            await until(lambda: socket.told)
            house.backend.release.set()
            assert (await house.outcome(run)).status == "done"
            go.set()
            for _ in range(3):
                await asyncio.sleep(0)
            assert not house.drain.finished.is_set()
        report = await soon(house.drain.report())
    assert (report.hooks_succeeded, report.completed_in_time) == (1, True)


async def test_what_one_of_them_raises_does_not_keep_the_others_from_their_end():
    house, socket = House(HALVES), Socket()
    run = await house.start()
    await soon(house.backend.parked.wait())
    with ExitStack() as stack:
        connections = opened(stack, [socket])
        stopping = Stopping(runs=house.runs, streams=Broken(), connections=connections, drain=house.drain)
        house.drain.hook("drain", "work", stopping)
        house.drain.begin("test")
        house.backend.release.set()
        report = await soon(house.drain.report())
    assert [found.error for found in report.hook_results] == ["OSError: the hook failed; the log has the reason"]
    assert (await house.outcome(run)).status == "done"
    assert socket.told


class Broken(Streams):
    async def gone(self):
        raise OSError


@given(st.floats(0, 3600, allow_subnormal=False))
def test_runs_leave_time_for_their_end_and_take_all_the_rest(within_s):
    assert 0 <= run_time(within_s) <= within_s
    assert run_time(within_s) == max(within_s - ENDING_S, within_s / 2)


async def test_a_gateway_with_nothing_going_on_uses_none_of_its_time():
    async with doors(drain_s=20.0) as house:
        house.drain.begin("test")
        assert (await soon(house.drain.report())).hooks_failed == 0

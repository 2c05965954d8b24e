"""200 clients that open a WebSocket and never read: each is cut, what it held is free again, and nobody else waits.

The gateway gives a client up that takes nothing for 10 s; then the write-abort guard frees the connection, which
hypercorn alone keeps for ever.
"""

import asyncio
import socket
from contextlib import suppress

import psutil
import pytest
from attacks import Others, Peak, handshake
from hostile import MIB
from processes import server

pytestmark = pytest.mark.slow

READERS = 200
GROWTH_BYTES = 64 * MIB
CUT_S = 30.0
"""What they get at most: 10 s from when the gateway is blocked, and 15 to 20 s from when the connection is."""


def stalled(port: int) -> socket.socket:
    """Return a client that has asked for the flood and reads nothing of it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port))
    made.sendall(handshake("/pour"))
    return made


def cut(client: socket.socket) -> bool:
    """Read what is there, and say whether the connection has ended."""
    client.setblocking(False)
    with suppress(ConnectionError):
        try:
            while client.recv(MIB):
                pass
        except BlockingIOError:
            return False
    return True


async def test_clients_that_never_read_are_cut_and_cost_little_and_nothing_in_the_end(tmp_path):
    async with server("serve", "pouring_app:made", cwd=tmp_path) as running:
        process = psutil.Process(running.pid)
        before = process.num_fds()
        async with Peak(running.pid) as peak, Others(running.port):
            clients = [await asyncio.to_thread(stalled, running.port) for _ in range(READERS)]
            try:
                await fewer_files(process, before + READERS // 2, at_least=True)
                await fewer_files(process, before + 1)  # one may be another's
                assert sum(map(cut, clients)) == READERS
            finally:
                for client in clients:
                    client.close()
        assert peak.growth_bytes <= GROWTH_BYTES
        assert not psutil.Process(running.pid).num_fds() > before + 1


async def fewer_files(process: psutil.Process, count: int, *, at_least: bool = False) -> None:
    """Wait until the server has at most so many files open; or `at_least` so many."""
    async with asyncio.timeout(CUT_S):
        while (process.num_fds() < count) if at_least else (process.num_fds() > count):  # noqa: ASYNC110  another process
            await asyncio.sleep(0.05)

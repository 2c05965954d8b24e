"""Clients that abuse their WebSocket: each is cut within seconds and costs little, and the others are served meanwhile.

What an attacker may cost is 32 MiB. That holds for `argentor serve`, whose guards bound what hypercorn does not.
"""

import asyncio
from contextlib import suppress

import pytest
from attacks import BINARY, PING, PONG, TEXT, Others, Peak, accepted, close_code, frame, handshake, rest, shake
from hostile import MIB
from processes import server

pytestmark = pytest.mark.slow

ATTACKERS = 4
GROWTH_BYTES = 32 * MIB
"""What all of them together may cost: as much as one."""
MUCH_BYTES = 300 * MIB
"""What one of them sends, unless it is stopped."""
CUT_S = 5.0
"""How long it may go on."""
FRAGMENT = frame(0, b"x" * 65_536, fin=False)
TINY = frame(0, b"x", fin=False) * 8_192
EMPTY = frame(0, fin=False) * 8_192
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
BOMB = b"\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08\x0a" + b"\x00" * 1_000


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    env = {"ARGENTOR_STORAGE_URL": "memory://"}
    with server("serve", cwd=tmp_path_factory.mktemp("serve"), env=env) as found:
        yield found


async def attack(port: int, first: bytes, again: bytes, *, reads: bool) -> bytes:
    """Open a socket, send, go on sending whatever comes, and return what came until the connection ended."""
    reader, writer = await shake(port, "/ws")
    reading = asyncio.create_task(rest(reader)) if reads else None
    try:
        writer.write(first)
        with suppress(ConnectionError):
            for _ in range(MUCH_BYTES // len(again) if again else 0):
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(0)
        return await (reading or rest(reader))
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (frame(TEXT, b"x", fin=False), FRAGMENT),
        (frame(TEXT, b"x", fin=False), TINY),
        (frame(TEXT, b"x", fin=False), EMPTY),
        (frame(BINARY, length=2**63 - 1), b"x" * 65_536),
        (frame(BINARY, length=17 * MIB), b"x" * 65_536),
        (b"", frame(PING, b"x" * 125) * 512),
        (b"", frame(PONG) * 8_192),
    ],
    ids=["fragments", "tiny fragments", "empty fragments", "2^63 bytes", "17 MiB", "pings", "pongs"],
)
async def test_a_flood_is_cut_and_cheap_and_the_others_are_served(running, first, again):
    async with Peak(running.pid) as peak, Others(running.port):
        attacks = [attack(running.port, first, again, reads=bool(number % 2)) for number in range(ATTACKERS)]
        await asyncio.wait_for(asyncio.gather(*attacks), CUT_S * ATTACKERS)
    assert peak.growth_bytes <= GROWTH_BYTES


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, length=2**63 - 1), 1009),
        (frame(TEXT, length=17 * MIB), 1009),
        (frame(PING) * 1_000, 1008),
        (frame(TEXT | 0x40, BOMB), 1002),
    ],
    ids=["2^63 bytes", "17 MiB", "pings", "bomb"],
)
async def test_an_abuser_that_listens_hears_why(running, sent, code):
    async with asyncio.timeout(CUT_S):
        assert close_code(await attack(running.port, sent, b"", reads=True)) == code


async def test_compression_cannot_be_negotiated(running):
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(handshake("/ws", DEFLATE))
    assert b"deflate" not in (await accepted(reader)).lower()
    writer.transport.abort()

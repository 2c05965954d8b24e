"""200 clients that send a head byte by byte and 200 that send a body so: all are cut, and nobody else waits.

A head has 5 s, which is the server's; a body has what a request has, which is the gateway's.
"""

import asyncio

import pytest
from attacks import Others
from processes import server

pytestmark = pytest.mark.slow

SENDERS = 200
REQUEST_TIMEOUT_S = 4.0
CUT_S = 12.0
"""When all must be gone: 5 s, a tick of the sweeper, and a busy machine."""
BYTE_S = 0.25
LATE = {b"HTTP/1.1 408 ", b"HTTP/1.1 504 "}
"""The body is late, or the whole request is: whichever deadline comes first."""
HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = (
    b"POST /api/v1/agent/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 10000\r\n\r\n{"message": "'
)


async def drip(port: int, first: bytes) -> bytes:
    """Send the beginning, then a byte now and then; return what came until the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dripping = asyncio.create_task(_drip(writer, first))
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.transport.abort()


async def _drip(writer: asyncio.StreamWriter, first: bytes) -> None:
    writer.write(first)
    while True:
        await asyncio.sleep(BYTE_S)
        writer.write(b"x")


async def test_slow_senders_are_all_cut_and_the_others_are_served(tmp_path):
    env = {"ARGENTOR_STORAGE_URL": "memory://", "ARGENTOR_LIMITS_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S)}
    async with server("serve", cwd=tmp_path, env=env) as running, Others(running.port):
        slow = [drip(running.port, first) for first in (HEAD, BODY) for _ in range(SENDERS)]
        answers = await asyncio.wait_for(asyncio.gather(*slow), CUT_S)
        assert [answer for answer in answers[:SENDERS] if answer and not answer.startswith(b"HTTP/1.1 4")] == []
        assert {answer[:13] for answer in answers[SENDERS:]} <= LATE

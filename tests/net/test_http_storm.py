"""Hundreds of outbound requests at once on few connections, with every fault and cancels among them."""

import asyncio
import random
from contextlib import suppress

import pytest
from raw_server import raw_server

from argentor_asgi.net.http import Client, HttpFailed, Timeouts

pytestmark = pytest.mark.slow
REQUESTS = 400
CONNECTIONS = 10


async def whole(_asked, line):
    await line.answer(b"x" * 100, 429)


async def pieces(_asked, line):
    await line.stream()
    await line.chunks(b"abcdefgh")
    await line.end()


async def reset(_asked, line):
    line.abort()


async def cut(_asked, line):
    await line.stream()
    await line.chunk(b"ab")
    await line.cut()


async def stall(_asked, line):
    await line.stall()


async def half(_asked, line):
    await line.stream()
    await line.chunk(b"ab")
    await line.stall()


async def junk(_asked, line):
    await line.send(b"junk\r\n\r\n")
    await line.cut()


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_storm_of_faults_and_cancels_no_connection_and_no_place_is_lost(seed):
    chance = random.Random(seed)  # noqa: S311  repeatable, and no secret

    async def any_of_them(asked, line):
        await chance.choice([whole, pieces, pieces, reset, cut, stall, half, junk])(asked, line)

    async def once(http, url):
        with suppress(HttpFailed):
            async with http.open("POST", url, body=b"x" * 1000) as answer:
                async for _ in answer.chunks():
                    if chance.random() < 0.2:
                        break

    times = Timeouts(connect_s=30, first_byte_s=0.1, idle_s=0.1)
    async with raw_server(any_of_them) as raw:
        http = Client(allow_private=True, connections=CONNECTIONS, timeouts=times)
        tasks = [asyncio.create_task(once(http, raw.url)) for _ in range(REQUESTS)]
        while waiting := [task for task in tasks if not task.done()]:
            chance.choice(waiting).cancel()
            await asyncio.wait(waiting, timeout=0.01)
        raw.handlers = (whole,)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(http.fetch("GET", raw.url, limit_bytes=1000))
        await http.aclose()
        for line in raw.lines:
            await line.gone()

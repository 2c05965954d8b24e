"""The scripted server that tests of outbound HTTP stand on, spoken to over plain sockets."""

import asyncio

import pytest
from raw_server import raw_server

ASK = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nX-Two: 2\r\n"


async def dial(raw):
    return await asyncio.open_connection("127.0.0.1", raw.port)


async def test_a_request_is_kept_as_it_came_whether_its_body_has_a_length_or_chunks():
    async def talk(_asked, line):
        await line.answer(b"yes")

    async with raw_server(talk) as raw:
        reader, writer = await dial(raw)
        writer.write(
            ASK + b"Content-Length: 2\r\n\r\nhi" + ASK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        )
        await raw.heard(2)
        for asked in raw.asked:
            assert (asked.method, asked.target, asked.body, asked.connection) == ("POST", "/a?b=c", b"hi", 0)
            assert asked.headers["x-two"] == "1, 2"
        assert (await reader.readuntil(b"yes")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_requests_take_the_handlers_in_order_and_then_the_last():
    async def busy(_asked, line):
        await line.answer(status=429)

    async def fine(_asked, line):
        await line.answer(status=204)

    async with raw_server(busy, fine) as raw:
        reader, writer = await dial(raw)
        for status in (b"429", b"204", b"204"):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status
        writer.close()


async def test_a_stall_ends_when_the_client_goes_and_the_time_is_noted():
    async def stall(_asked, line):
        await line.stall()

    async with raw_server(stall) as raw:
        _, writer = await dial(raw)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await raw.heard()
        before = asyncio.get_running_loop().time()
        writer.close()
        assert await raw.lines[0].gone() >= before


async def test_an_abort_is_a_reset_and_a_cut_an_end():
    async def abort(_asked, line):
        line.abort()

    async def cut(_asked, line):
        await line.stream()
        await line.chunks("é".encode())
        await line.cut()

    async with raw_server(abort, cut) as raw:
        reader, writer = await dial(raw)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        reader, writer = await dial(raw)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\n1\r\n\xc3\r\n1\r\n\xa9\r\n")
        writer.close()


async def test_what_a_handler_raises_fails_the_test():
    async def wrong(_asked, _line):
        raise KeyError("typo")

    with pytest.RaisesGroup(KeyError):
        async with raw_server(wrong) as raw:
            reader, writer = await dial(raw)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""
            writer.close()

"""Outbound HTTP against real sockets: agent.md 7.3 and section 8 item 15."""

import asyncio
import gc
import socket
import subprocess
import sys
import zlib
from contextlib import asynccontextmanager

import pytest
from raw_server import certified, raw_server, sse

import argentor_asgi
from argentor_asgi.errors import ConfigError
from argentor_asgi.net.http import Client, Fetched, HttpFailed, Timeouts
from argentor_asgi.net.pool import PIECES, READ_BYTES

pytestmark = pytest.mark.slow

SHORT_S = 0.05
"""A deadline that is meant to pass."""
LIMIT = 1000


@asynccontextmanager
async def client(**settings):
    made = Client(**{"allow_private": True, **settings})
    try:
        yield made
    finally:
        await made.aclose()


def named(*addresses):
    """Return a resolver that answers each question with the next of these lists of addresses, and the last again."""
    answers = list(addresses)

    async def resolve(_host, _port):
        return answers.pop(0) if len(answers) > 1 else answers[0]

    return resolve


async def failing(awaitable) -> HttpFailed:
    with pytest.raises(HttpFailed) as caught:
        await awaitable
    return caught.value


async def fine(_asked, line):
    await line.answer(b"fine")


async def stall(_asked, line):
    await line.stall()


async def streaming(_asked, line):
    await line.stream(content_type="text/event-stream")
    await line.chunk(b"data: 1\n\n")
    await line.stall()


# --- asking ------------------------------------------------------------------------------------------------------


async def test_a_request_goes_out_as_it_was_asked_and_its_answer_comes_back():
    async def created(_asked, line):
        await line.answer(b"made", 201, {"X-Two": "1", "x-two": "2"})

    async with raw_server(created) as raw, client() as http:
        async with http.open("POST", raw.url + "/a?b=c#d", headers={"X-Key": "k"}, body=b"hi") as answer:
            assert (answer.status, answer.headers["x-two"]) == (201, "1, 2")
            assert await answer.read(LIMIT) == b"made"
        (asked,) = raw.asked
        assert (asked.method, asked.target, asked.body) == ("POST", "/a?b=c", b"hi")
        assert asked.headers == {
            "host": raw.url.removeprefix("http://"),
            "user-agent": f"argentor-asgi/{argentor_asgi.__version__}",
            "accept-encoding": "identity",
            "x-key": "k",
            "content-length": "2",
        }


async def test_a_fetch_returns_the_whole_answer_and_the_start_of_a_longer_one():
    async with raw_server(fine) as raw, client() as http:
        whole = await http.fetch("GET", raw.url, limit_bytes=4)
        assert whole == Fetched(200, {"content-length": "4"}, b"fine", raw.url + "/", truncated=False)
        assert await http.fetch("GET", raw.url, limit_bytes=3) == Fetched(
            200, {"content-length": "4"}, b"fin", raw.url + "/", truncated=True
        )


async def test_pieces_are_given_as_they_come_however_they_were_cut():
    text = "data: né\n\n".encode()

    async def by_byte(_asked, line):
        await line.stream()
        await line.chunks(text)
        await line.end()

    async def until_closed(_asked, line):
        await line.head()
        await line.drip(text)
        await line.cut()

    async with raw_server(by_byte, until_closed) as raw, client() as http:
        for _ in range(2):
            async with http.open("GET", raw.url) as answer:
                assert b"".join([piece async for piece in answer.chunks()]) == text


async def test_a_flood_of_tiny_chunks_lets_others_have_their_turns():
    async def flood(_asked, line):
        await line.stream()
        await line.send(b"1\r\nx\r\n" * 5000)
        await line.end()

    turns, seen = 0, []

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with raw_server(flood) as raw, client() as http, http.open("GET", raw.url) as answer:
        task = asyncio.create_task(others())
        seen = [turns async for _ in answer.chunks()]
        task.cancel()
    assert len(seen) == 5000
    assert max(seen.count(turn) for turn in set(seen)) <= PIECES


async def test_what_is_taken_from_a_connection_at_a_time_is_bounded(tls):
    async def large(_asked, line):
        await line.answer(bytes(20 * READ_BYTES))

    context, trusted = tls
    for secure in (None, context):
        async with (
            raw_server(large, tls=secure) as raw,
            client(trust=trusted) as http,
            http.open("GET", raw.url) as answer,
        ):
            sizes = [len(piece) async for piece in answer.chunks()]
        assert sum(sizes) == 20 * READ_BYTES
        assert max(sizes) <= READ_BYTES


async def test_no_answer_to_head_and_no_content_have_an_empty_body():
    async def length_only(_asked, line):
        await line.head(200, {"content-length": "10"})

    async def no_content(_asked, line):
        await line.head(204)

    async with raw_server(length_only, no_content) as raw, client() as http:
        assert (await http.fetch("HEAD", raw.url, limit_bytes=1)).body == b""
        assert (await http.fetch("DELETE", raw.url, limit_bytes=1)).body == b""
        assert len(raw.lines) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Key": "secret\r\nHost: evil"},
        {"X-Key": "secret\n"},
        {"X-Key": "secret\x00"},
        {"X-Key": "secret\u0100"},
        {"X Key": "secret"},
        {"X-Key:": "secret"},
        {"": "secret"},
        {"Host": "secret"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
    ],
)
async def test_a_header_that_would_change_the_request_is_refused_and_its_value_not_told(headers):
    async with raw_server(fine) as raw, client() as http:
        failed = await failing(http.fetch("GET", raw.url, headers=headers, limit_bytes=1))
        assert failed.phase == "protocol"
        assert "secret" not in str(failed)
        for method in ("GET /\r\n", "", "CONNECT"):
            assert (await failing(http.fetch(method, raw.url, limit_bytes=1))).phase == "protocol"
        assert raw.lines == []


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    async with raw_server(fine) as raw, client() as http:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert (await http.fetch("GET", raw.url, limit_bytes=LIMIT)).body == b"fine"


async def test_cookies_are_not_kept_for_the_next_request():
    async def setting(_asked, line):
        await line.answer(b"", 200, {"set-cookie": "who=me; Path=/"})

    async with raw_server(setting) as raw, client() as http:
        for _ in range(2):
            await http.fetch("GET", raw.url, limit_bytes=1)
        assert "cookie" not in raw.asked[1].headers


# --- whom it connects to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/"),
        *("http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://0177.0.0.1:{port}/", "http://127.1:{port}/"),
        *("http://0.0.0.0:{port}/", "http://[::]:{port}/", "http://[64:ff9b::7f00:1]:{port}/"),
        *("http://example.com@127.0.0.1:{port}/", "http://127.0.0.1\\@example.com:{port}/", "http://localhost:{port}/"),
        *("http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://[fe80::1]/", "file:///etc/passwd"),
    ],
)
async def test_what_is_not_public_is_not_connected_to(url):
    async with raw_server(fine) as raw, client(allow_private=False) as http:
        failed = await failing(http.fetch("GET", url.format(port=raw.port), limit_bytes=1))
        assert failed.phase == "address"
        assert raw.lines == []


async def test_an_operator_reaches_private_addresses_but_no_metadata():
    async with raw_server(fine) as raw, client() as http:
        for host in ("127.0.0.1", "localhost"):
            page = await http.fetch("GET", f"http://{host}:{raw.port}/", limit_bytes=LIMIT)
            assert page.body == b"fine"
        for url in ("http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://0.0.0.0/"):
            assert (await failing(http.fetch("GET", url, limit_bytes=1))).phase == "address"


@pytest.mark.parametrize("answers", [["93.184.216.34", "127.0.0.1"], ["127.0.0.1"], ["::ffff:169.254.169.254"]])
async def test_a_name_with_any_address_that_is_not_public_is_refused_as_a_whole(answers):
    async with client(allow_private=False, resolve=named(answers)) as http:
        failed = await failing(http.fetch("GET", "http://rebind.example/", limit_bytes=1))
        assert (failed.phase, "rebind.example" in str(failed)) == ("address", True)


async def test_a_name_that_changes_its_mind_is_asked_once_and_connected_to_where_it_was_judged():
    """agent.md 1.10 D26: a name is not resolved again between the check and the connection."""
    asked = []

    async def resolve(host, port):
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with raw_server(fine) as raw, client(resolve=resolve) as http:
        url = f"http://rebind.example:{raw.port}/"
        assert (await http.fetch("GET", url, limit_bytes=LIMIT)).body == b"fine"
        assert raw.asked[0].headers["host"] == f"rebind.example:{raw.port}"
        await http.aclose()
        assert (await failing(http.fetch("GET", url, limit_bytes=1))).phase == "address"
        assert asked == [("rebind.example", raw.port)] * 2


async def test_the_addresses_of_a_name_are_tried_in_turn():
    async with raw_server(fine) as raw, client(resolve=named(["127.0.0.2", "127.0.0.1"])) as http:
        page = await http.fetch("GET", f"http://two.example:{raw.port}/", limit_bytes=LIMIT)
        assert page.body == b"fine"


async def test_an_address_that_does_not_answer_has_its_share_of_the_time_alone():
    async with raw_server(fine) as raw:
        with socket.socket() as full, socket.socket() as one, socket.socket() as two:
            full.bind(("127.0.0.2", raw.port))
            full.listen(0)
            for filling in (one, two):
                filling.setblocking(False)
                filling.connect_ex(full.getsockname())
            resolve = named(["127.0.0.2", "127.0.0.1"])
            async with client(resolve=resolve, timeouts=Timeouts(connect_s=8 * SHORT_S)) as http:
                page = await http.fetch("GET", f"http://two.example:{raw.port}/", limit_bytes=LIMIT)
                assert page.body == b"fine"


async def test_a_name_without_an_address_is_a_failure_to_connect():
    async def unknown(_host, _port):
        raise OSError("no such name")

    for resolve in (unknown, named([])):
        async with client(resolve=resolve) as http:
            assert (await failing(http.fetch("GET", "http://gone.example/", limit_bytes=1))).phase == "connect"


async def test_a_closed_port_is_a_failure_to_connect():
    async with raw_server(fine) as raw:
        url = raw.url
    async with client() as http:
        assert (await failing(http.fetch("GET", url + "/secret?key=secret", limit_bytes=1))).phase == "connect"


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return certified(tmp_path_factory.mktemp("tls"), "DNS:model.example,DNS:my_model,IP:127.0.0.1")


async def test_the_certificate_is_held_against_the_name_though_an_address_was_connected_to(tls):
    context, trusted = tls
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with raw_server(fine, tls=context) as raw, client(trust=trusted, resolve=named(["127.0.0.1"])) as http:
        page = await http.fetch("GET", f"https://model.example:{raw.port}/", limit_bytes=LIMIT)
        assert (page.body, names) == (b"fine", ["model.example"])
        assert (
            await failing(http.fetch("GET", f"https://other.example:{raw.port}/", limit_bytes=1))
        ).phase == "connect"
        assert len(raw.asked) == 1


async def test_an_address_and_a_name_with_an_underscore_have_certificates_too(tls):
    context, trusted = tls
    async with raw_server(fine, tls=context) as raw, client(trust=trusted, resolve=named(["127.0.0.1"])) as http:
        for host in ("127.0.0.1", "my_model", "my_model"):
            page = await http.fetch("GET", f"https://{host}:{raw.port}/", limit_bytes=LIMIT)
            assert page.body == b"fine"
        assert [asked.connection for asked in raw.asked] == [0, 1, 1]


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls):
    async with raw_server(fine, tls=tls[0]) as raw, client(resolve=named(["127.0.0.1"])) as http:
        failed = await failing(http.fetch("GET", f"https://model.example:{raw.port}/", limit_bytes=1))
        assert (failed.phase, "CERTIFICATE_VERIFY_FAILED" in str(failed)) == ("connect", True)


async def test_leaving_a_stream_over_tls_closes_its_connection(tls):
    context, trusted = tls
    async with raw_server(streaming, tls=context) as raw, client(trust=trusted, resolve=named(["127.0.0.1"])) as http:
        async with http.open("GET", f"https://model.example:{raw.port}/") as answer:
            assert await anext(answer.chunks()) == b"data: 1\n\n"
        await raw.lines[0].gone()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_file_of_certificates_that_has_none_is_a_start_up_error(tmp_path, content):
    if content:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        Client(trust=tmp_path / "ca.pem")


# --- deadlines ---------------------------------------------------------------------------------------------------


async def test_a_name_that_is_not_resolved_in_time_is_a_failure_to_connect():
    async def never(_host, _port):
        await asyncio.Event().wait()

    async with client(resolve=never, timeouts=Timeouts(connect_s=SHORT_S)) as http:
        assert (await failing(http.fetch("GET", "http://slow.example/", limit_bytes=1))).phase == "connect"


async def test_a_handshake_that_hangs_ends_with_the_time_to_connect_and_closes():
    async with silent() as (port, connections):
        async with client(timeouts=Timeouts(connect_s=SHORT_S)) as http:
            failed = await failing(http.fetch("GET", f"https://127.0.0.1:{port}/", limit_bytes=1))
            assert failed.phase == "connect"
        reader, writer = await asyncio.wait_for(connections.get(), 5)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_server_that_reads_nothing_ends_the_time_to_write():
    async with silent() as (port, connections):
        async with client(timeouts=Timeouts(write_s=SHORT_S)) as http:
            body = bytes(16 * 1024 * 1024)
            failed = await failing(http.fetch("POST", f"http://127.0.0.1:{port}/", body=body, limit_bytes=1))
            assert failed.phase == "write"
        (await asyncio.wait_for(connections.get(), 5))[1].close()


@asynccontextmanager
async def silent():
    """Run a server that takes connections and reads no more than its buffers do."""
    connections = asyncio.Queue()
    server = await asyncio.start_server(
        lambda reader, writer: connections.put_nowait((reader, writer)), "127.0.0.1", 0, limit=1024
    )
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


async def dripping_head(_asked, line):
    await line.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not line.closed.done():
        await line.send(b"a")
        await asyncio.sleep(SHORT_S / 10)


async def endless_hints(_asked, line):
    while not line.closed.done():
        await line.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(SHORT_S / 10)


@pytest.mark.parametrize("handler", [stall, dripping_head, endless_hints])
async def test_a_head_that_is_not_whole_in_time_ends_the_time_to_the_first_byte(handler):
    async with raw_server(handler) as raw, client(timeouts=Timeouts(first_byte_s=SHORT_S)) as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=1))).phase == "first_byte"
        await raw.lines[0].gone()


async def dripping_chunk_head(_asked, line):
    await line.stream()
    await line.chunk(b"1")
    await line.send(b"1;x=")
    while not line.closed.done():
        await line.send(b"a")
        await asyncio.sleep(SHORT_S / 10)


@pytest.mark.parametrize("handler", [streaming, dripping_chunk_head])
async def test_a_body_that_says_nothing_for_too_long_is_idle(handler):
    async with raw_server(handler) as raw, client(timeouts=Timeouts(idle_s=SHORT_S)) as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=LIMIT))).phase == "idle"
        await raw.lines[0].gone()


async def dripping(_asked, line):
    await line.stream()
    while not line.closed.done():
        await line.chunk(b"a")
        await asyncio.sleep(SHORT_S / 10)


@pytest.mark.parametrize("handler", [stall, streaming, dripping, dripping_head])
async def test_all_of_it_ends_with_the_total_time(handler):
    async with raw_server(handler) as raw, client(timeouts=Timeouts(total_s=SHORT_S)) as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=LIMIT))).phase == "total"
        await raw.lines[0].gone()


async def test_a_full_pool_makes_the_next_wait_no_longer_than_the_time_to_connect():
    once = client(connections=1, timeouts=Timeouts(connect_s=4 * SHORT_S))
    async with raw_server(streaming) as raw, once as http, http.open("GET", raw.url):
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=1))).phase == "connect"
        assert len(raw.lines) == 1


async def test_who_waits_for_a_place_gets_it_when_another_leaves():
    async with raw_server(streaming, fine) as raw, client(connections=1) as http:
        async with http.open("GET", raw.url):
            waiting = asyncio.create_task(http.fetch("GET", raw.url, limit_bytes=LIMIT))
            await asyncio.sleep(0)
        assert (await waiting).body == b"fine"


# --- faults ------------------------------------------------------------------------------------------------------


async def short(_asked, line):
    await line.head(200, {"content-length": "10"})
    await line.send(b"12345")
    await line.cut()


async def cut_chunk(_asked, line):
    await line.stream()
    await line.send(b"a\r\n12345")
    await line.cut()


async def no_last_chunk(_asked, line):
    await line.events({"n": 1}, end=False)
    await line.cut()


async def reset(_asked, line):
    await line.events({"n": 1}, end=False)
    line.abort()


async def half_gzip(_asked, line):
    packed = gzipped(b"a" * 1000)
    await line.answer(packed[: len(packed) // 2], 200, {"content-encoding": "gzip"})


@pytest.mark.parametrize("handler", [short, cut_chunk, no_last_chunk, reset, half_gzip])
async def test_a_body_that_ends_before_its_end_is_truncated(handler):
    """agent.md 1.10 D13: a truncated stream is no normal end."""
    async with raw_server(handler) as raw, client() as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=LIMIT))).phase == "truncated"


async def test_what_came_before_the_cut_was_given():
    async with raw_server(no_last_chunk) as raw, client() as http, http.open("GET", raw.url) as answer:
        pieces = answer.chunks()
        assert await anext(pieces) == sse({"n": 1})
        assert (await failing(anext(pieces))).phase == "truncated"


async def hang_up(_asked, line):
    await line.cut()


async def hang_up_rudely(_asked, line):
    line.abort()


async def half_a_head(_asked, line):
    await line.send(b"HTTP/1.1 200 OK\r\ncontent-le")
    await line.cut()


@pytest.mark.parametrize("handler", [hang_up, hang_up_rudely, half_a_head])
async def test_a_connection_that_ends_without_a_head_has_no_first_byte(handler):
    async with raw_server(handler) as raw, client() as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=1))).phase == "first_byte"


NOT_HTTP = [
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
    b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\na",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 1\r\n\r\na",
]


@pytest.mark.parametrize("said", NOT_HTTP, ids=range(len(NOT_HTTP)))
async def test_what_is_not_http_is_a_failure_of_protocol_and_is_not_told(said):
    async def talk(_asked, line):
        await line.send(said)
        await line.stall()

    async with raw_server(talk) as raw, client() as http:
        failed = await failing(http.fetch("GET", raw.url + "/path?secret=1", limit_bytes=LIMIT))
        assert failed.phase == "protocol"
        assert "secret" not in str(failed)
        await raw.lines[0].gone()


async def test_an_answer_that_leaves_http_is_none():
    async def switching(_asked, line):
        await line.head(101, {"upgrade": "x", "connection": "upgrade"})
        await line.stall()

    async with raw_server(switching) as raw, client() as http:
        opened = http.open("GET", raw.url)
        assert (await failing(opened.__aenter__())).phase == "protocol"
        await raw.lines[0].gone()


# --- codings and caps --------------------------------------------------------------------------------------------


def gzipped(data: bytes, window_bits: int = 31) -> bytes:
    packer = zlib.compressobj(9, wbits=window_bits)
    return packer.compress(data) + packer.flush()


async def test_a_fetch_says_that_it_takes_codings_and_undoes_them():
    text = b"some text" * 30_000

    async def packed(asked, line):
        assert asked.headers["accept-encoding"] == "gzip, deflate"
        coding, bits = {"/gzip": ("gzip", 31), "/zlib": ("deflate", 15), "/bare": ("deflate", -15)}[asked.target]
        await line.answer(gzipped(text, bits), 200, {"content-encoding": coding})

    async with raw_server(packed) as raw, client() as http:
        for path in ("/gzip", "/zlib", "/bare"):
            assert (await http.fetch("GET", raw.url + path, limit_bytes=len(text))).body == text
        assert len(raw.lines) == 1


async def test_a_bomb_is_read_no_further_than_the_limit():
    """agent.md 1.10 D26: the size is capped while reading, and what is counted is what comes out."""

    async def bomb(_asked, line):
        await line.answer(gzipped(bytes(4_000_000)), 200, {"content-encoding": "gzip"})

    async with raw_server(bomb) as raw, client() as http:
        page = await http.fetch("GET", raw.url, limit_bytes=100_000)
        assert (len(page.body), page.truncated) == (100_000, True)
        async with http.open("GET", raw.url) as answer:
            assert (await failing(answer.read(100_000))).phase == "too_large"
        async with http.open("GET", raw.url) as answer:
            assert max([len(piece) async for piece in answer.chunks()]) <= 64 * 1024


async def test_an_endless_body_is_read_no_further_than_the_limit():
    async def endless(_asked, line):
        await line.head()
        while not line.closed.done():
            await line.send(bytes(10_000))
            await asyncio.sleep(0)

    async with raw_server(endless) as raw, client() as http:
        page = await http.fetch("GET", raw.url, limit_bytes=100_000)
        assert (len(page.body), page.truncated) == (100_000, True)
        await raw.lines[0].gone()


# --- closing and reuse -------------------------------------------------------------------------------------------


async def test_leaving_a_stream_closes_its_connection_at_once():
    async with raw_server(streaming) as raw, client() as http:
        async with http.open("GET", raw.url) as answer:
            async for _ in answer.chunks():
                break
        await raw.lines[0].gone()
        del answer
        gc.collect()
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if "raw_server" not in repr(task)] == [asyncio.current_task()]


async def test_an_error_within_the_block_closes_the_connection():
    async with raw_server(streaming) as raw, client() as http:
        with pytest.raises(KeyError):
            async with http.open("GET", raw.url):
                raise KeyError
        await raw.lines[0].gone()


@pytest.mark.parametrize("handler", [stall, streaming])
async def test_a_cancel_closes_the_connection(handler):
    async with raw_server(handler) as raw, client() as http:
        task = asyncio.create_task(http.fetch("GET", raw.url, limit_bytes=LIMIT))
        await raw.heard()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await raw.lines[0].gone()


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_a_cancel_at_any_step_leaves_no_connection_and_no_place_taken(steps):
    async with raw_server(streaming) as raw, client(connections=1) as http:
        task = asyncio.create_task(http.fetch("GET", raw.url, limit_bytes=LIMIT))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with http.open("GET", raw.url) as answer:
            assert answer.status == 200
        for line in raw.lines:
            await line.gone()


async def test_a_cancelled_handshake_closes_its_connection():
    async with silent() as (port, connections), client() as http:
        task = asyncio.create_task(http.fetch("GET", f"https://127.0.0.1:{port}/", limit_bytes=1))
        reader, writer = await asyncio.wait_for(connections.get(), 5)
        await reader.read(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_connection_is_used_again_after_an_answer_that_was_read_even_an_error():
    async def busy(_asked, line):
        await line.answer_json({"error": "busy"}, 429, {"retry-after": "1"})

    async with raw_server(busy, fine) as raw, client() as http:
        async with http.open("POST", raw.url, body=b"{}") as answer:
            assert (answer.status, await answer.read(LIMIT)) == (429, b'{"error": "busy"}')
        assert (await http.fetch("GET", raw.url, limit_bytes=LIMIT)).body == b"fine"
        assert [asked.connection for asked in raw.asked] == [0, 0]


async def test_a_kept_connection_that_the_server_closed_is_not_used_again():
    async def last(_asked, line):
        await line.answer(b"fine")
        await line.cut()

    async with raw_server(last, fine) as raw, client() as http:
        await http.fetch("GET", raw.url, limit_bytes=LIMIT)
        await raw.lines[0].gone()
        assert (await http.fetch("GET", raw.url, limit_bytes=LIMIT)).body == b"fine"
        assert [asked.connection for asked in raw.asked] == [0, 1]


async def test_closing_the_client_closes_what_is_kept():
    async with raw_server(fine) as raw:
        async with client() as http:
            await http.fetch("GET", raw.url, limit_bytes=LIMIT)
        await raw.lines[0].gone()


def test_each_event_loop_has_a_client_of_its_own():
    async def once():
        async with raw_server(fine) as raw, client() as http:
            return (await http.fetch("GET", raw.url, limit_bytes=LIMIT)).body

    assert [asyncio.run(once()) for _ in range(2)] == [b"fine"] * 2


# --- redirects ---------------------------------------------------------------------------------------------------


def to(location, status=302):
    async def redirect(_asked, line):
        await line.answer(b"elsewhere", status, {"location": location})

    return redirect


async def test_a_redirect_is_followed_only_where_that_is_asked_for():
    async with raw_server(to("/b?c=d"), fine) as raw, client() as http:
        page = await http.fetch("GET", raw.url + "/a", limit_bytes=LIMIT, redirects=1)
        assert (page.body, page.url, raw.asked[1].target) == (b"fine", raw.url + "/b?c=d", "/b?c=d")
    async with raw_server(to("/b")) as raw, client() as http:
        page = await http.fetch("GET", raw.url, limit_bytes=LIMIT)
        assert (page.status, page.body) == (302, b"elsewhere")
        async with http.open("GET", raw.url) as answer:
            assert answer.status == 302


@pytest.mark.parametrize(
    "location",
    [
        *("http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/"),
        *("http://2852039166/", "http://user@example.com/", "//169.254.169.254/", "file:///etc/passwd", "gopher://a/"),
    ],
)
async def test_a_redirect_to_a_refused_address_is_refused(location):
    """agent.md 1.10 D26: each hop is judged again."""
    async with raw_server(to(location), fine) as raw, client() as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=LIMIT, redirects=3))).phase == "address"


async def test_a_redirect_from_a_public_name_to_loopback_is_refused():
    resolves = []

    async def resolve(host, _port):
        resolves.append(host)
        return ["127.0.0.1"]

    async with raw_server(to("http://127.0.0.1:1/"), fine) as raw, client(resolve=resolve) as http:
        url = f"http://public.example:{raw.port}/"
        failed = await failing(
            http.fetch("GET", url, limit_bytes=LIMIT, redirects=3, allowed=lambda host: host == "public.example")
        )
        assert (failed.phase, len(raw.asked)) == ("address", 1)


async def test_every_hop_is_asked_about():
    hosts = []

    def allowed(host):
        hosts.append(host)
        return host != "evil.example"

    async with raw_server(to("http://EVIL.example./"), fine) as raw, client() as http:
        failed = await failing(http.fetch("GET", raw.url, limit_bytes=LIMIT, redirects=3, allowed=allowed))
        assert (failed.phase, hosts) == ("address", ["127.0.0.1", "evil.example"])


async def test_a_circle_ends():
    async with raw_server(to("/")) as raw, client() as http:
        assert (await failing(http.fetch("GET", raw.url, limit_bytes=LIMIT, redirects=3))).phase == "redirect"
        assert len(raw.asked) == 4


async def test_a_redirect_from_https_to_http_is_refused(tls):
    context, trusted = tls
    plain = to("http://model.example/")
    async with raw_server(plain, tls=context) as raw, client(trust=trusted, resolve=named(["127.0.0.1"])) as http:
        url = f"https://model.example:{raw.port}/"
        assert (await failing(http.fetch("GET", url, limit_bytes=LIMIT, redirects=3))).phase == "redirect"


async def test_credentials_go_to_the_origin_they_were_meant_for_alone():
    headers = {
        "Authorization": "Bearer k",
        "Cookie": "a=b",
        "X-Api-Key": "k",
        "X-Goog-Api-Key": "k",
        "Accept": "text/*",
    }
    async with raw_server(fine) as other, client() as http:
        async with raw_server(to("/b"), to(other.url)) as raw:
            await http.fetch("GET", raw.url, headers=headers, limit_bytes=LIMIT, redirects=2)
            assert raw.asked[1].headers.items() >= {name.lower(): value for name, value in headers.items()}.items()
        assert other.asked[0].headers == {
            **{name: raw.asked[0].headers[name] for name in ("user-agent", "accept-encoding")},
            "host": other.url.removeprefix("http://"),
            "accept": "text/*",
        }


# --- what it costs those who do not use it -----------------------------------------------------------------------


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603  our own text
    return done.stdout + done.stderr


def test_the_library_is_loaded_by_a_client_and_by_nothing_else():
    program = """
import sys
import argentor_asgi, argentor_asgi.net.addresses, argentor_asgi.net.http
assert not {"httpx2", "httpcore2", "anyio", "h11", "idna"} & set(sys.modules), sys.modules
argentor_asgi.net.http.Client()
assert "httpcore2" in sys.modules
"""
    assert run(program) == ""


def test_a_client_without_the_extra_names_it():
    program = """
import sys
sys.modules["httpcore2"] = None
from argentor_asgi.net.http import Client
Client()
"""
    assert "ConfigError" in run(program)
    assert "pip install 'argentor-asgi[llm]'" in run(program)

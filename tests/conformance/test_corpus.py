"""A corpus of malformed, ambiguous and smuggling HTTP/1 requests, as raw bytes, against each server.

`refused`: answered 400, 408, 411, 413, 414, 431, 501 or 505, or not at all, and the connection is closed. `tolerated`:
one answer of any status, or none; each says which rule lets a server take it. A request that hides behind another is
never answered, and after each the server still is as it was.
"""

import asyncio
import re
from contextlib import suppress
from typing import NamedTuple

import pytest
from processes import server

pytestmark = pytest.mark.slow

KINDS = ["hypercorn-asyncio", "serve", "uvicorn", "granian"]
REFUSALS = {400, 408, 411, 413, 414, 431, 501, 505}
BROKEN_CHUNK = {"granian": 500}
"""What a server answers, in its own words, when a chunk cannot be read and the gateway waits for it."""
PATIENCE_S = 10.0
QUIET_S = 1.5
"""How long a connection may be silent after an answer until it counts as kept open; a body is waited for so long."""
AT_ONCE = 8
HOST = b"Host: localhost\r\n"
JSON = HOST + b"Content-Type: application/json\r\n"
CHAT = b"POST /api/v1/agent/chat HTTP/1.1\r\n"
SUM = b'{"message":"17*23"}'
HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
END = b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SUM_CHUNK = b"%x\r\n%b\r\n" % (len(SUM), SUM)


class Vector(NamedTuple):
    name: str
    sent: bytes
    refused: bool = True
    but: tuple[str, ...] = ()
    """The servers that mend it before the gateway sees it, or keep the connection: there it is tolerated."""
    only: tuple[str, ...] = tuple(KINDS)


def get(target=b"/health", *lines, version=b"HTTP/1.1", method=b"GET", host=HOST):
    return method + b" " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + END


def post(*lines, body=SUM, end=b"\r\n"):
    return CHAT + JSON + b"".join(line + b"\r\n" for line in lines) + end + body


def length(value):
    return post(b"Content-Length: " + value)


def coding(value, *, version=b"HTTP/1.1"):
    head = CHAT.replace(b"HTTP/1.1", version) + JSON + b"Transfer-Encoding:" + value + b"\r\n\r\n"
    return head + SUM_CHUNK + b"0\r\n\r\n"


def chunks(body):
    return CHAT + JSON + CHUNKED + END + body


def upgrade(*lines):
    return (
        b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    )


SIZE = b"%d" % len(SUM)
BOTH = [b"Content-Length: 5", b"Transfer-Encoding: chunked"]
VECTORS = [
    # The end of a body told twice, or not surely (RFC 9112 section 6).
    Vector("length and chunked", post(*BOTH, body=b"0\r\n\r\n" + HIDDEN), but=("granian",)),
    Vector("chunked and length", post(*BOTH[::-1], body=b"0\r\n\r\n" + HIDDEN), but=("granian",)),
    Vector(
        "short length and chunked",
        post(b"Content-Length: 4", BOTH[1], body=SUM_CHUNK + b"0\r\n\r\n" + HIDDEN),
        but=("granian",),
    ),
    Vector("two lengths", post(b"Content-Length: 3", b"Content-Length: " + SIZE)),
    Vector("list of lengths", length(b"3, " + SIZE)),
    Vector("same length twice", post(b"Content-Length: " + SIZE, b"Content-Length: " + SIZE), refused=False),
    Vector("list of one length", length(SIZE + b", " + SIZE), refused=False),
    *(
        Vector(f"length {value!r}", length(value))
        for value in (b"-1", b"+19", b"0x13", b"1 9", b"1e1", b"19.0", b"\xb9")
    ),
    Vector("length empty", length(b"")),
    Vector("length of 20 digits", length(b"9" * 20)),
    Vector("length of 2^64 and more", length(b"18446744073709551635")),
    Vector("length over the cap", length(b"999999999999"), but=("granian",)),  # which goes on reading after the 413
    *(
        Vector(f"coding {value!r}", coding(b" " + value))
        for value in (
            b"chunked, chunked",
            b"gzip, chunked",
            b"chunked, identity",
            b"identity",
            b"xchunked",
            b"chunked;a",
        )
    ),
    Vector("coding in two lines", coding(b" chunked\r\nTransfer-Encoding: identity")),
    Vector("coding behind a vertical tab", coding(b"\x0bchunked")),
    Vector("coding before a colon and a space", post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN)),
    Vector("coding in HTTP/1.0", coding(b" chunked", version=b"HTTP/1.0")),
    # RFC 9112 section 7: names of codings have no case.
    Vector("coding in capitals", coding(b" ChunkeD"), refused=False),
    # Lines and fields (RFC 9112 section 5).
    Vector("carriage return in a value", get(b"/health", b"X-A: a\rX-B: b")),
    Vector("NUL in a value", get(b"/health", b"X-A: a\x00b")),
    Vector("space in a name", get(b"/health", b"X A: b")),
    Vector("space behind a name", get(b"/health", b"X-A : b")),
    Vector("field without a colon", get(b"/health", b"nothing")),
    Vector("field without a name", get(b"/health", b": b")),
    Vector("bytes in a name", get(b"/health", b"X-\xff: b")),
    Vector("first field folded", b"GET /health HTTP/1.1\r\n " + HOST + END),
    # Section 5.2: a server refuses a folded line or reads it as a space.
    Vector("field folded", get(b"/health", b"X-A: a\r\n b"), refused=False),
    # Section 2.2: a recipient may take a bare line feed for the end of a line.
    Vector("bare line feeds", b"GET /health HTTP/1.1\nHost: localhost\nConnection: close\n\n", refused=False),
    Vector(
        "request behind bare line feeds",
        post(b"Content-Length: " + SIZE + b"\nConnection: close", body=SUM + HIDDEN),
        refused=False,
    ),
    # Start lines (RFC 9112 section 3).
    Vector("nothing but a method", b"GET\r\n\r\n"),
    Vector("HTTP/0.9", b"GET /health\r\n\r\n", but=("uvicorn",)),
    Vector("two spaces", b"GET  /health HTTP/1.1\r\n" + HOST + END, but=("uvicorn",)),
    Vector("version of letters", get(version=b"HTTP/x.y")),
    Vector("no version", b"GET /health HTTP/\r\n" + HOST + END),
    Vector("method with a bracket", get(method=b"G(T")),
    # A later minor version is read as 1.1 (RFC 9110 section 2.5), a later major one is refused (section 15.6.6).
    Vector("HTTP/1.2", get(version=b"HTTP/1.2"), refused=False),
    Vector("HTTP/9.9", get(version=b"HTTP/9.9")),
    # hypercorn writes a method in capitals, so the gateway cannot tell.
    Vector("method in small letters", get(method=b"get"), refused=False),
    Vector("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n"),
    Vector("CONNECT", get(b"localhost:443", method=b"CONNECT")),
    Vector("TRACE", get(method=b"TRACE"), refused=False),  # 405, as any method that no route has
    Vector("target without a slash", get(b"health"), refused=False),
    Vector("target of another host", get(b"http://elsewhere/health"), refused=False),
    Vector("any target", get(b"*", method=b"OPTIONS"), refused=False),
    Vector("bytes in the target", get(b"/\xff"), refused=False),
    Vector("NUL in the target", get(b"/health\x00")),
    Vector("NUL in the path", get(b"/health%00")),
    Vector("dot segments", get(b"/api/../health")),
    Vector("encoded dot segments", get(b"/api/%2e%2e/health")),
    Vector("backslash", get(b"/api%5c..%5chealth")),
    # A path that is no route: 404.
    Vector("double slash", get(b"//health"), refused=False),
    Vector("no UTF-8 in the path", get(b"/%ff%fe"), refused=False),
    # Hosts (RFC 9112 section 3.2).
    Vector("no host", get(host=b"")),
    Vector("two hosts", get(host=HOST + b"Host: elsewhere\r\n")),
    *(
        Vector(f"host {value!r}", get(host=b"Host: " + value + b"\r\n"))
        for value in (b"a b", b"a@b/c", b"", b"a:99999", b"a,b", b"[::1")
    ),
    # Sizes.
    Vector("long target", get(b"/" + b"a" * 9_000)),
    Vector("long query", get(b"/health?" + b"a" * 9_000)),
    Vector("long field", get(b"/health", b"X-A: " + b"a" * 17_000)),
    Vector("many fields", get(b"/health", *(b"X-%d: a" % number for number in range(101)))),
    Vector("head of 100 KB", get(b"/health", b"X-A: " + b"a" * 100_000)),
    # Chunks (RFC 9112 section 7.1).
    *(
        Vector(f"chunk size {size!r}", chunks(size + b"\r\n" + SUM + b"\r\n0\r\n\r\n"))
        for size in (b"0x13", b"-13", b"+13", b"", b"g", b"f" * 21, b"13 13")
    ),
    Vector("chunk that does not end", chunks(b"13\r\n" + SUM + b"xx0\r\n\r\n")),
    Vector(
        "chunk with a long extension", chunks(b"13;" + b"a" * 20_000 + b"\r\n" + SUM + b"\r\n0\r\n\r\n"), refused=False
    ),
    Vector("length in a trailer", chunks(SUM_CHUNK + b"0\r\nContent-Length: 5\r\n\r\n"), refused=False),
    Vector("request behind the last chunk", chunks(SUM_CHUNK + b"0\r\n\r\n" + HIDDEN), refused=False),
    Vector("request behind a close", get() + HIDDEN, refused=False),
    # HTTP/2 in clear text.
    Vector(
        "h2c",
        get(b"/health", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk").replace(
            END, b"Connection: Upgrade, HTTP2-Settings\r\n" + END
        ),
        refused=False,
        only=("serve", "uvicorn"),
    ),
    Vector("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", only=("serve", "uvicorn")),
    # Handshakes.
    Vector("extension in bytes", upgrade(b"Sec-WebSocket-Extensions: \xff"), only=("serve", "uvicorn")),
    Vector("protocol in bytes", upgrade(b"Sec-WebSocket-Protocol: \xff"), only=("serve", "uvicorn")),
    # hypercorn alone refuses it too, and then keeps the connection.
    Vector("handshake in HTTP/1.0", upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), only=("serve",)),
]


@pytest.fixture(scope="module", params=KINDS)
def running(request, tmp_path_factory):
    kind = request.param
    workers = 0 if kind.startswith("hypercorn") else None
    cwd, env = tmp_path_factory.mktemp(kind), {"ARGENTOR_STORAGE_URL": "memory://", "ARGENTOR_LIMITS_ENABLED": "false"}
    with server(kind, cwd=cwd, workers=workers, env=env) as found:
        yield found


class Heard(NamedTuple):
    statuses: list[int]
    closed: bool
    data: bytes


async def exchange(port: int, sent: bytes, gate: asyncio.Semaphore) -> tuple[Heard, Heard]:
    """Send the bytes on a connection of their own, hear what comes of it, and what a plain request gets after it."""
    async with gate:
        return await hear(port, sent), await hear(port, get(b"/health/live"))


async def hear(port: int, sent: bytes) -> Heard:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data, closed = b"", False
    try:
        writer.write(sent)
        while not closed:
            piece = await asyncio.wait_for(reader.read(2**16), QUIET_S if data else PATIENCE_S)
            data, closed = data + piece, not piece
    except ConnectionError:
        closed = True
    except TimeoutError:
        pass
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return Heard([int(status) for status in re.findall(rb"(?:^|\n)HTTP/1\.\d (\d{3})", data)], closed, data)


async def test_what_has_two_readings_is_refused_and_nothing_hides_behind_it(running, subtests):
    gate = asyncio.Semaphore(AT_ONCE)
    vectors = [vector for vector in VECTORS if running.kind in vector.only]
    heard = await asyncio.gather(*(exchange(running.port, vector.sent, gate) for vector in vectors))
    for vector, (answer, after) in zip(vectors, heard, strict=True):
        with subtests.test(vector.name):
            assert len(answer.statuses) <= 1, answer
            assert 101 not in answer.statuses
            assert b"/hidden" not in answer.data
            refusals = REFUSALS | {BROKEN_CHUNK.get(running.kind) if b"problem+json" not in answer.data else None}
            assert not {status for status in answer.statuses if status >= 500} - refusals
            if vector.refused and running.kind not in vector.but:
                assert set(answer.statuses) <= refusals, answer
                assert answer.closed, answer
            assert after.statuses == [200]
    assert await asyncio.to_thread(running.process.poll) is None


def test_the_names_of_the_vectors_differ():
    assert len({vector.name for vector in VECTORS}) == len(VECTORS) >= 60

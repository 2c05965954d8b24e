"""Bodies that are larger than anybody reads, over real sockets: the answer is heard, and nothing of it all is left.

A server that queues a body's pieces for the app reads no more once its queue is full, not even that the answer is out:
then its connection and task stay for ever. So whoever answers before the body was read has to read on.
"""

import asyncio
import http.client
import io
import socket
import time
from contextlib import suppress

import psutil
import pytest
from hostile import CHAT, check_problem_body
from processes import server
from recording import PATIENCE_S, client

pytestmark = pytest.mark.slow

KINDS = ["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian"]
KEY = "correct-horse-battery"
BODY_BYTES = 20_000_000
"""More than the kernel and the server take on their own."""
PIECE = b"x" * 65_536
ASKED = [
    ("too large", CHAT, f"x-api-key: {KEY}\r\n", 413, "body_too_large"),
    ("without a key", CHAT, "", 401, "unauthenticated"),
    ("nowhere", "/nope", "", 404, "not_found"),
    ("another method", "/health", "", 405, "method_not_allowed"),
    ("a bad head", "/a%00", "", 400, "bad_request"),
]


@pytest.fixture(scope="module", params=KINDS)
def running(request, tmp_path_factory):
    kind = request.param
    workers = 0 if kind.startswith("hypercorn") else None
    env = {"ARGENTOR_AUTH_API_KEYS": f"ops:{KEY}"}
    with server(kind, "flood_app:app", cwd=tmp_path_factory.mktemp(kind), workers=workers, env=env) as found:
        yield found
        assert "argentor_asgi/" not in found.log


def request(path: str, fields: str, *, chunked: bool) -> tuple[bytes, bytes, int, bytes]:
    """Return a POST: its head, a piece of its body, how many of them there are, and what is behind them."""
    count = -(-BODY_BYTES // len(PIECE))
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {count * len(PIECE)}"
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{fields}{framing}\r\n\r\n"
    if chunked:
        return head.encode(), b"%x\r\n%b\r\n" % (len(PIECE), PIECE), count, b"0\r\n\r\n"
    return head.encode(), PIECE, count, b""


def said(running, asked: tuple[bytes, bytes, int, bytes]) -> bytes:
    """Send a request to its end, then read to the end of the connection; a reset on the way is a failure.

    But not of granian, which ends a connection at the last byte of the answer's length, whatever the app does.
    """
    head, piece, count, end = asked
    cut = ConnectionError if running.kind == "granian" else ()
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as raw:
        with suppress(cut):
            raw.sendall(head)
            for _ in range(count):
                raw.sendall(piece)
            raw.sendall(end)
        return b"".join(iter(lambda: raw.recv(65_536), b""))


class Heard:
    """Bytes, as a socket for `http.client`."""

    def __init__(self, data: bytes):
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def answer_in(data: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """Read one whole answer."""
    response = http.client.HTTPResponse(Heard(data))
    response.begin()
    return response, response.read()


def open_sockets(pid: int, port: int) -> int:
    """Return how many connections the server's processes hold."""
    process = psutil.Process(pid)
    found = [each for one in (process, *process.children(recursive=True)) for each in one.net_connections("tcp")]
    return sum(each.laddr.port == port and each.status != psutil.CONN_LISTEN for each in found)


async def until_at_rest(running, http, calm: dict) -> None:
    """Wait until nothing is left but the connection that asks; hypercorn keeps one that has ended for 5 s."""
    until = time.monotonic() + PATIENCE_S
    while True:
        now = (await http.get("/inside")).json()
        left = await asyncio.to_thread(open_sockets, running.pid, running.port)
        if (left, now) == (1, calm):
            return
        assert time.monotonic() < until, (left, now)
        await asyncio.sleep(0.1)


async def test_a_body_that_nobody_reads_keeps_no_answer_back_and_leaves_nothing(running, subtests):
    async with client(running.port) as http:
        calm = (await http.get("/inside")).json()
        for name, path, fields, status, code in ASKED:
            for chunked in (False, True):
                with subtests.test(name, chunked=chunked):
                    data = await asyncio.to_thread(said, running, request(path, fields, chunked=chunked))
                    response, body = answer_in(data)
                    assert response.status == status
                    assert check_problem_body(body.decode())["code"] == code
                    assert response.headers["connection"] == "close"
        await until_at_rest(running, http, calm)

"""What lets the fast path of `asgi.head` not look into values: the servers refuse NUL, CR and LF in them by themselves.

A bare line feed with a field behind it ends the line (RFC 9112 section 2.2), so that no value has it either. The break
of a folded one is a space by then (section 5.2).
"""

import socket
from contextlib import suppress

import pytest
from processes import server

pytestmark = pytest.mark.slow

PATIENCE_S = 10.0
SERVERS = {
    "hypercorn": ("hypercorn-asyncio", ()),
    "uvicorn": ("uvicorn", ("--http", "httptools")),
    "uvicorn on h11": ("uvicorn", ("--http", "h11")),
    "granian": ("granian", ()),
}
REFUSED = [b"a\0b", b"\0a", b"a\0", b"\0", b"a\rb", b"\ra", b"a\r", b"a\r b", b"a\r\rb", b"a\nb", b"a\n\0b"]
ENDED = [b"a\nx-b: b", b"a\r\nx-b: b"]
FOLDED = [b"a\r\n b", b"a\n b", b"a\r\n\tb"]


@pytest.mark.parametrize("name", SERVERS)
def test_no_server_lets_a_value_of_two_lines_through(name, tmp_path, subtests):
    kind, arguments = SERVERS[name]
    workers = 0 if kind.startswith("hypercorn") else None
    with server(kind, "bare_app:app", cwd=tmp_path, workers=workers, arguments=arguments) as running:
        assert answered(running.port, b"a") == (b"200", b"a")
        for value in [*REFUSED, *ENDED, *FOLDED]:
            with subtests.test(repr(value)):
                status, body = answered(running.port, value)
                if value in REFUSED:
                    assert status == b"400"
                else:
                    assert status == b"400" or body in {b"a", b"a b"}


def answered(port: int, value: bytes) -> tuple[bytes, bytes]:
    """Return the status and body that a request with this value gets."""
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + value + b"\r\nConnection: close\r\n\r\n"
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw, suppress(ConnectionResetError):
        raw.sendall(head)
        while piece := raw.recv(4096):
            data += piece
    return data[9:12], data.partition(b"\r\n\r\n")[2]

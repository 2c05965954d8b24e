"""One process that abuses one WebSocket: opened properly, then sent what nobody should, as fast as it goes."""

import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from bench import wsload
from bench.calls import Headers
from bench.crowd import Member

KIB = 1024
PIECE = bytes(64 * KIB)
PATIENCE_S = 0.5
"""How long one send may block before the socket is looked at again."""
CONTINUATION, FIN, MASKED, COMPRESSED = 0x0, 0x80, 0x80, 0x40
MOST_BYTES = 256 * KIB * KIB
"""How much an abuser sends at most: what has no bound must not eat the machine."""
BOMB_BYTES = 200 * KIB * KIB


@dataclass(frozen=True, slots=True)
class Ended:
    """What an abuser tells: after how many seconds its socket was closed, None if it never was; bytes that it sent."""

    closed_s: float | None
    sent_bytes: int


def head(first: int, size: int) -> bytes:
    """Return the head of a client's frame of `size` bytes, with a mask that changes nothing."""
    return struct.pack("!BBQ", first, MASKED | 127, size) + bytes(4)


def fragments() -> Iterator[bytes]:
    """One message that never ends."""
    yield head(wsload.TEXT, len(PIECE)) + b" " * len(PIECE)
    while True:
        yield head(CONTINUATION, len(PIECE)) + b" " * len(PIECE)


def endless_frame() -> Iterator[bytes]:
    """One frame that announces all that a frame can have."""
    yield head(FIN | wsload.TEXT, 2**63 - 1)
    while True:
        yield PIECE


def large_frame() -> Iterator[bytes]:
    """One frame of 17 MiB, whole, and nothing behind it."""
    yield head(FIN | wsload.TEXT, 17 * KIB * KIB)
    for _ in range(17 * 16):
        yield b" " * len(PIECE)


def bomb() -> Iterator[bytes]:
    """One compressed frame of 200 KiB that is 200 MiB (RFC 7692), whether compression was agreed on or not."""
    deflate = zlib.compressobj(wbits=-15)
    zipped = b"".join(deflate.compress(PIECE) for _ in range(BOMB_BYTES // len(PIECE)))
    zipped = (zipped + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    yield head(FIN | COMPRESSED | wsload.TEXT, len(zipped)) + zipped


def ping_flood() -> Iterator[bytes]:
    """Pings of the protocol, whose pongs nobody reads."""
    many = wsload.frame(wsload.PING, b"x" * 125) * 400
    while True:
        yield many


def question_flood() -> Iterator[bytes]:
    """Pings of the gateway, whose answers nobody reads."""
    many = wsload.frame(wsload.TEXT, b'{"type":"ping"}') * 2000
    while True:
        yield many


ABUSES: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "endless fragments": fragments,
    "endless frame": endless_frame,
    "17 MiB frame": large_frame,
    "deflate bomb": bomb,
    "ping flood": ping_flood,
    "question flood": question_flood,
}


def abuser(abuse: str, headers: Headers, seconds: float) -> Member:
    """Return the member that does this to one socket for so long, and tells how it `Ended`."""
    return partial(_abuse, abuse, headers, seconds)


def _abuse(abuse: str, headers: Headers, seconds: float, pipe: Connection, port: int, _number: int) -> None:
    offer = (*headers, (b"sec-websocket-extensions", b"permessage-deflate"))
    with socket.create_connection(("127.0.0.1", port), timeout=wsload.WAIT_S) as sock:
        sock.sendall(wsload.handshake("/ws", offer))
        if not sock.recv(64 * KIB).startswith(b"HTTP/1.1 101"):
            raise wsload.BadFrame("the handshake was refused")
        sock.settimeout(PATIENCE_S)
        began = time.monotonic()
        sent, is_closed = _sent(sock, ABUSES[abuse](), began + seconds)
        closed = is_closed or _closes(sock, began + seconds)
        pipe.send(Ended(time.monotonic() - began if closed else None, sent))


def _sent(sock: socket.socket, pieces: Iterator[bytes], deadline: float) -> tuple[int, bool]:
    """Send all pieces, or as many as there is time for; return the bytes sent, and whether the server closed."""
    sent = 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            if time.monotonic() > deadline:
                return sent, False
            try:
                done = sock.send(rest)
            except TimeoutError:
                continue
            except OSError:
                return sent, True
            sent, rest = sent + done, rest[done:]
        if sent > MOST_BYTES:
            break
    return sent, False


def _closes(sock: socket.socket, deadline: float) -> bool:
    """Read until the server has closed: say whether it has by then."""
    while time.monotonic() < deadline:
        try:
            if not sock.recv(64 * KIB):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False

"""One process of a crowd that behaves badly: it sends a byte a second, or reads nothing, and notes when it is cut."""

import select
import socket
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from bench.calls import Headers
from bench.crowd import Member, opened, read, ready, write

EVERY_S = 1.0
OPENED_PER_S = 100
"""How many connections one process opens in a second: an attack is no rush."""
LOOK_S = 0.01
NARROW_BYTES = 4096
"""What the kernel keeps for who does not read."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a process tells at the end: after how many seconds each connection was cut, and how many never were."""

    after_s: list[float]
    left: int
    answers: list[bytes]


@dataclass(slots=True)
class Dripping:
    """One connection that still has bytes to send, one at a time."""

    sock: socket.socket
    began: float
    answer: bytes = b""

    def ended(self) -> bool:
        """Read what is there, and say whether that was all."""
        data = read(self.sock)
        self.answer = (self.answer + (data or b""))[:200]
        return data is None


def slow_header(count: int, seconds: float) -> Member:
    """Return the member whose requests never get to the end of their head."""
    return partial(_drip, count, seconds, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")


def slow_body(count: int, seconds: float, path: str, headers: Headers) -> Member:
    """Return the member whose requests have a whole head, and a body of a byte a second."""
    lines = [b"POST %s HTTP/1.1" % path.encode(), *(b"%s: %s" % each for each in headers), b"content-length: 100000"]
    return partial(_drip, count, seconds, b"\r\n".join(lines) + b"\r\n\r\n")


def _drip(  # noqa: PLR0917  the first three are bound, the others are every member's
    count: int, seconds: float, head: bytes, pipe: Connection, port: int, number: int
) -> None:
    """Open the connections one by one, drip until each is cut or `seconds` are over, and tell."""
    drip = _Drip(head)
    began = time.monotonic()
    due, made = began + EVERY_S, 0
    while (made < count or drip.alive) and (now := time.monotonic()) < began + seconds:
        while made < min(count, (now - began) * OPENED_PER_S + 1):
            drip.add(opened(port, number))
            made += 1
        drip.look()
        if now >= due:
            due += EVERY_S
            drip.more()
    pipe.send(Cut(drip.cut, len(drip.alive), sorted(drip.answers)))


class _Drip:
    """The slow connections of one process: those that live, and when the others were cut."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.alive: dict[int, Dripping] = {}
        self.cut: list[float] = []
        self.answers: set[bytes] = set()
        self.poller = select.epoll()

    def add(self, sock: socket.socket) -> None:
        """Take one connection that is being made."""
        self.alive[sock.fileno()] = Dripping(sock, 0.0)
        self.poller.register(sock, select.EPOLLOUT)

    def look(self) -> None:
        """Send heads where a connection stands, and note which are cut."""
        for fd, event in self.poller.poll(LOOK_S):
            one = self.alive[fd]
            if not one.began and event & select.EPOLLOUT:
                write(one.sock, self.head)
                one.began = time.monotonic()
                self.poller.modify(fd, select.EPOLLIN)
            elif one.ended():
                self.cut.append(time.monotonic() - one.began)
                self.answers.add(one.answer[: len(b"HTTP/1.1 408")])
                del self.alive[fd]
                one.sock.close()

    def more(self) -> None:
        """Send one byte on each connection."""
        for one in self.alive.values():
            if one.began:
                write(one.sock, b"x")


def staller(count: int, request: bytes) -> Member:
    """Return the member that asks on `count` connections and reads nothing: tells `asked`, and is told `end`."""
    return partial(_stall, count, request)


def _stall(count: int, request: bytes, pipe: Connection, port: int, number: int) -> None:
    poller = select.epoll()
    held = {(sock := opened(port, number, receive_bytes=NARROW_BYTES)).fileno(): sock for _ in range(count)}
    for sock in held.values():
        poller.register(sock, select.EPOLLOUT)
    asked: set[int] = set()
    while len(asked) < count:
        for fd in ready(poller, 1.0):
            write(held[fd], request)
            poller.unregister(fd)
            asked.add(fd)
    pipe.send("asked")
    pipe.recv()

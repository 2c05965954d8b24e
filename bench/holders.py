"""One process of a crowd that holds idle WebSockets: it reads, answers heartbeats, and notes when each came."""

import select
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection

from bench import wsload
from bench.calls import Headers
from bench.crowd import Member, opened, read, ready, write

OPENING = 32
"""How many handshakes one process has under way."""
LOOK_S = 0.05
HEARTBEAT = b'"ping"'
ANSWER = wsload.frame(wsload.TEXT, b'{"type":"pong"}')


@dataclass(slots=True)
class Held:
    """One socket, and when it heard each heartbeat."""

    sock: socket.socket
    data: bytes = b""
    shaken: bool = False
    welcomed: bool = False
    beats: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a process tells at the end: each socket's heartbeats, on one clock for all processes; how many were lost."""

    beats: list[list[float]]
    lost: int


def holder(count: int, headers: Headers) -> Member:
    """Return the member that holds `count` sockets: it tells `open`, is told `end`, and tells what it `Heard`."""
    return partial(_hold, count, headers)


def _hold(count: int, headers: Headers, pipe: Connection, port: int, number: int) -> None:
    holding = _Holding(port, number, wsload.handshake("/ws", headers))
    holding.open(count)
    pipe.send("open")
    pipe.send(holding.watch(pipe))


class _Holding:
    """The sockets of one process."""

    def __init__(self, port: int, number: int, request: bytes) -> None:
        self.port, self.number, self.request = port, number, request
        self.poller = select.epoll()
        self.held: dict[int, Held] = {}
        self.welcomed = 0

    def open(self, count: int) -> None:
        """Open `count` sockets, `OPENING` at a time, until each has its welcome; raises `BadFrame` for a refusal."""
        while self.welcomed < count:
            while len(self.held) < min(count, self.welcomed + OPENING):
                sock = opened(self.port, self.number)
                self.held[sock.fileno()] = Held(sock)
                self.poller.register(sock, select.EPOLLOUT)
            for fd, event in self.poller.poll(1.0):
                self._step(fd, event)

    def _step(self, fd: int, event: int) -> None:
        one = self.held[fd]
        if event & select.EPOLLOUT:
            write(one.sock, self.request)
            self.poller.modify(fd, select.EPOLLIN)
            return
        was_welcomed = one.welcomed
        if not _took(one):
            raise wsload.BadFrame(f"a socket was refused: {one.data[:300]!r}")
        self.welcomed += one.welcomed and not was_welcomed

    def watch(self, pipe: Connection) -> Heard:
        """Read until told to end."""
        lost = 0
        for one in self.held.values():
            one.beats.clear()
        while not pipe.poll():
            for fd in ready(self.poller, LOOK_S):
                if not _took(self.held[fd]):
                    self.poller.unregister(fd)
                    lost += 1
        return Heard([one.beats for one in self.held.values()], lost)


def _took(one: Held) -> bool:
    """Read one socket's news; say whether it lives on."""
    data = read(one.sock)
    if data is None:
        return False
    one.data += data
    if not one.shaken:
        end = one.data.find(b"\r\n\r\n")
        if end < 0:
            return True
        if not one.data.startswith(b"HTTP/1.1 101"):
            return False
        one.data, one.shaken = one.data[end + 4 :], True
    return _frames(one)


def _frames(one: Held) -> bool:
    while (found := wsload.cut(one.data)) is not None:
        opcode, payload, length = found
        one.data = one.data[length:]
        if opcode == wsload.CLOSE:
            return False
        if opcode == wsload.PING:
            one.beats.append(time.monotonic())
            write(one.sock, wsload.frame(wsload.PONG, payload))
        elif HEARTBEAT in payload:
            one.beats.append(time.monotonic())
            write(one.sock, ANSWER)
        one.welcomed = True
    return True

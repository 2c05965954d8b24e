"""Crowds of cheap clients in processes of their own: raw sockets behind one epoll each, told what to do over a pipe.

A member is a callable `(conversation with the parent, port, number of the process)`; `crowd` starts as many processes
as there are members, and ends them. Each process uses a loopback address of its own, for the sake of ports.
"""

import multiprocessing
import resource
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

Member: TypeAlias = Callable[[Connection, int, int], None]

LONGEST_S = 600.0
"""How long a crowd may take to say something; then the bench has failed."""
END_S = 5.0


def all_files() -> None:
    """Let this process and its children open as many files as the system lets them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def crowd(members: Sequence[Member], port: int) -> Iterator[list[Connection]]:
    """Hold a process for each member, and give their ends of the pipes; they are gone on return."""
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in members]
    made = zip(members, pipes, strict=True)
    processes = [
        spawn.Process(target=member, args=(theirs, port, number), daemon=True)
        for number, (member, (_, theirs)) in enumerate(made)
    ]
    for process in processes:
        process.start()
    try:
        yield [mine for mine, _ in pipes]
    finally:
        for process in processes:
            process.terminate()
            process.join(END_S)
            if process.is_alive():
                process.kill()
                process.join()


def told(pipes: Sequence[Connection]) -> list[Any]:
    """Return what each process says next; raises `TimeoutError` if one says nothing, `EOFError` if one is gone."""
    for pipe in pipes:
        if not pipe.poll(LONGEST_S):
            raise TimeoutError("a crowd says nothing")
    return [pipe.recv() for pipe in pipes]


def tell(pipes: Sequence[Connection], word: str) -> None:
    """Say one word to every process."""
    for pipe in pipes:
        pipe.send(word)


def shares(count: int, parts: int) -> list[int]:
    """Return `count` in `parts` that differ by at most one."""
    return [count // parts + (part < count % parts) for part in range(parts)]


def opened(port: int, number: int, *, receive_bytes: int | None = None) -> socket.socket:
    """Return a socket that connects to the port from the address of process `number`, without waiting for it."""
    made = socket.socket()
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.bind((f"127.0.0.{2 + number}", 0))
    made.setblocking(False)
    made.connect_ex(("127.0.0.1", port))
    return made


def ready(poller: select.epoll, seconds: float) -> list[int]:
    """Return the file descriptors with news, having waited `seconds` at most."""
    return [fd for fd, _ in poller.poll(seconds)]


def read(sock: socket.socket) -> bytes | None:
    """Return what is there to read, b"" if nothing is; None if the connection has ended."""
    try:
        return sock.recv(65_536) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None


def write(sock: socket.socket, data: bytes) -> bool:
    """Send a little; say whether the connection still lives."""
    try:
        sock.send(data)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True

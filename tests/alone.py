"""A network of one's own, for this thread and all that it starts: loopback, and the addresses that a test adds.

    with alone("93.184.216.34"):                       # root alone may make one; else the test is left out
        async with raw_server(page, host="93.184.216.34"), name_server({"a.test": [["93.184.216.34"]]}) as names:
            async with NamedServer("serve", cwd=tmp_path):    # a gateway that asks this name server
                ...
        assert names.asked["a.test"] == 1

Linux namespaces (namespaces(7)): what this thread and its children open from then on is in the new one, and what was
open before stays where it was.
"""

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from processes import server

NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2)."""
SET_FLAGS, SET_ADDRESS, SET_MASK = 0x8914, 0x8916, 0x891C
"""Requests of netdevice(7)."""
UP = 0x1 | 0x40
A, AAAA = 1, 28
"""Types of DNS records (RFC 1035 section 3.2.2, RFC 3596)."""
NAMED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
new_mounts, recursive_and_private, bind = 0x20000, 0x4000 | 0x40000, 0x1000
calls = [
    lambda: libc.unshare(new_mounts),
    lambda: libc.mount(None, b"/", None, ctypes.c_ulong(recursive_and_private), None),
    lambda: libc.mount(sys.argv[1].encode(), b"/etc/resolv.conf", None, ctypes.c_ulong(bind), None),
]
for call in calls:
    if call():
        raise OSError(ctypes.get_errno(), "mounting the name server's address")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Runs Python with another `/etc/resolv.conf`, which it alone sees."""


@contextmanager
def alone(*addresses: str) -> Iterator[None]:
    """Be in a network that is new and empty but for loopback, with these IPv4 addresses on it."""
    if os.geteuid():
        pytest.skip("only root may make a network of its own")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(NEW_NETWORK):
            pytest.skip(f"no network of its own: {os.strerror(ctypes.get_errno())}")
        try:
            _configure(addresses)
            yield
        finally:
            assert libc.setns(before, NEW_NETWORK) == 0
    finally:
        os.close(before)


def _configure(addresses: Sequence[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _request(control, SET_FLAGS, "lo", struct.pack("H", UP))
        for number, address in enumerate(addresses):
            _request(control, SET_ADDRESS, f"lo:{number}", _socket_address(address))
            _request(control, SET_MASK, f"lo:{number}", _socket_address("255.255.255.255"))


def _request(control: socket.socket, request: int, interface: str, value: bytes) -> None:
    fcntl.ioctl(control, request, struct.pack("16s24s", interface.encode(), value))


def _socket_address(address: str) -> bytes:
    return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(address))


class NamedServer(server):
    """A server process that asks the name server at 127.0.0.1, whatever its machine asks."""

    def _command(self) -> list[str]:
        resolver = Path(self.cwd) / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
        return ["-c", NAMED, str(resolver), *super()._command()]


class Names(asyncio.DatagramProtocol):
    """A name server (RFC 1035). `answers`: for each name the addresses of its first answer, of its second, and so on.

    The last answer is repeated. `asked`: how often each name's IPv4 addresses were asked for.
    """

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]):
        self.asked: Counter[str] = Counter()
        self._answers = answers
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, question = _question(data)
        answers = self._answers.get(name)
        if kind == A:
            self.asked[name] += 1
        found = answers[min(max(self.asked[name], 1), len(answers)) - 1] if answers else ()
        records = [each for each in found if (":" in each) == (kind == AAAA)] if kind in (A, AAAA) else []
        code = 0 if answers else 3  # no error, or no such name
        head = struct.pack("!2sHHHHH", data[:2], 0x8580 | code, 1, len(records), 0, 0)
        self._transport.sendto(head + question + b"".join(map(_record, records)), addr)


def _question(data: bytes) -> tuple[str, int, bytes]:
    """Return the name and the type that are asked for, and the question as it came."""
    at, labels = 12, []
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    kind = int.from_bytes(data[at + 1 : at + 3], "big")
    return ".".join(labels).lower(), kind, data[12 : at + 5]


def _record(address: str) -> bytes:
    """Return a record of the question's name that nobody may keep."""
    is_6 = ":" in address
    packed = socket.inet_pton(socket.AF_INET6 if is_6 else socket.AF_INET, address)
    return struct.pack("!HHHIH", 0xC00C, AAAA if is_6 else A, 1, 0, len(packed)) + packed


@asynccontextmanager
async def name_server(answers: Mapping[str, Sequence[Sequence[str]]]) -> AsyncIterator[Names]:
    """Answer for these names on 127.0.0.1, at the port of DNS; in a network of one's own that is free."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(lambda: Names(answers), ("127.0.0.1", 53))
    try:
        yield names
    finally:
        transport.close()

"""Clients whose link is cut, so that nothing ever comes back, not even a reset: the kernel ends their connections.

The clients live in a network namespace of their own, behind a pair of virtual interfaces; the far end is taken down.
Needs root and `ip`. No server for ASGI notices such a peer; `argentor serve` has the kernel look.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest
from attacks import Others
from processes import TESTS, answers, server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="makes network interfaces: root and `ip`"),
]

GONE_S = 60.0
"""When nothing of them may be left; the kernel needs 30."""
EACH = 5
SERVER, CLIENT = f"198.18.{os.getpid() % 256}.1", f"198.18.{os.getpid() % 256}.2"
"""Addresses for tests of networks (RFC 2544)."""
CLIENTS = """
import socket, sys
from attacks import handshake
heads = [handshake("/pour"), handshake("/ws"), b"GET /silence HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"]
held = []
for head in heads * int(sys.argv[3]):
    client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
    client.sendall(head)
    assert client.recv(12)[:9] == b"HTTP/1.1 "
    held.append(client)
print("ready", flush=True)
sys.stdin.read()
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)  # noqa: S603, S607  the system's own, our words


@contextmanager
def linked():
    """Make a namespace behind a link, and yield its name and its end of the link."""
    name = f"argentor{os.getpid()}"
    near, far = f"an{os.getpid()}", f"af{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("address", "add", f"{SERVER}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "address", "add", f"{CLIENT}/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        yield name, far
    finally:
        ip("netns", "delete", name)  # and with it the link


@contextmanager
def clients(name: str, port: int):
    """Open the clients in the namespace, and end them."""
    command = ["ip", "netns", "exec", name, sys.executable, "-c", CLIENTS, SERVER, str(port), str(EACH)]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:  # noqa: S603  as above
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def held(pid: int) -> int:
    """Return how many connections from the namespace a server has, in whatever state."""
    return sum(bool(found.raddr) and found.raddr.ip == CLIENT for found in psutil.Process(pid).net_connections("tcp"))


async def test_connections_whose_link_is_cut_are_gone_within_a_minute(tmp_path):
    with linked() as (name, far):
        async with server("serve", "pouring_app:made", cwd=tmp_path, arguments=[f"{SERVER}:0"]) as running:
            port = int(re.search(rf"http://{re.escape(SERVER)}:(\d+)", running.log)[1])
            with clients(name, port):
                assert held(running.pid) == 3 * EACH
                ip("-n", name, "link", "set", far, "down")
                async with Others(running.port), asyncio.timeout(GONE_S):
                    while held(running.pid):  # noqa: ASYNC110  another process ends them
                        await asyncio.sleep(0.1)
            assert answers(running.port)

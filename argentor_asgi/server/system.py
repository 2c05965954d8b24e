"""What the launcher asks of the operating system: that it notices dead peers, and enough file descriptors."""

import resource
import socket
from collections.abc import Mapping
from typing import Final

OPTIONS: Final[Mapping[str, int]] = {
    "TCP_USER_TIMEOUT": 30_000,
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_NOTSENT_LOWAT": 128 * 1024,
}
"""Set on listening sockets, from which Linux hands them to every connection (tcp(7)).

A peer that acknowledges nothing is given up 30 s (`TCP_USER_TIMEOUT`, ms; RFC 5482) after what was sent to it, or
after 15 s of silence and the probes that follow (seconds). Of what a client does not read the kernel holds 128 KiB and
not 4 MB, so that a stall shows at once.
"""
SPARE_FILES: Final = 64
"""Descriptors that the gateway itself needs, besides one for each connection."""


def harden(listening: socket.socket) -> None:
    """Have the kernel end connections of this socket whose peer is dead; a system that cannot is left as it is."""
    if listening.family == socket.AF_UNIX:
        return
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def missing_options(options: Mapping[str, int] = OPTIONS) -> list[str]:
    """Return the options that this system does not know."""
    with socket.socket() as probe:
        return [name for name, value in options.items() if not _takes(probe, name, value)]


def _takes(probe: socket.socket, name: str, value: int) -> bool:
    option = getattr(socket, name, None)
    if option is None:
        return False
    try:
        probe.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        return False
    return True


def wanted_files(connections: int) -> int:
    """Return how many files must be open at a time for so many connections."""
    return connections + SPARE_FILES


def most_files() -> float:
    """Return how many files this process may be allowed to open: its hard limit, `inf` for none."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return float("inf") if hard in {resource.RLIM_INFINITY, -1} else hard


def allow_files(connections: int) -> None:
    """Raise what this process may have open, where so many connections need it and as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(wanted_files(connections), most_files())
    if soft not in {resource.RLIM_INFINITY, -1} and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(wanted), hard))

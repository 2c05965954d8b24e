"""How an outbound request may fail, and how long each of its phases may take (agent.md 7.3)."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "address",
    "connect",
    "write",
    "first_byte",
    "idle",
    "total",
    "protocol",
    "truncated",
    "too_large",
    "redirect",
]


class HttpFailed(Exception):
    """An outbound request has no whole answer. The text names the host at most: no path, no query, no value.

    `phase`: `address`: the policy or the URL forbids it, nothing was sent; `connect`: no connection, nothing was sent;
    `write`: the request was not taken in time; `first_byte`: no head of an answer came, in time or at all; `idle`: the
    body paused for too long; `total`: all of it took too long; `truncated`: the body ended before its end (RFC 9112
    section 8); `protocol`: what is said is not HTTP/1.1, on either side; `too_large`: the body is longer than the
    caller takes; `redirect`: it leads where this client does not follow.
    """

    def __init__(self, phase: Phase, message: str) -> None:
        """Keep the phase beside the words."""
        super().__init__(message)
        self.phase: Phase = phase


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that each phase of a request may take.

    `connect_s`: until a connection is there: a free place among the connections, then the name, TCP and TLS together.
    `write_s`: until the request is with the operating system. `first_byte_s`: from then until the whole head of the
    answer is here. `idle_s`: until the next piece of its body. `total_s`: for all of these together, None for no end.
    """

    connect_s: float = 5.0
    write_s: float = 10.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float | None = None

"""A TCP relay on a free loopback port that passes bytes on both ways, and keeps what clients asked as it was sent.

    with relay() as line:
        line.to(models.port)              # where it leads, from the next connection on; what stands is cut
        ...                               # a gateway asks f"http://127.0.0.1:{line.port}"
        line.bodies                       # of every request, byte for byte, oldest first

A model server's journal may show a request in another shape than it had; this shows the one that it had. It runs in
threads of its own, so that it outlives the event loops of the tests that share it.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

READ_BYTES = 64 * 1024
LEAVE_S = 5.0


@dataclass
class Relay:
    """A relay that runs. `port`: where it listens."""

    listening: socket.socket
    upstream: int = 0
    lines: list["_Line"] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def port(self) -> int:
        return self.listening.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def to(self, port: int) -> None:
        """Lead to this loopback port, forget what was asked before, and cut the connections that stand."""
        with self.lock:
            self.upstream, lines = port, self.lines
            self.lines = []
        for line in lines:
            line.cut()

    @property
    def asked(self) -> list[tuple[bytes, bytes]]:
        """The head and the body of every whole request, by connection and then by age."""
        with self.lock:
            return [request for line in self.lines for request in _requests(bytes(line.heard))]

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.asked]

    @property
    def heard(self) -> bytes:
        """All that any client sent since `to`."""
        with self.lock:
            return b"".join(bytes(line.heard) for line in self.lines)

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                self._take(client)

    def _take(self, client: socket.socket) -> None:
        with self.lock:
            upstream = self.upstream
        try:
            line = _Line(client, socket.create_connection(("127.0.0.1", upstream), LEAVE_S))
        except OSError:
            client.close()
            return
        with self.lock:
            self.lines.append(line)
        for work in (line.ask, line.answer):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()

    def close(self) -> None:
        with suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.to(0)
        for thread in self.threads:
            thread.join(LEAVE_S)
            assert not thread.is_alive()


class _Line:
    """One connection: `heard` is what its client sent."""

    def __init__(self, client: socket.socket, server: socket.socket):
        self.client, self.server, self.heard = client, server, bytearray()
        self.is_reset = False
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> None:
        """Pass on what the client says, until it leaves; then the server is left too."""
        with suppress(OSError):
            while data := self.client.recv(READ_BYTES):
                self.heard += data
                self.server.sendall(data)
        self.cut()

    def answer(self) -> None:
        """Pass on what the server says, and how it ends: politely or by a reset."""
        try:
            while data := self.server.recv(READ_BYTES):
                self.client.sendall(data)
        except ConnectionResetError:
            self._reset()
        except OSError:
            self.cut()
        else:
            self.cut()

    def _reset(self) -> None:
        """Let the last `close` of the client's socket reset it: that of the thread which is woken here."""
        self.is_reset = True
        with suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                if not self.is_reset:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()


def _requests(heard: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the whole requests on one connection; each has its length in its head."""
    while b"\r\n\r\n" in heard:
        head, _, rest = heard.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0]) if lengths else 0
        if len(rest) < length:
            return
        yield head, rest[:length]
        heard = rest[length:]


@contextmanager
def relay(upstream: int = 0) -> Iterator[Relay]:
    """Run a relay that leads to this loopback port."""
    made = Relay(socket.create_server(("127.0.0.1", 0)), upstream)
    accepting = threading.Thread(target=made.serve, daemon=True)
    accepting.start()
    try:
        yield made
    finally:
        made.close()
        accepting.join(LEAVE_S)

"""`python -m bench.deaf ws|sse HOST PORT COUNT PATH`: hold clients that read, and say `open` once all are."""

import select
import socket
import sys

from bench import load, ours, wsload

WELCOMED = {"ws": b'"connected"', "sse": b"\nid: "}


def main(kind: str, host: str, port: int, count: int, path: str) -> None:
    """Open the clients one after the other, then read whatever comes, until killed."""
    request = wsload.handshake(path, ours.KEYED) if kind == "ws" else load.request_of(path, ours.KEYED)
    poller = select.epoll()
    held = []
    for _ in range(count):
        sock = socket.create_connection((host, port), timeout=wsload.WAIT_S)
        sock.sendall(request)
        seen = b""
        while WELCOMED[kind] not in seen:
            if not (more := sock.recv(65_536)):
                raise wsload.BadFrame(repr(seen[:300]))
            seen += more
        held.append(sock)
        poller.register(sock, select.EPOLLIN)
    print("open", flush=True)
    by_number = {sock.fileno(): sock for sock in held}
    while True:
        for fd, _ in poller.poll():
            if not by_number[fd].recv(65_536):
                poller.unregister(fd)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])

"""`python -m bench.modelled FD`: a model server in a process of its own, which streams on OpenAI's wire as it is told.

The user's last message says what comes: `say COUNT RATE NAME` is that many pieces, so many a second or with 0 all at
once, each in a network write of its own and with NAME in it. Anything else is answered with one piece, `ok`.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator, Sequence

WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "elit", "sed", "do", "tempor", "magna")
"""What pieces are made of: no digits, which guardrails would look at longer."""
OK = ["ok"]
MODEL = "m-1"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_END = b"0\r\n\r\n"
_LENGTH = b"content-length:"
_COMMON = {
    "id": "chatcmpl-Bx3vYk2mQp7sLw9dTz4hNc8f",
    "object": "chat.completion.chunk",
    "created": 1_760_000_000,
    "model": MODEL,
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}


def wanted(count: int, rate: float, name: str) -> str:
    """Return the words that bring such an answer about."""
    return f"say {count} {rate} {name}"


def pieces(count: int, name: str) -> list[str]:
    """Return the pieces of such an answer."""
    return [f"{name} {WORDS[number % len(WORDS)]} " for number in range(count)]


def _chunk(choices: Sequence[object], **more: object) -> bytes:
    event = json.dumps({**_COMMON, "choices": choices, **more}, separators=(",", ":"))
    data = f"data: {event}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: object, reason: str | None = None) -> list[object]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]


def frames(texts: Sequence[str]) -> Iterator[bytes]:
    """Yield an answer as OpenAI streams it, each event as a chunk of its own, the last one with the end of the body."""
    yield _chunk(_choice({"role": "assistant", "content": ""}))
    for text in texts:
        yield _chunk(_choice({"content": text}))
    yield _chunk(_choice({}, "stop"))
    yield _chunk([], usage={"prompt_tokens": 10, "completion_tokens": len(texts), "total_tokens": len(texts) + 10})
    yield b"e\r\ndata: [DONE]\n\n\r\n" + _END


class Answering(asyncio.Protocol):
    """One connection, for one request after the other."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.WriteTransport | None = None
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._transport = None
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, ended, body = self._data.partition(b"\r\n\r\n")
        length = next(
            (int(line[len(_LENGTH) :]) for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH)), 0
        )
        if not ended or len(body) < length or self._transport is None:
            return
        self._data = body[length:]
        if head.startswith(b"GET "):
            self._transport.write(_HEALTH)
            self._transport.close()
            return
        said = json.loads(body[:length])["messages"][-1]["content"].split(" ", 3)
        self._transport.write(_HEAD)
        if said[0] == "say":
            self._say(frames(pieces(int(said[1]), said[3])), float(said[2]), asyncio.get_running_loop().time())
        else:
            self._say(frames(OK), 0.0, 0.0)

    def _say(self, left: Iterator[bytes], rate: float, due: float) -> None:
        """Write the next frame, and the others when they are due."""
        while self._transport is not None and (frame := next(left, None)) is not None:
            self._transport.write(frame)
            if rate:
                due += 1 / rate
                self._next = asyncio.get_running_loop().call_at(due, self._say, left, rate, due)
                return


async def serve(listening: socket.socket) -> None:
    """Answer on this socket until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Answering, sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))

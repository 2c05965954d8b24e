"""What a server that we started says on its stderr, in our log: each line cut, so many a minute, no secret in them."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TextIO

from argentor_asgi.api_keys import HIDDEN, Secret
from argentor_asgi.ops.clock import Clock

LINE_BYTES: Final = 1000
"""How much of one line is logged."""
KEPT_BYTES: Final = 2 * LINE_BYTES
"""How much of one line is looked at, so that a secret is hidden whole before the line is cut."""
LINES_PER_MINUTE: Final = 60

log = logging.getLogger("argentor.mcp")


@asynccontextmanager
async def stderr_log(server: str, secrets: Sequence[Secret], clock: Clock) -> AsyncIterator[TextIO]:
    """Give a file to be a process's stderr; what is written to it is logged until the context ends."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as source, os.fdopen(writing, "w") as stderr:
        lines = Lines(server, secrets, clock)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: lines, source)
        try:
            yield stderr
        finally:
            transport.close()
            await lines.closed.wait()


class Lines(asyncio.Protocol):
    """Logs what it receives, line by line. `closed`: set when nothing more comes."""

    def __init__(self, server: str, secrets: Sequence[Secret], clock: Clock) -> None:
        """Say whose lines they are. `secrets`: what is hidden where it appears in one."""
        self.closed = asyncio.Event()
        self._server = server
        self._secrets = [secret.reveal() for secret in secrets if secret.reveal()]
        self._clock = clock
        self._begun = b""
        self._minute = clock.monotonic()
        self._logged = self._left_out = 0

    def data_received(self, data: bytes) -> None:
        """Log the lines that are complete."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._log(self._begun + piece[:KEPT_BYTES])
            self._begun = b""
        self._begun = (self._begun + rest[:KEPT_BYTES])[:KEPT_BYTES]

    def connection_lost(self, exc: Exception | None) -> None:
        """Log what is left."""
        del exc
        if self._begun:
            self._log(self._begun)
        self._tell_left_out()
        self.closed.set()

    def _log(self, line: bytes) -> None:
        now = self._clock.monotonic()
        if now - self._minute >= 60:  # noqa: PLR2004  seconds of a minute
            self._tell_left_out()
            self._minute, self._logged = now, 0
        if self._logged >= LINES_PER_MINUTE:
            self._left_out += 1
            return
        self._logged += 1
        text = line.decode("utf-8", "replace").rstrip("\r")
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        log.info("MCP server %s: %s", self._server, text[:LINE_BYTES])

    def _tell_left_out(self) -> None:
        if self._left_out:
            log.info("MCP server %s: %d more lines are left out", self._server, self._left_out)
            self._left_out = 0

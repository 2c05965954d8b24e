"""An application with instruments: how late its event loop is, and what is open in it.

`watched` answers `GET /bench/inside` itself, in front of the application, and samples the loop while that lives.
"""

import asyncio
import gc
import json
import time
from collections import deque

from bench import bare
from bench.calls import App, Receive, Scope, Send
from bench.harness import percentile

PATH = "/bench/inside"
TICK_S = 0.002
"""How often the loop is asked to be on time; epoll itself is up to 1 ms late."""
MOST = 200_000
"""How many samples are kept between two looks: the newest."""


class Lag:
    """Samples of how late the loop woke a sleeper, in seconds."""

    def __init__(self) -> None:
        self.late_s: deque[float] = deque(maxlen=MOST)

    async def sample(self) -> None:
        """Sleep and see, until cancelled."""
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late_s.append(time.perf_counter() - due)

    def taken(self) -> dict[str, float]:
        """Return the samples since the last look, in milliseconds, and forget them."""
        late = list(self.late_s) or [0.0]
        self.late_s.clear()
        return {
            "samples": len(late),
            "p50_ms": percentile(late, 0.50) * 1e3,
            "p99_ms": percentile(late, 0.99) * 1e3,
            "max_ms": max(late) * 1e3,
        }


def watched(app: App) -> App:
    """Put the instruments in front of an application."""
    lag = Lag()

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _sampled(lag, app, scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == PATH:
            await _answer(send, json.dumps(_inside(lag)).encode())
        else:
            await app(scope, receive, send)

    return layer


async def _sampled(lag: Lag, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    task = asyncio.create_task(lag.sample())
    try:
        await app(scope, receive, send)
    finally:
        task.cancel()


def _inside(lag: Lag) -> dict[str, float]:
    taken = lag.taken()
    gc.collect()
    return {**taken, "tasks": len(asyncio.all_tasks())}


async def _answer(send: Send, body: bytes) -> None:
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


base = watched(bare.app)
"""The bare callable with the same instruments."""

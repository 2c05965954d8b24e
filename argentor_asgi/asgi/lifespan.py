"""Start and stop: the app's context is entered once, at `lifespan.startup` or before the first request.

ASGI lets a server leave lifespan out. Then the first request starts the app, in a task of its own that lives as long as
the loop: the context is left when the loop cancels what is still there, and no request owns it.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from argentor_asgi.asgi.types import Message, Receive, Send
from argentor_asgi.errors import ConfigError

Context = Callable[[], AbstractAsyncContextManager[None]]


class Lifespan:
    """Holds the app's context open. `started` is all that a request looks at."""

    def __init__(self, context: Context, log: logging.Logger) -> None:
        """Keep the context for later; nothing is entered yet."""
        self.started = False
        self._context = context
        self._log = log
        self._holder: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Enter the context without a server's help; whoever comes meanwhile waits for the same start.

        Raises what the context raises; the next request tries again. A cancelled caller leaves the start going on.
        """
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._holder = asyncio.create_task(self._hold(self._ready))
        await asyncio.shield(self._ready)

    async def serve(self, receive: Receive, send: Send) -> None:
        """Speak the lifespan protocol: a start that fails is said in one line, and the server stops."""
        await receive()
        context = self._context()
        try:
            await context.__aenter__()
        except Exception as error:  # noqa: BLE001  the server must hear of any failure, or it would serve a dead app
            await send({"type": "lifespan.startup.failed", "message": self._sentence(error)})
            return
        self.started = True
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            ended = await self._leave(context)
        await send(ended)

    async def _leave(self, context: AbstractAsyncContextManager[None]) -> Message:
        """Leave the context; return what to tell the server."""
        try:
            await context.__aexit__(None, None, None)
        except Exception:  # noqa: BLE001  the server hears of any failure
            self._log.exception("the gateway failed to stop cleanly")
            return {
                "type": "lifespan.shutdown.failed",
                "message": "The gateway failed to stop; its log has the reason.",
            }
        return {"type": "lifespan.shutdown.complete"}

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, ConfigError):
            return " ".join(str(error).split())
        self._log.error("the gateway failed to start", exc_info=error)
        return "The gateway failed to start; its log has the reason."

    async def _hold(self, ready: asyncio.Future[None]) -> None:
        """Enter the context and stay in it until the loop ends."""
        try:
            async with self._context():
                self.started = True
                ready.set_result(None)
                await asyncio.get_running_loop().create_future()
        except Exception as error:
            if ready.done():
                raise
            self._ready = None
            ready.set_exception(error)
            # Every waiter may have been cancelled; asking marks the failure as seen.
            ready.exception()

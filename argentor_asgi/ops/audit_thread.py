"""A thread that does one thing after another for the loop, and that nobody has to wait for at exit."""

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar, cast

T = TypeVar("T")
Job = Callable[[], None]


class Worker:
    """Runs what is submitted in order, from its making to `stop`; whoever submits bounds how much that is.

    A disk that hangs may hold the thread for ever: it is a daemon, and every wait for it needs a deadline.
    """

    def __init__(self, name: str) -> None:
        """Start the thread, on the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        Thread(target=self._live, name=name, daemon=True).start()

    def submit(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Return the future of `work`. Cancelled, the work is done all the same."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(partial(self._do, work, future))
        return future

    def stop(self) -> None:
        """End the thread behind what was submitted."""
        self._jobs.put(None)

    def _live(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _do(self, work: Callable[[], T], future: "asyncio.Future[T]") -> None:
        value: T | None = None
        failure: Exception | None = None
        try:
            value = work()
        except Exception as error:  # noqa: BLE001  whatever it is, the one who waits hears it
            failure = error
        try:
            self._loop.call_soon_threadsafe(_settle, future, value, failure)
        except RuntimeError:  # the loop has ended, and nobody waits any more
            return


def _settle(future: "asyncio.Future[T]", value: T | None, failure: Exception | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(cast("T", value))

"""What waits to be sent on one socket, in one order: frames of its runs, and answers to what its client says."""

import asyncio
from typing import Final

RUN_FRAMES: Final = 64
"""How many frames of runs may wait for a slow client; a run's follower waits for room."""
ANSWERS: Final = 64
"""How many answers may wait; a client that asks for one more does not read."""


class Outbox:
    """A bounded queue with two entrances: one that waits, and one for the socket's reader, which never waits.

    Room for answers is apart, so that a client which is slow to read a run may still ask for something.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._queue: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        self._room = asyncio.Semaphore(RUN_FRAMES)
        self._answers = 0

    @property
    def answers(self) -> int:
        """How many answers wait or are on their way."""
        return self._answers

    async def put(self, frame: bytes) -> None:
        """Append a frame of a run once there is room; frames that wait keep their order."""
        await self._room.acquire()
        self._queue.put_nowait((frame, False))

    def answer(self, frame: bytes) -> None:
        """Append an answer at once; raises `asyncio.QueueFull` when `ANSWERS` wait."""
        if self._answers >= ANSWERS:
            raise asyncio.QueueFull
        self._answers += 1
        self._queue.put_nowait((frame, True))

    async def next(self) -> tuple[bytes, bool]:
        """Wait for the next frame and whether it is an answer; `done` must follow, sent or not."""
        return await self._queue.get()

    def done(self, *, is_answer: bool) -> None:
        """Give back the room of a frame that is sent, or will not be."""
        if is_answer:
            self._answers -= 1
        else:
            self._room.release()
        self._queue.task_done()

    def drop(self) -> None:
        """Forget what waits: nobody will read it."""
        while not self._queue.empty():
            self.done(is_answer=self._queue.get_nowait()[1])

    async def empty(self) -> None:
        """Wait until everything was sent or dropped."""
        await self._queue.join()

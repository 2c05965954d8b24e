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

    # PERF: most sockets are idle: a list and two numbers, where a queue and its events would take 3 KiB.
    __slots__ = ("_answers", "_emptied", "_frames", "_room", "_unsent")

    def __init__(self) -> None:
        """Begin empty."""
        self._frames: list[tuple[bytes, bool]] = []
        self._room = asyncio.Semaphore(RUN_FRAMES)
        self._answers = 0
        self._unsent = 0
        self._emptied: asyncio.Event | None = None

    @property
    def answers(self) -> int:
        """How many answers wait or are on their way."""
        return self._answers

    async def put(self, frame: bytes) -> None:
        """Append a frame of a run once there is room; frames that wait keep their order."""
        await self._room.acquire()
        self._append(frame, is_answer=False)

    def answer(self, frame: bytes) -> None:
        """Append an answer at once; raises `asyncio.QueueFull` when `ANSWERS` wait."""
        if self._answers >= ANSWERS:
            raise asyncio.QueueFull
        self._answers += 1
        self._append(frame, is_answer=True)

    def next(self) -> tuple[bytes, bool] | None:
        """Return the next frame and whether it is an answer, None for no frame; `done` must follow, sent or not."""
        return self._frames.pop(0) if self._frames else None

    def done(self, *, is_answer: bool) -> None:
        """Give back the room of a frame that is sent, or will not be."""
        if is_answer:
            self._answers -= 1
        else:
            self._room.release()
        self._unsent -= 1
        if not self._unsent and self._emptied is not None:
            self._emptied.set()

    def drop(self) -> None:
        """Forget what waits: nobody will read it."""
        while (waiting := self.next()) is not None:
            self.done(is_answer=waiting[1])

    async def empty(self) -> None:
        """Wait until everything was sent or dropped."""
        while self._unsent:
            if self._emptied is None or self._emptied.is_set():
                self._emptied = asyncio.Event()
            await self._emptied.wait()

    def _append(self, frame: bytes, *, is_answer: bool) -> None:
        self._frames.append((frame, is_answer))
        self._unsent += 1

"""A store whose process is killed again and again: `python killed_writers.py <database> <kills> <seed>`.

Each round forks a process that opens the database, settles what the last crash left, and writes with many callers at
once until SIGKILL ends it at a random moment, perhaps before it began. Only what a call of the store acknowledged is
printed, one line each: `run <id>`, `queued <id>`, `message <id>`, `event <run> <seq>`, `end <run>`.
"""

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message
from argentor_asgi.sessions.records import Run, Session
from argentor_asgi.sessions.sqlite import SqliteStore

CALLERS = 60
LONGEST_S = 0.3


def acknowledge(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def message(name, session_id):
    return Message(name, "user", f"says {name} " + "x" * 500, session_id, datetime.now(UTC))


async def converse(store, name):
    """Work one run after the other in one session, acknowledging each step; some are queued and never started."""
    now = datetime.now(UTC)
    session = Session(name, "owner", "default", now, now)
    for number in range(1_000_000):
        run = Run(f"{name}.{number}", name, "owner", "default", "running", "m", f"input {name}.{number}", now, now)
        if number % 5 == 4:
            await store.begin_run(replace(run, status="queued"), session=session, message=None)
            acknowledge("queued", run.id)
            continue
        await store.begin_run(run, session=session, message=message(f"{run.id}-m", name))
        acknowledge("run", run.id)
        acknowledge("message", f"{run.id}-m")
        await store.append_events(run.id, [LoggedEvent(1, "text_delta", b"{}"), LoggedEvent(2, "text_delta", b"{}")])
        acknowledge("event", run.id, 2)
        await store.append(name, [message(f"{run.id}-a", name)])
        acknowledge("message", f"{run.id}-a")
        await store.save_run(replace(run, status="done", text="t"), [LoggedEvent(3, "done", b"{}")])
        acknowledge("end", run.id)


async def write(path, round_number):
    async with SqliteStore(path, clock=SystemClock()) as store:
        await store.interrupt_live(datetime.now(UTC))
        await asyncio.gather(*(converse(store, f"{round_number}-{caller}") for caller in range(CALLERS)))


def main(path, kills, seed):
    moments = random.Random(seed)  # noqa: S311  the same moments each time
    for round_number in range(kills):
        child = os.fork()
        if child == 0:
            asyncio.run(write(path, round_number))
        time.sleep(moments.uniform(0.0, LONGEST_S))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"round {round_number} ended by itself: {status}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""The skill `regex`: Python's regular expressions, which may backtrack without end, in processes that are killed.

A pattern that a model, or somebody through it, writes is code: it gets a process of its own that knows nothing of the
gateway, little memory and `LIMIT_S` for each call.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal, cast

from argentor_asgi.agent.skills import FunctionSkill, SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta

LIMIT_S: Final = 0.25
"""How long one call may work."""
WORKERS: Final = 2
"""How many processes there are at most."""
WAITING: Final = 64
"""How many calls may wait for one of them."""
START_S: Final = 10.0
"""How long a process may take to start."""
END_S: Final = 5.0
"""How long a killed process may take to be gone."""
PATTERN_CHARS: Final = 2000
"""The longest pattern, and replacement."""
TEXT_CHARS: Final = 128 * 1024
"""The longest text: as long as what a worker returns."""
RESULTS: Final = 1000
"""How many matches or parts are returned at most."""
REPLY_BYTES: Final = 16 * 1024 * 1024
"""How long a worker's line may be: twelve bytes for each character that it may return, and what describes them."""

_PROGRAM: Final = Path(__file__).with_name("regex_worker.py")

Operation = Literal["match", "find_all", "replace", "split", "validate"]
Flag = Literal["ignore_case", "multiline", "dot_all", "ascii"]


class WorkerGone(Exception):
    """The worker ended before it answered."""


class Workers:
    """Up to `WORKERS` processes that match, started when they are needed; bound to one event loop."""

    def __init__(self, *, limit_s: float = LIMIT_S, count: int = WORKERS) -> None:
        """Prepare; nothing is started. `limit_s` (> 0): for each request. `count` (>= 1): of processes."""
        self._limit_s = limit_s
        self._free = asyncio.Semaphore(count)
        self._waiting = 0
        self._idle: list[Process] = []
        self._alive: set[Process] = set()
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The processes that there are, by id."""
        return frozenset(each.pid for each in self._alive if each.returncode is None)

    async def ask(self, request: JsonObject) -> JsonObject:
        """Return the answer to one request of `regex_worker`.

        Raises `SkillRefused` when it took longer than `limit_s`, when the worker broke down, or too many wait. Whatever
        ends it early, cancellation too, kills the process that worked on it.
        """
        if self._waiting >= WAITING:
            raise SkillRefused("Too many regular expressions are being matched; try again later.")
        self._waiting += 1
        try:
            async with self._free:
                return await self._again(json.dumps(request).encode() + b"\n")
        finally:
            self._waiting -= 1

    async def aclose(self) -> None:
        """Kill the processes and wait until they are gone, `END_S` at most; what they worked on is refused."""
        self._is_closed = True
        for worker in self._alive:
            _kill(worker)
        if self._alive:
            waits = [asyncio.create_task(worker.wait()) for worker in self._alive]
            try:
                await asyncio.wait(waits, timeout=END_S)
            finally:
                for task in waits:
                    task.cancel()

    async def _again(self, line: bytes) -> JsonObject:
        """Ask one worker; should it be gone, which it may have been for long, ask a new one."""
        for _ in range(2):
            try:
                return await self._once(line)
            except WorkerGone:
                continue
        raise SkillRefused("The regular expression could not be matched: it takes too much.")

    async def _once(self, line: bytes) -> JsonObject:
        worker = await self._taken()
        is_done = False
        try:
            async with asyncio.timeout(self._limit_s):
                reply = await _exchange(worker, line)
            is_done = True
        except TimeoutError:
            raise SkillRefused(
                f"Matching took longer than {self._limit_s * 1000:g} ms and was stopped. Repeats inside of repeats, as "
                "in (a+)+, may take forever: write the pattern without."
            ) from None
        finally:
            if is_done:
                self._idle.append(worker)
            else:
                _kill(worker)
        return reply

    async def _taken(self) -> Process:
        """Return an idle worker, or a new one."""
        self._refuse_closed()
        self._alive = {each for each in self._alive if each.returncode is None}
        while self._idle:
            if (worker := self._idle.pop()).returncode is None:
                return worker
        return await self._started()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise SkillRefused("The gateway is shutting down.")

    async def _started(self) -> Process:
        async with asyncio.timeout(START_S):
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_PROGRAM)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=REPLY_BYTES,
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
            self._alive.add(worker)
            try:
                self._refuse_closed()
                await _read(worker)
            except BaseException:
                _kill(worker)
                raise
        return worker


def regex_skill(workers: Workers) -> FunctionSkill:
    """Return the skill `regex` over these workers."""

    @skill(
        "regex",
        "Works with regular expressions (Python's): finds the first match or all, replaces, splits, or validates a "
        "pattern.",
    )
    async def regex(
        *,
        operation: Annotated[Operation, Meta(description="What to do; all but validate need a text.")],
        pattern: Annotated[str, Meta(max_length=PATTERN_CHARS, description="The regular expression.")],
        text: Annotated[str, Meta(max_length=TEXT_CHARS, description="The text to look in.")] | None = None,
        replacement: Annotated[
            str, Meta(max_length=PATTERN_CHARS, description=r"What replace puts there; \1 and \g<name> are groups.")
        ] = "",
        flags: Annotated[tuple[Flag, ...], Meta(max_length=4, description="How the pattern is read.")] = (),
        limit: Annotated[int, Meta(ge=1, le=RESULTS, description="How many matches or parts are returned.")] = 100,
        count: Annotated[int, Meta(ge=1, description="How many matches replace replaces, if not all.")] | None = None,
    ) -> JsonObject:
        r"""Return what the operation makes; positions are code points.

        match: `{"matched", "text", "start", "end", "groups", "named"}`; find_all: `{"matches", "total"}`; replace:
        `{"text", "count"}`; split: `{"parts"}`; validate: `{"valid", "groups", "names"}` or `{"valid", "error"}`.
        """
        if text is None and operation != "validate":
            raise SkillRefused(f"The operation {operation} also needs: text.")
        answer = await workers.ask(
            {
                "operation": operation,
                "pattern": pattern,
                "flags": flags,
                "text": text or "",
                "replacement": replacement,
                "limit": limit,
                "count": count,
            }
        )
        if "error" in answer:
            raise SkillRefused(answer["error"])
        result: JsonObject = answer["result"]
        return result

    return regex


async def _exchange(worker: Process, line: bytes) -> JsonObject:
    """Send a request and return its answer; raises `WorkerGone`."""
    requests = cast("asyncio.StreamWriter", worker.stdin)  # it was started with a pipe
    try:
        requests.write(line)
        await requests.drain()
    except ConnectionError:
        raise WorkerGone from None
    return await _read(worker)


async def _read(worker: Process) -> JsonObject:
    """Return the worker's next line; raises `WorkerGone` when there is none that is whole."""
    answers = cast("asyncio.StreamReader", worker.stdout)  # as above
    try:
        reply: JsonObject = json.loads(await answers.readline())
    except (ValueError, ConnectionError):
        raise WorkerGone from None
    return reply


def _kill(worker: Process) -> None:
    """Kill the process by its id, if it is still there; the event loop reaps it."""
    if worker.returncode is None:
        with suppress(ProcessLookupError):
            worker.kill()

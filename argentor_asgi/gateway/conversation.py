"""One client's WebSocket: a reader that never waits for a run, a writer behind a bounded outbox, a follower per run.

The reader only takes frames off the socket, so a close, a cancel or a steer is heard while runs go on (flaw A5). Frames
go out through one writer in the order they were put, and the frame that closes a run is put by the follower that put
all its events: it is strictly the last of its run (flaw A4). A slow client makes its followers wait, which costs a
cursor each and no memory; one that keeps asking without reading is closed with 1013.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Final

from argentor_asgi.asgi.websocket import Disconnected, MessageTooLarge, WebSocket
from argentor_asgi.errors import GatewayError, Internal, Overloaded, RunCancelled, RunInterrupted, by_code
from argentor_asgi.gateway.dispatch import Ask, scope_of
from argentor_asgi.gateway.outbox import Outbox
from argentor_asgi.gateway.run_log import Reader
from argentor_asgi.gateway.runs import is_live
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.ws_session import CancelFrame, ChatFrame, PingFrame, ResumeFrame, SteerFrame
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.session import Run

FOLLOWED_RUNS: Final = 32
"""How many messages and resumes one socket may have open at a time."""
ESCAPED: Final = 3
"""How many times longer a text beyond ASCII may be when it is written in JSON's escapes."""
FRAME_OVERHEAD_BYTES: Final = 16 * 1024
"""What a frame may be longer than the message in it: its other members."""
CLOSE_S: Final = 0.3
"""What a goodbye keeps of its time for the close itself."""

log = logging.getLogger("argentor.ws")


class Conversation:
    """What one socket has going on; `converse` is its whole life."""

    def __init__(
        self, socket: WebSocket, services: Services, principal: Principal, *, connection_id: str, session_id: str
    ) -> None:
        """Prepare; nothing is read or sent yet. `session_id`: where a message without one goes."""
        self.id = connection_id
        self.session_id = session_id
        self._socket = socket
        self._services = services
        self._principal = principal
        self._scope = scope_of(principal)
        self._outbox = Outbox()
        self._shown: set[str] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._cancel_on_close: set[str] = set()
        self._ending = asyncio.Event()
        self._gone = asyncio.Event()
        self._close = (1000, "")

    async def converse(self) -> None:
        """Accept the socket and serve it until either side has had enough; every task of it has ended afterwards."""
        try:
            await self._socket.accept()
            self._outbox.answer(ws_session.welcome(self.session_id, self.id))
            await self._serve()
        finally:
            self._gone.set()

    async def _serve(self) -> None:
        tasks = [asyncio.create_task(work) for work in (self._read(), self._write(), self._ending.wait())]
        try:
            for task in (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0]:
                task.result()
        except Exception:  # the boundary of one socket: its client hears of it, the process lives
            log.exception("connection %s failed", self.id)
            self._finish(1011, Internal.code)
        finally:
            await _end([*tasks, *self._followers])
            self._outbox.drop()
            for run_id in self._cancel_on_close:
                self._services.runs.abandon(self._scope, run_id)
            await self._socket.close(*self._close)

    async def goodbye(self, code: int, reason: str, *, within_s: float) -> None:
        """Let the followers finish and the outbox empty, within the time, then close and wait until that is done."""
        try:
            async with asyncio.timeout(max(0.0, within_s - CLOSE_S)):
                if self._followers:
                    await asyncio.wait(set(self._followers))
                await self._outbox.empty()
        except TimeoutError:
            log.info("connection %s is cut: it does not read", self.id)
        self._finish(code, reason)
        await self._gone.wait()

    def _finish(self, code: int, reason: str) -> None:
        if not self._ending.is_set():
            self._close = (code, reason)
            self._ending.set()

    async def _read(self) -> None:
        limit = self._services.config.limits.message_bytes * ESCAPED + FRAME_OVERHEAD_BYTES
        try:
            while not self._ending.is_set():
                message = await self._socket.receive(limit)
                if isinstance(message, bytes):
                    self._finish(1003, "only text frames are understood")
                else:
                    self._hear(message)
                if self._outbox.answers:
                    await asyncio.sleep(0)  # a server that has much at once must not keep the writer from its turn
        except Disconnected:
            pass
        except MessageTooLarge:
            self._finish(1009, f"a frame may have {limit} bytes")
        except asyncio.QueueFull:
            self._finish(1013, "you do not read what you asked for")

    async def _write(self) -> None:
        try:
            while True:
                frame, is_answer = await self._outbox.next()
                try:
                    await self._socket.send(frame)
                finally:
                    self._outbox.done(is_answer=is_answer)
        except Disconnected:
            pass

    def _hear(self, text: str) -> None:
        """Answer one frame: at once, or by a follower of its own. Raises `QueueFull`."""
        try:
            frame = ws_session.parse(text)
            match frame:
                case PingFrame():
                    self._outbox.answer(ws_session.PONG)
                case ChatFrame():
                    self._follow(self._ask(frame))
                case ResumeFrame():
                    self._follow(self._resume(frame))
                case CancelFrame() | SteerFrame():
                    self._follow(self._command(frame))
        except GatewayError as error:
            self._outbox.answer(ws_session.failure(self.session_id, error))

    def _follow(self, work: Coroutine[None, None, None]) -> None:
        """Let `work` run beside the reader, owned by this conversation."""
        if len(self._followers) >= FOLLOWED_RUNS:
            work.close()
            raise Overloaded("This connection has too many messages open.", retry_after=1)
        task = asyncio.create_task(self._guard(work))
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Turn whatever ends `work` early into the one frame that the client waits for."""
        try:
            await work
        except GatewayError as error:
            await self._outbox.put(ws_session.failure(self.session_id, error))
        except Exception:  # the boundary of one message: its client hears of it, the socket lives
            log.exception("connection %s: a message failed", self.id)
            await self._outbox.put(ws_session.failure(self.session_id, Internal()))

    async def _ask(self, frame: ChatFrame) -> None:
        options = frame.run_options
        agent = self._services.config.agent
        session_id = str(frame.session_id) if frame.session_id else self.session_id
        ask = Ask(frame.content, session_id, frame.idempotency_key, options.on_busy or agent.on_busy or "enqueue")
        try:
            run = await self._services.dispatch.start(self._principal, ask)
        except GatewayError as error:
            await self._outbox.put(ws_session.failure(session_id, error))
            return
        if run.id in self._shown:  # steered, or asked twice under one key: this socket hears of the run already
            await self._outbox.put(ws_session.accepted("message", run.id, run.status))
            return
        self._shown.add(run.id)
        if (options.on_disconnect or agent.on_disconnect) == "cancel":
            self._cancel_on_close.add(run.id)
        try:
            await self._show(await self._services.runs.reader(self._scope, run.id))
            self._cancel_on_close.discard(run.id)
        finally:
            self._shown.discard(run.id)

    async def _resume(self, frame: ResumeFrame) -> None:
        await self._show(await self._services.runs.reader(self._scope, frame.run_id, after=frame.after_seq))

    async def _command(self, frame: CancelFrame | SteerFrame) -> None:
        runs = self._services.runs
        if isinstance(frame, CancelFrame):
            run = await runs.cancel(self._scope, frame.run_id, "cancelled by the client")
            request = "cancel"
        else:
            run = await self._services.dispatch.steer(self._principal, frame.run_id, frame.content)
            request = "steer"
        await self._outbox.put(ws_session.accepted(request, run.id, run.status))

    async def _show(self, reader: Reader) -> None:
        """Put every event of the run, then the frame that closes it."""
        run = reader.run
        async for batch in reader:
            for event in batch:
                await self._outbox.put(ws_session.stream(run.session_id, run.id, event))
        await self._outbox.put(closing(reader.run))


def closing(run: Run) -> bytes:
    """Return the frame that closes a run that has ended."""
    if run.status == "done":
        return ws_session.response(run.session_id, run.id, run.text)
    return ws_session.failure(run.session_id, failure_of(run), run.id)


def failure_of(run: Run) -> GatewayError:
    """Return why a run that has ended has no answer."""
    if run.status == "cancelled":
        return RunCancelled()
    if run.status == "interrupted" or is_live(run):
        return RunInterrupted()
    return by_code(run.error_code or "internal")()


async def _end(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancel the tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

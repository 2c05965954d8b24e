"""One client's WebSocket: a reader that never waits for a run, a writer behind a bounded outbox, a follower per run.

The reader is the socket's own task and only takes frames off it, so a close, a cancel or a steer is heard while runs go
on (flaw A5). Frames go out through one writer in the order they were put, and the frame that closes a run is put by the
follower that put all its events: it is strictly the last of its run (flaw A4). The writer is there only while something
waits, so an idle socket has no task of ours. A slow client makes its followers wait, which costs a cursor each and no
memory; one that keeps asking without reading is closed with 1013.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Final, Protocol

from argentor_asgi.asgi.deadline import Watched
from argentor_asgi.asgi.websocket import Disconnected, MessageTooLarge, WebSocket
from argentor_asgi.errors import Forbidden, GatewayError, Internal, Overloaded
from argentor_asgi.gateway.approvals import APPROVE, SEE, Decision
from argentor_asgi.gateway.dispatch import Ask, scope_of
from argentor_asgi.gateway.outbox import Outbox
from argentor_asgi.gateway.run_log import Reader
from argentor_asgi.gateway.services import Services
from argentor_asgi.gateway.telling import asked, closing
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.ws_session import (
    ApprovalFrame,
    CancelFrame,
    ChatFrame,
    Farewell,
    PingFrame,
    PongFrame,
    ResumeFrame,
    SteerFrame,
)
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import Approval

FOLLOWED_RUNS: Final = 32
"""How many messages and resumes one socket may have open at a time."""
COMMANDS: Final = 32
"""How many commands and answers more may go on at a time: runs may wait for those, so they need no place of a run's."""
ESCAPED: Final = 3
"""How many times longer a text beyond ASCII may be when it is written in JSON's escapes."""
FRAME_OVERHEAD_BYTES: Final = 16 * 1024
"""What a frame may be longer than the message in it: its other members."""
CLOSE_S: Final = 0.3
"""What a goodbye keeps of its time for the close itself."""
BYE_S: Final = 0.2
"""How long the last frame may take; a client that does not read is closed without it."""
LEAVE_S: Final = 1.0
"""How long the close itself may take."""
NORMAL: Final = Farewell(1000, "", "")
"""The close of a socket whose client has left, or that has nothing more to say."""
NOT_TEXT: Final = Farewell(1003, "not_text", "Only text frames are understood.")
FAILED: Final = Farewell(1011, Internal.code, Internal.message)
SLOW_READER: Final = Farewell(1013, "slow_reader", "You do not read what you asked for.")
DEAD: Final = {
    "heartbeat": Farewell(1001, "heartbeat", "You no longer answer pings."),
    "idle": Farewell(1001, "idle", "Nothing was said on this connection for long."),
}

log = logging.getLogger("argentor.ws")


class Limiter(Protocol):
    """What counts messages as requests are counted."""

    def take(self, account: Account) -> None:
        """Count one message of the account, or raise the refusal."""
        ...


class Conversation:
    """What one socket has going on; `converse` is its whole life."""

    def __init__(
        self,
        socket: WebSocket,
        services: Services,
        principal: Principal,
        *,
        connection_id: str,
        session_id: str,
        account: Account | None = None,
        limiter: Limiter | None = None,
        trace: str | None = None,
    ) -> None:
        """Prepare; nothing is read or sent yet. `session_id`: where a message without one goes.

        Each message counts for `account` with `limiter`, where there are both. `trace`: the handshake's `traceparent`.
        """
        self.id = connection_id
        self.session_id = session_id
        self._socket = socket
        self._services = services
        self._principal = principal
        self._account = account
        self._limiter = limiter
        self._trace = trace
        self._scope = scope_of(principal)
        self._outbox = Outbox()
        self._shown: set[str] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._cancel_on_close: set[str] = set()
        self._life = Watched()
        self._writer: asyncio.Task[None] | None = None
        self._announcer: asyncio.Task[None] | None = None
        self._unannounced: deque[Approval] | None = None  # PERF: most sockets never need one
        self._is_welcome = False
        self._farewell: Farewell | None = None
        self._is_over = False
        self._gone: asyncio.Event | None = None
        self._silent_beats = -1  # the first one may come at once
        self._is_held = False

    async def converse(self) -> None:
        """Accept the socket and serve it until either side has had enough; every task of it has ended afterwards."""
        try:
            await self._socket.accept()
            await self._serve()
        finally:
            self._is_over = True
            if self._gone is not None:
                self._gone.set()

    async def _serve(self) -> None:
        self._life.task = asyncio.current_task()
        try:
            if self._farewell is None:
                self._answer(ws_session.welcome(self.session_id, self.id))
                self._remind()
                await self._read()
        except asyncio.CancelledError:
            if not self._life.settle():
                raise
        except Exception:  # the boundary of one socket: its client hears of it, the process lives
            log.exception("connection %s failed", self.id)
            self.end(FAILED)
        finally:
            self.end(NORMAL)
            await self._leave(self._farewell or NORMAL)

    async def _leave(self, farewell: Farewell) -> None:
        """End every task, say why, and close."""
        own = [task for task in (self._announcer, self._writer) if task is not None]
        await _end([*self._followers, *own])
        self._outbox.drop()
        for run_id in self._cancel_on_close:
            self._services.runs.abandon(self._scope, run_id)
        if farewell is not NORMAL:
            await self._within(BYE_S, self._socket.send(ws_session.bye(farewell)))
        # granian, which closes its sockets itself when it stops, may take a close of ours and never answer.
        await self._within(LEAVE_S, self._socket.close(farewell.code, farewell.reason))

    async def _within(self, seconds: float, step: Coroutine[None, None, None]) -> None:
        """Take a last step, or give it up: nobody may hold a socket that is over."""
        try:
            async with asyncio.timeout(seconds):
                await step
        except (TimeoutError, Disconnected):
            pass

    async def goodbye(self, farewell: Farewell, *, within_s: float) -> None:
        """Let the followers finish and the outbox empty, within the time, then close and wait until that is done."""
        try:
            async with asyncio.timeout(max(0.0, within_s - CLOSE_S)):
                if self._followers:
                    await asyncio.wait(set(self._followers))
                await self._outbox.empty()
        except TimeoutError:
            log.info("connection %s is cut: it does not read", self.id)
        self.end(farewell)
        if not self._is_over:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()

    def end(self, farewell: Farewell) -> None:
        """Close the socket without sending what is still owed, but for why; only the first reason counts."""
        if self._farewell is not None:
            return
        self._farewell = farewell
        if self._life.task is not None and self._life.task is not asyncio.current_task():
            self._life.cancel()

    def beat(self, ping: bytes) -> None:
        """Send this ping, or end if the client is taken for dead; called once in the time between two pings."""
        if self._followers and not self._is_held:
            self._silent_beats = 0
        self._silent_beats += 1
        limits = self._services.config.limits
        reason = ws_session.pulse(
            self._silent_beats, is_held=self._is_held, heartbeat_s=limits.heartbeat_s, idle_s=limits.idle_s
        )
        if reason is not None:
            self.end(DEAD[reason])
        elif self._silent_beats > 0:
            try:
                self._answer(ping)
            except asyncio.QueueFull:
                self._cut()

    async def _read(self) -> None:
        limit = self._services.config.limits.message_bytes * ESCAPED + FRAME_OVERHEAD_BYTES
        try:
            while self._farewell is None:
                message = await self._socket.receive(limit)
                self._silent_beats = 0
                if isinstance(message, bytes):
                    self.end(NOT_TEXT)
                else:
                    self._hear(message)
                if self._outbox.answers:
                    await asyncio.sleep(0)  # a server that has much at once must not keep the writer from its turn
        except Disconnected:
            pass
        except MessageTooLarge:
            self.end(Farewell(1009, "frame_too_large", f"A frame may have {limit} bytes."))
        except asyncio.QueueFull:
            self._cut()

    def _cut(self) -> None:
        """Give up a client that asks without reading."""
        self._services.metrics.consumer_cut("ws_outbox")
        self.end(SLOW_READER)

    def _answer(self, frame: bytes) -> None:
        """Append an answer, to be sent at the writer's next turn. Raises `QueueFull`."""
        self._outbox.answer(frame)
        self._wake()

    async def _put(self, frame: bytes) -> None:
        """Append a frame of a run once there is room."""
        await self._outbox.put(frame)
        self._wake()

    def _wake(self) -> None:
        if self._writer is None and self._farewell is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Send what waits, until nothing does."""
        try:
            while (waiting := self._outbox.next()) is not None:
                frame, is_answer = waiting
                try:
                    await self._socket.send(frame)
                finally:
                    self._outbox.done(is_answer=is_answer)
        except Disconnected:
            self.end(NORMAL)
        except Exception:  # the boundary of one socket, as in `_serve`
            log.exception("connection %s failed", self.id)
            self.end(FAILED)
        finally:
            self._writer = None

    def _admit(self) -> None:
        """Count a message. Raises `RateLimited`."""
        if self._limiter is not None and self._account is not None:
            self._limiter.take(self._account)

    def _hear(self, text: str) -> None:
        """Answer one frame: at once, or by a follower of its own. Raises `QueueFull`."""
        try:
            frame = ws_session.parse(text, self._admit)
            match frame:
                case PingFrame():
                    self._is_held = True
                    self._answer(ws_session.PONG)
                case PongFrame():
                    self._is_held = True
                case ChatFrame():
                    self._follow(self._ask(frame))
                case ResumeFrame():
                    self._follow(self._resume(frame))
                case CancelFrame() | SteerFrame():
                    self._follow(self._command(frame), COMMANDS)
                case ApprovalFrame():
                    self._follow(self._decide(frame), COMMANDS)
        except GatewayError as error:
            self._answer(ws_session.failure(self.session_id, error))

    def _follow(self, work: Coroutine[None, None, None], beyond: int = 0) -> None:
        """Let `work` run beside the reader, owned by this conversation, as one of `FOLLOWED_RUNS` and `beyond`."""
        if len(self._followers) >= FOLLOWED_RUNS + beyond:
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
            await self._put(ws_session.failure(self.session_id, error))
        except Exception:  # the boundary of one message: its client hears of it, the socket lives
            log.exception("connection %s: a message failed", self.id)
            await self._put(ws_session.failure(self.session_id, Internal()))

    async def _ask(self, frame: ChatFrame) -> None:
        options = frame.run_options
        agent = self._services.config.agent
        session_id = str(frame.session_id) if frame.session_id else self.session_id
        on_disconnect = options.on_disconnect or agent.on_disconnect
        ask = Ask(
            frame.content,
            session_id,
            frame.idempotency_key,
            options.on_busy or agent.on_busy or "enqueue",
            account=self._account,
            trace=self._trace,
            on_disconnect=on_disconnect,
            on_approval=options.on_approval,
        )
        try:
            run = await self._services.dispatch.start(self._principal, ask)
        except GatewayError as error:
            await self._put(ws_session.failure(session_id, error))
            return
        if run.id in self._shown:  # steered, or asked twice under one key: this socket hears of the run already
            await self._put(ws_session.accepted("message", run.id, run.status))
            return
        self._shown.add(run.id)
        if on_disconnect == "cancel":
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
        await self._put(ws_session.accepted(request, run.id, run.status))

    async def _decide(self, frame: ApprovalFrame) -> None:
        if not self._principal.may(APPROVE):
            raise Forbidden(f"Your key does not have the scope {APPROVE}.")
        decision = Decision(frame.approved, frame.reason, frame.edited_arguments)
        approval = await self._services.runs.approvals.decide(self._principal, frame.id, decision)
        await self._put(ws_session.decided(approval.id, approval.run_id, approval.status))

    def _remind(self) -> None:
        """Tell of what waited before the client came, and from now on of what comes (flaw G4)."""
        self._is_welcome = True
        if self._principal.may(SEE):
            for approval in self._services.runs.approvals.pending(self._scope):
                self.announce(approval)

    def announce(self, approval: Approval) -> None:
        """Tell the client of a call that waits for it; never waits. Before the first frame, that is put off."""
        if not self._is_welcome or self._farewell is not None:
            return
        if self._unannounced is None:
            self._unannounced = deque()
        self._unannounced.append(approval)
        if self._announcer is None:
            self._announcer = asyncio.create_task(self._announce(self._unannounced))

    async def _announce(self, waiting: deque[Approval]) -> None:
        """Put what there is to tell as there is room for it, but for what was decided meanwhile."""
        try:
            while waiting:
                approval = waiting.popleft()
                if self._services.runs.approvals.is_pending(approval):
                    await self._put(asked(approval))
        finally:
            self._announcer = None

    async def _show(self, reader: Reader) -> None:
        """Put every event of the run, then the frame that closes it."""
        run = reader.run
        async for batch in reader:
            for event in batch:
                await self._put(ws_session.stream(run.session_id, run.id, event))
        await self._put(await closing(self._services.store, reader.run))


async def _end(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancel the tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

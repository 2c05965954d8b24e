"""Talking to the agent: over a WebSocket, over server-sent events, and by one request and one answer."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import EventStream
from argentor_asgi.asgi.route import Header, route, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import (
    BadRequest,
    BodyTooLarge,
    BudgetExceeded,
    ContentFiltered,
    ContentRejected,
    ContextOverflow,
    Detail,
    Draining,
    EmptyInput,
    GatewayError,
    IdempotencyKeyReused,
    InputBlocked,
    Internal,
    InvalidInput,
    MaxTurns,
    OutputBlocked,
    Overloaded,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
    RateLimited,
    ReplayExpired,
    RunCancelled,
    RunInterrupted,
    RunLaidAside,
    RunNotFound,
    RunTimeout,
    SessionBusy,
    SessionNotFound,
    StorageUnavailable,
    StreamTruncated,
    ToolFailed,
)
from argentor_asgi.gateway.connections import Connection
from argentor_asgi.gateway.conversation import Conversation
from argentor_asgi.gateway.dispatch import Ask, scope_of
from argentor_asgi.gateway.run_log import Reader
from argentor_asgi.gateway.services import Services
from argentor_asgi.gateway.telling import failure_of
from argentor_asgi.protocol import sse
from argentor_asgi.protocol.content import VISIBLE
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import Meta
from argentor_asgi.protocol.ws_session import OnApproval, OnBusy, OnDisconnect
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.identity import Principal

REFUSALS: tuple[type[GatewayError], ...] = (
    EmptyInput,
    ContentRejected,
    InputBlocked,
    BodyTooLarge,
    SessionNotFound,
    SessionBusy,
    IdempotencyKeyReused,
    Overloaded,
    Draining,
    RateLimited,
    BudgetExceeded,
    StorageUnavailable,
)
FAILURES: tuple[type[GatewayError], ...] = (
    RunCancelled,
    RunInterrupted,
    RunLaidAside,
    RunTimeout,
    MaxTurns,
    ToolFailed,
    OutputBlocked,
    ContentFiltered,
    ContextOverflow,
    ProviderUnavailable,
    ProviderRateLimited,
    ProviderAuth,
    ProviderBadRequest,
    StreamTruncated,
    Internal,
)
IDEMPOTENCY_KEY_CHARS = 255
_KEY = rf'"[ -~]{{1,{IDEMPOTENCY_KEY_CHARS}}}"|[!#-~][ -~]{{0,{IDEMPOTENCY_KEY_CHARS - 1}}}'
_is_key = re.compile(_KEY).fullmatch

IdempotencyKey = Annotated[str | None, Meta(extra_json_schema={"pattern": f"^(?:{_KEY})$"}), Header("idempotency-key")]
LastEventId = Annotated[str | None, Header("last-event-id")]
Text = Annotated[str, Meta(description="What the user says.", extra_json_schema={"minLength": 1, "pattern": VISIBLE})]
SessionId = Annotated[UUID | None, Meta(description="The session to go on with; null begins a new one.")]


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A message whose answer is streamed."""

    input: Text
    session_id: SessionId = None
    role: Literal["user"] | None = None
    model: str | None = None
    on_busy: OnBusy | None = None
    on_disconnect: OnDisconnect | None = None
    on_approval: OnApproval = "wait"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A message whose answer comes in one piece."""

    message: Text
    session_id: SessionId = None
    on_busy: OnBusy | None = None
    on_approval: OnApproval = "wait"


@dataclass(frozen=True)
class ChatReply:
    """The agent's answer, and the session in which it was given."""

    response: str
    session_id: str
    run_id: str
    model: str
    turns: int
    usage: Usage
    finish_reason: str


@dataclass(frozen=True)
class AgentStatus:
    """Whether the agent takes messages, and what it is."""

    ready: bool
    skills_loaded: int
    provider: str
    model: str
    runs: int


@socket("/ws", needs="chat:write", tags=("chat",))
async def converse(socket: WebSocket, services: Services, principal: Principal, account: Account) -> None:
    """Talk with the agent over a WebSocket."""
    talk = Conversation(
        socket,
        services,
        principal,
        connection_id=str(uuid4()),
        session_id=str(uuid4()),
        account=account,
        limiter=services.limiter,
        trace=socket.traceparent,
    )
    with (
        services.limiter.hold_connection(account),
        services.connections.opened(Connection(talk.id, talk.session_id, principal, talk)),
    ):
        await talk.converse()


@route(
    "POST",
    "/api/v1/chat/stream",
    needs="chat:write",
    errors=(*REFUSALS, RunNotFound, ReplayExpired),
    produces="text/event-stream",
    tags=("chat",),
)
async def stream_chat(
    *,
    request: Request,
    services: Services,
    principal: Principal,
    account: Account,
    body: StreamRequest,
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Send a message and stream the run: one frame an event, the terminal one last.

    With `Last-Event-ID` of such a stream, the run goes on from there and nothing new is started.
    """
    if body.model not in {None, services.backend.model}:
        detail = Detail("/model", f"only {services.backend.model} is served")
        raise InvalidInput("This gateway does not serve that model.", details=[detail])
    config = services.config.agent
    on_disconnect = body.on_disconnect or config.on_disconnect
    if last_event_id and (place := sse.place(last_event_id)):
        run_id, after = place
    else:
        ask = Ask(
            body.input,
            _text(body.session_id),
            _key(idempotency_key),
            body.on_busy or config.on_busy or "reject",
            account,
            request.traceparent,
            on_disconnect,
            body.on_approval,
        )
        run_id, after = (await services.dispatch.start(principal, ask)).id, 0
    reader = await services.runs.reader(scope_of(principal), run_id, after=after)
    await reader.prime()
    return event_stream(services, principal, account, reader, cancel_on_close=on_disconnect == "cancel")


@route("POST", "/api/v1/agent/chat", needs="chat:write", errors=(*REFUSALS, RunNotFound, *FAILURES), tags=("chat",))
async def chat(
    *,
    request: Request,
    services: Services,
    principal: Principal,
    account: Account,
    body: ChatRequest,
    idempotency_key: IdempotencyKey = None,
) -> ChatReply:
    """Send a message and return the agent's answer."""
    on_busy = body.on_busy or services.config.agent.on_busy or "reject"
    ask = Ask(
        body.message,
        _text(body.session_id),
        _key(idempotency_key),
        on_busy,
        account,
        request.traceparent,
        on_approval=body.on_approval,
    )
    started = await services.dispatch.start(principal, ask)
    run = await services.runs.outcome(scope_of(principal), started.id)
    if run.status != "done":
        raise await failure_of(services.store, run)
    reason = run.finish_reason or "stop"
    return ChatReply(run.text, run.session_id, run.id, run.model, run.turns, run.usage, reason)


@route("GET", "/api/v1/agent/status", needs="chat:read", errors=(StorageUnavailable,), tags=("chat",))
async def agent_status(services: Services) -> AgentStatus:
    """Say whether the agent takes messages: it is ready when the readiness probes are."""
    _, readiness = await services.health.ready()
    backend = services.backend
    is_ready = readiness.status == "ready"
    return AgentStatus(is_ready, len(services.skills), backend.name, backend.model, len(services.runs))


def event_stream(
    services: Services, principal: Principal, account: Account, reader: Reader, *, cancel_on_close: bool = False
) -> EventStream:
    """Return the run behind `reader` as server-sent events, with heartbeats while it is silent.

    The stream counts for `account` until it is closed. Raises `Overloaded` when that has too many.
    """

    def abandoned() -> None:
        if cancel_on_close:
            services.runs.abandon(scope_of(principal), reader.run.id)

    with ExitStack() as held:
        held.enter_context(services.limiter.hold_stream(account))
        held.enter_context(services.streams.opened())
        frames = Frames(reader, abandoned, held.pop_all())
    return EventStream(
        frames,
        heartbeat=lambda: sse.heartbeat(services.clock.now()),
        age_s=services.config.limits.stream_age_s,
        last=frames.retire,
    )


class Frames:
    """The frames of a run, some at a time. Closed before the run's end, even unread, it calls `abandoned`."""

    def __init__(self, reader: Reader, abandoned: Callable[[], None], held: ExitStack) -> None:
        """Begin where the reader is; `held` is let go at the end."""
        self._run_id = reader.run.id
        self._batches = aiter(reader)
        self._abandoned = abandoned
        self._held = held
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        async for batch in self._batches:
            self._ended = batch[-1].is_terminal
            if data := b"".join(sse.frame(self._run_id, event) for event in batch):
                return data
        raise StopAsyncIteration

    def retire(self) -> bytes:
        """Return the last bytes of a stream that is ended for its age; its client comes back, and has not left."""
        self._ended = True
        return sse.AGED

    async def aclose(self) -> None:
        """End the reading, wherever it is."""
        try:
            await self._batches.aclose()
        finally:
            self._held.close()
        if not self._ended:
            self._abandoned()


def _text(session_id: UUID | None) -> str | None:
    return str(session_id) if session_id else None


def _key(header: str | None) -> str | None:
    """Return the Idempotency-Key, bare or as a structured-field string (draft-ietf-httpapi-idempotency-key-header)."""
    if header is None:
        return None
    if not _is_key(header):
        raise BadRequest(f"An Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS} printable ASCII characters.")
    return header[1:-1] if header.startswith('"') else header

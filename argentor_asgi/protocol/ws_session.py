"""The frames of `/ws`: what a client may say and what it hears (core.md 3, agent.md 2.4).

Client to server: an object with `type` (absent: a chat message), or plain text for the socket's own session. Text that
begins like JSON is JSON or refused, so that a mistyped control frame never becomes a prompt (flaw A10).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

from argentor_asgi.errors import Detail, GatewayError, InvalidInput
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.schema import JsonObject, Meta, decode, decode_input, encode, refuse_unknown

OnBusy = Literal["reject", "enqueue", "interrupt", "steer"]
OnDisconnect = Literal["continue", "cancel"]
OnApproval = Literal["wait", "deny"]
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
ApprovalId = Annotated[str, Meta(min_length=1, max_length=255)]
Reason = Annotated[str, Meta(max_length=1000, description="Why, in words for the agent.")]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run meets a busy session, a vanished client and a call that needs a person; None: as configured."""

    on_busy: OnBusy | None = None
    on_disconnect: OnDisconnect | None = None
    on_approval: OnApproval = "wait"


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """A message for the agent; without a session id it goes to the socket's own session (flaw A1)."""

    content: str
    session_id: UUID | None = None
    run_options: RunOptions = field(default_factory=RunOptions)
    idempotency_key: Key | None = None


@dataclass(frozen=True, slots=True)
class CancelFrame:
    """End this run."""

    run_id: str


@dataclass(frozen=True, slots=True)
class SteerFrame:
    """Hand these words to the running turn at its next safe point."""

    run_id: str
    content: str


@dataclass(frozen=True, slots=True)
class ResumeFrame:
    """Send the run's events after this number, then follow it."""

    run_id: str
    after_seq: Seq = 0


@dataclass(frozen=True, slots=True)
class ApprovalFrame:
    """Say whether a call that waits for a person may run; `task_id` is the older name of `approval_id`.

    `edited_arguments`: what it runs with in the place of its own arguments.
    """

    approved: bool
    approval_id: ApprovalId | None = None
    task_id: ApprovalId | None = None
    reason: Reason | None = None
    edited_arguments: JsonObject | None = None

    @property
    def id(self) -> str:
        """The approval that is meant; raises `InvalidInput` when the frame names none, or two."""
        named = {name for name in (self.approval_id, self.task_id) if name is not None}
        if len(named) != 1:
            raise InvalidInput("Name one approval.", details=[Detail("/approval_id", "one approval must be named")])
        return named.pop()


@dataclass(frozen=True, slots=True)
class PingFrame:
    """Answer with a pong."""


@dataclass(frozen=True, slots=True)
class PongFrame:
    """The answer to a ping; nothing is owed for it."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """Why the gateway closes a socket: a code of RFC 6455 section 7.4, a stable reason, and words for people."""

    code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Head:
    type: str | None = None


ClientFrame: TypeAlias = ChatFrame | CancelFrame | SteerFrame | ResumeFrame | ApprovalFrame | PingFrame | PongFrame
_FRAMES: Final[Mapping[str | None, type[ClientFrame]]] = {
    None: ChatFrame,
    "message": ChatFrame,
    "cancel": CancelFrame,
    "steer": SteerFrame,
    "resume": ResumeFrame,
    "approval_response": ApprovalFrame,
    "ping": PingFrame,
    "pong": PongFrame,
}
_SIGNS_OF_LIFE: Final = frozenset({"ping", "pong"})
_PINGS_MISSED: Final = 2
"""After how many unanswered pings a client that is known to answer them is taken for dead."""


def _free() -> None:
    """Admit a frame."""


def parse(text: str, admit: Callable[[], object] = _free) -> ClientFrame:
    """Return what the client said; raises `MalformedJson` or `InvalidInput`, never takes JSON for chat.

    `admit` is called for every frame but a ping or pong, before more of it is read than its type; what it raises is
    raised.
    """
    start = text.lstrip()[:1]
    if start not in {"{", "["}:
        admit()
        return ChatFrame(text)
    data = text.encode("utf-8", "surrogatepass")
    name: str | None = None
    try:
        name = decode_input(data, _Head).type
    finally:
        if name not in _SIGNS_OF_LIFE:
            admit()
    kind = _FRAMES.get(name)
    if kind is None:
        known = ", ".join(str(known) for known in _FRAMES if known)
        raise InvalidInput(f"Unknown type {name!r:.80}; known are {known}.", details=[Detail("/type", "unknown type")])
    frame = decode(data, kind)
    if kind is ApprovalFrame:
        # A misspelt edit would approve the call as it was.
        refuse_unknown(data, kind, but={"type", "reviewer"})
    return frame


def pulse(beats: int, *, is_held: bool, heartbeat_s: float, idle_s: float) -> Literal["heartbeat", "idle"] | None:
    """Return why a client is taken for dead, None for one that is not; `beats`: how many it has been silent for.

    A client that has shown that it answers pings (`is_held`) may leave two unanswered; one that never did, since it
    need not know them, may be silent for `idle_s`. Never early, and late by up to `heartbeat_s`.
    """
    silent_s = (beats - 1) * heartbeat_s
    if is_held:
        return "heartbeat" if beats > _PINGS_MISSED else None
    return "idle" if silent_s >= idle_s else None


def welcome(session_id: str, connection_id: str) -> bytes:
    """Return the first frame of every socket."""
    return encode({"type": "connected", "session_id": session_id, "connection_id": connection_id})


def stream(session_id: str, run_id: str, event: LoggedEvent) -> bytes:
    """Return the frame of one event; the event's JSON goes in as it was logged, without decoding it."""
    head = f'{{"session_id":"{session_id}","run_id":"{run_id}","seq":{event.seq},"msg_type":"stream","event":'
    return head.encode() + event.data + b"}"


def response(session_id: str, run_id: str, text: str) -> bytes:
    """Return the frame that closes a run which was answered: strictly the last one of its run."""
    return encode({"session_id": session_id, "content": text, "type": "response", "run_id": run_id})


def failure(session_id: str, error: GatewayError, run_id: str | None = None) -> bytes:
    """Return the frame that closes a run which was not answered, or that refuses what the client said."""
    body: dict[str, object] = {
        "session_id": session_id,
        "content": f"Error: {error.message}" if error.error is None else error.error,
        "type": "error",
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if run_id is not None:
        body["run_id"] = run_id
    if error.details:
        body["details"] = error.details
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
    return encode(error.members | body)


def accepted(request: str, run_id: str, status: str) -> bytes:
    """Return the answer to a cancel or steer frame: the run it met, and the status it met it in.

    Also to a message (`request` is `message`) that started nothing, its run being told on this socket already.
    """
    return encode({"type": "accepted", "request": request, "run_id": run_id, "status": status})


def decided(approval_id: str, run_id: str, status: str) -> bytes:
    """Return the answer to an approval frame: what has become of the call."""
    return encode(
        {
            "type": "accepted",
            "request": "approval_response",
            "approval_id": approval_id,
            "run_id": run_id,
            "status": status,
        }
    )


def asked(approval_id: str, description: str, risk_level: str, context: JsonObject) -> bytes:
    """Return the frame that tells a client, whatever it follows, of a call that waits for it; see core.md 10."""
    return encode(
        {
            "type": "approval_request",
            "task_id": approval_id,
            "description": description,
            "risk_level": risk_level,
            "context": context,
        }
    )


def ping(now: datetime) -> bytes:
    """Return the frame that asks a client for a sign of life; `t`: ms since 1970."""
    return encode({"type": "ping", "t": int(now.timestamp() * 1000)})


def bye(farewell: Farewell) -> bytes:
    """Return the last frame before a close: servers do not hand every close code and reason on to their clients."""
    return encode({"type": "bye", "code": farewell.code, "reason": farewell.reason, "message": farewell.message})


PONG: Final = encode({"type": "pong"})

"""The frames of `/ws`: what a client may say and what it hears (core.md 3, agent.md 2.4).

Client to server: an object with `type` (absent: a chat message), or plain text for the socket's own session. Text that
begins like JSON is JSON or refused, so that a mistyped control frame never becomes a prompt (flaw A10).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

from argentor_asgi.errors import Detail, GatewayError, InvalidInput
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.schema import Meta, decode, encode

OnBusy = Literal["reject", "enqueue", "interrupt", "steer"]
OnDisconnect = Literal["continue", "cancel"]
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run meets a busy session and a vanished client; None: as configured."""

    on_busy: OnBusy | None = None
    on_disconnect: OnDisconnect | None = None


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
class PingFrame:
    """Answer with a pong."""


@dataclass(frozen=True, slots=True)
class _Head:
    type: str | None = None


ClientFrame: TypeAlias = ChatFrame | CancelFrame | SteerFrame | ResumeFrame | PingFrame
_FRAMES: Final[Mapping[str | None, type[ClientFrame]]] = {
    None: ChatFrame,
    "message": ChatFrame,
    "cancel": CancelFrame,
    "steer": SteerFrame,
    "resume": ResumeFrame,
    "ping": PingFrame,
}


def parse(text: str) -> ClientFrame:
    """Return what the client said; raises `MalformedJson` or `InvalidInput`, never takes JSON for chat."""
    start = text.lstrip()[:1]
    if start not in {"{", "["}:
        return ChatFrame(text)
    data = text.encode("utf-8", "surrogatepass")
    kind = _FRAMES.get(name := decode(data, _Head).type)
    if kind is None:
        known = ", ".join(str(known) for known in _FRAMES if known)
        raise InvalidInput(f"Unknown type {name!r:.80}; known are {known}.", details=[Detail("/type", "unknown type")])
    return decode(data, kind)


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
    return encode(body)


def accepted(request: str, run_id: str, status: str) -> bytes:
    """Return the answer to a cancel or steer frame: the run it met, and the status it met it in.

    Also to a message (`request` is `message`) that started nothing, its run being told on this socket already.
    """
    return encode({"type": "accepted", "request": request, "run_id": run_id, "status": status})


PONG: Final = encode({"type": "pong"})

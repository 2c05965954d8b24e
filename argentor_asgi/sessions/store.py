"""The contract of a store of sessions, runs, approvals, notes and keys.

Everything has an owner and a tenant. A store filters by both: what belongs to another reads as absent. A call returns
when its effect is durable; a cancelled call may or may not have happened, never half. A store that cannot be read or
written raises `StorageUnavailable`, never a library's error; one at its bound raises `Overloaded`.

Text is kept as it is, but lone surrogates, which UTF-8 cannot carry, become U+FFFD. In an id, owner, tenant or key they
are refused with `InvalidInput`; reading by such a one finds nothing. Times are kept to the microsecond.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message
from argentor_asgi.sessions.records import (
    Approval,
    ApprovalStatus,
    Claim,
    Note,
    Page,
    Run,
    Scope,
    Session,
    StoredKey,
    Used,
)


class SessionStore(Protocol):
    """Conversations and their messages, append-only."""

    async def open_session(self, session: Session) -> Session:
        """Store the session, without messages, unless its id is known, and return the stored one.

        Raises `SessionNotFound` when the id belongs to another owner or tenant.
        """
        ...

    async def get_session(self, scope: Scope, session_id: str) -> Session | None:
        """Return the session, or None when there is none that `scope` may see."""
        ...

    async def list_sessions(self, scope: Scope, *, limit: int, cursor: str | None = None) -> Page[Session]:
        """Return the scope's sessions, newest first by creation. Raises `InvalidInput` for a cursor it did not make."""
        ...

    async def delete_session(self, scope: Scope, session_id: str) -> bool:
        """Delete the session with its messages, runs and events; of two callers one hears True, the other False."""
        ...

    async def append(self, session_id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Append messages in order and return the session's version.

        `after`: the version that the caller saw; another raises `StaleSession`. Raises `SessionNotFound` when deleted.
        """
        ...

    async def messages(self, session_id: str, *, after: int = 0, limit: int) -> Sequence[Message]:
        """Return up to `limit` messages, oldest first, from the one behind the first `after` ones."""
        ...

    async def recent(self, session_id: str, *, limit: int) -> Sequence[Message]:
        """Return the last `limit` messages, oldest first."""
        ...

    async def count_sessions(self, scope: Scope) -> int:
        """Return how many sessions the scope has."""
        ...


class RunStore(Protocol):
    """Runs, their events and the idempotency keys that started them."""

    async def begin_run(
        self, run: Run, *, session: Session, message: Message | None, claim: Claim | None = None
    ) -> Claim | None:
        """Open the session, claim the key, append the user's message and store the run: all or nothing.

        `message` None: the run is queued, and `start_run` appends it later. Returns None, or the earlier claim of the
        same owner's key, and then nothing was stored; a claim outlives its session. Raises `SessionNotFound` as
        `open_session` does, `ValueError` for a run id that is stored already.
        """
        ...

    async def get_claim(self, scope: Scope, key: str) -> Claim | None:
        """Return what the scope's idempotency key was first used for, None when it was not or is long ago."""
        ...

    async def start_run(self, run: Run, message: Message) -> None:
        """Append a queued run's message and store the run's new status, together; the message once only.

        Raises `SessionNotFound` when deleted.
        """
        ...

    async def append_events(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        """Append events, numbered without a gap; a number already stored is kept as it is. No-op when deleted.

        A gap is not refused: what could not be stored stays missing, and the run can still end.
        """
        ...

    async def save_run(self, run: Run, events: Sequence[LoggedEvent] = ()) -> None:
        """Store the run's fields and append events, together. `last_seq` follows the events. No-op when deleted."""
        ...

    async def get_run(self, scope: Scope, run_id: str) -> Run | None:
        """Return the run, or None when there is none that `scope` may see."""
        ...

    async def list_runs(
        self, scope: Scope, *, session_id: str | None = None, limit: int, cursor: str | None = None
    ) -> Page[Run]:
        """Return the scope's runs, newest first by creation."""
        ...

    async def events(self, run_id: str, *, after: int = 0, limit: int) -> Sequence[LoggedEvent]:
        """Return up to `limit` stored events with a number above `after`, in order."""
        ...

    async def interrupt_live(self, now: datetime) -> int:
        """Mark every run that is still live as `interrupted`, at start after a crash; return how many there were.

        Not one that is `waiting_approval`, nor those queued behind it in its session: they go on, see `waiting_runs`.
        What the others still asked a person is `cancelled`.

        Each gets a `tool_call_end` without arguments for every call that is open, then a terminal `error` event of code
        `interrupted`, numbered after its last stored one; the message of a queued run is appended to its session, so
        that nothing acknowledged is lost. A run whose stored events end with
        a terminal one gets no second: it takes the status which that one tells.
        """
        ...

    async def usage_since(self, moment: datetime) -> Sequence[tuple[Scope, Used]]:
        """Return what the runs updated at `moment` or later used, for each scope.

        A scope that used nothing is left out. What was deleted is not counted, nor is a cost that is not known.
        """
        ...

    async def prune(self, before: datetime) -> int:
        """Drop the events of runs that ended before, older idempotency claims, and sessions past `expires_at`.

        Also drops keys that were revoked or have expired for more than `KEY_KEPT_DAYS`, by the store's clock. Returns
        how many rows went. The runs themselves stay, so that a late reader hears `replay_expired`.
        """
        ...


class ApprovalStore(Protocol):
    """Calls that wait for a person, and what became of them."""

    async def request_approvals(self, run: Run, approvals: Sequence[Approval]) -> None:
        """Store the approvals and the run's fields, whose status is `waiting_approval`, together. No-op when deleted.

        Raises `ValueError` for an approval id that is stored already.
        """
        ...

    async def decide_approval(self, approval: Approval) -> bool:
        """Store the decision if the stored approval of this id is still pending; say whether it was."""
        ...

    async def get_approval(self, scope: Scope, approval_id: str) -> Approval | None:
        """Return the approval, or None when there is none that `scope` may see."""
        ...

    async def list_approvals(
        self, scope: Scope, *, status: ApprovalStatus | None, limit: int, cursor: str | None = None
    ) -> Page[Approval]:
        """Return the scope's approvals of this status, of any for None, newest first. Raises `InvalidInput`."""
        ...

    async def approvals_of(self, run_id: str) -> Sequence[Approval]:
        """Return the approvals of the run, oldest first, as they were requested."""
        ...

    async def waiting_runs(self) -> Sequence[Run]:
        """Return the runs that are `waiting_approval` and those queued behind one in its session, oldest first.

        At start these are what a stop or crash left.
        """
        ...


class NoteStore(Protocol):
    """What the agent was told to remember, by owner and tenant."""

    async def add_note(self, scope: Scope, note: Note) -> bool:
        """Keep the note; False when the scope already has `NOTES_PER_SCOPE` and nothing was stored.

        A note of an id that the scope already has is kept as it was.
        """
        ...

    async def notes(self, scope: Scope) -> Sequence[Note]:
        """Return the scope's notes, oldest first."""
        ...

    async def search_notes(self, scope: Scope, query: str, *, limit: int) -> tuple[Sequence[tuple[Note, float]], int]:
        """Return the notes that share a word with `query`, best first with their scores (> 0), and how many there are.

        Of equally good ones the newer first; at most `limit`. What a word is and how good a note is says `ranking`:
        forms of a word are one, whatever its case and accents, and notes of other scopes have no part in a score. A
        query is words and nothing else, whatever signs it holds.
        """
        ...

    async def delete_note(self, scope: Scope, note_id: str) -> bool:
        """Forget the note; say whether it was there."""
        ...


class KeyStore(Protocol):
    """API keys, of all owners and tenants: who may see which is for the caller to say.

    A digest is one key's alone, and of text only the `name` may hold what UTF-8 cannot carry.
    """

    async def add_key(self, key: StoredKey) -> bool:
        """Store the key; False when `KEYS` are stored and nothing was. Raises `ValueError` for a known id or digest."""
        ...

    async def all_keys(self) -> Sequence[StoredKey]:
        """Return every key, oldest first by creation."""
        ...

    async def list_keys(self, tenant: str | None, *, limit: int, cursor: str | None = None) -> Page[StoredKey]:
        """Return the tenant's keys, of every tenant for None, newest first by creation. Raises `InvalidInput`."""
        ...

    async def get_key(self, key_id: str) -> StoredKey | None:
        """Return the key, None when there is none."""
        ...

    async def save_key(self, key: StoredKey) -> None:
        """Replace every field of the stored key of this id. No-op when there is none.

        Raises `ValueError` for a digest that is another key's.
        """
        ...

    async def mark_used(self, times: Mapping[str, datetime]) -> None:
        """Store when keys were last used, by id, unless a later time is stored. An unknown id is passed over."""
        ...


class Store(SessionStore, RunStore, ApprovalStore, NoteStore, KeyStore, Protocol):
    """All of it in one place, opened and closed as an async context manager."""

    async def __aenter__(self) -> Self:
        """Open the store; raises `ConfigError` when it cannot be used, naming the way out."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Finish what was accepted, then close."""
        ...

    @property
    def queue_depth(self) -> int:
        """How many writes were accepted and are not durable yet."""
        ...

    async def check(self) -> None:
        """Prove that the store can be written to right now; raises `StorageUnavailable`."""
        ...

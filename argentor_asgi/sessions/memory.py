"""The store of a gateway that keeps nothing: everything in this process's memory, up to a bound.

No call waits, so each is one step of the loop and no other comes between. What is stored is copied on the way in;
what is returned is not to be changed.
"""

from bisect import bisect_right, insort
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from types import TracebackType
from typing import Final, Self

from argentor_asgi.errors import Overloaded, SessionNotFound, StaleSession
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol import schema
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message
from argentor_asgi.sessions import ranking, rules
from argentor_asgi.sessions.memory_approvals import MemoryApprovals, approval_weight
from argentor_asgi.sessions.memory_keys import MemoryKeys
from argentor_asgi.sessions.memory_rows import (
    ROW_BYTES,
    Conversation,
    KeptNote,
    Log,
    behind,
    copied,
    ended_before,
    event_weight,
    is_over,
    kept_message,
    kept_note,
    note_weight,
    scope_of,
    unlist,
    weight_of,
)
from argentor_asgi.sessions.records import LIVE, NOTES_PER_SCOPE, Approval, Claim, Note, Page, Run, Scope, Session, Used

MAX_SESSIONS: Final = 10_000
"""How many sessions the store holds."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""About how much memory everything together takes; past it, new things are refused, and nothing is lost silently."""


class MemoryStore(MemoryKeys, MemoryApprovals):
    """A `Store` in memory. Past `max_sessions` or `max_bytes` it raises `Overloaded`, but lets every run end."""

    def __init__(self, *, clock: Clock, max_sessions: int = MAX_SESSIONS, max_bytes: int = MAX_BYTES) -> None:
        """Begin empty."""
        MemoryKeys.__init__(self)
        MemoryApprovals.__init__(self)
        self._clock = clock
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._sessions: dict[str, Conversation] = {}
        self._runs: dict[str, Log] = {}
        self._claims: dict[tuple[Scope, str], tuple[Claim, datetime]] = {}
        self._notes: dict[Scope, list[KeptNote]] = {}
        self._session_keys: dict[Scope, list[rules.Key]] = {}
        self._run_keys: dict[Scope, list[rules.Key]] = {}

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Nothing to close; what is stored stays until the store is dropped."""

    @property
    def queue_depth(self) -> int:
        """Nothing waits: there is no disk."""
        return 0

    async def check(self) -> None:
        """Memory can always be written."""

    # --- sessions ------------------------------------------------------------------------------------------------

    async def open_session(self, session: Session) -> Session:
        """Return the stored session, after storing this one when there is none."""
        self._admit(session, ROW_BYTES)
        return self._open(session).session

    async def get_session(self, scope: Scope, session_id: str) -> Session | None:
        """Return the session when it is the scope's."""
        found = self._sessions.get(session_id)
        return found.session if found is not None and scope == scope_of(found.session) else None

    async def list_sessions(self, scope: Scope, *, limit: int, cursor: str | None = None) -> Page[Session]:
        """Return one page, newest first."""
        keys = behind(self._session_keys.get(scope, []), rules.from_cursor("s", cursor), limit + 1)
        return rules.page([self._sessions[row_id].session for _, row_id in keys], limit, "s", rules.key_of)

    async def delete_session(self, scope: Scope, session_id: str) -> bool:
        """Delete the session and all that hangs on it."""
        if await self.get_session(scope, session_id) is None:
            return False
        self._forget(session_id)
        return True

    async def append(self, session_id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Append messages and return the new version."""
        found = self._sessions.get(session_id)
        if found is None:
            raise SessionNotFound
        if after is not None and after != found.session.version:
            raise StaleSession
        kept = [kept_message(message, session_id) for message in messages]
        self._require(sum(map(weight_of, kept)))
        self._say(found, kept)
        return found.session.version

    async def messages(self, session_id: str, *, after: int = 0, limit: int) -> Sequence[Message]:
        """Return messages from the one behind the first `after`."""
        found = self._sessions.get(session_id)
        start = max(after, 0)
        return [] if found is None else found.messages[start : start + max(limit, 0)]

    async def recent(self, session_id: str, *, limit: int) -> Sequence[Message]:
        """Return the last messages, oldest first."""
        found = self._sessions.get(session_id)
        return [] if found is None or limit < 1 else found.messages[-limit:]

    async def count_sessions(self, scope: Scope) -> int:
        """Count the scope's sessions."""
        return len(self._session_keys.get(scope, ()))

    # --- runs ----------------------------------------------------------------------------------------------------

    async def begin_run(
        self, run: Run, *, session: Session, message: Message | None, claim: Claim | None = None
    ) -> Claim | None:
        """Store the session, the claim, the message and the run, or return the earlier claim."""
        scope = Scope(run.owner, run.tenant)
        if claim is not None and (scope, claim.key) in self._claims:
            return self._claims[scope, claim.key][0]
        if run.id in self._runs:
            raise ValueError(f"run {run.id} is already stored")
        rules.refuse_surrogates(run.id, claim.key if claim else "")
        kept = [] if message is None else [kept_message(message, session.id)]
        self._admit(session, ROW_BYTES * 3 + len(run.input) + sum(map(weight_of, kept)))
        found = self._open(session)
        if claim is not None:
            self._claims[scope, claim.key] = (claim, run.created_at)
            self._used_bytes += ROW_BYTES
        self._say(found, kept)
        self._keep_run(found, run, is_unsaid=message is None)
        return None

    async def get_claim(self, scope: Scope, key: str) -> Claim | None:
        """Return the key's claim."""
        claim, _ = self._claims.get((scope, key), (None, None))
        return claim

    async def start_run(self, run: Run, message: Message) -> None:
        """Store a queued run's message and its new fields."""
        found = self._runs.get(run.id)
        if found is None:
            raise SessionNotFound
        if found.is_unsaid:
            await self.append(found.run.session_id, [message])
            found.is_unsaid = False
        self._change(found, run)

    async def append_events(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        """Append those events that are not stored yet."""
        found = self._runs.get(run_id)
        if found is not None:
            self._require(sum(map(event_weight, events)))
            self._log(found, events)

    async def save_run(self, run: Run, events: Sequence[LoggedEvent] = ()) -> None:
        """Store the run's fields and events, also past the bound: a run must be able to end."""
        found = self._runs.get(run.id)
        if found is not None:
            self._change(found, run)
            self._log(found, events)

    async def get_run(self, scope: Scope, run_id: str) -> Run | None:
        """Return the run when it is the scope's."""
        found = self._runs.get(run_id)
        return found.run if found is not None and scope == scope_of(found.run) else None

    async def list_runs(
        self, scope: Scope, *, session_id: str | None = None, limit: int, cursor: str | None = None
    ) -> Page[Run]:
        """Return one page, newest first, of the scope or of one session of it."""
        keys = self._run_keys.get(scope, [])
        if session_id is not None:
            keys = [key for key in keys if self._runs[key[1]].run.session_id == session_id]
        keys = behind(keys, rules.from_cursor("r", cursor), limit + 1)
        return rules.page([self._runs[row_id].run for _, row_id in keys], limit, "r", rules.key_of)

    async def events(self, run_id: str, *, after: int = 0, limit: int) -> Sequence[LoggedEvent]:
        """Return events with a number above `after`."""
        found = self._runs.get(run_id)
        if found is None:
            return []
        start = bisect_right(found.events, after, key=lambda event: event.seq)
        return found.events[start : start + max(limit, 0)]

    async def interrupt_live(self, now: datetime) -> int:
        """End what is live."""
        live = [log for log in self._runs.values() if log.run.status in LIVE]
        kept = {run.id for run in await self.waiting_runs()}
        lost = [log for log in live if log.run.id not in kept]
        for log in sorted(lost, key=lambda log: rules.key_of(log.run)):
            self._cancel_approvals(log.run.id, now)
            if log.is_unsaid:
                self._say(self._sessions[log.run.session_id], [rules.unsaid(log.run, now)])
                log.is_unsaid = False
            ended, events = rules.settled(log.run, log.events, now)
            self._change(log, ended)
            self._log(log, events)
        return len(lost)

    async def request_approvals(self, run: Run, approvals: Sequence[Approval]) -> None:
        """Store the approvals and the run's fields."""
        found = self._runs.get(run.id)
        if found is None:
            return
        weight = sum(map(approval_weight, approvals))
        self._require(weight)
        self._keep_approvals(approvals)
        self._add(self._sessions[found.run.session_id], weight)
        self._change(found, run)

    async def waiting_runs(self) -> Sequence[Run]:
        """Return the runs that wait for a person, and those behind them."""
        runs = [log.run for log in self._runs.values()]
        waiting = {run.session_id for run in runs if run.status == "waiting_approval"}
        found = [run for run in runs if run.status == "waiting_approval" or _is_behind(run, waiting)]
        return sorted(found, key=rules.key_of)

    async def usage_since(self, moment: datetime) -> Sequence[tuple[Scope, Used]]:
        """Add up what the runs updated since used."""
        sums: dict[Scope, Used] = {}
        for log in self._runs.values():
            if log.run.updated_at >= moment:
                scope = scope_of(log.run)
                sums[scope] = sums.get(scope, Used()).plus(log.run.used)
        ordered = sorted(sums, key=attrgetter("tenant", "owner"))
        return [(scope, sums[scope]) for scope in ordered if sums[scope] != Used()]

    async def prune(self, before: datetime) -> int:
        """Drop what is too old."""
        now = self._clock.now()
        gone = sum(self._drop_events(log) for log in self._runs.values() if ended_before(log.run, before))
        old = [key for key, (_, created_at) in self._claims.items() if created_at < before]
        for key in old:
            del self._claims[key]
        self._used_bytes -= ROW_BYTES * len(old)
        expired = [row_id for row_id, kept in self._sessions.items() if is_over(kept.session, now)]
        for session_id in expired:
            self._forget(session_id)
        return gone + len(old) + len(expired) + self.prune_keys(now)

    # --- notes ---------------------------------------------------------------------------------------------------

    async def add_note(self, scope: Scope, note: Note) -> bool:
        """Keep the note unless the scope is full."""
        rules.refuse_surrogates(scope.owner, scope.tenant, note.id)
        kept = self._notes.get(scope, [])
        if len(kept) >= NOTES_PER_SCOPE:
            return False
        if all(other.note.id != note.id for other in kept):
            row = kept_note(note)
            self._require(note_weight(row))
            self._used_bytes += note_weight(row)
            insort(self._notes.setdefault(scope, []), row, key=lambda other: other.note.created_at)
        return True

    async def notes(self, scope: Scope) -> Sequence[Note]:
        """Return the notes, oldest first."""
        return [row.note for row in self._notes.get(scope, ())]

    async def search_notes(self, scope: Scope, query: str, *, limit: int) -> tuple[Sequence[tuple[Note, float]], int]:
        """Return the best notes, and how many share a word with the query."""
        wanted = ranking.terms(query)
        rows = [row for row in reversed(self._notes.get(scope, ())) if not row.counts.keys().isdisjoint(wanted)]
        ranked = ranking.rank(wanted, [ranking.match(wanted, row.counts) for row in rows])
        return [(rows[at].note, score) for at, score in ranked[: max(limit, 0)]], len(ranked)

    async def delete_note(self, scope: Scope, note_id: str) -> bool:
        """Forget the note."""
        kept = self._notes.get(scope, [])
        gone = [row for row in kept if row.note.id == note_id]
        for row in gone:
            kept.remove(row)
            self._used_bytes -= note_weight(row)
        if not kept:
            self._notes.pop(scope, None)
        return bool(gone)

    # --- what they share -----------------------------------------------------------------------------------------

    def _require(self, weight: int) -> None:
        """Raise `Overloaded` unless there is room for `weight` more bytes."""
        if self._used_bytes + weight > self._max_bytes:
            raise Overloaded("The gateway's memory for sessions is full.")

    def _admit(self, session: Session, weight: int) -> None:
        """Raise unless the session is the caller's, or new with room for it, and there is room for `weight` bytes."""
        found = self._sessions.get(session.id)
        if found is None:
            rules.refuse_surrogates(session.id, session.owner, session.tenant)
            if len(self._sessions) >= self._max_sessions:
                raise Overloaded("The gateway's memory holds no more sessions.")
        elif scope_of(found.session) != scope_of(session):
            raise SessionNotFound
        self._require(weight)

    def _add(self, found: Conversation, weight: int) -> None:
        found.weight += weight
        self._used_bytes += weight

    def _open(self, session: Session) -> Conversation:
        """Return the session's conversation, made when there is none; `_admit` has agreed."""
        found = self._sessions.get(session.id)
        if found is None:
            title, metadata = schema.scrub(session.title), copied(session.metadata)
            found = Conversation(replace(session, version=0, title=title, metadata=metadata))
            self._sessions[session.id] = found
            self._add(found, ROW_BYTES)
            insort(self._session_keys.setdefault(scope_of(session), []), rules.key_of(session))
        return found

    def _say(self, found: Conversation, messages: Sequence[Message]) -> None:
        if messages:
            found.messages += messages
            self._add(found, sum(map(weight_of, messages)))
            updated_at = max(found.session.updated_at, self._clock.now())
            found.session = replace(found.session, version=len(found.messages), updated_at=updated_at)

    def _keep_run(self, found: Conversation, run: Run, *, is_unsaid: bool) -> None:
        kept = replace(run, last_seq=0, input=schema.scrub(run.input), text=schema.scrub(run.text))
        self._runs[run.id] = Log(kept, is_unsaid)
        self._add(found, ROW_BYTES + len(kept.input) + len(kept.text))
        found.runs.add(run.id)
        insort(self._run_keys.setdefault(scope_of(run), []), rules.key_of(run))

    def _change(self, log: Log, run: Run) -> None:
        """Take over those fields of the run that change."""
        was = log.run
        log.run = replace(
            was,
            status=run.status,
            model=run.model,
            updated_at=run.updated_at,
            text=schema.scrub(run.text),
            finish_reason=run.finish_reason,
            error_code=run.error_code,
            turns=run.turns,
            usage=run.usage,
            cost_micros=run.cost_micros,
            tool_calls=run.tool_calls,
            work_ms=run.work_ms,
        )
        self._add(self._sessions[was.session_id], len(log.run.text) - len(was.text))

    def _log(self, log: Log, events: Sequence[LoggedEvent]) -> None:
        """Append those of `events` that are not stored yet."""
        last_seq = log.run.last_seq
        for event in events:
            if event.seq > last_seq:
                last_seq = event.seq
                log.events.append(event)
                self._add(self._sessions[log.run.session_id], event_weight(event))
        log.run = replace(log.run, last_seq=last_seq)

    def _drop_events(self, log: Log) -> int:
        gone = len(log.events)
        self._add(self._sessions[log.run.session_id], -sum(map(event_weight, log.events)))
        log.events = []
        return gone

    def _forget(self, session_id: str) -> None:
        """Drop the session with its runs, and its place in every list."""
        found = self._sessions.pop(session_id)
        self._used_bytes -= found.weight
        unlist(self._session_keys, scope_of(found.session), rules.key_of(found.session))
        for run_id in found.runs:
            run = self._runs.pop(run_id).run
            self._forget_approvals(run_id)
            unlist(self._run_keys, scope_of(run), rules.key_of(run))


def _is_behind(run: Run, sessions: Container[str]) -> bool:
    return run.status == "queued" and run.session_id in sessions

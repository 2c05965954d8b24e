"""After a start: which of the runs that wait for a person can go on, and from where."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from argentor_asgi.agent.run_context import Resumed
from argentor_asgi.gateway.lane import Order, Recalled, scope_of_run
from argentor_asgi.gateway.run_log import READ_EVENTS
from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.history import open_calls
from argentor_asgi.protocol.messages import from_user
from argentor_asgi.protocol.schema import restore
from argentor_asgi.sessions.records import Approval, Run
from argentor_asgi.sessions.store import Store


async def orders(store: Store, now: datetime) -> Sequence[Order]:
    """Return the stored runs that wait for a person, or behind one who does, and can go on, in their order.

    Those that cannot have ended as `interrupted`, and so have those behind them.
    From then on none is stored as waiting: what it asks for may have been decided, so a crash ends it rather than run
    its calls twice. It waits again as soon as it asks again. Raises `StorageUnavailable`.
    """
    found: dict[str, Order] = {}
    runs = await store.waiting_runs()
    waiting = [run for run in runs if run.status == "waiting_approval"]
    for run in waiting:
        order = await _order(store, run)
        if order is None:
            await store.save_run(replace(run, status="running"))
        else:
            found[run.session_id] = order
    if len(found) < len(waiting):
        await store.interrupt_live(now)
    for order in found.values():
        await store.save_run(order.run)
    behind = [
        _behind(run, found[run.session_id], now) for run in runs if run.status == "queued" and run.session_id in found
    ]
    return [*found.values(), *behind]


def _behind(run: Run, first: Order, now: datetime) -> Order:
    """Return how a queued run goes on, behind the first one of its session, whose owner may approve calls."""
    message = from_user(str(uuid4()), run.input, run.session_id, now)
    return replace(first, run=run, message=message, recalled=Recalled())


async def _order(store: Store, run: Run) -> Order | None:
    """Return how the run goes on, None when its session has no calls at its end that nothing has answered."""
    session = await store.get_session(scope_of_run(run), run.session_id)
    newest = await store.recent(run.session_id, limit=1)
    if session is None or not open_calls(newest):
        return None
    calls = {part.id for part in open_calls(newest)}
    approvals = {asked.call_id: asked for asked in await store.approvals_of(run.id) if asked.call_id in calls}
    reading, after = _Reading(), 0
    while batch := await store.events(run.id, after=after, limit=READ_EVENTS):
        for event in batch:
            reading.take(event)
        after = batch[-1].seq
    return Order(
        run=replace(run, status="running"),
        session=session,
        message=newest[0],
        on_busy="reject",
        may_ask=True,
        recalled=reading.result(approvals),
    )


class _Reading:
    """What matters of a run's events, read in order."""

    def __init__(self) -> None:
        self._text: LoggedEvent | None = None
        self._cut: set[str] = set()
        self._told: set[str] = set()
        self._resolved: set[str] = set()

    def take(self, event: LoggedEvent) -> None:
        """Read the next event."""
        if event.type == "text_delta":
            self._text = event
        elif event.type in {"tool_call_end", "approval_request", "approval_resolved"}:
            members = restore(event.data, dict)
            if event.type == "approval_request":
                self._told.add(members["approval_id"])
            elif event.type == "approval_resolved":
                self._resolved.add(members["approval_id"])
            elif members["arguments"] is None:
                self._cut.add(members["id"])

    def result(self, approvals: Mapping[str, Approval]) -> Recalled:
        """Return what was read, for these approvals of the last turn by call id."""
        next_index = 0 if self._text is None else restore(self._text.data, dict)["index"] + 1
        resumed = Resumed(next_index, frozenset(self._cut), frozenset(approvals))
        return Recalled(resumed, approvals, frozenset(self._told), frozenset(self._resolved))

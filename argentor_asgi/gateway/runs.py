"""The runs of this process: each session works on one at a time, each ends with exactly one terminal event.

A run's life: `accept` stores it (and its user's message) and gives it a place in its session's lane; its one task waits
for its turn, lets the runner work, stores the terminal event and the status together, and hands the lane on. Whoever
reads a run holds a cursor; nobody who reads can slow it, and its end does not need a reader.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from argentor_asgi.agent.budgets import Budgets
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.errors import (
    Draining,
    GatewayError,
    Internal,
    Overloaded,
    RunNotFound,
    RunTimeout,
    SessionBusy,
)
from argentor_asgi.gateway.approvals import Approvals
from argentor_asgi.gateway.endings import cancelled, done, failed
from argentor_asgi.gateway.lane import Lane, LiveRun, Order, plan, scope_of_run, unbudgeted
from argentor_asgi.gateway.restoring import orders
from argentor_asgi.gateway.run_log import Reader
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.events import Error, RunEvent, RunStarted
from argentor_asgi.sessions.records import LIVE, STATUS_AFTER, Claim, Run, Scope, Session
from argentor_asgi.sessions.store import Store

STEERED_KEYS: Final = 4096
"""How many idempotency keys of messages that steered a run are remembered, the newest of all callers together."""
ABANDONED: Final = "the client disconnected"
"""Why a run was cancelled whose client had asked for that."""
SHUTDOWN: Final = "the gateway is shutting down"
"""Why a run was cancelled that the gateway had no more time for."""

TRACE_ID: Final = slice(3, 35)
"""Where a `traceparent` has the id of its trace (W3C Trace Context section 3.2.2)."""
STEERABLE: Final = frozenset({"running", "waiting_approval"})
"""The statuses of a run that takes further words."""

log = logging.getLogger("argentor.runs")


class Runs:
    """Accepts, works, cancels and shows runs."""

    def __init__(
        self,
        *,
        store: Store,
        runner: AgentRunner,
        metrics: Metrics,
        audit: Audit,
        clock: Clock,
        limit: int,
        timeout_s: float,
        approvals: Approvals,
        budgets: Budgets | None = None,
        lays_aside: bool = False,
    ) -> None:
        """Hold at most `limit` live runs, each at most `timeout_s` seconds of work.

        `approvals`: where they ask a person. `budgets`: what runs that go on after a start may still use, None where
        nobody counts. `lays_aside`: whether a run that waits for a person when the gateway stops goes on after the next
        start, since the store keeps it.
        """
        self.approvals = approvals
        self._store = store
        self._runner = runner
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._limit = limit
        self._timeout_s = timeout_s
        self._budgets = budgets
        self._lays_aside = lays_aside
        self._live: dict[str, LiveRun] = {}
        self._lanes: dict[tuple[Scope, str], Lane] = {}
        self._keys: dict[tuple[Scope, str], LiveRun] = {}
        self._steered: dict[tuple[Scope, str], Claim] = {}
        self._is_draining = False

    def __len__(self) -> int:
        """Return how many runs are live."""
        return len(self._live)

    def is_busy(self, scope: Scope, session_id: str) -> bool:
        """Say whether the scope's session works on a message."""
        return (scope, session_id) in self._lanes

    async def accept(self, order: Order) -> Run | Claim:
        """Store the run and start it, now or after those before it; or steer the session's current run.

        Returns the run that works on the message, or the earlier claim of its idempotency key. The run's place in the
        session is taken before the first await, so that callers are served in the order of their calls. Raises
        `SessionBusy`, `SessionNotFound`, `Overloaded`, `Draining`, and what `order.grant` raises. A caller that is
        cancelled leaves the run going, unless the order says otherwise.
        """
        if self._is_draining:
            raise Draining(retry_after=1)
        scope, claim = scope_of_run(order.run), order.claim
        if claim is not None and (steered := self._steered.get((scope, claim.key))) is not None:
            return steered
        if claim is not None and (twin := self._keys.get((scope, claim.key))) is not None:
            first = await asyncio.shield(twin.accepted)
            return first if isinstance(first, Claim) else twin.claim or claim
        lane = self._lanes.get((scope, order.session.id))
        step = plan(busy=lane is not None, queued=len(lane.waiting) if lane else 0, on_busy=order.on_busy)
        if step == "refuse":
            raise SessionBusy(retry_after=1)
        if step == "steer" and lane is not None:
            return self._steer_once(lane.current, order.message.content, claim)
        if len(self._live) >= self._limit:
            raise Overloaded(retry_after=1)
        live = self._place(order, lane)
        if step == "interrupt" and lane is not None:
            self._stop(lane.current, "interrupted by a new message")
        live.task = asyncio.create_task(self._work(live, order.session), name=f"run {live.run.id}")
        return await self._accepted(live, is_abandoned_early=order.is_abandoned_early)

    async def _accepted(self, live: LiveRun, *, is_abandoned_early: bool) -> Run | Claim:
        """Wait until the run is stored."""
        try:
            return await asyncio.shield(live.accepted)
        except asyncio.CancelledError:
            if is_abandoned_early:
                self._stop(live, ABANDONED)
            raise

    async def reader(self, scope: Scope, run_id: str, *, after: int = 0) -> Reader:
        """Return a cursor behind event `after`, or behind the newest one when a client claims to have seen more.

        Raises `RunNotFound` for an unknown or foreign id.
        """
        live = self._owned(scope, run_id)
        if live is not None:
            return Reader(lambda: live.run, live.log, self._store, min(after, live.log.shown_seq))
        ended = await self.get(scope, run_id)
        return Reader(lambda: ended, None, self._store, after)

    async def get(self, scope: Scope, run_id: str) -> Run:
        """Return the run as it is now; raises `RunNotFound` for an unknown or foreign id."""
        if (live := self._owned(scope, run_id)) is not None:
            return live.run
        run = await self._store.get_run(scope, run_id)
        if run is None:
            raise RunNotFound
        return run

    async def outcome(self, scope: Scope, run_id: str) -> Run:
        """Wait for the run's end and return it; a caller that is cancelled leaves the run alone."""
        if (live := self._owned(scope, run_id)) is not None:
            await live.ended.wait()
            return live.run
        return await self.get(scope, run_id)

    async def cancel(self, scope: Scope, run_id: str, reason: str) -> Run:
        """Ask the run to end and return it as it was met: live, or already ended. Calling again changes nothing."""
        if (live := self._owned(scope, run_id)) is not None:
            self._stop(live, reason)
            return live.run
        return await self.get(scope, run_id)

    def abandon(self, scope: Scope, run_id: str) -> None:
        """End the run whose client has left, if it is still live; one that has ended is not looked up."""
        if (live := self._owned(scope, run_id)) is not None:
            self._stop(live, ABANDONED)

    async def steer(self, scope: Scope, run_id: str, text: str) -> Run:
        """Hand `text` to the running turn; raises `SessionBusy` when it cannot take it, `RunNotFound` as `get`."""
        if (live := self._owned(scope, run_id)) is not None:
            return self._steer(live, text)
        await self.get(scope, run_id)
        raise SessionBusy("The run has already ended.")

    async def restore(self) -> int:
        """Let the runs go on that waited for a person when the gateway stopped; return how many, at start.

        One that cannot go on has ended as `interrupted` afterwards. Raises `StorageUnavailable`.
        """
        found = await orders(self._store, self._clock.now())
        for order in found:
            budget = unbudgeted if self._budgets is None else partial(self._budgets.resumed, order.run)
            lane = self._lanes.get((scope_of_run(order.run), order.session.id))
            live = self._place(replace(order, budget=budget), lane)
            self.approvals.adopt(live)
            live.task = asyncio.create_task(self._work(live, order.session), name=f"run {live.run.id}")
        return len(found)

    async def drain(self, grace_s: float) -> None:
        """Let live runs finish for `grace_s` seconds, then end them; every one has its terminal event afterwards.

        Nothing is accepted any more. A run that waits for its turn still gets it, so that its message is part of the
        session before it ends. One that waits for a person is laid aside, where the store keeps it: it has no terminal
        event, its readers end, and `restore` lets it go on.
        """
        self._is_draining = True
        if self._lays_aside:
            self.approvals.close(self._lay_aside)
        if tasks := [live.task for live in self._live.values() if live.task]:
            await asyncio.wait(tasks, timeout=grace_s)
        left = list(self._live.values())
        for live in left:
            self._stop(live, SHUTDOWN, is_now=live.turn.is_set())
        if tasks := [live.task for live in left if live.task]:
            await asyncio.wait(tasks)
        await self.approvals.settled()

    def _lay_aside(self, live: LiveRun) -> None:
        """End the work on a run that waits for a person, and on those behind it, as if they went on waiting.

        Not where words are left for its next safe point: they are in memory alone, and go into its session as it ends.
        """
        if live.context.steering or live.cancel_reason:
            return
        for each in (live, *self._lanes[live.lane].waiting):
            if not each.cancel_reason:
                each.context.is_laid_aside = True
                each.context.is_listening = False
                self._stop(each, SHUTDOWN)

    def _owned(self, scope: Scope, run_id: str) -> LiveRun | None:
        """Return the live run when it is the scope's own; raises `RunNotFound` for a foreign one."""
        live = self._live.get(run_id)
        if live is not None and live.context.scope != scope:
            raise RunNotFound
        return live

    def _steer(self, live: LiveRun, text: str) -> Run:
        if live.run.status not in STEERABLE or live.cancel_reason or not live.context.steer(text):
            raise SessionBusy(retry_after=1)
        return live.run

    def _steer_once(self, live: LiveRun, text: str, claim: Claim | None) -> Run:
        """Steer, and let the message's key find this run from now on: asked again, it does not steer again.

        In memory only, since the store keeps a key with the run that it started.
        """
        run = self._steer(live, text)
        if claim is not None:
            if len(self._steered) >= STEERED_KEYS:
                del self._steered[next(iter(self._steered))]
            self._steered[live.context.scope, claim.key] = replace(claim, run_id=run.id)
        return run

    def _stop(self, live: LiveRun, reason: str, *, is_now: bool = True) -> None:
        """Cancel the run's task once, or let it end in its turn; a second request would cut its own clean-up short."""
        if not live.cancel_reason:
            live.cancel_reason, live.is_stopped = reason, is_now
            if is_now and live.is_cancellable and live.task is not None:
                live.task.cancel()

    def _place(self, order: Order, lane: Lane | None) -> LiveRun:
        """Take the run's place in its session's lane."""
        live = LiveRun(order, self._store, self._clock, is_first=lane is None)
        if order.may_ask:
            live.context.approver = self.approvals.approver(live)
        if lane is None:
            self._lanes[live.lane] = Lane(live)
            live.turn.set()
        else:
            lane.waiting.append(live)
        self._live[live.run.id] = live
        if live.claim is not None:
            self._keys[live.context.scope, live.claim.key] = live
        return live

    async def _work(self, live: LiveRun, session: Session) -> None:
        """Carry the run from its acceptance to its end; owned by this object, ended by `_stop`."""
        try:
            if live.recalled is not None or await self._begin(live, session):
                started = self._clock.monotonic()
                self._metrics.run_started()
                _record(self._audit, "run_start", live.run, {} if live.recalled is None else {"resumed": True})
                event = await self._carry(live)
                if live.context.is_laid_aside:
                    await live.recorder.settle()
                    self.approvals.drop(live)
                else:
                    await self._end(live, event)
                self._tell_end(live, self._clock.monotonic() - started)
        finally:
            self._leave(live)

    def _tell_end(self, live: LiveRun, seconds: float) -> None:
        run, trace = live.run, live.context.trace if self._runner.spans.is_on else None
        self._metrics.run_ended(run.status, seconds, None if trace is None else trace[TRACE_ID])
        tokens = run.usage.input_tokens + run.usage.output_tokens
        details = {"status": run.status, "error_code": run.error_code, "tokens": tokens}
        _record(self._audit, "run_end", run, details)

    async def _begin(self, live: LiveRun, session: Session) -> bool:
        """Store the run and tell its caller; False when it was refused or its key was claimed earlier."""
        message = live.message if live.run.status == "running" else None
        try:
            earlier = await self._store.begin_run(live.run, session=session, message=message, claim=live.claim)
        except Exception as error:  # noqa: BLE001  whatever the store raises is the caller's to hear
            live.accepted.set_exception(error)
            live.accepted.exception()  # a caller that has gone will not fetch it
            return False
        live.accepted.set_result(earlier or live.run)
        return earlier is None

    async def _carry(self, live: LiveRun) -> RunEvent:
        """Let the run have its turn and its work; return its terminal event, whatever happened."""
        run = live.run
        try:
            if not run.last_seq:
                await live.recorder.emit(RunStarted(run.id, run.session_id, run.model, run.created_at))
            if not live.is_stopped:
                live.is_cancellable = True
                placed = self._clock.monotonic()
                await live.turn.wait()
                self._metrics.run_waited(self._clock.monotonic() - placed)
                await self._promote(live)
            if live.cancel_reason:
                return cancelled(live)
            async with asyncio.timeout(self._timeout_s - live.watch.spent_s) as limit:
                live.watch.start(limit)
                await self._runner.run(live.context, live.recorder.emit)
            return done(live)
        except asyncio.CancelledError:
            return cancelled(live)
        except GatewayError as error:
            return failed(live, error)
        except TimeoutError:
            return failed(live, RunTimeout())
        except Exception:  # the boundary of one run: whatever it raised, it ends and the process lives
            log.exception("run %s failed", run.id)
            return failed(live, Internal())
        finally:
            live.is_cancellable = False

    async def _promote(self, live: LiveRun) -> None:
        """Make a queued run a running one, and its message part of the session."""
        if live.run.status == "queued":
            live.run = replace(live.run, status="running", updated_at=self._clock.now())
            await self._store.start_run(live.run, live.message)

    async def _end(self, live: LiveRun, event: RunEvent) -> None:
        """Store the terminal event with the run's last fields, then show it: the readers' last event, in any case."""
        await self.approvals.forget(live)
        await live.recorder.settle()
        terminal = live.log.append(event)
        context = live.context
        live.run = replace(
            live.as_of(STATUS_AFTER[event.type], self._clock.now()),
            text=context.text,
            finish_reason=context.finish_reason,
            error_code=event.code if isinstance(event, Error) else None,
            last_seq=terminal.seq,
        )
        try:
            await self._store.save_run(live.run, [*live.recorder.unstored, terminal])
        except Exception:
            log.exception("the end of run %s could not be stored", live.run.id)
        live.log.show(terminal.seq)

    def _leave(self, live: LiveRun) -> None:
        """Give up the run's place and what it holds, and let the next one have its turn."""
        live.give_back()
        self._live.pop(live.run.id, None)
        if live.claim is not None:
            self._keys.pop((live.context.scope, live.claim.key), None)
        live.log.close()
        live.ended.set()
        lane = self._lanes[live.lane]
        if lane.current is not live:
            lane.waiting.remove(live)
        elif lane.waiting:
            lane.current = lane.waiting.popleft()
            lane.current.turn.set()
        else:
            del self._lanes[live.lane]


def is_live(run: Run) -> bool:
    """Say whether the run has not ended."""
    return run.status in LIVE


def _record(audit: Audit, action: str, run: Run, details: Mapping[str, object]) -> None:
    audit.record(
        action,
        outcome="error" if run.status == "failed" else "success",
        principal=run.owner,
        tenant=run.tenant,
        session_id=run.session_id,
        details={"run_id": run.id, **details},
    )

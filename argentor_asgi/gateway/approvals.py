"""The calls that wait for a person: asked for, answered once, expired, and never lost with a connection or a restart.

A run asks once a turn and waits. Who answers need not be who reads the run: an answer is stored before its giver hears
of it, and the run then hears it from here. Of two answers, or of an answer and the end of its time, the first counts.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import uuid4

from argentor_asgi.agent.approver import Answer, Approver, Question
from argentor_asgi.errors import ApprovalDecided, ApprovalNotFound, Detail, InvalidInput
from argentor_asgi.gateway.lane import LiveRun, Pending
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.events import ApprovalRequest, ApprovalResolved
from argentor_asgi.protocol.schema import JsonObject, scrub
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import Approval, ApprovalStatus, Scope
from argentor_asgi.sessions.store import Store

PENDING: Final = 10_000
"""How many calls may wait for a person in one process; those beyond are denied at once."""
APPROVE: Final = "approvals:write"
SEE: Final = "approvals:read"
"""The scopes that let a principal decide, and hear what there is to decide."""
LATE: Final = "nobody answered in time"
FULL: Final = "too many calls wait for a person already"
OVER: Final = "its run no longer waits"
"""Why a call was not approved that nobody decided on."""

Announce = Callable[[Approval], None]
Fault = Callable[[str, JsonObject], str | None]
"""Says in words what is wrong with a call of the skill of this name with these arguments; None if nothing is."""
log = logging.getLogger("argentor.approvals")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer says. `edited_arguments`: what the call is made with in the place of its own arguments."""

    approved: bool
    reason: str | None = None
    edited_arguments: JsonObject | None = None


def nobody(_approval: Approval) -> None:
    """Announce to nobody."""


def no_fault(_tool: str, _arguments: JsonObject) -> str | None:
    """Find nothing wrong."""
    return None


class Approvals:
    """Every approval that a live run of this process waits for.

    `outcomes`: how many were decided, by what became of them.
    """

    def __init__(
        self,
        *,
        store: Store,
        audit: Audit,
        clock: Clock,
        timeout_s: float,
        announce: Announce = nobody,
        fault: Fault = no_fault,
        limit: int = PENDING,
    ) -> None:
        """Let a call wait for `timeout_s`; `announce` hears of each that does, and may not wait itself.

        `fault`: judges the arguments that a reviewer edits.
        """
        self.outcomes: Counter[ApprovalStatus] = Counter()
        self._store = store
        self._audit = audit
        self._clock = clock
        self._timeout = timedelta(seconds=timeout_s)
        self._announce = announce
        self._fault = fault
        self._limit = limit
        self._pending: dict[Scope, dict[str, Pending]] = {}
        self._count = 0
        self._waiting: set[LiveRun] = set()
        self._lay_aside: Callable[[LiveRun], None] | None = None
        self._deciding: set[asyncio.Task[Approval]] = set()

    def __len__(self) -> int:
        """Return how many calls wait for a person."""
        return self._count

    def pending(self, scope: Scope) -> Sequence[Approval]:
        """Return what waits for the scope's person, oldest first."""
        return [pending.approval for pending in self._pending.get(scope, {}).values() if pending.is_told]

    def is_pending(self, approval: Approval) -> bool:
        """Say whether the approval still waits."""
        return approval.id in self._pending.get(Scope(approval.owner, approval.tenant), ())

    def approver(self, live: LiveRun) -> Approver:
        """Return who asks for this run."""
        return _Approver(self, live)

    def adopt(self, live: LiveRun) -> None:
        """Take over what a run was asking when the gateway stopped, so that it can be answered from now on."""
        if live.recalled is None:
            return
        for call_id, approval in live.recalled.approvals.items():
            pending = self._add(live, approval)
            pending.is_told = approval.id in live.recalled.told
            pending.is_resolved = approval.id in live.recalled.resolved
            live.asked[call_id] = pending
            if approval.status != "pending":
                self._deliver(approval)

    # --- answering ------------------------------------------------------------------------------------------------

    async def decide(self, principal: Principal, approval_id: str, decision: Decision) -> Approval:
        """Decide on a call that waits for the principal's own run; when it returns, the decision is stored.

        Raises `ApprovalNotFound`, also for a foreign id, `ApprovalDecided` with the member `approval_status` when it
        comes late or twice, `InvalidInput`, also for edited arguments that the skill would refuse, and
        `StorageUnavailable`. A caller that is cancelled may have decided.
        """
        if decision.edited_arguments is not None and not decision.approved:
            detail = Detail("/edited_arguments", "only with approved: true")
            raise InvalidInput("Arguments are edited for a call that may run.", details=[detail])
        task = asyncio.create_task(self._decide(principal, approval_id, decision))
        self._deciding.add(task)
        task.add_done_callback(self._decided)
        return await asyncio.shield(task)

    def _decided(self, task: asyncio.Task[Approval]) -> None:
        self._deciding.discard(task)
        if not task.cancelled():
            task.exception()  # who asked has heard it, or has gone

    async def _decide(self, principal: Principal, approval_id: str, decision: Decision) -> Approval:
        scope, now = Scope(principal.id, principal.tenant), self._clock.now()
        approval = await self._store.get_approval(scope, approval_id)
        if approval is not None and as_of(approval, now).status == "pending":
            self._refuse_unusable(approval.tool, decision.edited_arguments)
            decided = replace(
                approval,
                status="approved" if decision.approved else "denied",
                reviewer=principal.id,
                reason=None if decision.reason is None else scrub(decision.reason),
                edited_arguments=decision.edited_arguments,
                decided_at=now,
            )
            if await self._settle(decided):
                return decided
            approval = await self._store.get_approval(scope, approval_id)
        if approval is None:
            raise ApprovalNotFound
        raise ApprovalDecided(members={"approval_status": as_of(approval, now).status})

    def _refuse_unusable(self, tool: str, edited: JsonObject | None) -> None:
        """Raise `InvalidInput` for edited arguments that the skill would refuse: their author can still mend them."""
        if edited is not None and (fault := self._fault(tool, edited)) is not None:
            raise InvalidInput("The skill would refuse these arguments.", details=[Detail("/edited_arguments", fault)])

    async def _settle(self, decided: Approval) -> bool:
        """Store the decision and let the run hear it, or the one that came first; say whether it was this one."""
        is_first = await self._store.decide_approval(decided)
        outcome: Approval | None = decided
        if is_first:
            self.outcomes[decided.status] += 1
            self._record("approval_decided", decided)
        else:
            outcome = await self._store.get_approval(Scope(decided.owner, decided.tenant), decided.id)
        self._deliver(outcome or decided)  # gone with its session, it is what it would have been
        return is_first

    def _deliver(self, decided: Approval) -> None:
        scope = Scope(decided.owner, decided.tenant)
        mine = self._pending.get(scope, {})
        pending = mine.pop(decided.id, None)
        if pending is None:
            return
        self._count -= 1
        if not mine:
            del self._pending[scope]
        pending.decided.set_result(decided)

    # --- asking ---------------------------------------------------------------------------------------------------

    async def ask(self, live: LiveRun, questions: Sequence[Question]) -> Sequence[Answer]:
        """Do what `Approver.ask` says, for this run. Raises what the store and the run's log raise."""
        new = [question for question in questions if question.call_id not in live.asked]
        is_full = self._count + len(new) > self._limit
        wanted = set[str]() if is_full else {question.call_id for question in questions}
        await self._withdraw(live, wanted)
        if not wanted:
            return [Answer(approved=False, reviewer=None, reason=FULL)] * len(questions)
        fresh = self._open(live, new)
        asked, live.asked = live.asked, {}
        pendings = [asked[question.call_id] for question in questions]
        live.watch.pause()
        try:
            await live.recorder.settle()
            live.run = live.as_of("waiting_approval", self._clock.now())
            await self._store.request_approvals(live.run, [pending.approval for pending in fresh])
            self._wait(live)
            await self._tell(live, pendings)
            await self._answered(live, pendings)
        finally:
            self._waiting.discard(live)
            live.watch.go_on()
        live.run = live.as_of("running", self._clock.now())
        await self._store.save_run(live.run)
        live.open = {}
        return [_answer(pending.decided.result()) for pending in pendings]

    async def _withdraw(self, live: LiveRun, wanted: Collection[str]) -> None:
        """Close what the run asked before a restart and asks no longer, and tell its readers, who else would wait."""
        for call_id in [each for each in live.asked if each not in wanted]:
            pending = live.asked.pop(call_id)
            if not pending.decided.done():
                now = self._clock.now()
                await self._settle(replace(pending.approval, status="cancelled", reason=OVER, decided_at=now))
            if pending.is_told and not pending.is_resolved:
                pending.is_resolved = True
                await live.recorder.emit(_resolved(pending.decided.result()))

    async def forget(self, live: LiveRun) -> None:
        """Close what is still open of the run, since it does not wait for it; what cannot be stored is logged."""
        now = self._clock.now()
        left, live.open = live.open, {}
        for pending in left.values():
            if pending.decided.done():
                continue
            cancelled = replace(pending.approval, status="cancelled", reason=OVER, decided_at=now)
            try:
                await self._settle(cancelled)
            except Exception:
                log.exception("approval %s could not be closed", pending.approval.id)
                self._deliver(cancelled)

    def drop(self, live: LiveRun) -> None:
        """Let go of what a run asks that is laid aside; it stays open in the store."""
        for pending in live.open.values():
            if not pending.decided.done():
                self._deliver(pending.approval)

    def close(self, lay_aside: Callable[[LiveRun], None]) -> None:
        """Call `lay_aside` for every run that waits, and from now on for each that begins to."""
        self._lay_aside = lay_aside
        for live in [*self._waiting]:
            lay_aside(live)

    async def settled(self) -> None:
        """Wait until every decision that was begun is stored."""
        if self._deciding:
            await asyncio.wait(set(self._deciding))

    def _open(self, live: LiveRun, questions: Sequence[Question]) -> Sequence[Pending]:
        """Take up the questions as approvals, not stored yet."""
        now, run = self._clock.now(), live.run
        fresh = []
        for question in questions:
            approval = Approval(
                id=str(uuid4()),
                run_id=run.id,
                session_id=run.session_id,
                owner=run.owner,
                tenant=run.tenant,
                call_id=question.call_id,
                tool=question.tool,
                arguments=question.arguments,
                risk_level=question.risk_level,
                description=question.description,
                created_at=now,
                expires_at=now + self._timeout,
            )
            live.asked[question.call_id] = pending = self._add(live, approval)
            fresh.append(pending)
        return fresh

    def _add(self, live: LiveRun, approval: Approval) -> Pending:
        pending = Pending(approval, asyncio.get_running_loop().create_future())
        live.open[approval.id] = pending
        self._pending.setdefault(Scope(approval.owner, approval.tenant), {})[approval.id] = pending
        self._count += 1
        return pending

    def _wait(self, live: LiveRun) -> None:
        """Let the run wait: from now on it may be laid aside, since no call of its turn has run."""
        self._waiting.add(live)
        if self._lay_aside is not None:
            self._lay_aside(live)

    async def _tell(self, live: LiveRun, pendings: Sequence[Pending]) -> None:
        """Tell the run's readers what is asked, and whom else it concerns; after a restart, what they missed."""
        for pending in pendings:
            approval = pending.approval
            if pending.is_told:
                continue
            pending.is_told = True
            request = ApprovalRequest(
                approval.id,
                approval.call_id,
                approval.tool,
                approval.arguments,
                approval.risk_level,
                approval.description,
                approval.expires_at,
            )
            await live.recorder.emit(request)
            self._record("approval_requested", approval)
            if not pending.decided.done():
                self._announce(approval)

    async def _answered(self, live: LiveRun, pendings: Sequence[Pending]) -> None:
        """Wait until each is decided or its time is over, and tell the run's readers as it happens."""
        waiting = list(pendings)
        while waiting:
            ends_at = min(pending.approval.expires_at for pending in waiting)
            left_s = max(0.0, (ends_at - self._clock.now()).total_seconds())
            futures = [pending.decided for pending in waiting]
            await asyncio.wait(futures, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            now = self._clock.now()
            for pending in waiting:
                if not pending.decided.done() and pending.approval.expires_at <= now:
                    await self._settle(replace(pending.approval, status="expired", reason=LATE, decided_at=now))
                if pending.decided.done() and not pending.is_resolved:
                    pending.is_resolved = True
                    await live.recorder.emit(_resolved(pending.decided.result()))
            waiting = [pending for pending in waiting if not pending.decided.done() or not pending.is_resolved]

    def _record(self, action: Literal["approval_requested", "approval_decided"], approval: Approval) -> None:
        """Keep as evidence what was asked and who decided, never what the call is made with."""
        is_asked = action == "approval_requested"
        details: dict[str, object] = {
            "run_id": approval.run_id,
            "call_id": approval.call_id,
            "approval_id": approval.id,
            "arguments": sorted(approval.arguments),
        }
        if not is_asked:
            details |= {"status": approval.status, "reviewer": approval.reviewer}
        if approval.edited_arguments is not None:
            details["edited_arguments"] = sorted(approval.edited_arguments)
        self._audit.record(
            action,
            outcome="success" if is_asked or approval.status == "approved" else "denied",
            principal=approval.reviewer or approval.owner,
            tenant=approval.tenant,
            session_id=approval.session_id,
            skill_name=approval.tool,
            details=details,
        )


@dataclass(frozen=True, slots=True)
class _Approver:
    """Who asks for one run."""

    approvals: Approvals
    live: LiveRun

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer]:
        return await self.approvals.ask(self.live, questions)


def as_of(approval: Approval, now: datetime) -> Approval:
    """Return the approval as it stands: one whose time is over has expired, even if nobody has stored that yet."""
    if approval.status == "pending" and approval.expires_at <= now:
        return replace(approval, status="expired", reason=LATE)
    return approval


def _answer(decided: Approval) -> Answer:
    is_approved = decided.status == "approved"
    return Answer(is_approved, decided.reviewer, decided.reason, decided.edited_arguments)


def _resolved(decided: Approval) -> ApprovalResolved:
    return ApprovalResolved(
        decided.id, decided.status == "approved", decided.reviewer, decided.reason, decided.edited_arguments
    )

"""The approvals of the store in memory."""

from bisect import insort
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from argentor_asgi.protocol import schema
from argentor_asgi.sessions import rules
from argentor_asgi.sessions.memory_rows import ROW_BYTES, behind, copied, unlist
from argentor_asgi.sessions.records import Approval, ApprovalStatus, Page, Scope

DECIDED: Final = ("status", "reviewer", "reason", "edited_arguments", "decided_at")
"""The fields of an approval that its decision sets."""


class MemoryApprovals:
    """An `ApprovalStore` in memory, but for what it says of runs."""

    def __init__(self) -> None:
        """Begin empty."""
        self._approvals: dict[str, Approval] = {}
        self._of_run: dict[str, list[str]] = {}
        self._approval_keys: dict[Scope, list[rules.Key]] = {}

    async def decide_approval(self, approval: Approval) -> bool:
        """Store the decision unless there is one."""
        stored = self._approvals.get(approval.id)
        if stored is None or stored.status != "pending":
            return False
        decision = kept_approval(approval)
        self._approvals[approval.id] = replace(stored, **{name: getattr(decision, name) for name in DECIDED})
        return True

    async def get_approval(self, scope: Scope, approval_id: str) -> Approval | None:
        """Return the approval when it is the scope's."""
        found = self._approvals.get(approval_id)
        return found if found is not None and scope == Scope(found.owner, found.tenant) else None

    async def list_approvals(
        self, scope: Scope, *, status: ApprovalStatus | None, limit: int, cursor: str | None = None
    ) -> Page[Approval]:
        """Return one page, newest first."""
        keys = self._approval_keys.get(scope, [])
        if status is not None:
            keys = [key for key in keys if self._approvals[key[1]].status == status]
        keys = behind(keys, rules.from_cursor("a", cursor), limit + 1)
        return rules.page([self._approvals[approval_id] for _, approval_id in keys], limit, "a", rules.key_of)

    async def approvals_of(self, run_id: str) -> Sequence[Approval]:
        """Return the run's approvals, as they were requested."""
        return [self._approvals[approval_id] for approval_id in self._of_run.get(run_id, ())]

    def _keep_approvals(self, approvals: Sequence[Approval]) -> None:
        """Take them all or none; raises `ValueError` for a known id, `InvalidInput`."""
        kept = [kept_approval(approval) for approval in approvals]
        for approval in kept:
            if approval.id in self._approvals:
                raise ValueError(f"approval {approval.id} is already stored")
        for approval in kept:
            self._approvals[approval.id] = approval
            self._of_run.setdefault(approval.run_id, []).append(approval.id)
            scope = Scope(approval.owner, approval.tenant)
            insort(self._approval_keys.setdefault(scope, []), rules.key_of(approval))

    def _cancel_approvals(self, run_id: str, now: datetime) -> None:
        for approval_id in self._of_run.get(run_id, ()):
            approval = self._approvals[approval_id]
            if approval.status == "pending":
                self._approvals[approval_id] = replace(approval, status="cancelled", decided_at=now)

    def _forget_approvals(self, run_id: str) -> None:
        for approval_id in self._of_run.pop(run_id, ()):
            gone = self._approvals.pop(approval_id)
            unlist(self._approval_keys, Scope(gone.owner, gone.tenant), rules.key_of(gone))


def kept_approval(approval: Approval) -> Approval:
    """Return the approval as it is stored: its text fit for UTF-8, its JSON its own. Raises `InvalidInput`."""
    rules.refuse_surrogates(approval.id, approval.reviewer or "")
    edited, reason = approval.edited_arguments, approval.reason
    return replace(
        approval,
        call_id=schema.scrub(approval.call_id),
        tool=schema.scrub(approval.tool),
        description=schema.scrub(approval.description),
        arguments=copied(approval.arguments),
        edited_arguments=None if edited is None else copied(edited),
        reason=None if reason is None else schema.scrub(reason),
    )


def approval_weight(approval: Approval) -> int:
    """Return about how many bytes the approval takes."""
    return ROW_BYTES + len(approval.description) + len(schema.encode(approval.arguments))

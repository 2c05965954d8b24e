"""The one way into the agent: every entry point asks here, so that every rule holds for all of them (design 5.9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from argentor_asgi.agent.budgets import Budgets, RunBudget
from argentor_asgi.agent.findings import looked_at, record_finding
from argentor_asgi.errors import Draining, IdempotencyKeyReused, InputBlocked
from argentor_asgi.gateway.approvals import APPROVE
from argentor_asgi.gateway.lane import Order
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.content import sanitise
from argentor_asgi.protocol.events import Guardrail
from argentor_asgi.protocol.messages import Message, from_user
from argentor_asgi.protocol.schema import encode
from argentor_asgi.protocol.ws_session import OnApproval, OnBusy
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.holds import RunGrant
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.limits import Limiter
from argentor_asgi.sessions.records import Claim, Run, Scope, Session
from argentor_asgi.sessions.store import Store

if TYPE_CHECKING:
    from argentor_asgi.agent.guardrails import Guardrails

TITLE_CHARS: Final = 80
TOKEN_CHARS: Final = 4
"""How many characters make a token, about, before the model has counted them."""
ANSWER_TOKENS: Final = 1000
"""What an answer is thought to cost until it is there."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants answered. `session_id` None: a new session. `key`: its Idempotency-Key.

    `account`: whose limits the run counts on; None for a caller without any. `trace`: the client's `traceparent`.
    `on_disconnect`: what becomes of the run when its caller is cancelled before `start` returns. `on_approval`: whether
    the run waits for a person where one is needed; it is denied at once to a principal who may not approve anything.
    """

    content: str
    session_id: str | None = None
    key: str | None = None
    on_busy: OnBusy = "reject"
    account: Account | None = None
    trace: str | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
    on_approval: OnApproval = "wait"


class Dispatch:
    """Turns what a client asks into a run."""

    def __init__(
        self,
        *,
        runs: Runs,
        store: Store,
        clock: Clock,
        drain: Drain,
        message_bytes: int,
        model: str,
        metrics: Metrics,
        audit: Audit,
        guardrails: "Guardrails | None" = None,
        budgets: Budgets | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        """Take messages of at most `message_bytes` of UTF-8.

        `limiter`: of the accounts in `Ask`; `budgets`: what their runs may use; None: no limits.
        """
        self._runs = runs
        self._store = store
        self._clock = clock
        self._drain = drain
        self._message_bytes = message_bytes
        self._model = model
        self._metrics = metrics
        self._audit = audit
        self._guardrails = guardrails
        self._budgets = budgets
        self._limiter = limiter

    async def start(self, principal: Principal, ask: Ask) -> Run:
        """Return the run that works on the message: a new one, the steered one, or the one its key started before.

        When it returns, the run and the message are stored. Raises `EmptyInput`, `BodyTooLarge`, `ContentRejected`,
        `InputBlocked`, `SessionNotFound`, `SessionBusy`, `Overloaded`, `Draining`, `IdempotencyKeyReused`,
        `StorageUnavailable`, and for the account `RateLimited`, `BudgetExceeded` and `Forbidden`. A caller that is
        cancelled leaves the run going, or not, as `ask.on_disconnect` says.

        A new run holds one of the account's places and reserves tokens as long as it lives; a message that steers, or
        that was asked before, costs neither.
        """
        if self._drain.refusing:
            raise Draining(retry_after=1)
        scope = scope_of(principal)
        content, notices = await self._looked_at(scope, ask.content)
        run, session, message = self._prepare(scope, content, ask.session_id)
        claim = Claim(ask.key, _fingerprint(ask), run.id) if ask.key else None
        if claim is not None and (earlier := await self._store.get_claim(scope, claim.key)) is not None:
            return await self._replay(scope, claim, earlier)
        order = Order(
            run=run,
            session=session,
            message=message,
            on_busy=ask.on_busy,
            claim=claim,
            is_abandoned_early=ask.on_disconnect == "cancel",
            trace=ask.trace,
            grant=partial(self._grant, ask.account, content),
            budget=partial(self._budget, scope, principal.plan),
            notices=notices,
            may_ask=ask.on_approval == "wait" and principal.may(APPROVE),
        )
        accepted = await self._runs.accept(order)
        if isinstance(accepted, Run):
            if accepted.id != run.id:
                self._record(scope, notices, accepted)
            return accepted
        if claim is None:
            raise AssertionError("only a claimed key can have an earlier claim")
        return await self._replay(scope, claim, accepted)

    async def steer(self, principal: Principal, run_id: str, text: str) -> Run:
        """Hand `text` to the running turn of the principal's run; the message rules hold for it too.

        Raises what `start` raises for content, `RunNotFound`, and `SessionBusy` when the run cannot take it.
        """
        scope = scope_of(principal)
        content, notices = await self._looked_at(scope, text)
        steered = await self._runs.steer(scope, run_id, content)
        self._record(scope, notices, steered)
        return steered

    def _record(self, scope: Scope, notices: Sequence[Guardrail], steered: Run) -> None:
        """Keep as evidence what was found in a message that steered; a run does that for the one that began it."""
        for finding in notices:
            record_finding(self._audit, self._metrics, finding, scope, session_id=steered.session_id, run_id=steered.id)

    async def _looked_at(self, scope: Scope, text: str) -> tuple[str, Sequence[Guardrail]]:
        """Return the text as it is stored and shown to the model, and what the guardrails say of it.

        Raises `EmptyInput`, `BodyTooLarge`, `ContentRejected` and `InputBlocked`.
        """
        content = sanitise(text, limit_bytes=self._message_bytes)
        if content != text:
            self._metrics.input_sanitized()
        if self._guardrails is None:
            return content, ()
        seen = await looked_at(self._guardrails.input, content)
        if seen.is_blocked:
            for finding in seen.findings:
                record_finding(self._audit, self._metrics, finding, scope)
            raise InputBlocked
        return seen.text, seen.findings

    def _budget(self, scope: Scope, plan: str | None) -> RunBudget | None:
        """Return what a new run may use. Raises `BudgetExceeded` and `Forbidden` when the day admits none."""
        return None if self._budgets is None else self._budgets.admit(scope, plan)

    def _grant(self, account: Account | None, content: str) -> RunGrant | None:
        """Take what a run holds of the account; raises `Overloaded`, `RateLimited` and `Forbidden`."""
        if account is None or self._limiter is None:
            return None
        return self._limiter.grant_run(account, estimate(content))

    async def _replay(self, scope: Scope, claim: Claim, earlier: Claim) -> Run:
        """Return the run that the key started; raises `IdempotencyKeyReused` when it was for another request."""
        if earlier.fingerprint != claim.fingerprint:
            raise IdempotencyKeyReused
        return await self._runs.get(scope, earlier.run_id)

    def _prepare(self, scope: Scope, content: str, session_id: str | None) -> tuple[Run, Session, Message]:
        """Make the rows of a new run; nothing is stored yet."""
        now = self._clock.now()
        session_id = session_id or str(uuid4())
        title = content.strip()[:TITLE_CHARS]
        session = Session(session_id, scope.owner, scope.tenant, created_at=now, updated_at=now, title=title)
        message = from_user(str(uuid4()), content, session_id, now)
        run = Run(str(uuid4()), session_id, scope.owner, scope.tenant, "running", self._model, content, now, now)
        return run, session, message


def scope_of(principal: Principal) -> Scope:
    """Return whose data the principal's is."""
    return Scope(principal.id, principal.tenant)


def estimate(content: str) -> int:
    """Return the tokens to reserve for a message, before anything is known: what it may cost, and a usual answer.

    An account with less left of its day reserves that (`Limiter.reserve`); what the run really used is counted at
    its end.
    """
    return len(content) // TOKEN_CHARS + ANSWER_TOKENS


def _fingerprint(ask: Ask) -> str:
    """Return the SHA-256 of what makes two requests the same: the message as it was sent, and the session it names."""
    return sha256(encode([ask.content, ask.session_id])).hexdigest()

"""A gateway without doors whose runs ask a person: real store, loop, policy and approvals, a scripted model.

room = Room(asking("c1"), answer("sent"))
run = await room.start()
approval = await room.asked()
await room.decide(approval, approved=True)
assert kinds(await room.record(run)) == [...]

`after_stop()` and `after_kill()` are the same place after a restart.
"""

import copy
import json
from uuid import uuid4

from asgi_driver import soon, until
from audit_place import an_audit
from contracts.store_values import ALL
from faulty_store import FaultyStore
from house import ME, recorded
from scripted_backend import ScriptedBackend, answer, call, calling

from argentor_asgi.agent.policy import Policy
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import SkillContext, SkillRegistry, skill
from argentor_asgi.agent.work import Kit
from argentor_asgi.config import Agent, Capabilities
from argentor_asgi.gateway.approvals import PENDING, Approvals, Decision
from argentor_asgi.gateway.dispatch import Ask, Dispatch, scope_of
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.metrics import Metrics


def asking(*call_ids, to="you", tool="send"):
    """Return the script of a turn that makes calls which need a person."""
    return calling(*(call(call_id, tool, json.dumps({"to": to})) for call_id in call_ids))


class Room:
    """`sent`: what was really done, as (recipient, reviewer). `announced`: what was told beside the runs' events."""

    def __init__(
        self,
        *scripts,
        store=None,
        sent=None,
        session=None,
        timeout_s=300.0,
        approval_s=300.0,
        lays_aside=True,
        limit=PENDING,
        audit=None,
        agent=None,
    ):
        clock = SystemClock()
        self.store = FaultyStore() if store is None else store
        self.sent = [] if sent is None else sent
        self.session = session or str(uuid4())
        self.announced = []
        self.backend = ScriptedBackend(*scripts)
        self.metrics = Metrics(clock=clock)
        audit = audit or an_audit(None, enabled=False)
        kit = Kit(
            backend=self.backend,
            skills=SkillRegistry([self._send(), self._look()]),
            sessions=self.store,
            metrics=self.metrics,
            audit=audit,
            clock=clock,
            policy=Policy(agent or Agent(), Capabilities()),
            system_prompt="Be brief.",
        )
        self.approvals = Approvals(
            store=self.store,
            audit=audit,
            clock=clock,
            timeout_s=approval_s,
            announce=self.announced.append,
            limit=limit,
        )
        self.runs = Runs(
            store=self.store,
            runner=AgentRunner(kit),
            metrics=self.metrics,
            audit=audit,
            clock=clock,
            limit=1000,
            timeout_s=timeout_s,
            approvals=self.approvals,
            lays_aside=lays_aside,
        )
        self.dispatch = Dispatch(
            runs=self.runs,
            store=self.store,
            clock=clock,
            drain=Drain(clock=clock, drain_s=60.0),
            message_bytes=1000,
            model=self.backend.model,
            metrics=self.metrics,
            audit=audit,
        )

    def _send(self):
        @skill("send", "Sends.", needs_approval=True, risk_level="high")
        def send(to: str, context: SkillContext) -> str:
            self.sent.append((to, context.reviewer))
            return f"sent to {to}"

        return send

    def _look(self):
        @skill("look", "Looks.")
        def look(to: str) -> str:
            self.sent.append((to, "nobody was asked"))
            return "seen"

        return look

    async def start(self, content="hi", *, who=ME, on_busy="reject", **more):
        return await self.dispatch.start(who, Ask(content, self.session, None, on_busy, **more))

    async def asked(self, count=1, who=ME):
        """Wait until so many calls of the principal wait for a person, and return the approvals, or the only one."""
        await until(lambda: len(self.approvals.pending(scope_of(who))) == count)
        found = list(self.approvals.pending(scope_of(who)))
        return found[0] if count == 1 else found

    async def waits(self, run):
        """Wait until the run waits for a person, and can be laid aside."""
        await until(lambda: any(live.run.id == run.id for live in self.approvals._waiting))

    async def decide(self, approval, *, who=ME, approved=True, **more):
        return await soon(self.approvals.decide(who, approval.id, Decision(approved, **more)))

    async def approval(self, approval, who=ME):
        return await self.store.get_approval(scope_of(who), approval.id)

    async def run(self, run, who=ME):
        return await self.store.get_run(scope_of(who), run.id)

    async def record(self, run, *, who=ME, after=0):
        """Follow the run to its end and return its events, checked."""
        return await recorded(await self.runs.reader(scope_of(who), run.id, after=after), after=after)

    async def ended(self, run, who=ME):
        return await soon(self.runs.outcome(scope_of(who), run.id))

    async def said(self):
        return await self.store.messages(self.session, limit=ALL)

    async def heard_of_calls(self):
        """Return what the model was told of its calls, as content and whether it is an error."""
        parts = [part for message in await self.said() for part in message.tool_results]
        return [(part.content, part.is_error) for part in parts]

    async def after_stop(self, *scripts, **more):
        """Stop, and return the place as it is after the next start, not yet restored."""
        await soon(self.runs.drain(0))
        return Room(*(scripts or [answer("sent")]), store=self.store, sent=self.sent, session=self.session, **more)

    def after_kill(self, *scripts, **more):
        """Return the place as it were if the process had been killed right now."""
        store = FaultyStore()
        for name in ("_sessions", "_runs", "_claims", "_session_keys", "_run_keys"):
            setattr(store, name, copy.deepcopy(getattr(self.store, name)))
        for name in ("_approvals", "_of_run", "_approval_keys"):
            setattr(store, name, copy.deepcopy(getattr(self.store, name)))
        sent = list(self.sent)
        return Room(*(scripts or [answer("sent")]), store=store, sent=sent, session=self.session, **more)

    async def restored(self):
        """Do what a start does; return how many runs go on."""
        await self.store.interrupt_live(SystemClock().now())
        return await self.runs.restore()


def members(event):
    return json.loads(event.data)


def of(events, kind):
    return [members(event) for event in events if event.type == kind]

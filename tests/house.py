"""The gateway without a door: dispatch and runs over a real store and a scripted model, and readers that check."""

from uuid import uuid4

from asgi_driver import soon
from audit_place import an_audit
from contracts.store_values import ALL
from faulty_store import FaultyStore
from scripted_backend import Script, ScriptedBackend

from argentor_asgi.agent.policy import Policy
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import SkillRegistry
from argentor_asgi.agent.work import Kit
from argentor_asgi.config import Agent, Capabilities
from argentor_asgi.gateway.approvals import Approvals
from argentor_asgi.gateway.dispatch import Ask, Dispatch, scope_of
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import NO_SPANS
from argentor_asgi.protocol.grammar import check
from argentor_asgi.security.identity import Principal

ME = Principal("me")
YOU = Principal("you")
TENANT = Principal("me", "acme")
"""Another tenant's principal of the same name."""


class House:
    """What `compose` puts together, without routes. `model`: as for `ScriptedBackend`."""

    def __init__(
        self,
        *scripts: Script,
        store=None,
        limit=1000,
        timeout_s=300.0,
        message_bytes=1000,
        limiter=None,
        audit=None,
        spans=NO_SPANS,
        guardrails=None,
        **model,
    ):
        clock = SystemClock()
        self.store = store or FaultyStore()
        self.backend = ScriptedBackend(*scripts, **model)
        self.metrics = Metrics(clock=clock)
        self.drain = Drain(clock=clock, drain_s=60.0)
        audit = audit or an_audit(None, enabled=False)
        runner = AgentRunner(
            Kit(
                backend=self.backend,
                skills=SkillRegistry(()),
                sessions=self.store,
                metrics=self.metrics,
                audit=audit,
                clock=clock,
                policy=Policy(Agent(), Capabilities()),
                system_prompt="Be brief.",
                spans=spans,
            )
        )
        self.runs = Runs(
            store=self.store,
            runner=runner,
            metrics=self.metrics,
            audit=audit,
            clock=clock,
            limit=limit,
            timeout_s=timeout_s,
            approvals=Approvals(store=self.store, audit=audit, clock=clock, timeout_s=300.0),
        )
        self.dispatch = Dispatch(
            runs=self.runs,
            store=self.store,
            clock=clock,
            drain=self.drain,
            message_bytes=message_bytes,
            model=self.backend.model,
            metrics=self.metrics,
            audit=audit,
            limiter=limiter,
            guardrails=guardrails,
        )
        self.session = str(uuid4())

    async def start(self, content="hi", *, who=ME, on_busy="reject", session=None, key=None, **more):
        """Ask in the house's own session, unless another is named. `more`: other fields of the `Ask`."""
        return await self.dispatch.start(who, Ask(content, session or self.session, key, on_busy, **more))

    async def record(self, run, *, who=ME, after=0):
        """Follow the run to its end and return its events, checked."""
        return await recorded(await self.runs.reader(scope_of(who), run.id, after=after), after=after)

    async def outcome(self, run, *, who=ME):
        return await soon(self.runs.outcome(scope_of(who), run.id))

    async def cancel(self, run, *, who=ME, reason="asked"):
        return await self.runs.cancel(scope_of(who), run.id, reason)

    async def said(self, session=None):
        """Return the messages of the session, as role and content."""
        stored = await self.store.messages(session or self.session, limit=ALL)
        return [(message.role, message.content) for message in stored]


async def recorded(reader, *, after=0):
    """Read to the end and return the events, checked."""
    events = await soon(everything(reader))
    check(events, after=after)
    return events


async def everything(reader):
    return [event async for batch in reader for event in batch]


def kinds(events):
    return [event.type for event in events]

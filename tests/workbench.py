"""A runner with everything real around it but the model, and the owner of its runs, for tests of the loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from audit_place import an_audit
from scripted_backend import Script, ScriptedBackend

from argentor_asgi.agent.approver import Approver
from argentor_asgi.agent.budgets import RunBudget
from argentor_asgi.agent.guardrails import Guardrails
from argentor_asgi.agent.policy import Policy
from argentor_asgi.agent.run_context import RunContext
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import Skill, SkillRegistry
from argentor_asgi.agent.work import Kit
from argentor_asgi.config import Agent, Capabilities
from argentor_asgi.errors import GatewayError
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import NO_SPANS, Spans
from argentor_asgi.protocol.events import Cancelled, Done, Error, LoggedEvent, RunEvent, RunStarted
from argentor_asgi.protocol.grammar import check
from argentor_asgi.protocol.messages import Message, Part
from argentor_asgi.protocol.schema import encode
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.records import Scope, Session
from argentor_asgi.sessions.store import Store

ME = Scope("me")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SESSION = "s"


@dataclass
class Worked:
    """A run that has ended: its events, terminal one included, and how it ended."""

    events: list[RunEvent]
    context: RunContext
    error: GatewayError | None = None

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]


@dataclass
class Workbench:
    """One session in one store, and runs in it. `events`: those of the newest run, while it goes on."""

    backend: ScriptedBackend
    skills: Sequence[Skill] = ()
    max_turns: int = 20
    context_messages: int = 100
    system_prompt: str = "Be brief."
    store: Store = field(default_factory=lambda: MemoryStore(clock=SystemClock()))
    events: list[RunEvent] = field(default_factory=list)
    context: RunContext = field(default_factory=lambda: RunContext("r0", SESSION, ME))
    metrics: Metrics = field(default_factory=lambda: Metrics(clock=SystemClock()))
    audit: Audit = field(default_factory=lambda: an_audit(None, enabled=False))
    spans: Spans = NO_SPANS
    policy: Policy = field(default_factory=lambda: Policy(Agent(), Capabilities()))
    guardrails: Guardrails | None = None
    approver: Approver | None = None
    budget: RunBudget | None = None
    trace: str | None = None
    runs: int = 0

    async def open(self) -> None:
        await self.store.open_session(Session(SESSION, ME.owner, ME.tenant, NOW, NOW))

    async def ask(self, text: str = "hi") -> None:
        """Store what the user says, as a run's owner does before it starts the run."""
        message = Message(f"u{self.runs}", "user", text, SESSION, NOW, (Part("text", text=text),))
        await self.store.append(SESSION, [message])
        self.runs += 1
        self.context = RunContext(
            f"r{self.runs}", SESSION, ME, trace=self.trace, approver=self.approver, budget=self.budget
        )
        self.events = [RunStarted(self.context.run_id, SESSION, self.backend.model, NOW)]

    async def carry(self) -> Worked:
        """Let the run work, end it with its terminal event as its owner does, and check all it said."""
        events, context, failure = self.events, self.context, None
        try:
            await self.runner.run(context, self.emit)
            used = context.usage.input_tokens + context.usage.output_tokens
            reason = str(context.finish_reason)
            terminal = Done(context.run_id, context.text, context.turns, context.usage, used, reason)
        except GatewayError as error:
            failure = error
            terminal = Error(error.message, error.code, error.retryable, context.run_id)
        except asyncio.CancelledError:
            terminal = Cancelled(context.run_id, "asked", context.text)
        events.append(terminal)
        check(LoggedEvent(seq, event.type, encode(event)) for seq, event in enumerate(events, 1))
        return Worked(events, context, failure)

    async def work(self, text: str = "hi") -> Worked:
        """Ask, and carry the run to its end."""
        if not self.runs:
            await self.open()
        await self.ask(text)
        return await self.carry()

    async def emit(self, event: RunEvent) -> None:
        self.events.append(event)
        await asyncio.sleep(0)

    async def history(self) -> list[Message]:
        return list(await self.store.messages(SESSION, limit=1000))

    @property
    def runner(self) -> AgentRunner:
        return AgentRunner(
            Kit(
                backend=self.backend,
                skills=SkillRegistry(self.skills),
                sessions=self.store,
                metrics=self.metrics,
                audit=self.audit,
                clock=SystemClock(),
                policy=self.policy,
                guardrails=self.guardrails,
                system_prompt=self.system_prompt,
                max_turns=self.max_turns,
                context_messages=self.context_messages,
                spans=self.spans,
            )
        )


def bench(*scripts: Script, skills: Sequence[Skill] = (), **settings: int) -> Workbench:
    """Return a bench whose model plays these scripts."""
    return Workbench(ScriptedBackend(*scripts), skills, **settings)

"""The skill `agent_delegate`: a run inside a run, with a history of its own that is gone when it ends.

The inner run is worked by the same loop, with the same model, skills and policy. It uses its caller's budget, nobody is
asked for approvals in it (what needs one is denied at once), and it ends when its caller does.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from argentor_asgi.agent.approver import Emit
from argentor_asgi.agent.run_context import RunContext
from argentor_asgi.agent.skills import FunctionSkill, SkillContext, SkillRefused, skill
from argentor_asgi.errors import GatewayError
from argentor_asgi.ops.clock import Clock
from argentor_asgi.protocol.events import RunEvent
from argentor_asgi.protocol.messages import from_user
from argentor_asgi.protocol.schema import Meta
from argentor_asgi.sessions.memory import MemoryStore
from argentor_asgi.sessions.records import Session
from argentor_asgi.sessions.store import SessionStore

MAX_DEPTH: Final = 2
"""How many runs a run may be inside of."""
TIMEOUT_S: Final = 240.0
"""How long one inner run may take."""
SETTLE_S: Final = 6.0
"""How much of that is kept for its end, so that it is told what was there by then."""
TEXT_CHARACTERS: Final = 100_000
"""How long the task, and what is told with it, may each be."""

InnerRun: TypeAlias = Callable[[SessionStore, RunContext, Emit], Awaitable[None]]
"""Works a run whose history is in the store that it is given; raises as `AgentRunner.run`."""


@dataclass(frozen=True, slots=True)
class Delegated:
    """What an inner run came to. `tokens`: of input and output of its own model calls, which count for its caller."""

    text: str
    turns: int
    tokens: int


def delegate_skill(run: InnerRun, *, clock: Clock, timeout_s: float = TIMEOUT_S) -> FunctionSkill:
    """Return the skill `agent_delegate`, whose inner runs `run` works. `timeout_s` > `SETTLE_S` bounds each of them."""

    @skill(
        "agent_delegate",
        "Hands a task over to an agent like this one, which begins without this conversation, and returns its answer. "
        "Say in the task all that it must know.",
        effect="write",
        parallel_safe=False,
        risk_level="medium",
        timeout_s=timeout_s,
    )
    async def agent_delegate(
        told: SkillContext,
        task: Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS, description="What is to be done.")],
        context: Annotated[str, Meta(max_length=TEXT_CHARACTERS, description="What it should know besides.")] = "",
    ) -> Delegated:
        """Return the answer. Refuses at `MAX_DEPTH`, and with the error's code when the inner run fails.

        Cancelled, the inner run is cancelled, and with it what it waits for.
        """
        if told.depth >= MAX_DEPTH:
            raise SkillRefused(f"Tasks are handed over at most {MAX_DEPTH} times; do this one yourself.")
        inner = _inner(told, clock.monotonic() + timeout_s - SETTLE_S)
        store = await _history(told, f"{task}\n\n{context}" if context else task, clock)
        try:
            await run(store, inner, _unheard)
        except GatewayError as error:
            said = f" It had said: {inner.text}" if inner.text else ""
            raise SkillRefused(f"The task failed ({error.code}): {error.message}{said}") from error
        return Delegated(inner.text, inner.turns, inner.usage.input_tokens + inner.usage.output_tokens)

    return agent_delegate


def _inner(told: SkillContext, deadline: float) -> RunContext:
    """Return the run inside of the one that calls: on its account, and with nobody to ask."""
    return RunContext(
        f"{told.run_id}.{told.call_id}",
        told.session_id,
        told.scope,
        deadline=deadline,
        trace=told.trace_parent,
        budget=told.budget,
        depth=told.depth + 1,
    )


async def _history(told: SkillContext, text: str, clock: Clock) -> SessionStore:
    """Return a store that holds the inner run's session with what it is asked, and nothing else."""
    scope, session_id, now = told.scope, told.session_id, told.now
    store = MemoryStore(clock=clock)
    await store.open_session(Session(session_id, scope.owner, scope.tenant, now, now))
    await store.append(session_id, [from_user(told.call_id, text, session_id, now)])
    return store


async def _unheard(event: RunEvent) -> None:
    """Tell nobody: the caller's readers hear of the call and its result."""
    del event

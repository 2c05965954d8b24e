"""What the agent of a gateway is made of: its model, its skills, its policy, its guardrails and its budgets.

A part of the composition root: it names concrete classes, and nothing below it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from argentor_asgi.agent.allowances import of_run
from argentor_asgi.agent.approver import Emit
from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.budgets import Budgets
from argentor_asgi.agent.builtin.backend import BuiltinBackend
from argentor_asgi.agent.builtin_skills import default_skills, with_help
from argentor_asgi.agent.day_budgets import DayBudgets
from argentor_asgi.agent.opt_in_skills import OptInSkills, opt_in
from argentor_asgi.agent.permissions import Custom
from argentor_asgi.agent.policy import Policy
from argentor_asgi.agent.prices import Prices
from argentor_asgi.agent.run_context import RunContext
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import Skill, SkillRegistry
from argentor_asgi.agent.work import Kit
from argentor_asgi.config import Config
from argentor_asgi.equipment import Equipment
from argentor_asgi.ops.health import Probe
from argentor_asgi.providers import BUILTIN
from argentor_asgi.sessions.store import SessionStore, Store

if TYPE_CHECKING:
    from argentor_asgi.agent.guardrails import Guardrails
    from argentor_asgi.agent.mcp.source import McpSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Agency:
    """An agent that is ready to work, once `mcp` is open; `probes` prove that its model can be asked."""

    backend: LlmBackend
    skills: SkillRegistry
    runner: AgentRunner
    guardrails: "Guardrails | None"
    budgets: Budgets
    opted: OptInSkills
    mcp: "McpSource | None"
    probes: dict[str, Probe]


def assemble(
    config: Config,
    tools: Equipment,
    store: Store,
    *,
    agent: LlmBackend | None,
    skills: Sequence[Skill],
    permissions: Custom | None,
) -> Agency:
    """Put the agent together; nothing is opened or sent yet. Raises `ConfigError` for what cannot work.

    `agent`: the model in the place of the configured one. `permissions`: what the mode `custom` asks.
    """
    probes: dict[str, Probe] = {}
    backend = _model(config, tools, probes) if agent is None else agent
    opted = opt_in(config.agent, config.capabilities)
    registry = with_help(SkillRegistry([*default_skills(store), *opted.skills, *skills]))
    guardrails = _guardrails(config)
    kit = Kit(
        backend=backend,
        skills=registry,
        sessions=store,
        metrics=tools.metrics,
        audit=tools.audit,
        clock=tools.clock,
        policy=Policy(config.agent, config.capabilities, permissions),
        system_prompt=config.agent.system_prompt,
        guardrails=guardrails,
        spans=tools.spans,
        max_turns=config.agent.max_turns,
        max_tokens=config.llm.max_tokens,
    )
    if "agent_delegate" in config.agent.skills:
        registry.register(_delegate(kit))
    days = DayBudgets(config.limits, config.plans, now=tools.clock.now)
    return Agency(
        backend=backend,
        skills=registry,
        runner=AgentRunner(kit),
        guardrails=guardrails,
        budgets=Budgets(of_run(config.agent), Prices(config.llm.prices), days),
        opted=opted,
        mcp=_mcp(config, tools, registry),
        probes=probes,
    )


def _model(config: Config, tools: Equipment, probes: dict[str, Probe]) -> LlmBackend:
    """Return the configured model; a hosted one is probed for readiness."""
    llm = config.llm
    if llm.provider == BUILTIN:
        return BuiltinBackend()
    from argentor_asgi.agent.providers.build import hosted  # noqa: PLC0415  an extra: only where it is configured
    from argentor_asgi.agent.response_cache import CachedBackend  # noqa: PLC0415  as above

    made = hosted(config, clock=tools.clock, metrics=tools.metrics)
    probes["llm"] = made.check
    if not llm.cache_entries:
        return made
    cached = CachedBackend(
        made, entries=llm.cache_entries, ttl_s=llm.cache_ttl_s, temperature=llm.temperature, clock=tools.clock
    )
    tools.metrics.counter("argentor_llm_cache_hits_total", "Answers that were given again.", lambda: cached.hits)
    tools.metrics.counter("argentor_llm_cache_misses_total", "Answers that could have been.", lambda: cached.misses)
    return cached


def _guardrails(config: Config) -> "Guardrails | None":
    """Return the guardrails: as configured, else on where a model is hosted, or there are rules of one's own."""
    enabled = config.guardrails.enabled
    if not ((config.llm.provider != BUILTIN or bool(config.guardrails.rules)) if enabled is None else enabled):
        return None
    from argentor_asgi.agent.guardrails import Guardrails  # noqa: PLC0415  only where they are on

    made = Guardrails(config.guardrails)
    return made if made.is_on else None


def _delegate(kit: Kit) -> Skill:
    """Return the skill that hands a task to a run inside of the run that calls it."""
    from argentor_asgi.agent.delegate import delegate_skill  # noqa: PLC0415  only where it is configured

    async def run(sessions: SessionStore, context: RunContext, emit: Emit) -> None:
        await AgentRunner(replace(kit, sessions=sessions)).run(context, emit)

    return delegate_skill(run, clock=kit.clock)


def _mcp(config: Config, tools: Equipment, registry: SkillRegistry) -> "McpSource | None":
    if not config.mcp.servers:
        return None
    from argentor_asgi.agent.mcp.source import McpSource  # noqa: PLC0415  an extra: only where it is configured

    made = McpSource(config.mcp.servers, registry=registry, clock=tools.clock)
    tools.metrics.gauge(
        "argentor_mcp_servers_connected", "MCP servers that are connected.", lambda: sum(made.connected.values())
    )
    return made

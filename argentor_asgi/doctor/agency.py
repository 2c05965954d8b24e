"""Whether the agent can be put together as it is configured, and what of its settings does nothing."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from argentor_asgi import __version__
from argentor_asgi.agent.permissions import matches_any
from argentor_asgi.config import Audit, Config, Otel
from argentor_asgi.doctor.finding import Finding
from argentor_asgi.errors import ConfigError
from argentor_asgi.providers import BUILTIN

if TYPE_CHECKING:
    from argentor_asgi.agent.mcp.source import McpSource


def agent(config: Config) -> Iterator[Finding]:
    """Put the agent together as a gateway does, connect to its MCP servers, and look for settings that do nothing."""
    from argentor_asgi.assembly import assemble  # noqa: PLC0415  the whole agent, which only this check needs
    from argentor_asgi.equipment import equip  # noqa: PLC0415  as above
    from argentor_asgi.sessions.memory import MemoryStore  # noqa: PLC0415  as above

    bare = replace(config, audit=Audit(enabled=False), otel=Otel())  # these have checks of their own
    try:
        tools = equip(bare, version=__version__)
        store = MemoryStore(clock=tools.clock)
        made = assemble(bare, tools, store, agent=None, skills=(), permissions=None)
    except ConfigError as error:
        yield Finding("fail", "agent", str(error))
        return
    connected: Mapping[str, bool] = {}
    servers: Sequence[Finding] = ()
    if made.mcp is not None:
        connected, servers = _connected(made.mcp)
    names = [each.name for each in made.skills.descriptors()]
    yield Finding("ok", "agent", f"has {len(names)} skills")
    yield from servers
    missing = [name for name, is_up in connected.items() if not is_up]
    idle = (*without_effect(config), *unmatched(config, names, missing))
    yield from (Finding("warn", "agent", words) for words in idle)


def unmatched(config: Config, names: Sequence[str], missing: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is wrong with each pattern that is none of the skills' `names`: a typing error asks nobody.

    `missing`: the MCP servers whose skills are not known; a pattern that could be one of theirs is left alone.
    """
    from argentor_asgi.agent.mcp.names import slug  # noqa: PLC0415  only this check needs it

    heads = tuple(f"{slug(name)}_" for name in missing)
    for setting in ("allow_skills", "deny_skills", "approval_skills"):
        for pattern in getattr(config.agent, setting):
            start, star, _ = pattern.partition("*")
            is_theirs = start.startswith(heads) or (star and any(head.startswith(start) for head in heads))
            if not is_theirs and not any(matches_any((pattern,), name) for name in names):
                yield f"agent.{setting} has {pattern!r}, which no skill that is known here is called"


def without_effect(config: Config) -> Iterator[str]:
    """Yield in words each setting that does nothing, or has nothing called, because of another one."""
    llm, mode = config.llm, config.agent.permission_mode
    if mode == "strict" and not config.agent.allow_skills:
        yield "agent.permission_mode is strict, and agent.allow_skills is empty: no skill is ever called"
    if mode == "custom":
        yield "agent.permission_mode is custom, which only a program can fill: `argentor serve` calls no skill"
    if unpriced := _unpriced(config):
        yield f"costs are bounded, but llm.prices has none of {', '.join(unpriced)}: what they cost is not known"
    if llm.cache_entries and (llm.provider == BUILTIN or llm.temperature != 0):
        yield "llm.cache_entries keeps nothing: only hosted models with llm.temperature = 0 are cached"
    is_on = llm.provider != BUILTIN if config.guardrails.enabled is None else config.guardrails.enabled
    if config.guardrails.rules and not is_on:
        yield "guardrails.rules do nothing while the guardrails are off; set guardrails.enabled=true"
    for path in (*config.capabilities.file_read, *config.capabilities.file_write):
        if not Path(path).exists():
            yield f"capabilities grants {path!r}, which does not exist"


def _unpriced(config: Config) -> Iterable[str]:
    """Return the models whose cost is not known, where costs are bounded."""
    bounds = [config.agent.run_cost, config.limits.cost_per_day, *(plan.cost_per_day for plan in config.plans.values())]
    if all(bound is None for bound in bounds):
        return ()
    priced = {price.model for price in config.llm.prices}
    asked = [config.llm.model or BUILTIN, *(fallback.model for fallback in config.llm.fallbacks)]
    return [model for model in asked if model not in priced]


def _connected(source: "McpSource") -> tuple[Mapping[str, bool], Sequence[Finding]]:
    """Connect to each MCP server once, and return which answered and what came of each."""
    with _heard("argentor.mcp") as lines:
        connected = asyncio.run(_tried(source))
    return connected, [_of_server(name, lines, is_up=is_up) for name, is_up in connected.items()]


def _of_server(name: str, lines: Sequence[str], *, is_up: bool) -> Finding:
    if is_up:
        return Finding("ok", "mcp", f"{name} is connected")
    start = f"MCP server {name}: "
    reasons = [line.removeprefix(start) for line in lines if line.startswith(start)]
    return Finding("fail", "mcp", f"{name} does not answer: {reasons[-1] if reasons else 'it takes too long'}")


async def _tried(source: "McpSource") -> Mapping[str, bool]:
    async with source:
        return dict(source.connected)


@contextmanager
def _heard(name: str) -> Iterator[Sequence[str]]:
    """Yield the warnings that this logger gives meanwhile, which go nowhere else."""
    lines: list[str] = []
    logger, handler = logging.getLogger(name), logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]  # shorter than a class
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates

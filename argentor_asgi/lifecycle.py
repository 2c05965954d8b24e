"""From the gateway's start to its end: what is opened in which order, what is done now and then, and what is closed.

open      the store, the audit log; the keys and the day's usage are read; what a crash left behind is ended; MCP
          servers are connected; the runs that wait for a person go on
serve     old events, used keys and idle accounts are seen to
close     the drain first, whoever asked for it: it also writes and sends what waits; then the logs and the store
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from argentor_asgi.agent.day_budgets import DayBudgets
from argentor_asgi.agent.opt_in_skills import OptInSkills
from argentor_asgi.gateway.services import Services
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.loop_lag import LoopLag
from argentor_asgi.ops.signals import running_loop
from argentor_asgi.security.guard import Authenticator
from argentor_asgi.security.keys import Keys

if TYPE_CHECKING:
    from argentor_asgi.agent.mcp.source import McpSource

REPLAY_KEPT_H: Final = 24
"""How long the events of an ended run and its idempotency key are kept."""
PRUNE_EVERY_S: Final = 600.0
NOTE_USE_EVERY_S: Final = 60.0
SWEEP_EVERY_S: Final = 30.0

log = logging.getLogger("argentor")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the lifecycle sees to beside the services."""

    services: Services
    keys: Keys
    authenticator: Authenticator
    access: AccessLog | None
    opted: OptInSkills
    mcp: "McpSource | None"
    days: DayBudgets


@asynccontextmanager
async def living(parts: Parts) -> AsyncIterator[None]:
    """Open what needs opening, and after the drain close it again. Raises `ConfigError` for what cannot be used."""
    running_loop()  # says why there is none, before anything else stumbles over it
    services = parts.services
    async with AsyncExitStack() as stack:
        if parts.access is not None:
            stack.push_async_callback(parts.access.close)
        await stack.enter_async_context(services.store)
        stack.push_async_callback(services.backend.aclose)
        stack.push_async_callback(parts.opted.aclose)
        await stack.enter_async_context(services.audit)
        await _recover(services, parts.days)
        if parts.mcp is not None:
            await stack.enter_async_context(parts.mcp)
        await stack.enter_async_context(LoopLag(services.metrics.loop_lagged, clock=services.clock))
        await stack.enter_async_context(_chores(parts))
        async with services.drain.install():
            await services.runs.restore()
            yield


async def _recover(services: Services, days: DayBudgets) -> None:
    """End what a crash left behind, and know the keys and what was used today."""
    now = services.clock.now()
    left = await services.store.interrupt_live(now)
    if left:
        log.warning("%d runs were interrupted when the gateway stopped last", left)
    await services.keyring.load()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for scope, used in await services.store.usage_since(midnight):
        services.limiter.remember_used(scope.owner, scope.tenant, used.tokens)
        days.charge(scope, used)


@asynccontextmanager
async def _chores(parts: Parts) -> AsyncIterator[None]:
    """Do now and then what nobody asks for, as long as the context is open."""
    flush_used = parts.services.keyring.flush_used
    tasks = [
        asyncio.create_task(_every(seconds, work), name=name)
        for name, seconds, work in (
            ("prune", PRUNE_EVERY_S, partial(_prune, parts.services)),
            ("used keys", NOTE_USE_EVERY_S, flush_used),
            ("sweep", SWEEP_EVERY_S, partial(_sweep, parts)),
        )
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        # The store says itself that it cannot be written; when a key was used is not worth more.
        with suppress(Exception):
            await flush_used()


async def _prune(services: Services) -> None:
    """Drop what nobody can ask for any more."""
    await services.store.prune(services.clock.now() - timedelta(hours=REPLAY_KEPT_H))


async def _sweep(parts: Parts) -> None:
    """Forget who has nothing used or held, and close the sockets of keys that have expired."""
    services = parts.services
    now, now_s = services.clock.monotonic(), services.clock.now().timestamp()
    services.limiter.sweep(now)
    parts.authenticator.sweep(now)
    services.tickets.sweep(now_s)
    for credential in parts.keys:
        key_id = credential.principal.key_id
        if credential.expires_s <= now_s and key_id is not None:
            services.connections.evict(key_id)


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` each `seconds` until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # whatever it raised, there is a next time
            log.exception("a chore failed")

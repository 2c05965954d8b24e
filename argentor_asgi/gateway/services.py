"""Everything that a route may use, in one frozen place: no globals, no container (design 5.4)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.agent.skills import SkillRegistry
from argentor_asgi.asgi.request import Incoming
from argentor_asgi.config import Config
from argentor_asgi.gateway.connections import Connections
from argentor_asgi.gateway.dispatch import Dispatch
from argentor_asgi.gateway.keyring import Keyring
from argentor_asgi.gateway.runs import Runs
from argentor_asgi.gateway.stopping import Streams
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.health import Health
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.security.limits import Limiter
from argentor_asgi.security.tickets import Tickets
from argentor_asgi.sessions.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """What the gateway is made of, made once at start. `address_of`: a client's address, behind trusted proxies too."""

    config: Config
    clock: Clock
    store: Store
    backend: LlmBackend
    skills: SkillRegistry
    runs: Runs
    dispatch: Dispatch
    connections: Connections
    streams: Streams
    keyring: Keyring
    tickets: Tickets
    limiter: Limiter
    audit: Audit
    metrics: Metrics
    health: Health
    drain: Drain
    address_of: Callable[[Incoming], str | None]
    started_s: float
    started_at: datetime
    openapi: bytes

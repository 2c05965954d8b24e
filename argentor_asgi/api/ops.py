"""What operators and probes ask: health, metrics, connections, and the API's own description."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from argentor_asgi.asgi.response import Reply, Response
from argentor_asgi.asgi.route import Header, route
from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.gateway.dispatch import scope_of
from argentor_asgi.gateway.services import Services
from argentor_asgi.ops.health import Liveness, Readiness
from argentor_asgi.security.identity import Principal

OK = int(HTTPStatus.OK)
Accept = Annotated[str | None, Header("accept")]


@dataclass(frozen=True)
class OpenConnections:
    """Your open WebSockets: how many, and the sessions that they belong to."""

    count: int
    session_ids: list[str]


@dataclass(frozen=True)
class GatewayNumbers:
    """What the gateway counts, as JSON; `/metrics` has all of it. Connections and sessions are your own."""

    active_connections: int
    active_sessions: int
    uptime_seconds: int
    skills_registered: int
    started_at: datetime


@route("GET", "/health", needs=None, also=(503,), tags=("ops",))
async def health(services: Services) -> Liveness | Reply[Liveness]:
    """Say that the gateway serves: 503 while it is shutting down."""
    status, report = services.health.health()
    return report if status == OK else Reply(report, status)


@route("GET", "/health/live", needs=None, tags=("ops",))
async def live(services: Services) -> Liveness:
    """Say that the process is alive; depends on nothing."""
    return services.health.live()[1]


@route("GET", "/health/ready", needs=None, also=(503,), tags=("ops",))
async def ready(services: Services) -> Reply[Readiness]:
    """Say whether the gateway should get traffic: 503 when a probe fails or while it is shutting down."""
    status, report = await services.health.ready()
    return Reply(report, status)


@route("GET", "/metrics", needs="ops:read", produces="text/plain", tags=("ops",))
async def metrics(services: Services, accept: Accept = None) -> Response:
    """Return the metrics as Prometheus text, or as OpenMetrics when `Accept` asks for it."""
    body, content_type = await services.metrics.render(accept)
    return Response(200, body, content_type)


@route("GET", "/openapi.json", needs="ops:read", produces="application/json", tags=("ops",))
async def openapi(services: Services) -> Response:
    """Return this API's description: OpenAPI 3.1, made from the routes themselves."""
    return Response(200, services.openapi)


@route("GET", "/api/v1/connections", needs="connections:read", tags=("ops",))
async def connections(services: Services, principal: Principal) -> OpenConnections:
    """Count your open WebSockets and list their sessions."""
    return OpenConnections(services.connections.count(principal), services.connections.session_ids(principal))


@route("GET", "/api/v1/metrics", needs="ops:read", errors=(StorageUnavailable,), tags=("ops",))
async def numbers(services: Services, principal: Principal) -> GatewayNumbers:
    """Return the gateway's main numbers as JSON."""
    return GatewayNumbers(
        active_connections=services.connections.count(principal),
        active_sessions=await services.store.count_sessions(scope_of(principal)),
        uptime_seconds=int(services.clock.monotonic() - services.started_s),
        skills_registered=len(services.skills),
        started_at=services.started_at,
    )

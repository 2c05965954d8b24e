"""What an operator does to the running gateway: stop it without cutting anybody off."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import Reply
from argentor_asgi.asgi.route import route
from argentor_asgi.gateway.services import Services
from argentor_asgi.ops.drain import DrainStatus
from argentor_asgi.protocol.schema import Meta
from argentor_asgi.security.identity import Principal

OK = int(HTTPStatus.OK)
REASON_CHARS = 200
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""What a reason may consist of: it is one line of the log."""
UNNAMED = "an operator asked for it"


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """Why the gateway is to stop, for its log and its report."""

    reason: Annotated[str, Meta(max_length=REASON_CHARS, pattern=PRINTABLE)] = UNNAMED


@route(
    "POST",
    "/api/v1/admin/drain",
    needs="admin",
    status=202,
    also=(200,),
    even_draining=True,
    tags=("admin",),
)
async def begin_drain(
    request: Request, services: Services, principal: Principal, body: DrainRequest | None = None, wait: bool = False
) -> Reply[DrainStatus]:
    """Stop the gateway without cutting anybody off: readiness goes off, new work is refused, runs may end.

    A second call joins the drain that goes on. With `wait`, the answer comes when the drain is over, with its report.
    Only the process that answers drains. Under `argentor serve` it then exits as after SIGTERM; under another server
    it stays drained, and refuses, until that server is stopped.
    """
    drain, reason = services.drain, UNNAMED if body is None else body.reason
    services.audit.record(
        "drain",
        outcome="success",
        principal=principal.id,
        tenant=principal.tenant,
        request_id=request.id,
        address=services.address_of(request),
        details={"reason": reason},
    )
    drain.begin(f"{principal.id}: {reason}")
    if not wait:
        return Reply(drain.status())
    await drain.report()
    return Reply(drain.status(), OK)


@route("GET", "/api/v1/admin/drain", needs="admin", even_draining=True, tags=("admin",))
async def drain_status(services: Services) -> DrainStatus:
    """Say whether the gateway is draining, and what its hooks have come to so far."""
    return services.drain.status()

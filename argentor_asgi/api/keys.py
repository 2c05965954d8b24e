"""API keys and tickets: make, list, replace and revoke keys at run time, and get a ticket to open a WebSocket with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from argentor_asgi.api.paging import Cursor, Limit, next_page
from argentor_asgi.api_keys import NAME_CHARACTERS, SCOPE, SCOPES, ApiKey
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import Reply
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import GatewayError, InvalidInput, KeyNotFound, Overloaded, StorageUnavailable
from argentor_asgi.gateway.keyring import LONGEST_OVERLAP_S, OVERLAP_S, AnyKey, Wish
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.schema import Meta
from argentor_asgi.security.identity import Principal
from argentor_asgi.sessions.records import StoredKey

UNKEPT: Final = ((b"cache-control", b"no-store"),)
"""What goes with a secret: no cache may keep it (RFC 9111 section 5.2.2.5)."""
SERVER_ERROR: Final = 500


@dataclass(frozen=True)
class KeyRequest:
    """What a new key is to be. Without `tenant`, of your own; without `plan`, under the usual limits."""

    name: Annotated[
        str, Meta(min_length=1, max_length=NAME_CHARACTERS, pattern=r"\S", description="What people call it.")
    ]
    scopes: Annotated[
        list[Annotated[str, Meta(pattern=SCOPE)]],
        Meta(
            min_length=1,
            max_length=SCOPES,
            description="What its holder may do: `*` for all, `admin`, or `<what>:read` and `<what>:write`.",
        ),
    ]
    tenant: str | None = None
    plan: Annotated[str | None, Meta(description="The name of one of the configured plans.")] = None
    expires_at: (
        Annotated[datetime, Meta(tz=True, description="From when on it is refused; never, where this is left out.")]
        | None
    ) = None


@dataclass(frozen=True)
class RotationRequest:
    """How the old key goes."""

    overlap_s: Annotated[
        int, Meta(ge=0, le=LONGEST_OVERLAP_S, description="Seconds that the old key goes on opening.")
    ] = OVERLAP_S


@dataclass(frozen=True)
class KeyView:
    """A key, without any of its secret. `owner` is the principal that it stands for, before and after a rotation.

    One of source `config` stands in the gateway's configuration, and is changed there.
    """

    id: str
    name: str
    source: Literal["stored", "config"]
    owner: str
    tenant: str
    scopes: Sequence[str]
    plan: str | None
    created_at: datetime | None
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None


@dataclass(frozen=True)
class CreatedKey(KeyView):
    """A key that was just made. `key` is shown this once and kept nowhere."""

    key: str = field(repr=False)


@dataclass(frozen=True)
class KeyRevoked:
    """The key opens nothing any more."""

    revoked: bool
    id: str


@dataclass(frozen=True)
class Ticket:
    """A ticket for one WebSocket, once, until it expires."""

    ticket: str = field(repr=False)
    expires_in_s: float
    expires_at: datetime


@route(
    "POST",
    "/api/v1/keys",
    needs="keys:write",
    errors=(InvalidInput, Overloaded, StorageUnavailable),
    status=201,
    tags=("keys",),
)
async def create_key(request: Request, services: Services, principal: Principal, body: KeyRequest) -> Reply[CreatedKey]:
    """Make an API key, which opens at once. The answer shows it this once.

    You cannot give scopes that you do not hold, nor a key to another tenant, unless you hold `admin` or `*`. The first
    key of a gateway must be able to make others.
    """
    wish = Wish(body.name, tuple(body.scopes), body.tenant, body.plan, body.expires_at)
    with _audited("key_create", request, services, principal) as details:
        key, text = await services.keyring.create(principal, wish)
        details |= {"key_id": key.id, "tenant": key.tenant, "scopes": list(key.scopes)}
    return Reply(_created(key, text.reveal()), headers=UNKEPT)


@route("GET", "/api/v1/keys", needs="keys:read", errors=(InvalidInput, StorageUnavailable), tags=("keys",))
async def list_keys(
    services: Services, principal: Principal, limit: Limit = 100, cursor: Cursor = None
) -> Reply[list[KeyView]]:
    """List your tenant's keys, newest first and revoked ones among them, then the configured ones.

    With `admin` or `*`, every tenant's.
    """
    page = await services.keyring.page(principal, limit=limit, cursor=cursor)
    more = next_page(limit=limit, cursor=page.cursor) if page.cursor else ()
    return Reply([_view(services, key) for key in page.rows], headers=more)


@route("GET", "/api/v1/keys/{key_id}", needs="keys:read", errors=(KeyNotFound, StorageUnavailable), tags=("keys",))
async def read_key(services: Services, principal: Principal, key_id: str) -> KeyView:
    """Return one key; a configured one by its name."""
    return _view(services, await services.keyring.read(principal, key_id))


@route(
    "DELETE",
    "/api/v1/keys/{key_id}",
    needs="keys:write",
    errors=(KeyNotFound, InvalidInput, StorageUnavailable),
    tags=("keys",),
)
async def revoke_key(request: Request, services: Services, principal: Principal, key_id: str) -> KeyRevoked:
    """Revoke a key: it opens nothing from now on, nor do its tickets, and its sockets are closed."""
    with _audited("key_revoke", request, services, principal, key_id=key_id):
        await services.keyring.revoke(principal, key_id)
    services.connections.evict(key_id)
    return KeyRevoked(revoked=True, id=key_id)


@route(
    "POST",
    "/api/v1/keys/{key_id}/rotate",
    needs="keys:write",
    errors=(KeyNotFound, InvalidInput, Overloaded, StorageUnavailable),
    status=201,
    tags=("keys",),
)
async def rotate_key(
    request: Request, services: Services, principal: Principal, key_id: str, body: RotationRequest | None = None
) -> Reply[CreatedKey]:
    """Put a new key in the place of one, for the same principal. The answer shows the new one this once.

    The old one goes on opening for `overlap_s`, so that whoever uses it can change over.
    """
    overlap_s = OVERLAP_S if body is None else body.overlap_s
    with _audited("key_rotate", request, services, principal, key_id=key_id, overlap_s=overlap_s) as details:
        key, text = await services.keyring.rotate(principal, key_id, overlap_s)
        details["new_key_id"] = key.id
    return Reply(_created(key, text.reveal()), headers=UNKEPT)


@route("POST", "/api/v1/ws-ticket", needs="chat:write", errors=(Overloaded,), status=201, tags=("chat",))
async def issue_ticket(request: Request, services: Services, principal: Principal) -> Reply[Ticket]:
    """Get a ticket by which a web page opens one WebSocket as you: `/ws?ticket=...`, once, within seconds."""
    now, tickets = services.clock.now(), services.tickets
    with _audited("ws_ticket", request, services, principal):
        holder = services.keyring.credential(principal) or principal
        ticket = tickets.issue(holder, now.timestamp())
    return Reply(Ticket(ticket, tickets.ttl_s, now + timedelta(seconds=tickets.ttl_s)), headers=UNKEPT)


@contextmanager
def _audited(
    action: str, request: Request, services: Services, principal: Principal, **known: object
) -> Iterator[dict[str, object]]:
    """Record what was done or refused, with whatever the block adds to the details."""
    details = dict(known)

    def record(outcome: Literal["success", "denied", "error"], more: Mapping[str, object]) -> None:
        services.audit.record(
            action,
            outcome=outcome,
            principal=principal.id,
            tenant=principal.tenant,
            request_id=request.id,
            address=services.address_of(request),
            details={"by_key": principal.key_id, **details, **more},
        )

    try:
        yield details
    except GatewayError as error:
        record("error" if error.status >= SERVER_ERROR else "denied", {"code": error.code})
        raise
    except BaseException as error:
        # A caller who leaves, or a bug: the thing may have been done all the same.
        record("error", {"code": type(error).__name__})
        raise
    record("success", {})


def _view(services: Services, key: AnyKey) -> KeyView:
    return _stored(key) if isinstance(key, StoredKey) else _configured(key, services.keyring.last_used(key.name))


def _stored(key: StoredKey) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        source="stored",
        owner=key.owner,
        tenant=key.tenant,
        scopes=key.scopes,
        plan=key.plan,
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        replaced_by=key.replaced_by,
    )


def _configured(key: ApiKey, last_used_at: datetime | None) -> KeyView:
    return KeyView(
        id=key.name,
        name=key.name,
        source="config",
        owner=key.name,
        tenant=key.tenant,
        scopes=key.scopes,
        plan=key.plan,
        created_at=None,
        created_by=None,
        expires_at=key.expires_at,
        last_used_at=last_used_at,
        revoked_at=None,
        replaced_by=None,
    )


def _created(key: StoredKey, text: str) -> CreatedKey:
    return CreatedKey(**vars(_stored(key)), key=text)

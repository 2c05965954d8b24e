"""Who asks, and may they: the closures in front of every route that needs something, and the rules behind them.

Without keys the gateway serves this machine only: the server's socket is loopback or a Unix socket, `Host` names this
machine, so that no web page can reach it under a name of its own (DNS rebinding), and no proxy forwarded the request. A
page of another origin may neither open a socket nor, where no key is asked for, change anything.
"""

from collections.abc import Callable
from time import time
from typing import TypeVar

from argentor_asgi.asgi.app import Guard, SocketGuard
from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.types import Scope
from argentor_asgi.config import Auth
from argentor_asgi.errors import Forbidden, Unauthenticated
from argentor_asgi.security.hosts import HEADER_BYTES, is_local_name, is_loopback, page_origin
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.keys import Keys
from argentor_asgi.settings import origin_of

In = TypeVar("In", bound=Incoming)
Out = TypeVar("Out")

CHALLENGE = ((b"www-authenticate", b'Bearer realm="argentor"'),)
"""What a 401 says about how to come in (RFC 9110 section 11.6.1, RFC 6750 section 3)."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that change nothing (RFC 9110 section 9.2.1)."""
NOT_LOCAL = (
    "No API key is configured, so only callers on the gateway's own machine are served. "
    "Configure auth.api_keys, or set auth.allow_anonymous=true to serve everybody."
)
FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})
"""The headers by which a reverse proxy on this machine says that its client is elsewhere, whatever `Host` it sends."""
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


class Authenticator:
    """Says who an incoming request or socket is from."""

    def __init__(self, auth: Auth, *, public_url: str | None = None) -> None:
        """Index the keys. Pages of `public_url`'s origin count as the gateway's own.

        Raises `ValueError` for what `config.check` refuses.
        """
        self._keys = Keys(auth.held)
        self._has_keys = len(self._keys) > 0
        self._allow_anonymous = auth.allow_anonymous
        self._allow_query_key = auth.allow_query_key
        own = () if public_url is None else ("/".join(public_url.split("/", 3)[:3]),)
        self._origins = frozenset(origin_of(origin) for origin in (*auth.allowed_origins, *own))

    def identify(self, incoming: Incoming) -> Principal:
        """Return who asks. Raises `Unauthenticated` (401) and `Forbidden` (403)."""
        principal = (self._with_key(incoming) if self._has_keys else None) or self._without_key(incoming)
        if b"origin" in incoming.fields and _must_be_own(incoming.scope, principal):
            self._refuse_foreign(incoming)
        return principal

    def _with_key(self, incoming: Incoming) -> Principal | None:
        """Return the presented key's principal, None when no key is presented; the first carrier decides."""
        presented = credential(incoming)
        if presented is None and self._allow_query_key:
            presented = query_credential(incoming)
        if presented is None:
            return None
        found = self._keys.verify(presented, time())
        if found is None:
            raise Unauthenticated("The API key is not valid.", headers=CHALLENGE)
        return found.principal

    def _without_key(self, incoming: Incoming) -> Principal:
        if self._allow_anonymous:
            return ANONYMOUS
        if self._has_keys:
            raise Unauthenticated(headers=CHALLENGE)
        fields = incoming.fields
        host = fields.get(b"host", b"")
        if FORWARDED.isdisjoint(fields) and is_local_name(host[: HEADER_BYTES + 1]) and is_local_socket(incoming.scope):
            return ANONYMOUS
        raise Forbidden(NOT_LOCAL)

    def _refuse_foreign(self, incoming: Incoming) -> None:
        page = page_origin(_short(incoming, b"origin"))
        scheme = incoming.scope.get("scheme", "http")
        own = page_origin(f"{_HTTP_SCHEMES.get(scheme, scheme)}://".encode() + _short(incoming, b"host"))
        if page is None or (page != own and page not in self._origins):
            raise Forbidden(
                "Web pages of this origin may not use the gateway; auth.allowed_origins lists those that may."
            )


def http_guard(authenticator: Authenticator) -> Guard:
    """Let only callers with the scope that a route needs reach it; its request then has their `principal`."""
    return lambda row, endpoint: _guarded(authenticator, row.needs, endpoint)


def socket_guard(authenticator: Authenticator) -> SocketGuard:
    """Do for WebSockets what `http_guard` does, before the handshake is answered."""
    return lambda row, endpoint: _guarded(authenticator, row.needs, endpoint)


def _guarded(authenticator: Authenticator, needs: str | None, endpoint: Callable[[In], Out]) -> Callable[[In], Out]:
    if needs is None:
        return endpoint

    # PERF: no coroutine of its own: what it returns is awaited in its place, and 0.3 us cheaper.
    def guarded(incoming: In) -> Out:
        incoming.principal = admitted(authenticator, incoming, needs)
        return endpoint(incoming)

    return guarded


def admitted(authenticator: Authenticator, incoming: Incoming, needs: str) -> Principal:
    """Return who asks when they hold the scope `needs`; raises `Unauthenticated` and `Forbidden`."""
    principal = authenticator.identify(incoming)
    if not principal.may(needs):
        raise Forbidden(f"Your key does not have the scope {needs}.")
    return principal


def credential(incoming: Incoming) -> bytes | None:
    """Return the key in `Authorization: Bearer` (the scheme in any case, RFC 9110 section 11.1), else in `X-API-Key`.

    None when there is neither. A header that comes twice reads as one with a comma and a space, which no key has.
    """
    given = incoming.fields.get(b"authorization")
    if given is not None:
        scheme, _, token = given.partition(b" ")
        if scheme.lower() == b"bearer":
            return token.strip(b" ")
    return incoming.fields.get(b"x-api-key")


def query_credential(incoming: Incoming) -> bytes | None:
    """Return the first `api_key` of the query, None without one; raises `BadRequest` for a query that is none."""
    values = incoming.query.get("api_key")
    return values[0].encode() if values else None


def is_local_socket(scope: Scope) -> bool:
    """Say whether the connection came in at a loopback address or a Unix socket of the server."""
    server = scope.get("server")
    if not server:
        # hypercorn names neither side of a Unix socket, and always both of a TCP connection.
        return not scope.get("client")
    # A Unix socket is a path and None in ASGI; granian says "0" for the None.
    return is_loopback(server[0]) or server[1] is None or "/" in server[0]


def _must_be_own(scope: Scope, principal: Principal) -> bool:
    """Say whether only the gateway's own pages may do this: open a socket, or change something without a key."""
    return scope["type"] == "websocket" or (principal is ANONYMOUS and scope["method"] not in SAFE_METHODS)


def _short(incoming: Incoming, name: bytes) -> bytes:
    """Return a header no longer than it takes to see that it is too long."""
    return incoming.fields.get(name, b"")[: HEADER_BYTES + 1]

"""Who asks: by a key, a ticket, or by being on this machine.

Without keys the gateway serves this machine only: the server's socket is loopback or a Unix socket, `Host` names this
machine, so that no web page can reach it under a name of its own (DNS rebinding), and no proxy forwarded the request. A
page of another origin may neither open a socket nor, where no key is asked for, change anything.
"""

from collections.abc import Callable
from time import time
from typing import TypeAlias

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.types import Scope
from argentor_asgi.config import Auth
from argentor_asgi.errors import Forbidden, TooManyFailures, Unauthenticated
from argentor_asgi.security.clients import Networks, client_address
from argentor_asgi.security.hosts import HEADER_BYTES, is_local_name, is_loopback, page_origin
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.keys import Credential, Keys
from argentor_asgi.security.throttle import Throttle
from argentor_asgi.security.tickets import Tickets
from argentor_asgi.settings import origin_of

OnRefused: TypeAlias = Callable[[str, Incoming, str | None], None]
"""Is told of each caller who is turned away: why, who, and from which address."""

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

    def __init__(
        self,
        auth: Auth,
        keys: Keys,
        *,
        tickets: Tickets,
        on_refused: OnRefused,
        on_throttled: Callable[[str], None],
        public_url: str | None = None,
    ) -> None:
        """Know the keys and tickets. Pages of `public_url`'s origin count as the gateway's own.

        `on_refused`: told why (`missing`, `invalid`, `throttled`, `not_local`, `foreign_origin`), whom and the address.
        Raises `ValueError` for what `config.check` refuses.
        """
        self._keys = keys
        self._tickets = tickets
        self._throttle = Throttle(on_throttled)
        self._on_refused = on_refused
        self._allow_anonymous = auth.allow_anonymous
        self._allow_query_key = auth.allow_query_key
        self._proxies = Networks(auth.trusted_proxies)
        own = () if public_url is None else ("/".join(public_url.split("/", 3)[:3]),)
        self._origins = frozenset(origin_of(origin) for origin in (*auth.allowed_origins, *own))

    def address_of(self, incoming: Incoming) -> str | None:
        """Return the address of the client, as far as trusted proxies tell it; None on a Unix socket."""
        fields = incoming.fields
        return client_address(incoming.client, fields.get(b"forwarded"), fields.get(b"x-forwarded-for"), self._proxies)

    def identify(self, incoming: Incoming, address: str | None, now: float) -> Credential | Principal:
        """Return who asks: the credential of a key, else a principal. `now`: monotonic s.

        Raises `Unauthenticated` (401), `Forbidden` (403) and `TooManyFailures` (429).
        """
        found = self._with_ticket(incoming) or self._with_key(incoming, address, now)
        if found is None:
            found = self._without_key(incoming, address)
        if b"origin" in incoming.fields and _must_be_own(incoming.scope, found):
            self._refuse_foreign(incoming, address)
        return found

    def sweep(self, now: float) -> None:
        """Forget addresses whose failures are long ago; to be called now and then."""
        self._throttle.sweep(now)

    def _with_ticket(self, incoming: Incoming) -> Principal | None:
        """Return whose ticket a WebSocket brings, None without one that is good; then its key is asked for."""
        if incoming.scope["type"] != "websocket" or "ticket" not in incoming.query:
            return None
        holder = self._tickets.redeem(incoming.query["ticket"][0].encode(), time())
        return None if holder is None else holder.principal

    def _with_key(self, incoming: Incoming, address: str | None, now: float) -> Credential | None:
        """Return the presented key's credential, None when no key is presented; the first carrier decides."""
        if not self._keys:
            return None
        presented = credential(incoming)
        if presented is None and self._allow_query_key:
            presented = query_credential(incoming)
        if presented is None:
            return None
        if not self._keys.is_known(presented):
            self._must_not_guess(incoming, address, now)
        found = self._keys.verify(presented, time())
        if found is None:
            self._throttle.failed(address, now)
            self._on_refused("invalid", incoming, address)
            raise Unauthenticated("The API key is not valid.", headers=CHALLENGE)
        return found

    def _must_not_guess(self, incoming: Incoming, address: str | None, now: float) -> None:
        """Refuse to look at a key from an address that sent too many wrong ones; keys in use go on working there."""
        try:
            self._throttle.refuse_if_throttled(address, now)
        except TooManyFailures:
            self._on_refused("throttled", incoming, address)
            raise

    def _without_key(self, incoming: Incoming, address: str | None) -> Principal:
        if self._allow_anonymous:
            return ANONYMOUS
        if self._keys:
            self._on_refused("missing", incoming, address)
            raise Unauthenticated(headers=CHALLENGE)
        if self._is_local(incoming, address):
            return ANONYMOUS
        self._on_refused("not_local", incoming, address)
        raise Forbidden(NOT_LOCAL)

    def _is_local(self, incoming: Incoming, address: str | None) -> bool:
        """Say whether the caller is on this machine: by the socket, by the name it used, and by what proxies say."""
        fields = incoming.fields
        if not is_local_name(fields.get(b"host", b"")[: HEADER_BYTES + 1]) or not is_local_socket(incoming.scope):
            return False
        # An unknown proxy is a way in from elsewhere; a trusted one has said where its client is.
        return FORWARDED.isdisjoint(fields) or (address not in {None, incoming.client} and is_loopback(address or ""))

    def _refuse_foreign(self, incoming: Incoming, address: str | None) -> None:
        page = page_origin(_short(incoming, b"origin"))
        scheme = incoming.scope.get("scheme", "http")
        own = page_origin(f"{_HTTP_SCHEMES.get(scheme, scheme)}://".encode() + _short(incoming, b"host"))
        if page is None or (page != own and page not in self._origins):
            self._on_refused("foreign_origin", incoming, address)
            raise Forbidden(
                "Web pages of this origin may not use the gateway; auth.allowed_origins lists those that may."
            )


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


def _must_be_own(scope: Scope, caller: Credential | Principal) -> bool:
    """Say whether only the gateway's own pages may do this: open a socket, or change something without a key."""
    return scope["type"] == "websocket" or (caller is ANONYMOUS and scope["method"] not in SAFE_METHODS)


def _short(incoming: Incoming, name: bytes) -> bytes:
    """Return a header no longer than it takes to see that it is too long."""
    return incoming.fields.get(name, b"")[: HEADER_BYTES + 1]

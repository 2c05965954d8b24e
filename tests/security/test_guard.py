"""`argentor_asgi.security.guard`: who asks, by a key, a ticket or by being on this machine, and who is turned away."""

import time
from typing import Any

import pytest
from asgi_driver import head_of
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.config import Auth, Secret
from argentor_asgi.errors import Forbidden, GatewayError, TooManyFailures, Unauthenticated
from argentor_asgi.security.guard import Authenticator
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.keys import Credential, Keys
from argentor_asgi.security.throttle import BURST, GAP_S
from argentor_asgi.security.tickets import Tickets

LOCAL = ("127.0.0.1", 8000)
PUBLIC = ("192.0.2.7", 8000)
CLIENT = ("127.0.0.1", 40000)
OPS = Principal("ops", key_id="ops")


async def receive() -> dict[str, Any]:
    raise AssertionError("a guard reads no body")


def scope_of(
    *headers: tuple[str, str],
    kind: str = "http",
    method: str = "GET",
    host: str | None = "localhost:8000",
    server: object = LOCAL,
    client: object = CLIENT,
    scheme: str | None = None,
    query: bytes = b"",
) -> dict[str, Any]:
    fields = [(b"host", host.encode("latin-1"))] if host is not None else []
    fields += [(name.encode(), value.encode("latin-1")) for name, value in headers]
    made = {"type": kind, "headers": fields, "path": "/", "query_string": query, "server": server, "client": client}
    made["scheme"] = scheme or ("ws" if kind == "websocket" else "http")
    return made | ({"method": method} if kind == "http" else {})


def incoming(*headers: tuple[str, str], **others: Any) -> Incoming:
    scope = scope_of(*headers, **others)
    return Incoming(scope, receive, *head_of(scope))


class Door:
    """An authenticator, and what it told of whom it turned away: `refused` and `throttled`."""

    def __init__(self, auth: Auth, public_url: str | None = None) -> None:
        self.keys, self.tickets = Keys(auth.held), Tickets()
        self.refused: list[tuple[str, str | None]] = []
        self.throttled: list[str] = []
        self.authenticator = Authenticator(
            auth,
            self.keys,
            tickets=self.tickets,
            on_refused=lambda reason, _, address: self.refused.append((reason, address)),
            on_throttled=self.throttled.append,
            public_url=public_url,
        )

    def identify(self, found: Incoming, now: float = 0.0) -> Principal:
        """Return the principal of who asks, whose ever credential it is."""
        caller = self.authenticator.identify(found, self.authenticator.address_of(found), now)
        return caller.principal if isinstance(caller, Credential) else caller

    def reasons(self) -> list[str]:
        """Return why callers were turned away since this was last asked."""
        reasons, self.refused = [reason for reason, _ in self.refused], []
        return reasons


def keyed(**others: Any) -> Door:
    return Door(Auth(api_keys=(Secret("ops:abc"), Secret("dev:def")), **others))


def keyless(**others: Any) -> Door:
    return Door(Auth(**others))


# --- with keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", "Bearer abc"),
        ("authorization", "bearer abc"),
        ("authorization", "BEARER abc"),
        ("authorization", "Bearer   abc "),
        ("x-api-key", "abc"),
    ],
)
def test_a_key_is_taken_from_each_carrier(header: tuple[str, str]):
    assert keyed().identify(incoming(header, server=PUBLIC, host="gate.example")) == OPS


def test_a_remembered_key_is_taken_again():
    authenticator = keyed()
    for _ in range(3):
        assert authenticator.identify(incoming(("authorization", "Bearer abc"))) == OPS


@pytest.mark.parametrize(
    "headers",
    [
        (("authorization", "Bearer wrong"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer abc def"),),
        (("authorization", "Bearer abc\x00"),),
        (("authorization", "Bearer\tabc"),),
        (("authorization", "Bearer \xe9"),),
        (("authorization", "Basic b3BzOmFiYw=="),),
        (("authorization", "Bearer abc"), ("authorization", "Bearer abc")),
        (("authorization", "Bearer abc"), ("authorization", "Bearer def")),
        (("x-api-key", "abc"), ("x-api-key", "abc")),
        (("x-api-key", ""),),
        (("x-api-key", "Bearer abc"),),
        (("authorization", "Bearer wrong"), ("x-api-key", "abc")),
        (),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_anything_else_is_401_with_the_challenge(headers: tuple[tuple[str, str], ...], kind: str):
    with pytest.raises(Unauthenticated) as caught:
        keyed().identify(incoming(*headers, kind=kind))
    assert caught.value.headers == ((b"www-authenticate", b'Bearer realm="argentor"'),)


def test_the_first_carrier_decides():
    both = incoming(("x-api-key", "def"), ("authorization", "Bearer abc"))
    assert keyed().identify(both) == OPS


def test_another_scheme_counts_as_absent():
    assert keyed().identify(incoming(("authorization", "Basic x"), ("x-api-key", "abc"))) == OPS


def test_a_key_in_the_query_is_not_taken():
    with pytest.raises(Unauthenticated):
        keyed().identify(incoming(query=b"api_key=abc"))


@pytest.mark.parametrize("query", [b"api_key=abc", b"a=b&api_key=abc", b"api_key=%61bc", b"api_key=abc&api_key=abc"])
def test_a_key_in_the_query_is_taken_where_allowed(query: bytes):
    assert keyed(allow_query_key=True).identify(incoming(query=query)) == OPS


@pytest.mark.parametrize("query", [b"", b"api_key=", b"api_key=wrong", b"api_key=%00", b"API_KEY=abc"])
def test_a_wrong_key_in_the_query_is_401(query: bytes):
    with pytest.raises(Unauthenticated):
        keyed(allow_query_key=True).identify(incoming(query=query))


def test_a_header_wins_over_the_query():
    with pytest.raises(Unauthenticated):
        keyed(allow_query_key=True).identify(incoming(("x-api-key", "wrong"), query=b"api_key=abc"))


def test_keys_open_from_anywhere_with_any_host():
    assert keyed().identify(incoming(("x-api-key", "abc"), server=PUBLIC, host=None)) == OPS


def test_this_machine_needs_a_key_too_once_there_is_one():
    with pytest.raises(Unauthenticated):
        keyed().identify(incoming())


def test_nobody_needs_a_key_where_anonymous_callers_are_allowed():
    assert keyed(allow_anonymous=True).identify(incoming(server=PUBLIC, host="gate.example")) is ANONYMOUS


def test_a_wrong_key_is_401_even_there():
    with pytest.raises(Unauthenticated):
        keyed(allow_anonymous=True).identify(incoming(("x-api-key", "wrong")))


# --- without keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "client", "host"),
    [
        (LOCAL, CLIENT, "localhost"),
        (LOCAL, CLIENT, "localhost:8000"),
        (LOCAL, CLIENT, "LocalHost:8000"),
        (LOCAL, CLIENT, "agent.localhost:8000"),
        (LOCAL, CLIENT, "127.0.0.1:8000"),
        (LOCAL, CLIENT, "127.8.9.10"),
        (("::1", 8000, 0, 0)[:2], CLIENT, "[::1]:8000"),
        (("::ffff:127.0.0.1", 8000), CLIENT, "localhost"),
        (("/run/argentor.sock", None), None, "localhost"),
        (("/run/argentor.sock", "0"), ("", "0"), "localhost"),
        (None, None, "localhost"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_this_machine_is_served_without_a_key(server: object, client: object, host: str, kind: str):
    found = incoming(server=server, client=client, host=host, kind=kind)
    assert keyless().identify(found) is ANONYMOUS


@pytest.mark.parametrize(
    ("server", "client", "host"),
    [
        (PUBLIC, CLIENT, "localhost"),
        (("2001:db8::1", 8000), CLIENT, "localhost"),
        (("gate", 8000), CLIENT, "localhost"),
        (None, CLIENT, "localhost"),
        (LOCAL, CLIENT, "gate.example:8000"),
        (LOCAL, CLIENT, "localhost.gate.example"),
        (LOCAL, CLIENT, "notlocalhost"),
        (LOCAL, CLIENT, ".localhost"),
        (LOCAL, CLIENT, "localhost."),
        (LOCAL, CLIENT, "localhost:99999"),
        (LOCAL, CLIENT, "127.0.0.1.gate.example"),
        (LOCAL, CLIENT, "127.1"),
        (LOCAL, CLIENT, "0.0.0.0"),  # noqa: S104  a Host, nothing binds
        (LOCAL, CLIENT, "10.0.0.1"),
        (LOCAL, CLIENT, "[::2]"),
        (LOCAL, CLIENT, "[127.0.0.1]"),
        (LOCAL, CLIENT, "::1"),
        (LOCAL, CLIENT, "user@localhost"),
        (LOCAL, CLIENT, "localhost, localhost"),
        (LOCAL, CLIENT, "localhost/x"),
        (LOCAL, CLIENT, ""),
        (LOCAL, CLIENT, None),
        (("/run/argentor.sock", None), None, "gate.example"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_anywhere_else_is_403_with_the_two_ways_out(server: object, client: object, host: str | None, kind: str):
    with pytest.raises(Forbidden) as caught:
        keyless().identify(incoming(server=server, client=client, host=host, kind=kind))
    assert "auth.api_keys" in caught.value.message
    assert "auth.allow_anonymous=true" in caught.value.message


def test_everybody_is_served_where_anonymous_callers_are_allowed():
    assert keyless(allow_anonymous=True).identify(incoming(server=PUBLIC, host="gate.example")) is ANONYMOUS


def test_a_key_that_a_client_insists_on_sending_does_not_matter_without_keys():
    assert keyless().identify(incoming(("authorization", "Bearer anything"))) is ANONYMOUS


# --- pages of other origins --------------------------------------------------------------------------------------


FOREIGN = [
    "https://evil.example",
    "http://localhost:3000",
    "https://localhost:8000",
    "http://localhost",
    "null",
    "",
    "http://localhost:8000/",
    "http://localhost:8000, http://localhost:8000",
    "http://localhost:8000@evil.example",
    "file://",
    "http://\xe9",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("authenticator", [keyless(), keyless(allow_anonymous=True), keyed(allow_query_key=True)])
def test_a_page_of_another_origin_opens_no_socket(authenticator: Door, origin: str):
    with pytest.raises(Forbidden, match=r"auth\.allowed_origins"):
        authenticator.identify(incoming(("origin", origin), kind="websocket", query=b"api_key=abc"))


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_a_page_of_another_origin_changes_nothing_without_a_key(method: str, origin: str):
    with pytest.raises(Forbidden):
        keyless().identify(incoming(("origin", origin), method=method))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_for_the_browser_to_refuse(method: str):
    assert keyless().identify(incoming(("origin", "https://evil.example"), method=method)) is ANONYMOUS


def test_a_key_proves_that_a_request_is_meant():
    assert keyed().identify(incoming(("origin", "https://other.example"), ("x-api-key", "abc"), method="POST")) == OPS


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://localhost:8000", "localhost:8000", "ws"),
        ("HTTP://LOCALHOST:8000", "localhost:8000", "ws"),
        ("http://localhost", "localhost:80", "ws"),
        ("https://localhost", "localhost", "wss"),
        ("https://localhost:443", "localhost", "wss"),
        ("http://[::1]:8000", "[::1]:8000", "ws"),
    ],
)
def test_the_gateways_own_pages_open_sockets(origin: str, host: str, scheme: str):
    found = incoming(("origin", origin), kind="websocket", host=host, scheme=scheme)
    assert keyless().identify(found) is ANONYMOUS


@pytest.mark.parametrize("origin", ["https://app.example", "https://APP.example:443", "http://localhost:5173"])
def test_listed_origins_open_sockets(origin: str):
    authenticator = keyless(allowed_origins=("https://app.example:443", "http://localhost:5173"))
    assert authenticator.identify(incoming(("origin", origin), kind="websocket")) is ANONYMOUS


@pytest.mark.parametrize("url", ["https://gate.example", "https://gate.example/base/path"])
def test_pages_of_the_public_url_are_the_gateways_own(url: str):
    authenticator = Door(Auth(), public_url=url)
    assert authenticator.identify(incoming(("origin", "https://gate.example"), kind="websocket")) is ANONYMOUS


# --- who is turned away --------------------------------------------------------------------------------------------


def refused(door: Door, found: Incoming, now: float = 0.0) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        door.identify(found, now)
    return caught.value


def wrong(**others: Any) -> Incoming:
    return incoming(("x-api-key", "wrong"), **others)


@pytest.mark.parametrize(
    ("door", "found", "reason"),
    [
        (keyed(), incoming(), "missing"),
        (keyed(), wrong(), "invalid"),
        (keyed(allow_anonymous=True), wrong(), "invalid"),
        (keyless(), incoming(host="gate.example"), "not_local"),
        (keyless(), incoming(("origin", "https://evil.example"), method="POST"), "foreign_origin"),
        (keyed(), incoming(("origin", "null"), ("x-api-key", "abc"), kind="websocket"), "foreign_origin"),
    ],
)
def test_whoever_is_turned_away_is_told_of_with_the_reason_and_the_address(door: Door, found: Incoming, reason: str):
    refused(door, found)
    assert door.refused == [(reason, "127.0.0.1")]


def test_nobody_is_told_of_who_comes_in():
    door = keyed(allow_anonymous=True)
    door.identify(incoming())
    door.identify(incoming(("x-api-key", "abc")))
    assert door.refused == []


def guess(door: Door, times: int = BURST, **others: Any) -> None:
    for _ in range(times):
        assert isinstance(refused(door, wrong(**others)), Unauthenticated)


def test_after_ten_wrong_keys_none_of_the_address_is_looked_at_for_a_while():
    door = keyed()
    guess(door)
    assert door.throttled == ["127.0.0.1"]
    for key in ("wrong", "abc"):
        error = refused(door, incoming(("x-api-key", key)))
        assert isinstance(error, TooManyFailures)
        assert error.status == 429
        assert error.retry_after == GAP_S
    assert door.reasons() == ["invalid"] * BURST + ["throttled"] * 2
    assert door.identify(incoming(("x-api-key", "abc")), GAP_S) == OPS


def test_a_key_in_use_goes_on_beside_who_guesses():
    door = keyed()
    door.identify(incoming(("x-api-key", "abc")))
    guess(door)
    assert door.identify(incoming(("x-api-key", "abc"))) == OPS
    assert isinstance(refused(door, incoming(("x-api-key", "def"))), TooManyFailures)


def test_only_the_address_that_guessed_is_throttled():
    door = keyed()
    guess(door)
    elsewhere = ("192.0.2.1", 1)
    assert door.identify(incoming(("x-api-key", "abc"), client=elsewhere)) == OPS
    assert isinstance(refused(door, wrong(client=elsewhere)), Unauthenticated)


def test_a_missing_key_is_neither_counted_nor_throttled():
    door = keyed()
    for _ in range(3 * BURST):
        assert isinstance(refused(door, incoming()), Unauthenticated)
    guess(door)
    assert isinstance(refused(door, incoming()), Unauthenticated)


def test_a_sweep_forgets_who_has_waited_long_enough():
    door = keyed()
    guess(door)
    door.authenticator.sweep(BURST * GAP_S - 1.0)
    assert len(door.authenticator._throttle) == 1
    door.authenticator.sweep(BURST * GAP_S)
    assert len(door.authenticator._throttle) == 0


# --- tickets -------------------------------------------------------------------------------------------------------


def ticket(door: Door, key: str = "abc") -> bytes:
    """Return the query of a socket that brings a ticket of the key's."""
    holder = door.keys.verify(key.encode(), time.time())
    assert holder is not None
    return f"ticket={door.tickets.issue(holder, time.time())}".encode()


def test_a_ticket_opens_one_socket():
    door = keyed()
    query = ticket(door)
    assert door.identify(incoming(kind="websocket", query=query)) == OPS
    assert isinstance(refused(door, incoming(kind="websocket", query=query)), Unauthenticated)
    assert door.reasons() == ["missing"]


def test_a_ticket_opens_no_request_and_is_not_spent_by_one():
    door = keyed()
    query = ticket(door)
    assert isinstance(refused(door, incoming(query=query)), Unauthenticated)
    assert door.identify(incoming(kind="websocket", query=query)) == OPS


def test_a_ticket_of_a_key_that_was_revoked_opens_nothing():
    door = keyed()
    query = ticket(door)
    door.keys.remove("ops")
    assert isinstance(refused(door, incoming(kind="websocket", query=query)), Unauthenticated)


@pytest.mark.parametrize("query", [b"ticket=", b"ticket=x", b"ticket=%00", b"ticket=" + b"A" * 43])
def test_a_ticket_that_is_none_leaves_the_key_to_decide(query: bytes):
    door = keyed()
    assert door.identify(incoming(("x-api-key", "abc"), kind="websocket", query=query)) == OPS
    assert isinstance(refused(door, incoming(kind="websocket", query=query)), Unauthenticated)


def test_a_ticket_does_not_open_for_a_page_of_another_origin():
    door = keyed()
    found = incoming(("origin", "https://evil.example"), kind="websocket", query=ticket(door))
    assert isinstance(refused(door, found), Forbidden)


# --- addresses -----------------------------------------------------------------------------------------------------

FAR = ("x-forwarded-for", "203.0.113.9")


def test_a_trusted_proxy_says_where_its_client_is_and_no_other_does():
    for proxies, address in ((("127.0.0.1",), "203.0.113.9"), (("10.0.0.0/8",), "127.0.0.1"), ((), "127.0.0.1")):
        door = keyed(trusted_proxies=proxies)
        assert door.authenticator.address_of(incoming(FAR)) == address
        refused(door, wrong())
        refused(door, incoming(FAR, ("x-api-key", "wrong")))
        assert [where for _, where in door.refused] == ["127.0.0.1", address]


@pytest.mark.parametrize(("client", "is_local"), [("203.0.113.9", False), ("127.0.0.9", True), ("::1", True)])
def test_behind_a_trusted_proxy_on_this_machine_its_client_decides_what_is_local(client: str, is_local: bool):
    door = keyless(trusted_proxies=("127.0.0.1",))
    found = incoming(("x-forwarded-for", client))
    if is_local:
        assert door.identify(found) is ANONYMOUS
    else:
        assert isinstance(refused(door, found), Forbidden)


# --- the rules, for any input ------------------------------------------------------------------------------------


HOSTS = st.sampled_from(["localhost", "a.localhost", "127.0.0.1", "[::1]", "gate.example", "localhost.example"])
ANY = st.text(st.characters(max_codepoint=255), max_size=20)


@given(HOSTS | ANY, HOSTS.map("http://".__add__) | ANY, st.sampled_from(["http", "websocket"]))
def test_any_host_and_origin_is_served_or_refused(host: str, origin: str, kind: str):
    try:
        principal = keyless().identify(incoming(("origin", origin), host=host, kind=kind, method="POST"))
    except GatewayError as error:
        assert error.status == 403  # noqa: PT017  both ends of the try are right
    else:
        assert principal is ANONYMOUS
        assert origin.lower() in {f"http://{host}".lower(), f"http://{host}".lower().removesuffix(":80")}


@given(st.lists(st.tuples(st.sampled_from(["authorization", "x-api-key"]), ANY), max_size=3), ANY)
def test_no_credential_opens_but_the_configured_ones(headers: list[tuple[str, str]], query: str):
    found = incoming(*headers, query=query.encode())
    try:
        keyed(allow_query_key=True).identify(found)
    except GatewayError as error:
        assert error.status in {400, 401}  # noqa: PT017  both ends of the try are right
    else:
        assert any("abc" in value or "def" in value for _, value in headers) or "abc" in query or "def" in query


@pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for", "x-real-ip"])
def test_what_a_proxy_on_this_machine_forwards_is_not_local(name):
    """A proxy that rewrites Host to the loopback name must not open the gateway to the world (design 6.2)."""
    with pytest.raises(Forbidden):
        keyless().identify(incoming((name, "203.0.113.9"), host="127.0.0.1:8000"))

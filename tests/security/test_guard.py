from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.request import Incoming, Request
from argentor_asgi.asgi.response import Response
from argentor_asgi.asgi.route import Route, Socket
from argentor_asgi.config import Auth, Secret
from argentor_asgi.errors import Forbidden, GatewayError, Unauthenticated
from argentor_asgi.security.guard import (
    Authenticator,
    http_guard,
    socket_guard,
)
from argentor_asgi.security.identity import ANONYMOUS, Principal

LOCAL = ("127.0.0.1", 8000)
PUBLIC = ("192.0.2.7", 8000)
CLIENT = ("127.0.0.1", 40000)
OPS = Principal("ops", key_id="ops")


async def receive() -> dict[str, Any]:
    raise AssertionError("a guard reads no body")


def ids() -> Iterator[bytes]:
    while True:
        yield b"id"


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
    return Incoming(scope_of(*headers, **others), receive, ids())


def keyed(**others: Any) -> Authenticator:
    return Authenticator(Auth(api_keys=(Secret("ops:abc"), Secret("dev:def")), **others))


def keyless(**others: Any) -> Authenticator:
    return Authenticator(Auth(**others))


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
def test_a_page_of_another_origin_opens_no_socket(authenticator: Authenticator, origin: str):
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
    authenticator = Authenticator(Auth(), public_url=url)
    assert authenticator.identify(incoming(("origin", "https://gate.example"), kind="websocket")) is ANONYMOUS


# --- the closures ------------------------------------------------------------------------------------------------


def row(needs: str | None) -> Route:
    return Route("GET", "/", receive, needs)


async def answered(authenticator: Authenticator, needs: str | None, request: Request) -> object:
    async def endpoint(request: Request) -> Response:
        return Response(200, body=repr(request.principal).encode())

    return (await http_guard(authenticator)(row(needs), endpoint)(request)).body


def request(*headers: tuple[str, str], **others: Any) -> Request:
    return Request(scope_of(*headers, **others), receive, ids(), 100)


async def test_a_guarded_route_knows_its_principal():
    assert await answered(keyed(), "sessions:read", request(("x-api-key", "abc"))) == repr(OPS).encode()


async def test_a_guarded_route_refuses_before_its_endpoint_runs():
    with pytest.raises(Unauthenticated):
        await answered(keyed(), "sessions:read", request())


async def test_a_public_route_asks_nobody():
    assert await answered(keyed(), None, request(server=PUBLIC, host=None)) == b"None"


class Narrow(Authenticator):
    """Everybody may only read sessions."""

    def identify(self, incoming: Incoming) -> Principal:  # noqa: ARG002  the signature of what it stands for
        return Principal("narrow", scopes=frozenset({"sessions:read"}))


@pytest.mark.parametrize(("needs", "served"), [("sessions:read", True), ("sessions:write", False), (None, True)])
async def test_a_route_needs_its_scope(needs: str | None, served: bool):
    try:
        await answered(Narrow(Auth()), needs, request())
    except Forbidden as error:
        assert (served, error.message) == (False, f"Your key does not have the scope {needs}.")  # noqa: PT017  both ways
    else:
        assert served


async def test_a_socket_is_guarded_as_a_route_is():
    seen: list[object] = []

    async def endpoint(websocket: Incoming) -> None:
        seen.append(websocket.principal)

    guarded = socket_guard(keyed())(Socket("/ws", receive, "chat"), endpoint)
    with pytest.raises(Unauthenticated):
        await guarded(incoming(kind="websocket"))
    await guarded(incoming(("x-api-key", "abc"), kind="websocket"))
    await socket_guard(keyed())(Socket("/ws", receive, None), endpoint)(incoming(kind="websocket"))
    assert seen == [OPS, None]


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
        Authenticator(Auth()).identify(incoming(("host", "127.0.0.1:8000"), (name, "203.0.113.9")))

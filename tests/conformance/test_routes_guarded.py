"""Every route and socket of the gateway is guarded, except those that are public on purpose, which are listed here."""

import re

import pytest
from asgi_driver import Answer, http, lifespan, websocket

from argentor_asgi.api_keys import Key, Secret
from argentor_asgi.asgi.route import Route, Socket
from argentor_asgi.compose import create_app, rows
from argentor_asgi.config import Auth, Config, Storage

pytestmark = pytest.mark.slow

PUBLIC = {("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready")}
"""What needs no key, on purpose: probes."""
ROWS = rows()
GUARDED = [row for row in ROWS if row.needs is not None]
NOBODY, EVERYBODY = "key-without-any-scope-of-ours", "key-with-every-scope"
CHALLENGE = re.compile(r'Bearer realm="argentor"')


def named(row: Route | Socket) -> tuple[str, str]:
    return (row.method if isinstance(row, Route) else "WEBSOCKET", row.template)


def target(row: Route | Socket) -> str:
    return re.sub(r"\{[^}]*\}", "00000000-0000-4000-8000-000000000000", row.template)


@pytest.fixture
async def app():
    keys = (
        Key("nobody", key=Secret(NOBODY), scopes=("nothing:read",)),
        Key("everybody", key=Secret(EVERYBODY), scopes=tuple(sorted({row.needs for row in GUARDED}))),
    )
    made = create_app(Config(storage=Storage(url="memory://"), auth=Auth(keys=keys)))
    async with lifespan(made):
        yield made


async def refused(app, row: Route | Socket, key: str | None) -> Answer:
    """Ask without a body, and return the answer; a socket's is the one to its handshake."""
    headers = {"host": "localhost", **({"authorization": f"Bearer {key}"} if key else {})}
    if isinstance(row, Route):
        return await http(app, row.method, target(row), headers=headers)
    async with websocket(app, target(row), headers=headers) as peer:
        return peer.refusal


def test_exactly_the_listed_routes_are_public():
    assert {named(row) for row in ROWS if row.needs is None} == PUBLIC
    assert len(GUARDED) > len(PUBLIC)


@pytest.mark.parametrize("row", GUARDED, ids=lambda row: " ".join(named(row)))
async def test_a_guarded_route_asks_for_a_key_and_for_its_scope(row, app):
    nobody = await refused(app, row, None)
    assert (nobody.status, bool(CHALLENGE.match(nobody.header("www-authenticate") or ""))) == (401, True)
    wrong = await refused(app, row, "wrong")
    assert (wrong.status, bool(CHALLENGE.match(wrong.header("www-authenticate") or ""))) == (401, True)
    unfit = await refused(app, row, NOBODY)
    assert (unfit.status, unfit.json()["code"]) == (403, "forbidden")
    assert row.needs in unfit.json()["message"]


@pytest.mark.parametrize("row", GUARDED, ids=lambda row: " ".join(named(row)))
async def test_a_key_with_the_scope_gets_in(row, app):
    answer = await refused(app, row, EVERYBODY)
    assert answer.status not in {401, 403}, answer.body


@pytest.mark.parametrize("row", [row for row in ROWS if row.needs is None], ids=lambda row: " ".join(named(row)))
async def test_a_public_route_answers_without_a_key(row, app):
    assert (await refused(app, row, None)).status in {200, 503}

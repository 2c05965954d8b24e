"""Random requests, in process and over sockets: no 500, no traceback, no answer without its end or of its own make.

`python -m bench fuzz` makes a million of the same.
"""

import asyncio
import http.client
import json
import random
import socket

import pytest
from hostile import calculates, check_problem_body
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import server

from argentor_asgi import errors
from argentor_asgi.compose import create_app
from bench import fuzz, ours
from bench.calls import lifespan

pytestmark = pytest.mark.slow

KINDS = ["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian"]
EXAMPLES, SEEDED, ON_A_SOCKET = 500, 5000, 500
"""How many requests hypothesis makes, and how many are made from a seed: in process, and on each server."""
SEED = 2
PATIENCE_S = 5.0
ALLOWED = fuzz.known_statuses()
CODES = {kind.code for kind in vars(errors).values() if hasattr(kind, "code") and hasattr(kind, "status")}
SERVERS_OWN = {400, 404, 408, 413, 414, 426, 431, 501, 505}
"""What servers answer by themselves, without asking the app, to what is hardly HTTP."""

tokens = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
values = st.one_of(st.sampled_from(fuzz.VALUES), st.text(alphabet=st.characters(max_codepoint=255), max_size=50))
headers = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(fuzz.NAMES), tokens).map(lambda name: name.lower().encode()),
        values.map(lambda value: value.encode("latin-1")),
    ),
    max_size=8,
)
targets = st.one_of(
    st.builds("{}{}".format, st.sampled_from(fuzz.PATHS), st.sampled_from(fuzz.QUERIES)),
    st.builds("{}/{}".format, st.sampled_from(fuzz.PATHS), tokens),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=60),
)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.sampled_from(fuzz.TEXTS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(fuzz.FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.one_of(st.just(b""), st.binary(max_size=100), documents.map(lambda made: json.dumps(made).encode()))
keyed = st.sampled_from([(), ours.KEYED_JSON])
odds = st.builds(
    lambda method, target, more, key, body: fuzz.Odd(method, target, (*more, *key), body),
    st.one_of(st.sampled_from(fuzz.METHODS), tokens),
    targets,
    headers,
    keyed,
    bodies,
)


def check(odd: fuzz.Odd, status: int, body: bytes, allowed: frozenset[int] = ALLOWED) -> None:
    """Check that an answer is one that the gateway has declared, and says nothing that is not for clients."""
    assert status in allowed, (odd, status, body[:300])
    if status >= http.client.BAD_REQUEST and body:
        assert check_problem_body(body.decode())["code"] in CODES


class House:
    """A gateway that is started once, for many requests in process, each from an address of its own."""

    def __init__(self, runner: asyncio.Runner):
        self.app = create_app(ours.config())
        self.number = 0
        self._runner = runner
        self._lifespan = lifespan(self.app)
        self._state = runner.run(self._lifespan.__aenter__())

    def ask(self, odd: fuzz.Odd) -> None:
        self.number += 1
        exchange = self._runner.run(fuzz.answered(self.app, self._state, odd, self.number))
        assert exchange.done, odd
        check(odd, exchange.status, exchange.chunks)

    def stop(self) -> None:
        self._runner.run(self._lifespan.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def house():
    with asyncio.Runner() as runner:
        made = House(runner)
        yield made
        made.stop()


def test_no_request_that_hypothesis_finds_is_answered_with_an_error_of_ours(house):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(odds)
    def holds(odd):
        house.ask(odd)

    holds()


def test_no_request_of_thousands_from_a_seed_is_answered_with_an_error_of_ours(house, caplog):
    rng = random.Random(SEED)  # noqa: S311  a test that fails must fail again
    for _ in range(SEEDED):
        house.ask(fuzz.request(rng))
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_over_a_socket_is_answered_with_an_error_of_ours(kind, tmp_path):
    rng = random.Random(f"{SEED} {kind}")  # noqa: S311  as above
    workers = 0 if kind.startswith("hypercorn") else None
    # At its end the server is held to a log without a traceback.
    with server(kind, cwd=tmp_path, workers=workers, env=ours.environment()) as running:
        for odd in framed(rng, ON_A_SOCKET):
            exchanged(running.port, odd)
        assert calculates(running.port, key=ours.KEY)


def framed(rng: random.Random, count: int) -> list[fuzz.Odd]:
    """Return requests whose body has the length that they say: what is framed otherwise waits for more."""
    made = (fuzz.request(rng) for _ in range(count))
    return [odd for odd in made if b"transfer-encoding" not in dict(odd.headers)]


def exchanged(port: int, odd: fuzz.Odd) -> None:
    """Make the request on a connection of its own; a server may refuse what is hardly HTTP by just closing."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        response = http.client.HTTPResponse(connection, method=odd.method.upper())
        try:
            connection.sendall(fuzz.raw(odd))
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionError):
            return
        finally:
            response.close()
    if response.getheader("x-request-id"):
        check(odd, response.status, body)
    else:
        assert response.status in SERVERS_OWN, (odd, response.status, body[:300])

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from asgi_driver import head_of, pairs, scope_of, soon, until
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.deadline import Sweeper
from argentor_asgi.asgi.head import joined
from argentor_asgi.asgi.request import (
    QUERY_FIELDS,
    BodyRules,
    ClientDisconnected,
    Incoming,
    Request,
    parsed_query,
    request_ids,
)
from argentor_asgi.asgi.types import Message
from argentor_asgi.errors import BadRequest, BodyTimeout, BodyTooLarge, MalformedJson, UnsupportedMediaType

LIMIT = 10
T = TypeVar("T")


def incoming(headers: Any = (), target: str = "/", **others: Any) -> Incoming:
    scope = scope_of("http", target, pairs(headers), method="GET", **others)
    return Incoming(scope, nothing, *head_of(scope))


def asked(scope: Any, receive: Any, limit: int, sweeper: Sweeper | None = None) -> Request:
    return Request(scope, receive, *head_of(scope), limit, sweeper)


async def nothing() -> Message:
    raise AssertionError("nobody asked for this")


def request(*pieces: bytes | None, headers: Any = (), limit: int = LIMIT) -> Request:
    """A request whose body comes in `pieces`; None is the client leaving."""
    waiting = list(pieces)

    async def receive() -> Message:
        piece = waiting.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    return asked(scope_of("http", "/", pairs(headers), method="POST"), receive, limit)


# --- what every incoming has -------------------------------------------------------------------------------------


def test_a_header_is_found_by_its_lower_case_name():
    assert incoming({"Accept": "text/html"}).header("accept") == "text/html"
    assert incoming().header("accept") is None


def test_repeated_headers_are_joined_cookies_by_semicolons():
    fields = [("Cookie", "a=1"), ("Via", "x"), ("Cookie", "b=2"), ("Via", "y"), ("Host", "h")]
    one = incoming(fields)
    assert (one.header("cookie"), one.header("via"), one.header("host")) == ("a=1; b=2", "x, y", "h")
    assert list(one.headers) == pairs(fields)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"cookie"]), st.binary(max_size=3))))
def test_joining_keeps_every_value_in_order(headers: list[tuple[bytes, bytes]]):
    fields = joined(headers)
    assert set(fields) == {name for name, _ in headers}
    for name, value in fields.items():
        glue = b"; " if name == b"cookie" else b", "
        assert value == glue.join(given for known, given in headers if known == name)


@pytest.mark.parametrize("sane", ["a", "A-Z_0.9", "x" * 128])
def test_a_sane_request_id_is_kept(sane: str):
    assert incoming({"X-Request-ID": sane}).id == sane


@pytest.mark.parametrize("strange", ["", "x" * 129, "a b", "a\r\nb", 'a"b', "ä", "a/b"])
def test_a_strange_request_id_is_replaced(strange: str):
    made = incoming({"X-Request-ID": strange}).id
    assert len(made) == 16
    assert int(made, 16) >= 0


def test_made_ids_are_unique_and_hexadecimal():
    ids = request_ids()
    made = [next(ids) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {len(one) for one in made} == {16}
    assert all(int(one, 16) >= 0 for one in made)
    assert next(request_ids())[:8] != made[0][:8]


def test_the_client_is_its_address_or_nobody():
    assert incoming().client == "127.0.0.1"
    assert incoming(client=None).client is None


def test_the_path_is_the_decoded_one():
    assert incoming(target="/a%20b").path == "/a b"


def test_the_query_keeps_every_value_and_the_blank_ones():
    assert incoming(target="/?a=1&b=&a=%C3%BC+x").query == {"a": ["1", "ü x"], "b": [""]}
    assert incoming().query == {}
    assert incoming(query_string=None).query == {}


@pytest.mark.parametrize("query", [b"a=%ff", b"\xff=1", b"&".join([b"a=1"] * (QUERY_FIELDS + 1))])
def test_a_query_that_cannot_be_read_is_a_bad_request(query: bytes):
    with pytest.raises(BadRequest):
        parsed_query(query)


def test_a_query_may_have_as_many_parameters_as_the_bound():
    assert len(parsed_query(b"&".join([b"a=1"] * QUERY_FIELDS))["a"]) == QUERY_FIELDS


# --- bodies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"b", b"c"], [b"", b"abc", b""], [b"ab", b"c"]])
async def test_a_body_is_the_sum_of_its_pieces_read_once(pieces: list[bytes]):
    one = request(*pieces)
    assert await one.body() == b"abc"
    assert await one.body() == b"abc"


@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(LIMIT)}])
async def test_a_body_of_exactly_the_limit_is_read(headers: dict[str, str]):
    assert await request(b"x" * LIMIT, headers=headers).body() == b"x" * LIMIT


@pytest.mark.parametrize("pieces", [[b"x" * (LIMIT + 1)], [b"x"] * (LIMIT + 1)])
async def test_one_byte_more_is_too_large(pieces: list[bytes]):
    with pytest.raises(BodyTooLarge):
        await request(*pieces).body()


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_refused_body_ends_the_connection_where_it_spoils_what_follows(version: str):
    one = request(b"x" * LIMIT, b"x")
    one.scope["http_version"] = version
    with pytest.raises(BodyTooLarge) as refused:
        await one.body()
    assert refused.value.headers == (((b"connection", b"close"),) if version == "1.1" else ())


async def test_a_length_over_the_limit_is_refused_before_a_client_that_asks_first_sends_anything():
    one = request(headers={"Content-Length": str(LIMIT + 1), "Expect": "100-continue"})
    with pytest.raises(BodyTooLarge):
        await one.body()


# --- slow bodies -------------------------------------------------------------------------------------------------


class Ticks:
    """A clock that a test moves, and the sweeper on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sweeper = Sweeper(lambda: self.now, 60.0)

    def to(self, now: float) -> None:
        self.now = now
        self.sweeper.sweep()

    async def through(self, waiting: Awaitable[T], seconds: float) -> T:
        """Await something while, as soon as it is watched, these seconds pass."""
        task = asyncio.ensure_future(waiting)
        await until(lambda: self.sweeper.watching)
        await others()
        self.to(self.now + seconds)
        try:
            return await soon(task)
        finally:
            self.sweeper.close()


class Pipe:
    """A client that sends what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.ticks = Ticks()
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        scope = scope_of("http", "/", [], method="POST")
        request = asked(scope, self._queue.get, 10**6, self.ticks.sweeper)
        request.rules = RULES
        self.body = asyncio.create_task(request.body())

    async def send(self, at: float, size: int, *, more: bool = True) -> None:
        """Deliver bytes at a time, after the sweeper has looked then."""
        await others()
        self.ticks.to(at)
        await others()
        self._queue.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})
        await others()

    async def silence(self, until: float) -> None:
        await others()
        self.ticks.to(until)
        await others()


RULES = BodyRules(first_s=10.0, floor_bytes_per_s=100.0, grace_s=5.0, total_s=60.0)


async def never() -> Message:
    return await asyncio.get_running_loop().create_future()


async def others() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("waited", [9.9, 10.0])
async def test_the_first_byte_has_its_time(waited: float):
    pipe = Pipe()
    await pipe.send(waited, 3, more=False)
    if waited < RULES.first_s:
        assert await soon(pipe.body) == b"xxx"
    else:
        with pytest.raises(BodyTimeout) as refused:
            await soon(pipe.body)
        assert refused.value.headers == ((b"connection", b"close"),)
    pipe.ticks.sweeper.close()


async def test_a_body_that_drips_is_refused_once_it_falls_behind_the_floor():
    pipe = Pipe()
    for second in range(8):
        await pipe.send(second, 40)
    assert not pipe.body.done()
    await pipe.silence(8.3)
    with pytest.raises(BodyTimeout):
        await soon(pipe.body)
    assert not pipe.ticks.sweeper.watching


async def test_a_body_above_the_floor_has_all_its_time_and_no_more():
    pipe = Pipe()
    for second in range(60):
        await pipe.send(second, 100)
    assert not pipe.body.done()
    await pipe.silence(60.0)
    with pytest.raises(BodyTimeout):
        await soon(pipe.body)


async def test_a_body_that_is_there_leaves_nothing_behind():
    pipe = Pipe()
    await pipe.send(0.0, 7, more=False)
    assert await soon(pipe.body) == b"x" * 7
    assert not pipe.ticks.sweeper.watching
    pipe.ticks.sweeper.close()


async def test_a_cancellation_from_outside_is_not_a_slow_body():
    pipe = Pipe()
    await pipe.send(0.0, 7)
    pipe.body.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pipe.body
    pipe.ticks.sweeper.close()


@given(
    st.floats(0, 1000), st.none() | st.floats(0, 100), st.integers(0, 10**7), st.floats(0.1, 60), st.floats(0.1, 100)
)
def test_a_body_never_has_less_than_its_grace_nor_more_than_its_whole_time(
    began: float, waited: float | None, received: int, grace: float, total: float
):
    rules = BodyRules(first_s=10.0, floor_bytes_per_s=1024.0, grace_s=grace, total_s=total)
    until = rules.until(began, None if waited is None else began + waited, received)
    assert until <= began + total
    if waited is None:
        assert until == began + min(10.0, total)
    else:
        assert until >= min(began + total, began + waited + grace)
        assert rules.until(began, began + waited, received + 1024) >= until


@pytest.mark.parametrize("length", ["", "-1", "+1", "1, 1", "0x1", "1.0", "9" * 19, "٣".encode().decode("latin-1")])
async def test_a_length_that_is_no_number_is_a_bad_request(length: str):
    with pytest.raises(BadRequest):
        await request(b"x", headers={"Content-Length": length}).body()


@pytest.mark.parametrize("pieces", [[None], [b"a", None]])
async def test_a_client_that_leaves_in_its_body_is_told_apart(pieces: list[bytes | None]):
    with pytest.raises(ClientDisconnected):
        await request(*pieces).body()


class Plain:
    """An awaitable as granian has them: it can be iterated over, and nothing else."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._has_waited = False

    def __await__(self) -> "Plain":
        return self

    def __iter__(self) -> "Plain":
        return self

    def __next__(self) -> None:
        if self._has_waited:
            raise StopIteration(self._message)
        self._has_waited = True


async def test_a_server_may_return_an_awaitable_that_is_no_coroutine():
    pieces = [b"a", b"b"]

    def receive() -> Plain:
        piece = pieces.pop(0)
        return Plain({"type": "http.request", "body": piece, "more_body": bool(pieces)})

    assert await asked(scope_of("http", "/", [], method="POST"), receive, LIMIT).body() == b"ab"


@dataclass(frozen=True, slots=True)
class Ask:
    n: int


@pytest.mark.parametrize(
    "media",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/a2a+json ;x=y"],
)
async def test_json_is_read_into_its_type(media: str):
    assert await request(b'{"n":1}', headers={"Content-Type": media}).read(Ask) == Ask(1)


@pytest.mark.parametrize("media", ["", "text/json", "application/jsonx", "application/x-www-form-urlencoded", "json"])
async def test_another_media_type_is_refused(media: str):
    with pytest.raises(UnsupportedMediaType):
        await request(b'{"n":1}', headers={"Content-Type": media}).read(Ask)


async def test_an_empty_body_is_none_only_where_it_may_be():
    assert await request(b"").read(Ask, optional=True) is None
    with pytest.raises(MalformedJson):
        await request(b"", headers={"Content-Type": "application/json"}).read(Ask)


async def test_an_optional_body_that_is_there_must_be_json():
    with pytest.raises(UnsupportedMediaType):
        await request(b'{"n":1}').read(Ask, optional=True)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=6))
async def test_any_cutting_gives_the_same_body_or_refusal(pieces: list[bytes]):
    whole = b"".join(pieces)
    try:
        body = await request(*pieces).body()
    except BodyTooLarge:
        assert len(whole) > LIMIT
    else:
        assert body == whole

import contextlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional

import pytest
from asgi_driver import app_of, http, websocket
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.app import Constant
from argentor_asgi.asgi.bind import int_of, uuid_of
from argentor_asgi.asgi.parameters import members_of, parameters_of
from argentor_asgi.asgi.request import Incoming, Request
from argentor_asgi.asgi.response import Reply, Response
from argentor_asgi.asgi.route import Header, route, rows_of, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import ConfigError, InvalidPath
from argentor_asgi.protocol.schema import Meta

KNOWN = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Services:
    name = "services"


class Caller:
    def __init__(self, name: str) -> None:
        self.name = name


PROVIDE = {
    Services: Constant(Services()),
    Caller: lambda incoming: Caller(incoming.header("x-caller") or "nobody"),
}


@dataclass(frozen=True, slots=True)
class Ask:
    text: str
    n: int = 0


async def body_of(handler: Any, target: str, method: str = "GET", **others: Any) -> Any:
    answer = await http(app_of(handler, provide=PROVIDE), method, target, **others)
    return answer.json() if answer.status == 200 else (answer.status, answer.json()["code"])


# --- parameters --------------------------------------------------------------------------------------------------


@route("GET", "/own/{item}/{number}/{key}", needs=None)
async def captures(key: uuid.UUID, number: int, item: str) -> list[object]:
    return [item, number, str(key)]


async def test_captures_are_bound_by_name_and_type():
    assert await body_of(captures, f"/own/a%20b/-7/{KNOWN}") == ["a b", -7, str(KNOWN)]


@pytest.mark.parametrize("target", ["/own/a/x/" + str(KNOWN), "/own/a/1/1234", f"/own/a/1.0/{KNOWN}"])
async def test_a_bad_capture_is_an_invalid_path(target: str):
    assert await body_of(captures, target) == (400, "invalid_path")


@pytest.mark.parametrize("text", [str(KNOWN), KNOWN.hex, KNOWN.urn, f"{{{KNOWN}}}", str(KNOWN).upper()])
def test_a_uuid_comes_in_the_four_forms(text: str):
    assert uuid_of(text) == KNOWN


@pytest.mark.parametrize(
    "text", ["", "x", f"{{{KNOWN}", f"{KNOWN}}}", KNOWN.hex[:-1], f"1-{KNOWN.hex[1:]}", f"{{{KNOWN.hex}}}", f" {KNOWN}"]
)
def test_no_other_text_is_a_uuid(text: str):
    with pytest.raises(InvalidPath):
        uuid_of(text)


@given(st.text(alphabet="0123456789abcdefABCDEF-{}urn:id ", max_size=48))
def test_any_text_is_a_uuid_or_an_invalid_path(text: str):
    with contextlib.suppress(InvalidPath):
        assert uuid_of(text).hex in re.sub("[^0-9a-f]", "", text.lower())


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-5", -5), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_a_number_is_digits(text: str, value: int):
    assert int_of(text) == value


@pytest.mark.parametrize("text", ["", "+1", "1_0", "1.0", " 1", "٣", "9" * 19, "0x1"])
def test_nothing_else_is_a_number(text: str):
    with pytest.raises(InvalidPath):
        int_of(text)


@route("GET", "/q", needs=None)
async def query(
    limit: Annotated[int, Meta(ge=1, le=9)] = 5,
    since: float | None = None,
    full: bool = False,
    kind: Literal["a", "b"] = "a",
    name: Annotated[str | None, Meta(max_length=3)] = None,
) -> list[object]:
    return [limit, since, full, kind, name]


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ("/q", [5, None, False, "a", None]),
        ("/q?limit=9&since=1.5&full=true&kind=b&name=abc", [9, 1.5, True, "b", "abc"]),
        ("/q?full=1&since=2", [5, 2.0, True, "a", None]),
        ("/q?unknown=1&unknown=2", [5, None, False, "a", None]),
        ("/q?name=", [5, None, False, "a", ""]),
        ("/q?name=%C3%BC", [5, None, False, "a", "ü"]),
    ],
)
async def test_query_parameters_are_read_by_their_type(target: str, values: list[object]):
    assert await body_of(query, target) == values


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ("/q?limit=0", "/limit"),
        ("/q?limit=10", "/limit"),
        ("/q?limit=x", "/limit"),
        ("/q?limit=", "/limit"),
        ("/q?limit=" + "9" * 5000, "/limit"),
        ("/q?limit=1&limit=2", "/limit"),
        ("/q?since=nan", "/since"),
        ("/q?since=inf", "/since"),
        ("/q?full=yes", "/full"),
        ("/q?kind=c", "/kind"),
        ("/q?name=abcd", "/name"),
    ],
)
async def test_a_bad_query_parameter_is_pointed_at(target: str, pointer: str):
    answer = await http(app_of(query), "GET", target)
    assert (answer.status, answer.json()["details"][0]["pointer"]) == (422, pointer)


@route("GET", "/r", needs=None)
async def required(name: str, maybe: str | None) -> list[object]:
    return [name, maybe]


async def test_a_parameter_without_default_is_required_unless_it_may_be_none():
    assert await body_of(required, "/r?name=x") == ["x", None]
    assert await body_of(required, "/r") == (422, "invalid_input")


@route("GET", "/h", needs=None)
async def headers(
    key: Annotated[str | None, Header("Idempotency-Key"), Meta(max_length=3)] = None,
    depth: Annotated[int, Header("depth")] = 1,
) -> list[object]:
    return [key, depth]


async def test_headers_are_read_by_their_type():
    assert await body_of(headers, "/h") == [None, 1]
    assert await body_of(headers, "/h", headers={"Idempotency-Key": "k", "Depth": "4"}) == ["k", 4]


@pytest.mark.parametrize(
    "given_headers", [{"depth": "x"}, {"idempotency-key": "long"}, [("depth", "1"), ("depth", "2")]]
)
async def test_a_bad_header_is_a_bad_request(given_headers: Any):
    assert await body_of(headers, "/h", headers=given_headers) == (400, "bad_request")


@route("GET", "/hr", needs=None)
async def required_header(key: Annotated[str, Header("key")]) -> list[str]:
    return [key]


async def test_a_header_without_default_is_required():
    assert await body_of(required_header, "/hr", headers={"key": "v"}) == ["v"]
    assert await body_of(required_header, "/hr") == (400, "bad_request")


@route("POST", "/b/{item}", needs=None)
async def with_body(services: Services, caller: Caller, item: str, body: Ask, request: Request) -> list[object]:
    return [services.name, caller.name, item, body.text, request.method]


async def test_a_body_is_read_after_everything_else_is_bound():
    found = await body_of(
        with_body,
        "/b/x",
        "POST",
        body=b'{"text":"hi"}',
        headers={"Content-Type": "application/json", "X-Caller": "me"},
    )
    assert found == ["services", "me", "x", "hi", "POST"]


@pytest.mark.parametrize(
    ("body", "media", "expected"),
    [
        (b'{"text":"hi"}', "text/plain", (415, "unsupported_media_type")),
        (b'{"text":', "application/json", (400, "malformed_json")),
        (b'{"text":1}', "application/json", (422, "invalid_input")),
        (b"{}", "application/json", (422, "invalid_input")),
        (b"x" * 1001, "application/json", (413, "body_too_large")),
        ([b"x" * 1000, b"x"], "application/json", (413, "body_too_large")),
        (b"", "application/json", (400, "malformed_json")),
    ],
)
async def test_a_bad_body_is_refused(body: Any, media: str, expected: tuple[int, str]):
    assert await body_of(with_body, "/b/x", "POST", body=body, headers={"content-type": media}) == expected


@route("POST", "/ob", needs=None)
async def optional_body(body: Ask | None) -> str:
    return "none" if body is None else body.text


async def test_an_optional_body_may_be_empty():
    assert await body_of(optional_body, "/ob", "POST") == "none"
    media = {"content-type": "application/json"}
    assert await body_of(optional_body, "/ob", "POST", body=b'{"text":"x"}', headers=media) == "x"


@route("GET", "/p", needs=None)
async def provided(caller: Caller, *, services: Services) -> list[str]:
    return [caller.name, services.name]


async def test_provided_values_may_stand_anywhere():
    assert await body_of(provided, "/p") == ["nobody", "services"]


@socket("/ws/{item}", needs=None)
async def talk(websocket: WebSocket, services: Services, item: int, token: str | None = None) -> None:
    await websocket.accept()
    await websocket.send(json.dumps([services.name, item, token]))


async def test_a_socket_is_bound_the_same_way():
    async with websocket(app_of(talk, provide=PROVIDE), "/ws/4?token=t") as peer:
        assert json.loads(await peer.get()) == ["services", 4, "t"]


async def test_a_socket_that_cannot_be_bound_is_refused():
    async with websocket(app_of(talk, provide=PROVIDE), "/ws/x") as peer:
        assert (peer.refusal.status, peer.refusal.json()["code"]) == (400, "invalid_path")


# --- results -----------------------------------------------------------------------------------------------------


def returning(value: object, **declared: Any) -> Any:
    @route("GET", "/x", needs=None, **declared)
    async def handler() -> object:
        return value

    return handler


@pytest.mark.parametrize(
    ("value", "status", "media", "body"),
    [
        (Ask("a"), 201, "application/json", b'{"text":"a","n":0}'),
        ([1, 2], 201, "application/json", b"[1,2]"),
        ({}, 201, "application/json", b"{}"),
        (None, 204, None, b""),
        (Response(418, b"tea", "text/plain"), 418, "text/plain", b"tea"),
        (Reply([1]), 201, "application/json", b"[1]"),
        (Reply({"a": 1}, 503), 503, "application/json", b'{"a":1}'),
    ],
)
async def test_a_result_becomes_an_answer(value: object, status: int, media: str | None, body: bytes):
    answer = await http(app_of(returning(value, status=201)), "GET", "/x")
    assert (answer.status, answer.header("content-type"), answer.body) == (status, media, body)


async def test_json_goes_out_under_the_media_type_of_its_route():
    answer = await http(app_of(returning([], produces="application/x+json")), "GET", "/x")
    assert answer.header("content-type") == "application/x+json"


async def test_a_reply_has_its_own_headers():
    answer = await http(app_of(returning(Reply([], headers=[(b"link", b"<x>")]))), "GET", "/x")
    assert answer.header("link") == "<x>"


# --- wrong declarations ------------------------------------------------------------------------------------------


def declared(handler: Any, template: str = "/x", method: str = "GET") -> Any:
    return route(method, template, needs=None)(handler)


async def no_annotation(x) -> None: ...
async def not_provided(x: Caller) -> None: ...
async def is_socket(x: WebSocket) -> None: ...
async def bad_capture(x: float) -> None: ...
async def no_capture() -> None: ...
async def nameless(x: "Nowhere") -> None: ...  # noqa: F821  that is the mistake
async def bad_bound(x: Annotated[int, Meta(max_length=3)] = 1) -> None: ...
def is_sync() -> None: ...


@pytest.mark.parametrize(
    ("handler", "template", "words"),
    [
        (no_annotation, "/x", "needs an annotation"),
        (not_provided, "/x", "nothing provides"),
        (is_socket, "/x", "must be a Request"),
        (bad_capture, "/{x}", "must be str, int or uuid.UUID"),
        (no_capture, "/{x}", "which its signature lacks"),
        (nameless, "/x", "import what its signature names"),
        (bad_bound, "/x", "max_length"),
        (is_sync, "/x", "'async def'"),
    ],
)
def test_a_wrong_declaration_names_its_handler(handler: Any, template: str, words: str):
    with pytest.raises(ConfigError, match=f"test_bind.{handler.__name__}.*{re.escape(words)}"):
        app_of(declared(handler, template))


def test_a_method_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="must be one of DELETE, GET"):
        app_of(declared(no_capture, method="get"))


def test_a_socket_takes_neither_a_request_nor_a_body():
    for handler in (socket("/x", needs=None)(wants_request), socket("/x", needs=None)(wants_body)):
        with pytest.raises(ConfigError):
            app_of(handler)


async def wants_request(request: Request) -> None: ...
async def wants_body(body: Ask) -> None: ...
async def either(incoming: Incoming) -> None: ...


def test_what_both_share_may_be_asked_for_anywhere():
    (row,) = rows_of(socket("/x", needs=None)(either))
    assert parameters_of(row)[0].source == "self"


def test_members_of_a_union_are_seen_through_annotations():
    assert members_of(Annotated[int | None, Meta(ge=1)]) == [int, type(None)]
    assert members_of(Optional[Annotated[str, Meta(max_length=1)]]) == [str, type(None)]  # noqa: UP045  the old form
    assert members_of(list[int]) == [list[int]]

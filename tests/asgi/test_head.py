"""`argentor_asgi.asgi.head`: what of a request's head is refused before anything is routed."""

from typing import Any
from urllib.parse import unquote

import pytest
from asgi_driver import pairs, scope_of
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.head import (
    HEADER_BYTES,
    HEADER_FIELDS,
    REMEMBERED,
    TARGET_BYTES,
    announces_body,
    head_reader,
    joined,
)
from argentor_asgi.asgi.types import Scope
from argentor_asgi.errors import BadRequest, GatewayError, HeadersTooLarge, HttpVersionRefused, TargetTooLong

HOST = ("host", "localhost:8000")


def made(*headers: tuple[str, str], target: str = "/health", host: bool = True, **others: Any) -> Scope:
    """A scope with a `Host`, unless told otherwise."""
    kind = others.pop("type", "http")
    method = {"method": "GET"} if kind == "http" else {}
    scope = scope_of(kind, target, pairs([HOST, *headers]), **(method | others))
    return scope if host else {**scope, "headers": pairs(headers)}


def judged(scope: Scope) -> GatewayError | None:
    """Judge a head as one that nobody knows, then among known ones; both must agree."""
    head = head_reader()
    said = []
    for _ in range(2):
        try:
            fields = joined(scope["headers"])
            assert head(scope) == (fields, announces_body(scope, fields))
            said.append(None)
        except GatewayError as error:
            said.append(error)
        head(made())
    assert type(said[0]) is type(said[1])
    return said[0]


def refusal(scope: Scope) -> type[GatewayError] | None:
    found = judged(scope)
    if found is not None:
        is_http1 = scope["http_version"] not in {"2", "3"}
        assert found.headers == (((b"connection", b"close"),) if is_http1 else ())
    return None if found is None else type(found)


# --- size --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "error"), [(0, None), (1, TargetTooLong)])
@pytest.mark.parametrize("where", ["path", "query", "both"])
def test_a_target_may_be_as_long_as_the_bound(more: int, error: type[GatewayError] | None, where: str):
    length = TARGET_BYTES + more
    target = {
        "path": "/" + "a" * (length - 1),
        "query": "/health?" + "a" * (length - 7),
        "both": "/" + "a" * 4000 + "?" + "b" * (length - 4001),
    }[where]
    assert refusal(made(target=target)) is error


@pytest.mark.parametrize(("more", "error"), [(0, None), (1, HeadersTooLarge)])
@pytest.mark.parametrize("twice", [True, False])
def test_there_may_be_as_many_fields_as_the_bound(more: int, error: type[GatewayError] | None, twice: bool):
    fields = [("x-same" if twice else f"x-{number}", "1") for number in range(HEADER_FIELDS - 1 + more)]
    assert refusal(made(*fields)) is error


@pytest.mark.parametrize(("more", "error"), [(0, None), (1, HeadersTooLarge)])
@pytest.mark.parametrize("where", ["name", "value", "values"])
def test_fields_may_have_as_many_bytes_as_the_bound(more: int, error: type[GatewayError] | None, where: str):
    left = HEADER_BYTES + more - sum(map(len, HOST)) - 2
    fields = {
        "name": [("a" * (left + 1), "b")],
        "value": [("aa", "b" * left)],
        "values": [("a", "b" * (left // 2)), ("a", "b" * (left - left // 2))],
    }[where]
    assert refusal(made(*fields)) is error


# --- framing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "version", "error"),
    [
        ([("content-length", "4")], "1.1", None),
        ([("content-length", "0")], "2", None),
        ([("content-length", "9" * 18)], "1.1", None),
        ([("content-length", "9" * 19)], "1.1", BadRequest),
        ([("content-length", "4, 4")], "1.1", BadRequest),
        ([("content-length", "4"), ("content-length", "4")], "1.1", BadRequest),
        ([("content-length", "+4")], "1.1", BadRequest),
        ([("content-length", "-4")], "1.1", BadRequest),
        ([("content-length", " 4")], "1.1", BadRequest),
        ([("content-length", "4\n")], "1.1", BadRequest),
        ([("content-length", "")], "1.1", BadRequest),
        ([("content-length", "0x4")], "2", BadRequest),
        ([("transfer-encoding", "chunked")], "1.1", None),
        ([("transfer-encoding", " Chunked\t")], "1.1", None),
        ([("transfer-encoding", "chunked"), ("content-length", "4")], "1.1", BadRequest),
        ([("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], "1.1", BadRequest),
        ([("transfer-encoding", "gzip, chunked")], "1.1", BadRequest),
        ([("transfer-encoding", "identity")], "1.1", BadRequest),
        ([("transfer-encoding", "")], "1.1", BadRequest),
        ([("transfer-encoding", "chunked")], "1.0", BadRequest),
        ([("transfer-encoding", "chunked")], "2", BadRequest),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_body_has_one_end_that_everybody_sees(
    headers: list[tuple[str, str]], version: str, error: type[GatewayError] | None, kind: str
):
    scheme = {"http": "https", "websocket": "wss"}[kind]
    assert refusal(made(*headers, http_version=version, type=kind, scheme=scheme)) is error


@pytest.mark.parametrize(
    ("fields", "version", "announced"),
    [
        ({}, "1.1", False),
        ({}, "1.0", False),
        ({}, "2", True),
        ({b"content-length": b"0"}, "1.1", False),
        ({b"content-length": b"0"}, "2", False),
        ({b"content-length": b"1"}, "1.1", True),
        ({b"content-length": b"x"}, "1.1", True),
        ({b"transfer-encoding": b"chunked"}, "1.1", True),
    ],
)
def test_a_body_is_announced_by_its_framing(fields: dict[bytes, bytes], version: str, announced: bool):
    assert announces_body({"http_version": version}, fields) is announced


# --- host --------------------------------------------------------------------------------------------------------

GOOD_HOSTS = [
    "localhost",
    "a",
    "EXAMPLE.com:443",
    "example.com.",
    "a_b.c-d",
    "127.0.0.1:8000",
    "[::1]",
    "[::ffff:1.2.3.4]:80",
    "xn--bcher-kva.example",
    "b%C3%BCcher.example",
    "a:",
    "a:65535",
]
BAD_HOSTS = [
    "a b",
    "a@b/c",
    "a/b",
    "a?b",
    "a#b",
    "a\\b",
    "a..b",
    ".a",
    ".",
    ":80",
    "a:b",
    "a:65536",
    "a:123456",
    "a:1:2",
    "[::1",
    "::1",
    "[]",
    "[g::]",
    "%zz",
    "a,b",
    "b\xfccher",
    "a\x00",
    "a\n",
    " a",
    "http://a",
    "<script>",
]


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_host_is_a_name_or_an_address_with_a_port_or_without(host: str, version: str):
    assert refusal(made(("host", host), host=False, http_version=version, scheme="https")) is None


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
@pytest.mark.parametrize("host", BAD_HOSTS)
def test_what_is_no_host_is_refused(host: str, version: str):
    assert refusal(made(("host", host), host=False, http_version=version, scheme="https")) is BadRequest


@pytest.mark.parametrize(("version", "error"), [("1.0", None), ("1.1", BadRequest), ("2", None)])
@pytest.mark.parametrize("headers", [[], [("host", "")]])
def test_only_http_1_1_has_to_name_its_host(
    headers: list[tuple[str, str]], version: str, error: type[GatewayError] | None
):
    assert refusal(made(*headers, host=False, http_version=version, scheme="https")) is error


@pytest.mark.parametrize("second", ["localhost:8000", "other", ""])
def test_two_hosts_are_none(second: str):
    assert refusal(made(("host", second))) is BadRequest


def test_a_handshake_of_a_server_that_tells_no_version_is_http_1_1():
    scope = made(type="websocket", http_version=None)
    assert head_reader()(scope) == (joined(scope["headers"]), False)
    with pytest.raises(BadRequest) as refused:
        head_reader()(made(type="websocket", http_version=None, host=False))
    assert refused.value.headers == ((b"connection", b"close"),)


# --- method, version, values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["CONNECT", "", "GET ", "G\tT", "GÉT", "G(T", "GET\n"])
def test_methods_that_nobody_serves_are_refused(method: str):
    assert refusal(made(method=method)) is BadRequest


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PROPFIND", "M-SEARCH", "get"])
def test_any_other_method_is_the_routers_to_judge(method: str):
    assert refusal(made(method=method)) is None


@pytest.mark.parametrize(
    ("kind", "version", "scheme", "error"),
    [
        ("http", "2", "http", HttpVersionRefused),
        ("websocket", "2", "ws", HttpVersionRefused),
        ("http", "2", "https", None),
        ("websocket", "2", "wss", None),
        ("http", "3", "https", None),
        ("http", "1.1", "http", None),
        ("http", "1.0", "http", None),
        ("http", "1.2", "http", None),
        ("http", "0.9", "http", HttpVersionRefused),
        ("http", "9.9", "http", HttpVersionRefused),
        ("http", "11", "https", HttpVersionRefused),
        ("http", "", "http", HttpVersionRefused),
        ("http", "4", "https", HttpVersionRefused),
        ("websocket", "4", "wss", HttpVersionRefused),
        ("websocket", "1.0", "ws", BadRequest),
        ("websocket", "1.1", "ws", None),
    ],
)
def test_the_versions_are_1_and_3_and_2_for_tls_alone_and_a_handshake_is_not_made_in_1_0(
    kind: str, version: str, scheme: str, error: type[GatewayError] | None
):
    assert refusal(made(type=kind, http_version=version, scheme=scheme)) is error


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("a\rb", BadRequest),
        ("a\nb", BadRequest),
        ("a\r\n b", BadRequest),
        ("\0", BadRequest),
        ("\xff\x80", None),
        ("a\tb", None),
    ],
)
@pytest.mark.parametrize(
    ("kind", "version", "scheme"), [("http", "2", "https"), ("http", "1.0", "http"), ("websocket", "1.1", "ws")]
)
def test_a_value_is_one_line_wherever_a_server_may_let_another_through(
    value: str, error: type[GatewayError] | None, kind: str, version: str, scheme: str
):
    assert refusal(made(("x-any", value), type=kind, http_version=version, scheme=scheme)) is error


# --- path --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/a%00",
        "/%0d%0a",
        "/a%1f",
        "/%7F",
        "/a\\b",
        "/a%5Cb",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/%2e%2E/a",
        "/.%2e",
        "/a%2f..%2fb",
        "http://localhost/../a",
    ],
)
def test_a_path_that_two_may_read_differently_is_refused(path: str):
    assert refusal(made(target=path)) is BadRequest


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/a//b",
        "/...",
        "/..a",
        "/a.b",
        "/.well-known/x",
        "/a%20b",
        "/%ff",
        "/a%2Fb",
        "/%252e%252e",
        "*",
        "/ü",
    ],
)
def test_any_other_path_is_the_routers_to_judge(path: str):
    assert refusal(made(target=path, raw_path=path.encode())) is None


def test_where_the_server_does_not_say_how_the_path_came_it_is_judged_decoded():
    assert refusal(made(target="/a", raw_path=None)) is None
    assert refusal(made(path="/a\x00", raw_path=None)) is BadRequest
    assert refusal(made(path="/../a", raw_path=None, query_string=None)) is BadRequest


TEXTS = st.text(alphabet="/.%25efF\\;a0\x00\x1f", max_size=12)


@given(TEXTS)
def test_no_path_is_good_that_has_a_dot_segment_once_it_is_decoded(text: str):
    path = "/" + text
    plain = unquote(path, "latin-1")
    is_bad = any(part in {".", ".."} for part in plain.split("/")) or any(
        char in plain for char in "\\\x7f" + "".join(map(chr, range(32)))
    )
    assert refusal(made(path=path, target=path)) is (BadRequest if is_bad else None)


# --- what is remembered ------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded_however_much_comes():
    head = head_reader()
    for number in range(3 * REMEMBERED):
        head(made(("host", f"h{number}"), target=f"/p{number}", host=False))
        head(made(target=f"/.p{number}"))
    kept = [cell.cell_contents for cell in head.__closure__ if isinstance(cell.cell_contents, set)]
    assert len(kept) == 2
    assert all(0 < len(known) <= REMEMBERED for known in kept)


def test_long_paths_and_hosts_are_not_remembered():
    head = head_reader()
    head(made(("host", "h" * 300), target="/" + "p" * 300, host=False))
    assert [cell.cell_contents for cell in head.__closure__ if isinstance(cell.cell_contents, set)] == [set(), set()]

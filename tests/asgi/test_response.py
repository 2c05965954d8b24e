import json

import pytest
from asgi_driver import head_of, scope_of

from argentor_asgi.asgi.request import Incoming
from argentor_asgi.asgi.response import EventStream, Response, header_fields, problem, stream_fields
from argentor_asgi.errors import Detail, GatewayError, InvalidInput, Overloaded, Unauthenticated, every_error


def incoming(**others: object) -> Incoming:
    scope = scope_of("http", "/", [(b"x-request-id", b"r1")])
    made = Incoming(scope, None, *head_of(scope))
    for name, value in others.items():
        setattr(made, name, value)
    return made


def test_a_whole_answer_has_its_id_length_and_type():
    assert header_fields(Response(200, b"{}"), b"r1") == [
        (b"x-request-id", b"r1"),
        (b"content-length", b"2"),
        (b"content-type", b"application/json"),
    ]


def test_any_content_type_is_sent_and_none_is_left_out():
    assert (b"content-type", b"text/html; charset=utf-8") in header_fields(
        Response(200, b"", "text/html; charset=utf-8"), b"r1"
    )
    assert header_fields(Response(404, b"", None), b"r1") == [(b"x-request-id", b"r1"), (b"content-length", b"0")]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_length(status: int):
    assert header_fields(Response(status, b"", None), b"r1") == [(b"x-request-id", b"r1")]


def test_own_headers_come_before_those_of_the_request():
    fields = header_fields(Response(200, headers=[(b"a", b"1")]), b"r1", ((b"b", b"2"),))
    assert fields[-2:] == [(b"a", b"1"), (b"b", b"2")]


def test_a_stream_is_neither_cached_nor_buffered():
    stream = EventStream(iter(()), headers=[(b"a", b"1")])  # type: ignore[arg-type]  # never iterated here
    assert stream_fields(stream, incoming(answer_headers=((b"b", b"2"),))) == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        (b"x-request-id", b"r1"),
        (b"a", b"1"),
        (b"b", b"2"),
    ]


def test_a_problem_says_what_where_and_when():
    error = InvalidInput(
        "No.", details=[Detail("/a/0", "Expected `int`")], retry_after=3, members={"code": "x", "y": 1}
    )
    answer = problem(error, "r1")
    assert json.loads(answer.body) == {
        "type": "urn:argentor:error:invalid_input",
        "title": "Unprocessable Content",
        "status": 422,
        "code": "invalid_input",
        "error": "invalid_input",
        "message": "No.",
        "request_id": "r1",
        "details": [{"pointer": "/a/0", "message": "Expected `int`"}],
        "retry_after": 3,
        "y": 1,
    }
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert answer.headers == ((b"retry-after", b"3"),)


def test_a_problem_keeps_the_words_of_the_original_where_it_has_any():
    class Special(GatewayError):
        status, code, error, message = 404, "special", "webhook not found", "There is none."

    assert json.loads(problem(Special(), "r").body)["error"] == "webhook not found"


def test_a_401_has_a_challenge_its_own_or_the_plain_one():
    assert problem(Unauthenticated(), "r").headers == ((b"www-authenticate", b"Bearer"),)
    own = ((b"www-authenticate", b'Bearer realm="x"'),)
    assert problem(Unauthenticated(headers=own), "r").headers == own


@pytest.mark.parametrize("kind", list(every_error()))
def test_every_error_has_a_problem(kind: type[GatewayError]):
    body = json.loads(problem(kind(), "r").body)
    assert (body["status"], body["code"], "details" in body, "retry_after" in body) == (
        kind.status,
        kind.code,
        False,
        False,
    )


def test_an_unheard_of_status_still_has_a_title():
    class Odd(Overloaded):
        status = 599

    assert json.loads(problem(Odd(), "r").body)["title"] == "Error"

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import pytest
from asgi_driver import LOG, app_of, begin, http, lifespan, nothing_to_start, scope_of, soon

from argentor_asgi.asgi.app import build, compose
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import Response
from argentor_asgi.asgi.route import Route, route, rows_of, unmatched
from argentor_asgi.asgi.types import App, Message, Receive, Scope, Send
from argentor_asgi.errors import ConfigError, Forbidden, Overloaded, StorageUnavailable


@route("GET", "/hello/{name}", needs=None)
async def hello(name: str) -> dict[str, str]:
    return {"hello": name}


@route("POST", "/echo", needs=None)
async def echo(request: Request) -> Response:
    return Response(200, await request.body(), "application/octet-stream")


@route("GET", "/wait", needs=None)
async def wait() -> None:
    await asyncio.Event().wait()


@route("GET", "/fail/{how}", needs=None)
async def fail(how: str) -> None:
    if how == "bug":
        raise RuntimeError("a secret")
    if how == "caused":
        raise StorageUnavailable from OSError("a secret path")
    raise Overloaded("Full.", retry_after=7)


def build_of(*rows: Route, **options: Any) -> App:
    """Build an app of rows that the test keeps."""
    settings: dict[str, Any] = {"provide": {}, "lifespan": nothing_to_start, "body_bytes": 9, "request_timeout_s": 60.0}
    return build(rows, log=LOG, **(settings | options))


# --- answers -----------------------------------------------------------------------------------------------------


async def test_a_request_is_routed_bound_and_answered():
    answer = await http(app_of(hello), "GET", "/hello/you", headers={"X-Request-ID": "abc"})
    assert answer.status == 200
    assert answer.headers == [
        (b"x-request-id", b"abc"),
        (b"content-length", b"15"),
        (b"content-type", b"application/json"),
        (b"x-trace-id", answer.header("x-trace-id").encode()),
    ]
    assert answer.json() == {"hello": "you"}


async def test_head_has_the_headers_of_get_and_no_body():
    app, ids = app_of(hello), {"x-request-id": "1", "traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}
    got = await http(app, "GET", "/hello/you", headers=ids)
    head = await http(app, "HEAD", "/hello/you", headers=ids)
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/hello/you", 405, "method_not_allowed"),
        ("BREW", "/hello/you", 405, "method_not_allowed"),
        ("GET", "/hello/%ff", 400, "bad_request"),
        ("GET", "/fail/full", 503, "overloaded"),
        ("GET", "/fail/bug", 500, "internal"),
    ],
)
async def test_every_refusal_is_a_problem_with_the_request_id(method: str, target: str, status: int, code: str):
    answer = await http(app_of(hello, fail), method, target, headers={"x-request-id": "r-1"})
    body = answer.json()
    assert (answer.status, body["status"], body["code"], body["request_id"]) == (status, status, code, "r-1")
    assert answer.header("x-request-id") == "r-1"
    assert answer.header("content-type") == "application/problem+json"


async def test_405_lists_what_there_is():
    assert (await http(app_of(hello), "PUT", "/hello/x")).header("allow") == "GET, HEAD"


async def test_a_made_request_id_is_on_every_answer_and_its_own():
    app = app_of(hello)
    ids = [(await http(app, "GET", target)).header("x-request-id") for target in ("/hello/x", "/hello/x", "/no")]
    assert len({*ids}) == 3


async def test_a_bug_is_one_logged_traceback_and_says_nothing(caplog: pytest.LogCaptureFixture):
    app = app_of(fail, hello)
    answer = await http(app, "GET", "/fail/bug", headers={"x-request-id": "r-9"})
    assert b"secret" not in answer.body
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "r-9" in record.getMessage()
    assert (await http(app, "GET", "/hello/x")).status == 200


async def test_the_cause_of_a_refusal_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture):
    answer = await http(app_of(fail), "GET", "/fail/caused")
    assert answer.status == 503
    assert b"secret" not in answer.body
    assert "a secret path" in caplog.text


async def test_a_plain_refusal_is_not_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "argentor.test")
    await http(app_of(fail), "GET", "/fail/full")
    assert caplog.records == []


# --- bodies and clients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"x" * 1000, [b"x"] * 1000])
async def test_a_body_at_the_limit_is_taken(body: Any):
    assert (await http(app_of(echo), "POST", "/echo", body=body)).body == b"x" * 1000


@pytest.mark.parametrize("body", [b"x" * 1001, [b"x"] * 1001])
async def test_a_body_over_the_limit_is_413(body: Any):
    assert (await http(app_of(echo), "POST", "/echo", body=body)).status == 413


async def test_a_client_that_leaves_in_its_body_is_sent_nothing():
    (row,) = rows_of(echo)
    app = build_of(row)
    exchange = begin(app, "POST", "/echo", body=[b"x", b"y"])
    exchange.leave()
    assert (await exchange.end()).status == 0
    assert row.statuses == {499: 1}


async def test_a_client_that_is_gone_at_the_answer_is_nobodys_error(caplog: pytest.LogCaptureFixture):
    exchange = begin(app_of(hello), "GET", "/hello/x")
    exchange.fail_sends = ConnectionResetError
    await exchange.end()
    assert caplog.records == []


async def test_a_failure_of_the_server_to_send_is_raised_to_it():
    exchange = begin(app_of(hello), "GET", "/hello/x")
    exchange.fail_sends = LookupError
    with pytest.raises(LookupError):
        await exchange.end()


# --- deadlines ---------------------------------------------------------------------------------------------------


async def test_a_request_past_its_deadline_is_504():
    answer = await http(app_of(wait, request_timeout_s=0.02), "GET", "/wait")
    assert (answer.status, answer.json()["code"]) == (504, "request_timeout")


async def test_a_body_that_never_comes_is_504():
    async def starve() -> Message:
        return await asyncio.get_running_loop().create_future()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await soon(app_of(echo, request_timeout_s=0.02)(scope_of("http", "/echo", [], method="POST"), starve, send))
    assert sent[0]["status"] == 504


async def test_after_its_deadline_the_task_is_as_it_was():
    async def caller() -> int:
        exchange_app = app_of(wait, request_timeout_s=0.02)
        await exchange_app(scope_of("http", "/wait", [], method="GET"), never, ignore)
        return asyncio.current_task().cancelling()

    assert await soon(asyncio.create_task(caller())) == 0


async def never() -> Message:
    return await asyncio.get_running_loop().create_future()


async def ignore(message: Message) -> None:
    del message


async def test_a_cancellation_from_outside_is_not_answered():
    exchange = begin(app_of(wait), "GET", "/wait")
    await asyncio.sleep(0)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert exchange.answer.status == 0


async def test_a_handler_that_survives_its_deadline_is_heard():
    @route("GET", "/stubborn", needs=None)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    cancelling: list[int] = []

    def layer(app: App) -> App:
        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            cancelling.append(asyncio.current_task().cancelling())

        return outer

    answer = await http(app_of(stubborn, request_timeout_s=0.02, middleware=[layer]), "GET", "/stubborn")
    assert (answer.json(), cancelling) == ("saved", [0])


async def test_a_client_that_does_not_read_its_answer_is_left():
    exchange = begin(app_of(hello, write_timeout_s=0.02), "GET", "/hello/x")
    exchange.block_sends = True
    assert (await exchange.end()).status == 0


async def test_an_answer_that_waits_for_the_first_time_in_its_send_has_the_write_deadline():
    """A started app answers without waiting, so that nothing watches the request before its answer blocks."""
    app = app_of(hello, write_timeout_s=0.02, request_timeout_s=60.0)
    async with lifespan(app):
        exchange = begin(app, "GET", "/hello/x")
        exchange.block_sends = True
        assert (await exchange.end()).status == 0


async def test_a_cancellation_from_outside_ends_a_blocked_answer():
    exchange = begin(app_of(hello), "GET", "/hello/x")
    exchange.block_sends = True
    await asyncio.sleep(0)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task


# --- counting ----------------------------------------------------------------------------------------------------


async def test_answers_are_counted_on_their_row_and_the_rest_on_one():
    (row,), rest = rows_of(hello), unmatched()
    app = build_of(row, rest=rest)
    for method, target in (
        ("GET", "/hello/a"),
        ("HEAD", "/hello/b"),
        ("PUT", "/hello/a"),
        ("GET", "/x"),
        ("BREW", "/%ff"),
    ):
        await http(app, method, target)
    assert (row.statuses, rest.statuses) == ({200: 2}, {405: 1, 404: 1, 400: 1})
    assert (sum(row.buckets), sum(rest.buckets)) == (2, 3)


async def test_time_is_counted_until_the_answer_is_ready():
    now = 10.0

    @route("GET", "/slow", needs=None)
    async def slow() -> None:
        nonlocal now
        now += 2.0

    (row,) = rows_of(slow)
    await http(build_of(row, clock=lambda: now), "GET", "/slow")
    assert (row.seconds, row.buckets[-4]) == (2.0, 1)


# --- guards and middleware ---------------------------------------------------------------------------------------


def guard(name: str, seen: list[str]) -> Any:
    def wrap(row: Route, inner: Any) -> Any:
        def guarded(request: Request) -> Awaitable[object]:
            seen.append(f"{name} {row.template}")
            request.principal = name
            request.answer_headers = (*request.answer_headers, (b"x-guard", name.encode()))
            return inner(request)

        return guarded

    return wrap


async def test_guards_run_outermost_first_and_their_headers_go_out():
    seen: list[str] = []
    answer = await http(app_of(hello, guards=[guard("a", seen), guard("b", seen)]), "GET", "/hello/x")
    assert seen == ["a /hello/{name}", "b /hello/{name}"]
    assert answer.header("x-guard") == "a, b"


async def test_the_headers_of_a_guard_go_out_with_an_error_too():
    answer = await http(app_of(fail, guards=[guard("a", [])]), "GET", "/fail/x")
    assert (answer.status, answer.header("x-guard"), answer.header("retry-after")) == (503, "a", "7")


async def test_a_guard_that_refuses_keeps_the_handler_from_running():
    def closed(row: Route, inner: Any) -> Any:
        del row, inner

        async def guarded(request: Request) -> object:
            del request
            raise Forbidden

        return guarded

    assert (await http(app_of(wait, guards=[closed]), "GET", "/wait")).status == 403


async def test_a_guard_is_given_what_the_handler_returns():
    def shouting(row: Route, inner: Any) -> Any:
        async def guarded(request: Request) -> object:
            return [row.method, await inner(request)]

        return guarded

    assert (await http(app_of(hello, guards=[shouting]), "GET", "/hello/x")).json() == ["GET", {"hello": "x"}]


async def test_what_has_no_route_meets_no_guard():
    seen: list[str] = []
    assert (await http(app_of(hello, guards=[guard("a", seen)]), "GET", "/x")).status == 404
    assert seen == []


def layer(name: str, seen: list[str]) -> Any:
    def wrap(app: App) -> App:
        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(name)
            await app(scope, receive, send)

        return outer

    return wrap


async def test_middleware_runs_outermost_first_around_everything():
    seen: list[str] = []
    app = app_of(hello, middleware=[layer("a", seen), layer("b", seen)])
    await http(app, "GET", "/nowhere")
    assert seen == ["a", "b"]


def test_no_middleware_is_no_layer():
    app = app_of(hello)
    assert compose(app, ()) is app


async def test_the_app_works_as_a_part_of_another():
    answer = await http(app_of(hello), "GET", "/inner/hello/x", root_path="/inner")
    assert answer.json() == {"hello": "x"}


async def test_an_unknown_scope_type_is_refused():
    with pytest.raises(ValueError, match="'smtp'"):
        await app_of(hello)({"type": "smtp"}, never, ignore)


# --- start-up errors ---------------------------------------------------------------------------------------------


def test_two_handlers_on_one_path_are_a_start_up_error():
    with pytest.raises(ConfigError, match="declared twice"):
        app_of(hello, hello)

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from asgi_driver import StartupFailed, app_of, begin, http, lifespan, soon, until, websocket

from argentor_asgi.asgi.route import route, socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import ConfigError


@route("GET", "/", needs=None)
async def index() -> list[int]:
    return []


@socket("/ws", needs=None)
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()


class Told:
    """A context that notes when it is entered and left, and may wait or fail on the way."""

    def __init__(self, failure: Exception | None = None, leaving: Exception | None = None) -> None:
        self.entered = 0
        self.left = 0
        self.failure = failure
        self.leaving = leaving
        self.may_start = asyncio.Event()
        self.may_start.set()

    def __call__(self) -> AbstractAsyncContextManager[None]:
        return self._context()

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[None]:
        self.entered += 1
        await self.may_start.wait()
        if self.failure is not None:
            raise self.failure
        try:
            yield
        finally:
            self.left += 1
            if self.leaving is not None:
                raise self.leaving


# --- by the server -----------------------------------------------------------------------------------------------


async def test_the_context_is_held_from_startup_to_shutdown():
    told = Told()
    app = app_of(index, lifespan=told)
    async with lifespan(app):
        assert (told.entered, told.left) == (1, 0)
        assert (await http(app)).status == 200
    assert (told.entered, told.left) == (1, 1)


async def test_a_configuration_error_is_said_in_one_line():
    app = app_of(index, lifespan=Told(ConfigError("storage.url\n  is not one;  try memory://")))
    with pytest.raises(StartupFailed, match=r"^storage\.url is not one; try memory://$"):
        async with lifespan(app):
            pass


async def test_any_other_failure_to_start_is_in_the_log_alone(caplog: pytest.LogCaptureFixture):
    with pytest.raises(StartupFailed, match="its log has the reason"):
        async with lifespan(app_of(index, lifespan=Told(RuntimeError("a secret")))):
            pass
    assert "a secret" in caplog.text


async def test_a_failure_to_stop_is_told_and_logged(caplog: pytest.LogCaptureFixture):
    with pytest.raises(AssertionError, match=r"shutdown\.failed"):
        async with lifespan(app_of(index, lifespan=Told(leaving=RuntimeError("a secret")))):
            pass
    assert "a secret" in caplog.text


async def test_a_server_that_is_killed_still_leaves_the_context():
    told, waits = Told(), asyncio.Event()
    app = app_of(index, lifespan=told)
    events = [{"type": "lifespan.startup"}]

    async def receive() -> dict[str, str]:
        if events:
            return events.pop()
        waits.set()
        return await asyncio.get_running_loop().create_future()

    async def send(message: object) -> None:
        del message

    task = asyncio.create_task(app({"type": "lifespan"}, receive, send))
    await soon(waits.wait())
    task.cancel()
    await asyncio.wait({task})
    assert (task.cancelled(), told.left) == (True, 1)


# --- without a server's help -------------------------------------------------------------------------------------


async def test_without_lifespan_the_first_request_starts_the_app_once():
    told = Told()
    app = app_of(index, lifespan=told)
    assert [(await http(app)).status for _ in range(2)] == [200, 200]
    assert (told.entered, told.left) == (1, 0)


async def test_the_first_socket_starts_the_app_too():
    told = Told()
    async with websocket(app_of(talk, lifespan=told), "/ws"):
        assert told.entered == 1


async def test_requests_that_come_meanwhile_wait_for_the_same_start():
    told = Told()
    told.may_start.clear()
    app = app_of(index, lifespan=told)
    exchanges = [begin(app) for _ in range(3)]
    await until(lambda: told.entered)
    assert [exchange.answer.status for exchange in exchanges] == [0, 0, 0]
    told.may_start.set()
    assert [(await exchange.end()).status for exchange in exchanges] == [200] * 3
    assert told.entered == 1


async def test_a_cancelled_first_request_leaves_the_start_to_the_others():
    told = Told()
    told.may_start.clear()
    app = app_of(index, lifespan=told)
    first, second = begin(app), begin(app)
    await until(lambda: told.entered)
    first.task.cancel()
    await asyncio.wait({first.task})
    told.may_start.set()
    assert (await second.end()).status == 200
    assert told.entered == 1


async def test_a_start_that_fails_is_a_500_and_is_tried_again(caplog: pytest.LogCaptureFixture):
    told = Told(ConfigError("a secret setting"))
    app = app_of(index, lifespan=told)
    answer = await http(app)
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert "a secret setting" in caplog.text
    told.failure = None
    assert (await http(app)).status == 200
    assert told.entered == 2


async def test_a_start_that_fails_with_nobody_waiting_is_no_loose_end():
    told = Told(RuntimeError("x"))
    told.may_start.clear()
    exchange = begin(app_of(index, lifespan=told))
    await until(lambda: told.entered)
    exchange.task.cancel()
    await asyncio.wait({exchange.task})
    told.may_start.set()
    await asyncio.sleep(0)


def test_the_end_of_the_loop_leaves_the_context():
    left: list[Callable[[], int]] = []

    async def serve() -> None:
        told = Told()
        left.append(lambda: told.left)
        assert (await http(app_of(index, lifespan=told))).status == 200

    asyncio.run(serve())
    assert left[0]() == 1

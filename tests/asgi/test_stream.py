import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi_driver import LOG, app_of, begin, head_of, http, scope_of, soon, until

from argentor_asgi.asgi.deadline import Sweeper
from argentor_asgi.asgi.request import Request
from argentor_asgi.asgi.response import EventStream
from argentor_asgi.asgi.route import route
from argentor_asgi.asgi.stream import Streaming
from argentor_asgi.asgi.types import App, Message

ASKED = scope_of("http", "/s", [], method="GET")


class Source:
    """Chunks to stream; `closed` says that the generator was."""

    def __init__(self, *chunks: bytes, then: str = "end") -> None:
        self.chunks = chunks
        self.then = then
        self.closed = False
        self.more = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self.chunks:
                yield chunk
            if self.then == "wait":
                await self.more.wait()
                yield b"more"
            if self.then == "fail":
                raise RuntimeError("a secret")
            while self.then == "flood":
                yield b"x"
        finally:
            self.closed = True


def streaming(source: Source, stream_options: Any = None, **options: Any) -> App:
    """An app that answers `/s` with the pieces of `source`."""

    @route("GET", "/s", needs=None)
    async def stream() -> EventStream:
        return EventStream(source.pieces(), **(stream_options or {}))

    return app_of(stream, wait, **options)


@route("GET", "/wait", needs=None)
async def wait() -> None:
    await asyncio.Event().wait()


async def never() -> Message:
    return await asyncio.get_running_loop().create_future()


async def test_a_stream_ends_right_after_its_source():
    source = Source(b"a", b"b")
    answer = await http(streaming(source), "GET", "/s", headers={"x-request-id": "r"})
    assert (answer.status, answer.chunks, answer.complete) == (200, [b"a", b"b"], True)
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert answer.header("x-request-id") == "r"
    assert answer.header("content-length") is None
    assert source.closed


@pytest.mark.parametrize("started", [True, False])
async def test_a_stream_outlives_every_deadline_of_a_request(started: bool):
    source = Source(b"a", then="wait")
    app = streaming(source, request_timeout_s=0.02, write_timeout_s=0.02)
    if started:
        assert (await http(app, "GET", "/nowhere")).status == 404
    exchange = begin(app, "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    for _ in range(2):
        assert (await http(app, "GET", "/wait")).status == 504, "a later request has run out of time meanwhile"
    source.more.set()
    assert (await exchange.end()).chunks == [b"a", b"more"]


async def test_a_disconnect_by_message_ends_the_stream_and_closes_its_source():
    source = Source(b"a", then="wait")
    exchange = begin(streaming(source), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    exchange.leave()
    answer = await exchange.end()
    assert (answer.complete, source.closed) == (False, True)
    assert exchange.task.cancelling() == 0


async def test_a_disconnect_by_exception_ends_the_stream_and_closes_its_source(caplog: pytest.LogCaptureFixture):
    source = Source(b"a", then="wait")
    exchange = begin(streaming(source), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    exchange.fail_sends = BrokenPipeError
    source.more.set()
    await exchange.end()
    assert source.closed
    assert caplog.records == []


@pytest.mark.parametrize("reads", [0, 1])
async def test_a_client_that_just_stops_reading_is_left_at_the_write_deadline(reads: int):
    source = Source(then="flood")
    exchange = begin(streaming(source, write_timeout_s=0.02), "GET", "/s")
    await exchange.seen(lambda answer: len(answer.chunks) >= reads)
    exchange.block_sends = True
    answer = await exchange.end()
    assert (answer.complete, exchange.task.cancelling()) == (False, 0)
    assert source.closed or not reads


async def test_sending_waits_for_the_client():
    source = Source(then="flood")
    exchange = begin(streaming(source), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    exchange.block_sends = True
    sends = 0
    while sends != exchange.sends:
        sends = exchange.sends
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert exchange.sends == sends
    exchange.leave()
    await exchange.end()
    assert source.closed


async def test_a_source_that_fails_ends_the_body_cleanly_and_is_logged(caplog: pytest.LogCaptureFixture):
    source = Source(b"a", then="fail")
    answer = await http(streaming(source), "GET", "/s", headers={"x-request-id": "r-3"})
    assert (answer.chunks, answer.complete, source.closed) == ([b"a"], True, True)
    assert "r-3" in caplog.records[0].getMessage()
    assert "a secret" in caplog.text


async def test_a_cancellation_from_outside_closes_the_source_and_goes_on():
    source = Source(b"a", then="wait")
    exchange = begin(streaming(source), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert source.closed


async def test_a_head_of_a_stream_has_no_body():
    answer = await http(streaming(Source(b"a")), "HEAD", "/s")
    assert (answer.status, answer.body, answer.complete) == (200, b"", True)


@pytest.mark.parametrize("beat", [b": hi\n\n", lambda: b": hi\n\n"])
async def test_a_silent_stream_sends_its_heartbeat(beat: Any):
    source = Source(b"a", then="wait")
    quickly = {"heartbeat": beat, "heartbeat_s": 0.01}
    exchange = begin(streaming(source, quickly, write_timeout_s=0.04), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks.count(b": hi\n\n") >= 2)
    source.more.set()
    answer = await exchange.end()
    assert (answer.chunks[0], answer.chunks[-1], answer.complete) == (b"a", b"more", True)


async def test_a_stream_without_a_heartbeat_is_silent():
    exchange = begin(streaming(Source(b"a", then="wait"), write_timeout_s=0.02), "GET", "/s")
    quickly = {"heartbeat": b"!", "heartbeat_s": 0.02}
    beating = begin(streaming(Source(then="wait"), quickly, write_timeout_s=0.02), "GET", "/s")
    await beating.seen(lambda answer: len(answer.chunks) >= 3)
    assert exchange.answer.chunks == [b"a"]
    for one in (exchange, beating):
        one.leave()
        await one.end()


@pytest.mark.parametrize("how", ["fail_sends", "block_sends"])
async def test_a_heartbeat_that_cannot_be_sent_ends_the_stream(how: str):
    source = Source(b"a", then="wait")
    quickly = {"heartbeat": b"!", "heartbeat_s": 0.01}
    exchange = begin(streaming(source, quickly, write_timeout_s=0.04), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    setattr(exchange, how, ConnectionResetError if how == "fail_sends" else True)
    await exchange.end()
    assert source.closed


async def test_a_chunk_waits_for_the_heartbeat_before_it():
    source = Source(b"a", then="wait")
    gate, order = asyncio.Event(), []

    async def send(message: Message) -> None:
        body = message.get("body")
        if body == b"!":
            source.more.set()
            await gate.wait()
        order.append(body)

    app = streaming(source, {"heartbeat": b"!", "heartbeat_s": 0.01}, write_timeout_s=0.2)
    task = asyncio.create_task(app(scope_of("http", "/s", [], method="GET"), never, send))
    await soon(source.more.wait())
    for _ in range(10):
        await asyncio.sleep(0)
    assert order == [None, b"a"]
    gate.set()
    await soon(task)
    assert order == [None, b"a", b"!", b"more", b""]


async def test_a_server_that_repeats_the_end_of_the_body_is_not_asked_for_ever():
    asked = 0

    async def repeating() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await soon(streaming(Source(b"a"))(scope_of("http", "/s", [], method="GET"), repeating, send))
    assert asked <= 2
    assert [message.get("body") for message in sent[1:]] == [b"a", b""]


async def test_an_iterator_that_cannot_be_closed_is_streamed_too():
    class Plain:
        def __init__(self) -> None:
            self.left = [b"a", b"b"]

        def __aiter__(self) -> "Plain":
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    @route("GET", "/s", needs=None)
    async def stream() -> EventStream:
        return EventStream(Plain())

    assert (await http(app_of(stream), "GET", "/s")).chunks == [b"a", b"b"]


async def test_a_source_that_swallows_the_end_is_not_sent_further():
    @route("GET", "/s", needs=None)
    async def stream() -> EventStream:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield b"still here"

        return EventStream(pieces())

    exchange = begin(app_of(stream), "GET", "/s")
    await exchange.seen(lambda answer: answer.chunks)
    exchange.leave()
    answer = await exchange.end()
    assert (answer.chunks, answer.complete, exchange.task.cancelling()) == ([b"a"], False, 0)


# --- age, and who hears of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [b"retry: 1\n\n", lambda: b"retry: 1\n\n"])
async def test_an_old_stream_ends_with_its_last_word_although_its_source_is_silent(last: Any):
    source = Source(b"a", then="wait")
    answer = await http(streaming(source, {"age_s": 0.02, "last": last}, write_timeout_s=0.04), "GET", "/s")
    assert (answer.chunks, answer.complete, source.closed) == ([b"a", b"retry: 1\n\n"], True, True)


async def test_an_old_stream_ends_between_two_chunks_although_its_source_is_never_silent():
    source = Source(then="flood")
    answer = await http(streaming(source, {"age_s": 0.02, "last": b"end"}), "GET", "/s")
    assert (set(answer.chunks[:-1]), answer.chunks[-1], answer.complete) == ({b"x"}, b"end", True)
    assert source.closed


async def test_an_old_stream_may_end_without_a_word():
    answer = await http(streaming(Source(b"a", then="wait"), {"age_s": 0.02}, write_timeout_s=0.04), "GET", "/s")
    assert (answer.chunks, answer.complete) == ([b"a"], True)


async def test_a_last_word_is_asked_for_before_the_source_is_closed():
    closed, was_closed = [False], []

    def last() -> bytes:
        was_closed.append(closed[0])
        return b"end"

    class Watchful:
        """An iterator that nothing ends but its closing."""

        def __aiter__(self) -> "Watchful":
            return self

        async def __anext__(self) -> bytes:
            return await asyncio.get_running_loop().create_future()

        async def aclose(self) -> None:
            closed[0] = True

    @route("GET", "/s", needs=None)
    async def stream() -> EventStream:
        return EventStream(Watchful(), age_s=0.02, last=last)

    assert (await http(app_of(stream, write_timeout_s=0.04), "GET", "/s")).chunks == [b"end"]
    assert (was_closed, closed[0]) == ([False], True)


async def test_a_young_stream_beats_until_it_is_old():
    quickly = {"heartbeat": b"!", "heartbeat_s": 0.01, "age_s": 0.2, "last": b"end"}
    answer = await http(streaming(Source(b"a", then="wait"), quickly, write_timeout_s=0.04), "GET", "/s")
    assert (answer.chunks[0], b"!" in answer.chunks, answer.chunks[-1]) == (b"a", True, b"end")


class Heard:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def stream_opened(self) -> None:
        self.said.append("opened")

    def stream_closed(self, seconds: float, status: int) -> None:
        assert seconds >= 0
        self.said.append(status)

    def consumer_cut(self, kind: str) -> None:
        self.said.append(kind)


async def observed(
    send: Any, *, receive: Any = never, source: Source | None = None, **options: Any
) -> tuple[int, list[object]]:
    """Stream to `send` and return the final status and what was heard."""
    heard, source = Heard(), source or Source(b"a")
    sweeper = Sweeper(time.perf_counter, 0.02)
    request = Request(ASKED, receive, *head_of(ASKED))
    streaming = Streaming(request, EventStream(source.pieces(), **options), send, sweeper, 0.02, heard)
    status = await soon(streaming.run(LOG))
    assert not sweeper.watching
    sweeper.close()
    return status, heard.said


async def taken(_: Message) -> None:
    """Take a message, as a client that reads."""


async def refused(_: Message) -> None:
    raise BrokenPipeError


async def blocked(_: Message) -> None:
    await never()


async def leaving() -> Message:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("send", "options", "expected"),
    [
        (taken, {}, 200),
        (taken, {"source": "fail"}, 200),
        (taken, {"source": "wait", "age_s": 0.01}, 200),
        (taken, {"source": "wait", "receive": leaving}, 499),
        (refused, {}, 499),
    ],
)
async def test_who_observes_hears_when_a_stream_opens_and_how_it_ended(send: Any, options: Any, expected: int):
    more = options | ({"source": Source(b"a", then=options["source"])} if "source" in options else {})
    assert await observed(send, **more) == (expected, ["opened", expected])


@pytest.mark.parametrize("beats", [False, True])
async def test_a_client_that_does_not_read_is_reported_as_cut(beats: bool):
    async def slow(message: Message) -> None:
        if message.get("body") == (b"!" if beats else b"a"):
            await never()

    options = {"heartbeat": b"!", "heartbeat_s": 0.01, "source": Source(b"a", then="wait")} if beats else {}
    assert await observed(slow, **options) == (499, ["opened", "sse_write", 499])


async def test_a_stream_cancelled_from_outside_is_reported_as_over():
    heard, sweeper = Heard(), Sweeper(time.perf_counter, 60)
    request = Request(ASKED, never, *head_of(ASKED))
    streaming = Streaming(request, EventStream(Source(then="wait").pieces(), age_s=60), taken, sweeper, 60, heard)
    task = asyncio.create_task(streaming.run(LOG))
    await until(lambda: heard.said)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard.said == ["opened", 499]
    sweeper.close()

"""`argentor_asgi.server.guards`: hypercorn with and without them, over real sockets, in this process."""

import asyncio
import hashlib
import inspect
import re
import socket
from contextlib import asynccontextmanager, nullcontext, suppress

import hypercorn.asyncio
import hypercorn.asyncio.run
import hypercorn.asyncio.task_group
import hypercorn.asyncio.tcp_server
import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import pytest
from attacks import BINARY, CLOSE, PATIENCE_S, PING, PONG, TEXT, accepted, close_code, frame, handshake, rest
from wsproto.connection import Connection, ConnectionType

from argentor_asgi.config import Config, Limits
from argentor_asgi.server import guards
from argentor_asgi.server.guards import Mailbox, installed
from argentor_asgi.server.launcher import listen, settings
from argentor_asgi.server.websocket_guard import FRAMES_PER_TURN, IDLE_FRAMES, announced_bytes

pytestmark = pytest.mark.slow

LINGER_S = 0.05
LIMITS = Limits(message_bytes=1000)
MESSAGE_BYTES = 3 * 1000 + 16 * 1024
"""What the launcher makes of these limits."""
HANDSHAKE = handshake()
DEFLATE = handshake("/", b"Sec-WebSocket-Extensions: permessage-deflate")

SOURCES = {
    "hypercorn.asyncio.tcp_server.TCPServer": "3bfa72b31950",
    "hypercorn.asyncio.task_group.TaskGroup": "1260b105c058",
    "hypercorn.asyncio.task_group._handle": "e37cfe3db06e",
    "hypercorn.protocol.ProtocolWrapper": "caf949187e9b",
    "hypercorn.protocol.h11.H11Protocol": "b32a61e0a8ca",
    "hypercorn.protocol.ws_stream.Handshake": "701a154c29b5",
    "hypercorn.protocol.ws_stream.WebsocketBuffer": "31c9b1345f30",
    "hypercorn.protocol.ws_stream.WSStream": "67434c428a1a",
    "wsproto.frame_protocol.FrameDecoder": "a06eb6159106",
}
"""What the guards were written against. When one has changed: read how, then the guard, then enter the new digest."""


class App:
    """An ASGI app that echoes what a socket says, with what it was told in `heard`; `/slow` never receives."""

    def __init__(self, answer=None):
        self.heard: list = []
        self.running = 0
        self.ended = asyncio.Event()
        self._answer = answer

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.running += 1
        try:
            await (self._answer or (self.echo if scope["type"] == "websocket" else hello))(receive, send)
        finally:
            self.running -= 1
            self.ended.set()

    async def echo(self, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            self.heard.append(await receive())
            if self.heard[-1]["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": self.heard[-1]["text"]})


async def hello(_receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(app, *, guarded=True, stall_s=guards.STALL_S):
    """Serve `app` as the launcher does, and yield the port; guarded, nothing is left of it, nor was anything wrong."""
    sockets = listen(["127.0.0.1:0"])
    port = sockets[0].getsockname()[1]
    loop, wrong, ready, stop = asyncio.get_running_loop(), [], asyncio.Event(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: wrong.append(context))

    async def told():
        ready.set()
        await stop.wait()

    with installed(stall_s=stall_s, linger_s=LINGER_S) if guarded else nullcontext():
        config = settings(sockets, Config(limits=LIMITS))
        config.graceful_timeout = 0.1
        server = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=told, mode="asgi"))
        await asyncio.wait_for(ready.wait(), PATIENCE_S)
        yield port
        if guarded:
            await gone()
        stop.set()
        await asyncio.wait_for(server, PATIENCE_S)
    if guarded:
        assert wrong == []


async def gone():
    """Wait until no connection has a task any more."""
    async with asyncio.timeout(PATIENCE_S):
        while left := [task for task in asyncio.all_tasks() if "_server_callback" in repr(task.get_coro())]:
            await asyncio.wait(left)


@asynccontextmanager
async def talking(port, *sent, limit=2**16):
    """Send these bytes, and yield the reader and the writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        for piece in sent:
            writer.write(piece)
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


# --- upstream ------------------------------------------------------------------------------------------------------


def named(path):
    module, _, name = path.rpartition(".")
    return getattr(inspect.importlib.import_module(module), name)


@pytest.mark.parametrize("path", SOURCES)
def test_what_the_guards_replace_is_what_they_were_written_against(path):
    found = hashlib.sha256(inspect.getsource(named(path)).encode()).hexdigest()[:12]
    assert found == SOURCES[path], f"{path} has changed: read the guard against it, then enter {found}"


def test_what_is_installed_is_known():
    assert guards.unknown() == ""


def test_other_versions_are_named():
    assert re.fullmatch(r"hypercorn 0\.18\.\d+", guards.unknown({"hypercorn": ("0.1", "0.19")}))


def test_each_guard_stands_for_a_subclass_of_what_hypercorn_has_there_and_goes_again():
    before = [getattr(module, name) for module, name, _ in guards._guards(1, 1)]
    with installed():
        during = [getattr(module, name) for module, name, _ in guards._guards(1, 1)]
    assert [getattr(module, name) for module, name, _ in guards._guards(1, 1)] == before
    for guard, upstream in zip(during, before, strict=True):
        assert issubclass(getattr(guard, "func", guard), upstream)
        assert guard is not upstream


@pytest.mark.parametrize(
    ("sent", "still"),
    [
        (b"", 0),
        (frame(TEXT, b"hello"), 0),
        (frame(BINARY, length=2**62), 2**62),
        (frame(BINARY, b"x" * 100, length=1000), 900),
        (frame(TEXT, b"hello")[:3], 0),
    ],
)
def test_the_bytes_that_a_frame_announces_are_known(sent, still):
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(sent)
    list(connection.events())
    assert announced_bytes(connection) == still


# --- handshakes and heads --------------------------------------------------------------------------------------------

NON_ASCII = [handshake("/", name + b": \xff\xfe") for name in (b"sec-websocket-extensions", b"sec-websocket-protocol")]
H2C = (
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\n"
    b"upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n"
)
PRIOR = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "plain", "guarded"),
    [
        (NON_ASCII[0], b"", b"HTTP/1.1 400 "),
        (NON_ASCII[1], b"", b"HTTP/1.1 400 "),
        (H2C, b"HTTP/1.1 101 ", b"HTTP/1.1 200 "),
        (PRIOR, b"\0\0", b"HTTP/1.1 200 "),
        (handshake(version=b"12"), b"HTTP/1.1 400 ", b"HTTP/1.1 400 "),
    ],
    ids=["extension", "protocol", "h2c upgrade", "h2 prior knowledge", "version"],
)
async def test_a_strange_head_is_answered_in_http_1_and_its_connection_ends(sent, plain, guarded):
    async with serving(App(), guarded=False) as port, talking(port, sent) as (reader, _):
        assert (await asyncio.wait_for(reader.read(2**16), PATIENCE_S)).startswith(plain)
    async with serving(App()) as port, talking(port, sent) as (reader, _):
        assert (await rest(reader)).startswith(guarded)


async def test_deflate_is_not_negotiated():
    async with serving(App(), guarded=False) as port, talking(port, DEFLATE) as (reader, _):
        assert b"permessage-deflate" in await accepted(reader)
    async with serving(App()) as port, talking(port, DEFLATE) as (reader, writer):
        assert b"deflate" not in await accepted(reader)
        writer.write(frame(TEXT | 0x40, b"\xf2\x48\xcd\xc9\xc9\x07\x00"))
        assert close_code(await rest(reader)) == 1002


async def test_a_frame_sent_before_the_accept_ends_the_connection_and_the_app():
    opened = asyncio.Event()

    async def late(receive, send):
        await receive()
        await opened.wait()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"

    app = App(late)
    async with serving(app) as port, talking(port, HANDSHAKE + frame(TEXT, b"early")) as (reader, _):
        assert (await rest(reader)).startswith(b"HTTP/1.1 400")
        opened.set()
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)


# --- what a socket takes ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(app, **options):
    async with serving(app, **options) as port, talking(port, HANDSHAKE) as (reader, writer):
        await accepted(reader)
        yield reader, writer


async def test_a_message_of_the_largest_size_is_taken_whole_or_in_pieces():
    text = b"x" * MESSAGE_BYTES
    pieces = frame(TEXT, text[:1], fin=False) + frame(0, text[1:-1], fin=False) + frame(0, text[-1:])
    async with opened(App()) as (reader, writer):
        for sent in (frame(TEXT, text), pieces):
            writer.write(sent)
            echoed = await asyncio.wait_for(reader.readexactly(4 + MESSAGE_BYTES), PATIENCE_S)
            assert echoed[4:] == text


@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, length=MESSAGE_BYTES + 1),
        frame(BINARY, length=2**62),
        frame(TEXT, b"x" * (MESSAGE_BYTES + 1)),
        frame(TEXT, b"x" * MESSAGE_BYTES, fin=False) + frame(0, b"x"),
        frame(TEXT, b"x" * MESSAGE_BYTES, fin=False) + frame(0, length=1)[:6],
    ],
    ids=["announced", "2^62", "whole", "pieces", "announced piece"],
)
async def test_what_is_too_large_is_refused_with_1009_and_the_connection_ends(sent):
    app = App()
    async with opened(app) as (reader, writer):
        writer.write(sent)
        assert close_code(await rest(reader)) == 1009
        assert [(heard["type"], heard["code"]) for heard in app.heard] == [("websocket.disconnect", 1009)]


async def test_endless_fragments_end_although_their_sender_ignores_the_close():
    app = App()
    async with opened(app) as (_, writer):
        writer.write(frame(TEXT, b"x" * 1000, fin=False))
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    writer.write(frame(0, b"x" * 1000, fin=False))
                    await writer.drain()
        assert app.heard[-1]["code"] == 1009


@pytest.mark.parametrize(
    "idle",
    [frame(PING), frame(PONG, b"x"), frame(0, fin=False), frame(0, b"x" * 15, fin=False)],
    ids=["pings", "pongs", "empty fragments", "tiny fragments"],
)
async def test_a_flood_of_frames_that_carry_nothing_is_cut_with_1008(idle):
    app = App()
    async with opened(app) as (reader, writer):
        writer.write(frame(TEXT, b"x", fin=False) + idle * (IDLE_FRAMES + 50))
        assert close_code(await rest(reader)) == 1008
        assert app.heard[-1]["code"] == 1008


async def test_as_many_pings_as_allowed_are_each_answered():
    async with opened(App()) as (reader, writer):
        writer.write(frame(PING, b"ab") * IDLE_FRAMES + frame(TEXT, b"on"))
        pongs = await asyncio.wait_for(reader.readexactly(4 * IDLE_FRAMES), PATIENCE_S)
        assert pongs == b"\x8a\x02ab" * IDLE_FRAMES
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE_S) == b"\x81\x02on"


async def test_others_have_their_turn_while_one_client_has_much_to_say():
    app = App()
    async with opened(app) as (reader, writer):
        turns = 0
        writer.write(frame(TEXT, fin=False) + frame(0, b"x" * 16, fin=False) * 800 + frame(0))
        while not app.heard:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 800 / FRAMES_PER_TURN
        await asyncio.wait_for(reader.readexactly(4 + 16 * 800), PATIENCE_S)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(0x3), 1002),
        (frame(TEXT | 0x20, b"x"), 1002),
        (b"\x81\x05hello", 1002),
        (frame(0, b"x"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(PING, b"x" * 126), 1002),
    ],
    ids=["utf-8", "opcode", "rsv", "unmasked", "continuation", "close", "long ping"],
)
async def test_what_is_no_websocket_is_told_so_by_a_close_frame(sent, code):
    app = App()
    async with opened(app) as (reader, writer):
        writer.write(sent)
        assert close_code(await rest(reader)) == code
        assert app.heard[-1]["code"] == code


@pytest.mark.parametrize(
    ("payload", "code", "reason"), [(b"", 1005, ""), (b"\x03\xe8", 1000, ""), (b"\x0f\xa1done", 4001, "done")]
)
async def test_the_app_hears_what_the_client_closed_with(payload, code, reason):
    app = App()
    async with opened(app) as (reader, writer):
        writer.write(frame(CLOSE, payload))
        assert await rest(reader) == bytes([0x80 | CLOSE, len(payload)]) + payload
        assert app.heard == [{"type": "websocket.disconnect", "code": code, "reason": reason}]


async def test_a_client_that_just_leaves_is_1006():
    app = App()
    async with opened(app) as (_, writer):
        writer.transport.abort()
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)
        assert app.heard[-1]["code"] == 1006


async def test_a_close_of_the_app_ends_with_the_answer_of_the_client():
    async def leave(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})
        assert (await receive())["code"] == 1000

    async with opened(App(leave)) as (reader, writer):
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE_S) == b"\x88\x02\x0f\xa0"
        writer.write(frame(CLOSE, b"\x0f\xa0"))
        assert await rest(reader) == b""


# --- what a client does not read or the app does not take -----------------------------------------------------------


@asynccontextmanager
async def narrow(port, sent):
    """Connect with a small receive buffer, send, and read nothing."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        await asyncio.get_running_loop().sock_sendall(made, sent)
        yield made
    finally:
        made.close()


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
MUCH = b"x" * 2**20


async def drained(client):
    """Return all that comes until the connection has ended, in whatever way."""
    data, loop = b"", asyncio.get_running_loop()
    with suppress(ConnectionError):
        while piece := await asyncio.wait_for(loop.sock_recv(client, 2**20), PATIENCE_S):
            data += piece
    return data


async def pour(_receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": MUCH})


@pytest.mark.parametrize("cancelled", [False, True], ids=["app waits", "app is cancelled"])
async def test_a_client_that_does_not_read_is_cut(cancelled):
    async def impatient(receive, send):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await pour(receive, send)

    app = App(impatient if cancelled else pour)
    async with serving(app, stall_s=0.3) as port, narrow(port, GET) as client:
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)
        await gone()
        assert len(await drained(client)) < len(MUCH)


async def test_a_client_that_reads_slowly_gets_everything():
    app = App(pour)
    async with serving(app, stall_s=0.1) as port, talking(port, GET, limit=2**14) as (reader, _):
        got = 0
        while got < len(MUCH):
            got += len(await asyncio.wait_for(reader.read(2**15), PATIENCE_S))
            await asyncio.sleep(0.01)
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)


async def test_an_answer_before_the_body_was_read_ends_the_connection_and_the_app():
    async def refuse(_receive, send):
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"2")]})
        await filled.wait()
        await send({"type": "http.response.body", "body": b"no"})

    filled, app = asyncio.Event(), App(refuse)
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\n"
    async with serving(app) as port, narrow(port, head) as client:
        for _ in range(100):
            with suppress(BlockingIOError):
                client.send(b"x" * 2**16)
            await asyncio.sleep(0)
        filled.set()
        assert (await drained(client)).startswith(b"HTTP/1.1 413")
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)


async def test_a_mailbox_is_bounded_and_a_disconnect_finds_room():
    mailbox = Mailbox(2)
    for body in (b"1", b"2"):
        await mailbox.put({"type": "http.request", "body": body})
    third = asyncio.create_task(mailbox.put({"type": "http.request", "body": b"3"}))
    await asyncio.sleep(0)
    assert mailbox.qsize() == 2
    await mailbox.put({"type": "http.disconnect"})
    assert [(await mailbox.get())["type"] for _ in range(3)] == ["http.request", "http.request", "http.disconnect"]
    await third


async def test_a_mailbox_that_is_closed_keeps_nobody_waiting():
    mailbox = Mailbox(1)
    puts = [asyncio.create_task(mailbox.put({"type": "http.request", "body": b""})) for _ in range(5)]
    await asyncio.sleep(0)
    mailbox.close()
    await asyncio.wait_for(asyncio.gather(*puts), PATIENCE_S)


async def test_a_guarded_server_answers_as_ever():
    async with serving(App()) as port, talking(port) as (reader, writer):
        for _ in range(3):
            writer.write(GET)
            assert (await asyncio.wait_for(reader.readuntil(b"hello"), PATIENCE_S)).startswith(b"HTTP/1.1 200")

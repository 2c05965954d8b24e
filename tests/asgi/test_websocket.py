import asyncio
import time
from typing import Any, get_args

import pytest
from asgi_driver import LOG, app_of, head_of, nothing_to_start, scope_of, soon, websocket
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.app import build
from argentor_asgi.asgi.deadline import Sweeper, Unobserved
from argentor_asgi.asgi.route import route, rows_of, socket
from argentor_asgi.asgi.types import Message
from argentor_asgi.asgi.websocket import (
    LEGAL,
    REASON_BYTES,
    Call,
    Disconnected,
    IllegalOrder,
    MessageTooLarge,
    State,
    WebSocket,
    exceeds,
)
from argentor_asgi.errors import Forbidden, Overloaded, StorageUnavailable

STATES: tuple[State, ...] = get_args(State)
CALLS: tuple[Call, ...] = get_args(Call)


def alone(*events: Message, state: State = "connecting") -> tuple[WebSocket, list[Message]]:
    """A socket without a server: it hears `events`, then a disconnect; what it sends is listed."""
    heard = [*events]
    sent: list[Message] = []

    async def receive() -> Message:
        return heard.pop(0) if heard else {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = scope_of("websocket", "/", [], extensions={"websocket.http.response": {}}, subprotocols=["a", "b"])
    made = WebSocket(scope, receive, send, *head_of(scope), Sweeper(lambda: 0.0, 1), 10)
    made.state = state
    return made, sent


CONNECT: Message = {"type": "websocket.connect"}


async def do(one: WebSocket, call: Call) -> Any:
    match call:
        case "accept":
            return await one.accept()
        case "refuse":
            return await one.refuse(Forbidden())
        case "receive":
            return await one.receive()
        case "send":
            return await one.send("x")
        case _:
            return await one.close()


# --- order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", CALLS)
async def test_every_call_in_every_state_is_in_the_table_or_a_bug(state: State, call: Call):
    one, sent = alone(CONNECT if state == "connecting" else {"type": "websocket.receive", "text": "x"}, state=state)
    if (state, call) not in LEGAL:
        with pytest.raises(IllegalOrder):
            await do(one, call)
        assert (one.state, sent) == (state, [])
    elif call == "send" and state != "open":
        with pytest.raises(Disconnected):
            await do(one, call)
    else:
        try:
            await do(one, call)
        except Disconnected:
            assert (state, call) == ("gone", "receive")
        assert one.state == LEGAL[state, call]


WRITES = {"websocket.accept", "websocket.send", "websocket.close", "websocket.http.response.start"}


@given(st.lists(st.sampled_from(CALLS), max_size=8), st.lists(st.sampled_from(["x", None]), max_size=4))
async def test_whatever_is_called_the_server_hears_a_legal_order(calls: list[Call], texts: list[str | None]):
    events = [
        {"type": "websocket.disconnect", "code": 1001} if text is None else {"type": "websocket.receive", "text": text}
        for text in texts
    ]
    one, sent = alone(CONNECT, *events)
    gone = False
    for call in calls:
        before = len(sent)
        try:
            await do(one, call)
        except (IllegalOrder, Disconnected):
            assert len(sent) == before
        assert not (gone and len(sent) > before)
        gone = gone or one.state == "gone"
    kinds = [message["type"] for message in sent]
    assert kinds.count("websocket.accept") <= 1
    assert all(kind != "websocket.accept" for kind in kinds[1:])
    assert all(kind != "websocket.close" for kind in kinds[:-1])


async def test_after_a_disconnect_every_receive_says_the_same():
    one, _ = alone(state="open")
    for _ in range(2):
        with pytest.raises(Disconnected) as caught:
            await one.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "bye")
    assert str(caught.value) == "4001 bye"


async def test_after_its_own_close_a_socket_hears_the_rest_and_then_its_own_code():
    one, _ = alone({"type": "websocket.receive", "text": "late"}, state="open")
    await one.close(1012, "restart")
    assert await one.receive() == "late"
    with pytest.raises(Disconnected, match="1012 restart"):
        await one.receive()


async def test_a_client_that_left_before_the_handshake_is_gone():
    one, sent = alone({"type": "websocket.disconnect", "code": 1006})
    with pytest.raises(Disconnected):
        await one.accept()
    assert (one.state, one.accepted, sent) == ("gone", False, [])


# --- what is sent and heard --------------------------------------------------------------------------------------


async def test_acceptance_carries_the_request_id_and_the_subprotocol():
    one, sent = alone(CONNECT)
    one.answer_headers = ((b"a", b"1"),)
    assert one.subprotocols == ["a", "b"]
    await one.accept("b")
    assert sent == [
        {"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-request-id", one.id_bytes), (b"a", b"1")]}
    ]
    assert one.subprotocol == "b"


async def test_text_is_sent_as_text_also_from_bytes():
    one, sent = alone(state="open")
    await one.send("ü")
    await one.send("ü".encode())
    assert sent == [{"type": "websocket.send", "text": "ü"}] * 2


@pytest.mark.parametrize(
    "event", [{"text": "x"}, {"text": "x", "bytes": None}, {"bytes": b"x"}, {"text": None, "bytes": b"x"}]
)
async def test_messages_come_as_they_are_whatever_keys_the_server_sets(event: dict[str, Any]):
    one, _ = alone({"type": "websocket.receive", **event}, state="open")
    assert await one.receive() in {"x", b"x"}


@pytest.mark.parametrize(("data", "limit"), [("xxx", 3), ("ü", 2), ("😀", 4), (b"xxx", 3)])
async def test_a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(data: str | bytes, limit: int):
    event = {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}
    one, _ = alone(event, event, state="open")
    assert await one.receive(limit) == data
    with pytest.raises(MessageTooLarge):
        await one.receive(limit - 1)
    assert one.state == "open"


@given(st.text(max_size=12), st.integers(0, 50))
def test_length_is_counted_in_utf_8(text: str, limit: int):
    assert exceeds(text, limit) == (len(text.encode()) > limit)
    assert exceeds(text.encode(), limit) == (len(text.encode()) > limit)


@given(st.text(max_size=200))
async def test_a_close_reason_is_cut_between_characters(reason: str):
    one, sent = alone(state="open")
    await one.close(1008, reason)
    short = sent[0]["reason"]
    assert len(short.encode()) <= REASON_BYTES
    assert reason.encode("utf-8", "replace").decode().startswith(short)


async def test_a_client_that_does_not_read_is_reported_as_cut():
    cut = []

    class Cuts(Unobserved):
        def consumer_cut(self, kind: str) -> None:
            cut.append(kind)

    async def never(_: Message) -> None:
        await asyncio.get_running_loop().create_future()

    sweeper = Sweeper(time.perf_counter, 0.02)
    scope = scope_of("websocket", "/", [])
    one = WebSocket(scope, None, never, *head_of(scope), sweeper, 0.02, Cuts())
    one.state = "open"
    with pytest.raises(Disconnected, match="does not read"):
        await soon(one.send("x"))
    assert (cut, one.state, sweeper.watching) == (["ws_write"], "gone", set())
    sweeper.close()


# --- in the app --------------------------------------------------------------------------------------------------


@socket("/echo", needs=None)
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send(str(await websocket.receive(10)))


async def test_a_conversation_ends_when_the_client_leaves():
    async with websocket(app_of(echo), "/echo") as peer:
        peer.put("hello")
        assert await peer.get() == "hello"
    assert await peer.end() is None


async def test_opened_and_closed_sockets_are_counted():
    rows = rows_of(echo)
    app = build(rows, provide={}, lifespan=nothing_to_start, body_bytes=1, request_timeout_s=1, log=LOG)
    async with websocket(app, "/echo"):
        assert (rows[0].opened, rows[0].closed) == (1, 0)
    assert (rows[0].opened, rows[0].closed) == (1, 1)


@socket("/returns", needs=None)
async def returns(websocket: WebSocket) -> None:
    await websocket.accept()


async def test_a_handler_that_returns_closes_normally():
    async with websocket(app_of(returns), "/returns") as peer:
        assert await peer.end() == {"type": "websocket.close", "code": 1000, "reason": ""}


@socket("/mute", needs=None)
async def mute() -> None:
    pass


async def test_a_handler_that_never_accepts_refuses():
    async with websocket(app_of(mute), "/mute") as peer:
        assert peer.closed == {"type": "websocket.close", "code": 1000, "reason": ""}


@socket("/fails/{when}", needs=None)
async def fails(websocket: WebSocket, when: str) -> None:
    if when == "before":
        raise Overloaded("Too many.", retry_after=2)
    if when == "bug":
        raise RuntimeError("secret")
    await websocket.accept()
    raise {"bad": Forbidden(), "down": StorageUnavailable(), "late-bug": RuntimeError("secret")}[when]


async def test_an_error_before_acceptance_is_an_http_answer():
    async with websocket(app_of(fails), "/fails/before") as peer:
        assert (peer.refusal.status, peer.refusal.json()["message"]) == (503, "Too many.")
        assert peer.refusal.header("retry-after") == "2"
        assert peer.refusal.header("x-request-id") == peer.refusal.json()["request_id"]
        assert peer.refusal.complete


async def test_a_bug_before_acceptance_hides_its_text(caplog: pytest.LogCaptureFixture):
    async with websocket(app_of(fails), "/fails/bug") as peer:
        assert peer.refusal.status == 500
        assert b"secret" not in peer.refusal.body
    assert "secret" in caplog.text


async def test_without_the_extension_a_refusal_is_a_plain_close():
    async with websocket(app_of(fails), "/fails/before", can_refuse=False) as peer:
        assert peer.closed is not None
        assert peer.accepted is None


@pytest.mark.parametrize(
    ("when", "code", "reason"),
    [
        ("bad", 1008, "forbidden"),
        ("down", 1011, "storage_unavailable"),
        ("late-bug", 1011, "internal"),
    ],
)
async def test_an_error_after_acceptance_is_a_close_code(when: str, code: int, reason: str):
    async with websocket(app_of(fails), f"/fails/{when}") as peer:
        assert await peer.end() == {"type": "websocket.close", "code": code, "reason": reason}


@route("GET", "/http", needs=None)
async def plain() -> None:
    pass


async def test_a_path_that_is_no_socket_is_refused_with_404():
    for target in ("/nowhere", "/http"):
        async with websocket(app_of(echo, plain), target) as peer:
            assert (peer.refusal.status, peer.refusal.json()["code"]) == (404, "not_found")


@socket("/push", needs=None)
async def push(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        try:
            await websocket.send("x")
        except Disconnected as gone:
            assert websocket.state == "gone"
            raise Disconnected(gone.code, gone.reason) from None
        await asyncio.sleep(0)


async def test_a_client_that_does_not_read_is_given_up_on():
    async with websocket(app_of(push, write_timeout_s=0.02), "/push") as peer:
        await peer.get()
        peer.block_sends = True
        await soon(asyncio.wait({peer.task}))
        assert peer.task.exception() is None


async def test_a_client_that_is_gone_by_exception_ends_the_socket():
    async with websocket(app_of(push), "/push") as peer:
        peer.fail_sends = ConnectionResetError
        await soon(asyncio.wait({peer.task}))
        assert peer.task.exception() is None


async def test_a_cancellation_from_outside_goes_through_a_blocked_send():
    async with websocket(app_of(push), "/push") as peer:
        await peer.get()
        peer.block_sends = True
        await asyncio.sleep(0)
        peer.task.cancel()
        await soon(asyncio.wait({peer.task}))
        assert peer.task.cancelled()
        peer.task = asyncio.create_task(asyncio.sleep(0))


async def test_guards_of_sockets_stand_in_order_and_may_refuse():
    seen: list[str] = []

    def guard(name: str) -> Any:
        def wrap(row: Any, inner: Any) -> Any:
            async def guarded(websocket: WebSocket) -> None:
                seen.append(f"{name} {row.template}")
                if name == "second":
                    raise Forbidden
                await inner(websocket)

            return guarded

        return wrap

    app = app_of(echo, socket_guards=[guard("first"), guard("second")])
    async with websocket(app, "/echo") as peer:
        assert peer.refusal.status == 403
    assert seen == ["first /echo", "second /echo"]

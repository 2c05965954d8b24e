"""Hostile WebSocket clients over real sockets: an error frame or a close code each, and nobody else is disturbed."""

import asyncio
import json
import socket
import struct
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from hostile import MIB, check_details, check_problem_body, check_says_nothing_internal, levels_off
from processes import server
from recording import PATIENCE_S, client, heard_frame, talking
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

pytestmark = pytest.mark.slow

KINDS = ["hypercorn-asyncio", "hypercorn-uvloop", "uvicorn", "granian"]
CONNECTIONS = 8
"""How many sockets one caller may have here."""
FOLLOWED, QUEUED = 32, 16
"""How many messages one socket may have open, and how many may wait for one session."""
MESSAGE_BYTES = 100_000
FRAME_BYTES = 3 * MESSAGE_BYTES + 16 * 1024
GROWTH_BYTES = 24 * MIB
"""How much more memory a server may hold after all of this."""
UNKNOWN = str(uuid4())


@pytest.fixture(scope="module", params=KINDS)
def running(request, tmp_path_factory):
    kind = request.param
    workers = 0 if kind.startswith("hypercorn") else None
    env = {"ARGENTOR_LIMITS_CONNECTIONS_PER_PRINCIPAL": str(CONNECTIONS)}
    cwd, own_words = tmp_path_factory.mktemp(kind), kind == "uvicorn"  # which logs text that is not UTF-8 as its error
    with server(kind, "flood_app:app", cwd=cwd, workers=workers, env=env, tracebacks=own_words) as found:
        yield found
        assert asyncio.run(answers(found.port))
        assert "argentor_asgi/" not in found.log


async def answers(port: int) -> bool:
    """Say whether a new socket gets its answer."""
    async with talking(port) as talk:
        return (await talk.ask("hello")).closing["content"] == "you said hello"


async def at_rest(port: int, tasks: dict | None = None) -> dict:
    """Wait until no socket and no run is left, nor any task but `tasks`, and return what is."""
    until = time.monotonic() + PATIENCE_S
    async with client(port) as http:
        while (
            (now := (await http.get("/inside")).json())["connections"]
            or now["runs"]
            or now["tasks"] != (tasks or now["tasks"])
        ):
            assert time.monotonic() < until, now
            await asyncio.sleep(0.02)
    return now


def chat(**members) -> str:
    return json.dumps({"content": "hello", **members})


def nested(levels: int) -> str:
    return '{"content": "hello", "pad": ' + "[" * levels + "]" * levels + "}"


BAD_JSON = [
    *("{", "{]", '{"content": "hello"', '{"content": "hello"}}', "{hello}", '{"content": "hello",}'),
    *('{"content": "a", "content": "b"}', '{"content": NaN}', '{"a": Infinity, "content": "b"}', '{"a": 01}'),
    *('{"content": "\\ud800"}', '{"content": "\\udfff\\ud800"}', '{"content": "a\nb"}', '{"content": "\\x"}'),
    *(
        chat(pad=2**64),
        chat(pad=-(2**63) - 1),
        nested(64),
        nested(1_000),
        nested(40_000),
        "[" * 100_000,
        '{"a":' * 20_000,
    ),
]
MISFITS = [
    ('["a", "b"]', ""),
    ("[]", ""),
    ("[", ""),
    ("[1, 2", ""),
    ("{}", "/content"),
    ('{"type": "nope", "content": "hello"}', "/type"),
    ('{"type": "connected"}', "/type"),
    ('{"type": 1}', "/type"),
    ('{"type": ["message"]}', "/type"),
    *((json.dumps({"content": value}), "/content") for value in (None, 1, 1.5, True, [], {}, ["hello"])),
    *((chat(session_id=value), "/session_id") for value in ("", "x", 1, True, [], {})),
    *((chat(idempotency_key=value), "/idempotency_key") for value in ("", "a" * 256, 1, [])),
    *((chat(run_options=value), "/run_options") for value in (None, 1, "reject", [])),
    (chat(run_options={"on_busy": "never"}), "/run_options/on_busy"),
    (chat(run_options={"on_disconnect": 1}), "/run_options/on_disconnect"),
    *((json.dumps({"type": kind}), "/run_id") for kind in ("cancel", "steer", "resume")),
    ('{"type": "cancel", "run_id": 1}', "/run_id"),
    ('{"type": "steer", "run_id": "x"}', "/content"),
    *(
        (f'{{"type": "resume", "run_id": "x", "after_seq": {it}}}', "/after_seq")
        for it in (-1, '"1"', 1.5, 2**64 - 1, "[]")
    ),
]
CONTENTS = [
    ("", "empty_input"),
    (" \n\t", "empty_input"),
    (chat(content=""), "empty_input"),
    (chat(content=" \u2003 "), "empty_input"),
    ("\x00\x1b", "content_rejected"),
    (chat(content="\x1b[2J\u202e"), "content_rejected"),
    ("x" * (MESSAGE_BYTES + 1), "body_too_large"),
    (chat(content="é" * 50_001), "body_too_large"),
    *((json.dumps({"type": "steer", "run_id": UNKNOWN, "content": said}), "empty_input") for said in ("", " ")),
    *(
        (json.dumps({"type": kind, "run_id": run_id, "content": "hello"}), "run_not_found")
        for kind in ("cancel", "steer", "resume")
        for run_id in (UNKNOWN, "", "..", "\x00", "%00", "'; --", "x" * 10_000, "\U0001f600")
    ),
]
TABLE = [
    *((text, "malformed_json", None) for text in BAD_JSON),
    *((text, "invalid_input", pointer) for text, pointer in MISFITS),
    *((text, code, None) for text, code in CONTENTS),
]


async def test_each_hostile_frame_gets_its_error_frame_and_the_socket_goes_on(running, subtests):
    async with talking(running.port) as talk:
        for text, code, pointer in TABLE:
            with subtests.test(text[:60]):
                await talk.socket.send(text)
                frame = await talk.frame()
                check_error(frame, code)
                if pointer is not None:
                    assert frame["details"][0]["pointer"] == pointer
        assert (await talk.ask("hello")).closing["content"] == "you said hello"


def check_error(frame: dict, code: str) -> None:
    """Check an error frame that refuses what the client said."""
    must = {"session_id", "content", "type", "code", "message", "retryable"}
    assert must <= set(frame) <= must | {"details", "retry_after", "run_id"}
    assert (frame["type"], frame["code"]) == ("error", code)
    check_says_nothing_internal(json.dumps(frame))
    check_details(frame)


async def test_a_socket_takes_what_is_odd_but_right(running):
    async with talking(running.port) as talk:
        for text in (
            chat(type=None),
            chat(type="message", unknown={"a": [2**64 - 1, 1e300]}),
            " \n" + chat(session_id=None, idempotency_key=None),
            nested(63),
            "hello",
            "\x1b[1mhello\x00",
        ):
            await talk.socket.send(text)
            assert (await talk.record()).closing["content"] == "you said hello"
        await talk.socket.send(['{"content"', ': "hel', "", 'lo"}'])
        assert (await talk.record()).closing["content"] == "you said hello"
        await talk.socket.send("x" * MESSAGE_BYTES)
        assert len((await talk.record()).closing["content"]) == len("you said ") + MESSAGE_BYTES


async def closed(socket, *frames, **options) -> int:
    """Send the frames, and return the code that the socket is closed with."""
    try:
        for frame in frames:
            await socket.send(frame, **options)
        while True:
            await heard_frame(socket)
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else 1006


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x00\x01", 1003), (b"", 1003), ("x" * (FRAME_BYTES + 1), 1009), ("é" * (FRAME_BYTES // 2 + 1), 1009)],
    ids=["binary", "empty binary", "too long", "too long in UTF-8"],
)
async def test_a_frame_that_no_reader_takes_closes_its_socket_with_the_code_for_it(running, frame, code):
    async with talking(running.port) as talk:
        assert await closed(talk.socket, frame) == code
    assert await answers(running.port)


async def test_the_longest_frame_is_heard_and_one_in_fragments_is_measured_whole(running):
    async with talking(running.port) as talk:
        start = '{"content": "hello", "pad": "'
        await talk.socket.send(start + "x" * (FRAME_BYTES - len(start) - 2) + '"}')
        assert (await talk.record()).closing["content"] == "you said hello"
        assert await closed(talk.socket, ["x" * 1000] * (FRAME_BYTES // 1000 + 1)) == 1009


async def test_text_that_is_not_utf_8_ends_its_socket_alone(running):
    async with talking(running.port) as other, talking(running.port) as talk:
        assert await closed(talk.socket, b'{"content": "\xff\xfe"}', text=True) in {1002, 1005, 1006, 1007}
        assert (await other.ask("hello")).closing["content"] == "you said hello"


async def test_a_thousand_pings_are_answered_though_they_are_read_late(running):
    async with talking(running.port) as talk, unless_shut_out():
        for _ in range(1000):
            await talk.say(type="ping")
        for _ in range(1000):
            assert await talk.frame() == {"type": "pong"}


@asynccontextmanager
async def unless_shut_out():
    """Take it that a client which asks faster than its answers leave may be closed with 1013, instead of the block."""
    try:
        yield
    except ConnectionClosed as error:
        if error.rcvd is None or error.rcvd.code != 1013:
            raise


async def test_each_of_many_messages_at_once_gets_one_closing_frame(running):
    ends = []
    async with talking(running.port) as talk, unless_shut_out():
        for number in range(200):
            await talk.say(content=f"number {number}")
        while len(ends) < 200:
            ends.append(await talk.until_closed())
    said = [end["content"] for end in ends if end["type"] == "response"]
    assert said == sorted(set(said), key=lambda text: int(text.rpartition(" ")[2]))
    assert {end["code"] for end in ends if end["type"] == "error"} <= {"session_busy", "overloaded"}
    await at_rest(running.port)


async def test_messages_during_a_run_wait_or_are_refused_and_the_reader_hears_a_cancel(running):
    gate = str(uuid4())
    async with talking(running.port) as talk, client(running.port) as http:
        run_id = await begin(talk, http, gate)
        for number in range(39):
            await talk.say(content=f"number {number}")
        refused = [await talk.until_closed() for _ in range(39 - QUEUED)]
        assert {"session_busy"} <= {end["code"] for end in refused} <= {"session_busy", "overloaded"}
        await talk.say(type="cancel", run_id=run_id)
        ends = [await talk.until_closed() for _ in range(QUEUED + 1)]
        assert (ends[0]["run_id"], ends[0]["code"]) == (run_id, "cancelled")
        assert [end["content"] for end in ends[1:]] == [f"you said number {number}" for number in range(QUEUED)]


async def begin(talk, http, gate) -> str:
    """Begin a run that waits at the gate; return its id."""
    await talk.say(content=f"model {gate}")
    run_id = (await talk.until("run_started"))["run_id"]
    await http.get(f"/gates/{gate}")
    return run_id


@pytest.mark.parametrize("after", [10, 2**31, 2**53])
async def test_a_place_that_a_live_run_never_reaches_ends_with_the_run(running, after):
    gate = str(uuid4())
    async with talking(running.port) as talk, talking(running.port) as other, client(running.port) as http:
        run_id = await begin(talk, http, gate)
        await other.say(type="resume", run_id=run_id, after_seq=after)
        async with http.stream("GET", f"/api/v1/runs/{run_id}/stream", params={"after": after}) as followed:
            await http.post(f"/gates/{gate}")
            assert (await talk.until_closed())["content"] == "half whole"
            assert (await other.until_closed())["content"] == "half whole"
            assert b"event: done" in await followed.aread()
        await other.say(type="resume", run_id=run_id, after_seq=after)
        assert (await other.frame())["content"] == "half whole"


@pytest.mark.parametrize("how", ["close", "cut", "half-close"])
@pytest.mark.parametrize(("on_disconnect", "status"), [("continue", "done"), ("cancel", "cancelled")])
async def test_a_socket_lost_in_the_middle_of_a_run_leaves_nothing_behind(running, how, on_disconnect, status):
    gate = str(uuid4())
    calm = (await at_rest(running.port))["tasks"]
    async with client(running.port) as http:
        socket = await connect(f"ws://127.0.0.1:{running.port}/ws", compression=None)
        await socket.send(json.dumps({"content": f"model {gate}", "run_options": {"on_disconnect": on_disconnect}}))
        while (frame := await heard_frame(socket)).get("event", {}).get("type") != "text_delta":
            pass
        await lose(socket, how)
        if on_disconnect == "continue":
            await http.post(f"/gates/{gate}")
        await at_rest(running.port, calm)
        assert (await http.get(f"/api/v1/runs/{frame['run_id']}")).json()["status"] == status
        await socket.close()


async def lose(client_socket, how: str) -> None:
    """Close the socket properly, or cut its connection with a reset, or send a FIN and go on reading."""
    if how == "close":
        await client_socket.close(4000, "I am off")
        return
    raw = client_socket.transport.get_extra_info("socket")
    if how == "half-close":
        client_socket.transport.write_eof()
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client_socket.transport.abort()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws", {"origin": "http://evil.example"}, 403),
        ("/ws", {"origin": "null"}, 403),
        ("/nope", {}, 404),
        ("/ws/", {}, 404),
        ("/health", {}, 404),
        ("/%ff", {}, 400),
    ],
)
async def test_a_handshake_that_may_not_be_is_refused_with_its_reason(running, path, headers, status):
    await refused(running, path, headers, status)
    assert await answers(running.port)


async def test_a_page_that_named_this_machine_itself_is_refused(running):
    await refused(running, "/ws", {}, 403, name="evil.example")


async def refused(running, path, headers, status, *, name="127.0.0.1") -> None:
    """Check that a handshake, for a host of this name, is refused with the problem."""
    url = f"ws://{name}:{running.port}{path}"
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, host="127.0.0.1", additional_headers=headers, compression=None, proxy=None)
    response = caught.value.response
    assert response.status_code == status
    problem = check_problem_body(response.body.decode())
    assert (problem["status"], problem["request_id"]) == (status, response.headers["x-request-id"])


async def test_a_caller_has_so_many_sockets_and_room_again_once_one_is_closed(running):
    await at_rest(running.port)
    sockets = [await connect(f"ws://127.0.0.1:{running.port}/ws") for _ in range(CONNECTIONS)]
    for each in sockets:
        assert (await heard_frame(each))["type"] == "connected"
    await refused(running, "/ws", {}, 503)
    await sockets.pop().close()
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert await answers(running.port)
            break
        except InvalidStatus:
            assert time.monotonic() < until
    await asyncio.gather(*(each.close() for each in sockets))
    await at_rest(running.port)


async def test_none_of_it_costs_memory_for_good(running):
    async def abuse() -> None:
        async with talking(running.port) as talk:
            for _ in range(20):
                for text, _, _ in TABLE:
                    await talk.socket.send(text)
                    await talk.frame()
        for frame in (b"\x00" * MIB, "x" * MIB):
            async with talking(running.port) as talk:
                await closed(talk.socket, frame)

    grown = await asyncio.to_thread(levels_off, running.pid, lambda: asyncio.run(abuse()), GROWTH_BYTES)
    assert grown[-1] < GROWTH_BYTES, grown

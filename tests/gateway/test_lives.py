"""How long a socket lives: pings and who must answer them, its farewell, its limits, and the key it was opened with."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from asgi_driver import soon, until, websocket
from doors import doors
from scripted_backend import Park

from argentor_asgi.asgi.route import socket
from argentor_asgi.asgi.websocket import WebSocket
from argentor_asgi.errors import RateLimited
from argentor_asgi.gateway.connections import Connection
from argentor_asgi.gateway.conversation import Conversation
from argentor_asgi.gateway.outbox import ANSWERS
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol import ws_session
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.security.accounts import Account
from argentor_asgi.security.identity import Principal

pytestmark = pytest.mark.slow

PING = ws_session.ping(datetime(2026, 1, 1, tzinfo=UTC))
HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]


class Few:
    """A limiter that lets so many messages through."""

    def __init__(self, left):
        self.left = left

    def take(self, account: Account) -> None:
        assert account is ACCOUNT
        if not self.left:
            raise RateLimited(retry_after=7)
        self.left -= 1


ACCOUNT = object()


@dataclass
class Sockets:
    """The route `/talk`, which is `/ws` with a limiter and in the test's hands."""

    limiter: Few | None = None
    talks: list[Conversation] = field(default_factory=list)
    services: Services | None = None

    def handler(self):
        @socket("/talk", needs="chat:write")
        async def talk(socket: WebSocket, services: Services, principal: Principal) -> None:
            made = Conversation(
                socket,
                services,
                principal,
                connection_id=f"c{len(self.talks)}",
                session_id="6f1c0000-0000-4000-8000-000000000001",
                account=ACCOUNT if self.limiter else None,
                limiter=self.limiter,
            )
            self.talks.append(made)
            self.services = services
            with services.connections.opened(Connection(made.id, made.session_id, principal, made)):
                await made.converse()

        return talk


class Client:
    """One client of `/talk`."""

    def __init__(self, peer, talk, sockets, house):
        self.peer = peer
        self.talk = talk
        self.services = sockets.services
        self.house = house

    def say(self, **frame):
        self.peer.put(json.dumps(frame))

    async def frame(self):
        return json.loads(await self.peer.get())

    async def beats(self, count):
        """Return the pings that so many beats bring."""
        for _ in range(count):
            self.talk.beat(PING)
        return [await self.frame() for _ in range(count)]

    async def is_silent(self):
        self.say(type="ping")
        assert await self.frame() == {"type": "pong"}

    async def is_blocked(self):
        self.talk.beat(PING)
        self.talk.beat(PING)
        await until(lambda: self.talk._outbox.answers and not self.talk._outbox._frames)

    async def bye(self):
        """Return the farewell, which agrees with the close behind it."""
        said = await self.frame()
        closed = await self.peer.end()
        assert said["type"] == "bye"
        assert (said["code"], said["reason"]) == (closed["code"], closed["reason"])
        assert said["message"]
        return said["code"], said["reason"]


@asynccontextmanager
async def client(*scripts, limiter=None, **options):
    sockets = Sockets(limiter)
    async with (
        doors(*scripts, routes=[sockets.handler()], **options) as house,
        websocket(house.app, "/talk", headers=house.headers()) as peer,
    ):
        made = Client(peer, sockets.talks[0], sockets, house)
        assert (await made.frame())["type"] == "connected"
        yield made


# --- pings -------------------------------------------------------------------------------------------------------


async def test_the_first_beat_may_come_at_once_so_it_pings_nobody():
    async with client() as one:
        one.talk.beat(PING)
        one.talk.beat(PING)
        assert await one.frame() == {"type": "ping", "t": 1767225600000}
        await one.is_silent()


@pytest.mark.parametrize("sign", ["ping", "pong"])
async def test_a_client_that_has_answered_once_is_held_to_it(sign):
    async with client(limits={"heartbeat_s": 20.0}) as one:
        one.say(type=sign)
        await one.is_silent() if sign == "pong" else await one.frame()
        assert len(await one.beats(2)) == 2
        one.talk.beat(PING)
        assert await one.bye() == (1001, "heartbeat")


async def test_anything_that_a_client_says_is_a_sign_of_life():
    async with client() as one:
        for _ in range(3):
            await one.is_silent()
            await one.beats(2)
        one.say(type="dance")
        assert (await one.frame())["code"] == "invalid_input"
        await one.beats(2)


async def test_a_client_that_knows_no_pings_is_closed_only_when_it_is_idle_for_long():
    async with client(limits={"heartbeat_s": 20.0, "idle_s": 100.0}) as one:
        one.talk.beat(PING)
        await one.beats(5)
        one.talk.beat(PING)
        assert await one.bye() == (1001, "idle")


async def test_a_client_that_follows_a_run_is_not_idle_however_long_it_takes():
    async with client(HALVES, limits={"heartbeat_s": 20.0, "idle_s": 40.0}) as one:
        one.say(content="hi")
        await soon(one.house.backend.parked.wait())
        for _ in range(9):
            one.talk.beat(PING)
        one.house.backend.release.set()
        while (await one.frame()).get("type") != "response":
            pass
        await one.beats(1)


async def test_a_client_that_no_longer_answers_is_dead_although_it_follows_a_run():
    async with client(HALVES) as one:
        await one.is_silent()
        one.say(content="hi")
        await soon(one.house.backend.parked.wait())
        for _ in range(3):
            one.talk.beat(PING)
        while (found := await one.frame()).get("type") != "bye":
            pass
        assert found["reason"] == "heartbeat"


async def test_pings_that_nobody_reads_are_bounded_and_end_in_1013():
    async with client(limits={"idle_s": 86_400.0}) as one:
        one.talk.beat(PING)
        for _ in range(ANSWERS + 1):
            one.talk.beat(PING)
        while (found := await one.frame())["type"] == "ping":
            pass
        assert (found["type"], found["code"], found["reason"]) == ("bye", 1013, "slow_reader")


async def test_the_timer_pings_every_socket_in_its_turn_and_stops_with_the_last():
    async with client() as one:
        connections = one.services.connections
        connections._heartbeat_s = 0.02
        connections._sleep()
        connections._wake()
        assert (await one.frame())["type"] == "ping"
    await until(lambda: connections._timer is None)


# --- farewells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"), [(b"x", (1003, "not_text")), ("x" * 10**6, (1009, "frame_too_large"))], ids=["binary", "long"]
)
async def test_a_frame_that_cannot_be_taken_is_answered_by_a_farewell(data, expected):
    async with client() as one:
        one.peer.put(data)
        assert await one.bye() == expected


async def test_a_bug_ends_in_a_farewell_that_says_nothing_of_it(caplog):
    async with client() as one:
        one.peer._inbox.put_nowait({"type": "websocket.receive", "text": None, "bytes": None})
        assert await one.bye() == (1011, "internal")
    assert "failed" in caplog.text


async def test_a_client_that_left_is_told_nothing():
    async with client() as one:
        one.peer.leave()
        assert await one.peer.end() is None


def deaf(app):
    """A middleware whose sockets send a welcome, and then wait for ever for room."""

    async def deafened(scope, receive, send):
        async def once(message):
            if message["type"] == "websocket.send" and '"connected"' not in message["text"]:
                await asyncio.get_running_loop().create_future()
            await send(message)

        await app(scope, receive, once if scope["type"] == "websocket" else send)

    return deafened


async def test_a_client_that_does_not_read_is_closed_without_a_farewell():
    async with client(middleware=[deaf]) as one:
        await one.is_blocked()
        one.talk.end(ws_session.Farewell(1001, "over", "Over."))
        assert (await one.peer.end())["code"] == 1001


async def test_only_the_first_reason_counts():
    async with client() as one:
        one.talk.end(ws_session.Farewell(1001, "first", "First."))
        one.talk.end(ws_session.Farewell(1011, "second", "Second."))
        assert await one.bye() == (1001, "first")


# --- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("revoked", "count"), [("its own", 1), ("another", 0)])
async def test_a_revoked_key_closes_the_sockets_that_were_opened_with_it(revoked, count):
    async with client(keys=("me", "you")) as one:
        own = one.talk._principal.key_id
        assert one.services.connections.evict(own if revoked == "its own" else f"{own}x") == count
        if count:
            assert await one.bye() == (1008, "key_revoked")
        else:
            await one.is_silent()


# --- limits ------------------------------------------------------------------------------------------------------

UNKNOWN = "6f1c0000-0000-4000-8000-00000000000f"


async def test_a_message_beyond_the_limit_is_refused_in_one_frame_and_does_nothing():
    async with client(limiter=Few(1)) as one:
        one.say(type="cancel", run_id=UNKNOWN)
        assert (await one.frame())["code"] == "run_not_found"
        for said in ('{"content":"hi"}', "hi", '{"type":"dance"}', "{oops"):
            one.peer.put(said)
            refused = await one.frame()
            assert (refused["type"], refused["code"], refused["retry_after"]) == ("error", "rate_limit_exceeded", 7)
        assert one.house.backend.requests == []
        await one.is_silent()


async def test_pings_cost_nothing():
    async with client(limiter=Few(0)) as one:
        for _ in range(5):
            await one.is_silent()
            one.say(type="pong")


# --- memory ------------------------------------------------------------------------------------------------------


async def test_an_idle_socket_has_no_task_but_its_own():
    async with client() as one:
        await one.is_silent()
        before = asyncio.all_tasks()
        async with websocket(one.house.app, "/talk", headers=one.house.headers()) as peer:
            await peer.get()
            await until(lambda: len(asyncio.all_tasks() - before) == 1)

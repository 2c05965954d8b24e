"""`argentor_asgi.gateway.conversation`: one socket's whole life, seen from its client's side."""

import asyncio
import json
import logging
from uuid import UUID, uuid4

import pytest
from asgi_driver import pairs, scope_of, soon, until, websocket
from contracts.store_values import START
from doors import doors
from faulty_store import FaultyStore
from recording import Heard, check_frames
from scripted_backend import Park, answer, call, calling

from argentor_asgi.errors import ProviderRateLimited, ProviderUnavailable, StorageUnavailable
from argentor_asgi.gateway.connections import RESTART
from argentor_asgi.gateway.conversation import COMMANDS, ESCAPED, FOLLOWED_RUNS, FRAME_OVERHEAD_BYTES
from argentor_asgi.gateway.telling import closing, failure_of
from argentor_asgi.protocol.llm import Finish, TextPiece
from argentor_asgi.sessions.records import Run

pytestmark = pytest.mark.slow

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]
UNKNOWN = str(uuid4())


async def run_of(house, run_id):
    return (await house.get(f"/api/v1/runs/{run_id}")).json()


async def status_of(house, run_id):
    return (await run_of(house, run_id))["status"]


async def ended(house, run_id):
    """Follow the run to its end and return its status."""
    await soon(house.get(f"/api/v1/runs/{run_id}/stream"))
    return await status_of(house, run_id)


# --- what a client says ------------------------------------------------------------------------------------------


async def test_the_welcome_is_first_and_names_the_socket_and_its_session():
    async with doors() as house, house.talk() as one, house.talk() as other:
        ids = [talk.welcome[name] for talk in (one, other) for name in ("session_id", "connection_id")]
        assert len({UUID(found) for found in ids}) == 4
        assert one.welcome == {"type": "connected", "session_id": ids[0], "connection_id": ids[1]}
        await one.is_silent()


@pytest.mark.parametrize("text", ["hi", '{"content":"hi"}', '{"type":"message","content":"hi"}'])
async def test_a_message_is_plain_text_or_json_and_goes_to_the_sockets_own_session(text):
    async with doors(answer("he", "llo")) as house, house.talk() as talk:
        talk.peer.put(text)
        heard = await talk.record()
        assert heard.closing == {
            "session_id": talk.session_id,
            "content": "hello",
            "type": "response",
            "run_id": heard.run_id,
        }
        assert heard.types == ["run_started", "text_delta", "text_delta", "turn_end", "done"]
        session = (await house.get(f"/api/v1/sessions/{talk.session_id}")).json()
        assert [said["content"] for said in session["messages"]] == ["hi", "hello"]


async def test_a_message_may_name_its_session():
    session_id = str(uuid4())
    async with doors() as house, house.talk() as talk:
        heard = await talk.ask("hi", session_id=session_id)
        assert heard.session_id == session_id
        assert (await house.get(f"/api/v1/sessions/{talk.session_id}")).status == 404


async def test_messages_in_one_session_wait_for_each_other_unless_told_otherwise():
    async with doors(HALVES) as house, house.talk() as talk:
        talk.say(content="one")
        await soon(house.backend.parked.wait())
        talk.say(content="two", run_options={"on_busy": "reject"})
        refused = await talk.until_closed()
        assert (refused["code"], refused["session_id"], refused["retry_after"]) == ("session_busy", talk.session_id, 1)
        assert "run_id" not in refused
        talk.say(content="three")
        talk.say(type="ping")
        while await talk.frame() != {"type": "pong"}:
            pass
        house.backend.release.set()
        assert [(await talk.until_closed())["content"] for _ in range(2)] == ["half whole", "ok"]


async def test_what_the_gateway_is_configured_to_do_with_a_busy_session_holds_for_sockets_too():
    async with doors(HALVES, agent={"on_busy": "reject"}) as house, house.talk() as talk:
        talk.say(content="one")
        await soon(house.backend.parked.wait())
        talk.say(content="two")
        assert (await talk.until_closed())["code"] == "session_busy"


async def test_cancel_ends_the_run_and_is_answered_by_the_status_that_it_met():
    async with doors(HALVES) as house, house.talk() as talk:
        talk.say(content="one")
        run_id = (await talk.until("run_started"))["run_id"]
        await soon(house.backend.parked.wait())
        talk.say(type="cancel", run_id=run_id)
        frames = [await talk.frame()]
        while frames[-1].get("type") != "error" or not any(found.get("type") == "accepted" for found in frames):
            frames.append(await talk.frame())
        accepted = next(found for found in frames if found.get("type") == "accepted")
        assert accepted == {"type": "accepted", "request": "cancel", "run_id": run_id, "status": "running"}
        assert (frames[-1]["code"], frames[-1]["run_id"]) == ("cancelled", run_id)
        talk.say(type="cancel", run_id=run_id)
        assert (await talk.frame())["status"] == "cancelled"


async def test_steer_hands_words_to_the_run():
    async with doors(HALVES, answer("both")) as house, house.talk() as talk:
        talk.say(content="one")
        run_id = (await talk.until("text_delta"))["run_id"]
        await soon(house.backend.parked.wait())
        talk.say(type="steer", run_id=run_id, content="and two")
        assert await talk.frame() == {"type": "accepted", "request": "steer", "run_id": run_id, "status": "running"}
        house.backend.release.set()
        assert (await talk.until("steered"))["event"]["text"] == "and two"
        assert (await talk.until_closed())["content"] == "both"


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("is_live", [True, False])
async def test_resume_sends_what_comes_behind_a_place_on_any_socket(after, is_live):
    async with doors(HALVES) as house, house.talk() as first, house.talk() as second:
        first.say(content="one")
        run_id = (await first.until("text_delta"))["run_id"]
        await soon(house.backend.parked.wait())
        if not is_live:
            house.backend.release.set()
            await first.until_closed()
        second.say(type="resume", run_id=run_id, after_seq=after)
        if is_live:
            house.backend.release.set()
        heard = await second.record(after=after)
        assert (heard.seqs[0], heard.last["type"], heard.closing["run_id"]) == (after + 1, "done", run_id)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"resume","run_id":"RUN"}', "run_not_found"),
        ('{"type":"cancel","run_id":"RUN"}', "run_not_found"),
        ('{"type":"steer","run_id":"RUN","content":"x"}', "run_not_found"),
        ('{"type":"cancel","run_id":"\\ud800"}', "malformed_json"),
        ('{"type":"steer","run_id":"RUN","content":" "}', "empty_input"),
        ('{"type":"dance"}', "invalid_input"),
        ('{"type":"cancel"}', "invalid_input"),
        ('{"content":7}', "invalid_input"),
        ('{"content":"x","session_id":"nonsense"}', "invalid_input"),
        ("[1]", "invalid_input"),
        ("{oops", "malformed_json"),
        ("  ", "empty_input"),
        ("\x00", "content_rejected"),
        ("x" * 101, "body_too_large"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_one_frame_and_the_socket_goes_on(text, code):
    async with doors(limits={"message_bytes": 100}) as house, house.talk() as talk:
        talk.peer.put(text.replace("RUN", UNKNOWN))
        refused = await talk.frame()
        assert (refused["type"], refused["code"], refused["session_id"]) == ("error", code, talk.session_id)
        assert {"content", "message", "retryable"} <= refused.keys()
        assert "run_id" not in refused
        assert (await talk.ask("hi")).last["type"] == "done"


async def test_a_message_for_anothers_session_or_run_finds_none():
    # agent.md 1.10 D23
    async with doors(keys=("me", "you")) as house, house.talk() as mine, house.as_("you").talk() as theirs:
        heard = await mine.ask("hi")
        theirs.say(content="mine now", session_id=heard.session_id)
        assert (await theirs.frame())["code"] == "session_not_found"
        for kind in ("resume", "cancel", "steer"):
            theirs.say(type=kind, run_id=heard.run_id, content="x")
            assert (await theirs.frame())["code"] == "run_not_found"


async def test_a_message_is_refused_when_its_key_was_for_another():
    async with doors() as house, house.talk() as talk:
        first = await talk.ask("hi", idempotency_key="k")
        again = await talk.ask("hi", idempotency_key="k")
        assert (again.run_id, again.events) == (first.run_id, first.events)
        talk.say(content="other", idempotency_key="k")
        assert (await talk.frame())["code"] == "idempotency_key_reused"


# --- what it hears -----------------------------------------------------------------------------------------------


async def test_two_runs_on_one_socket_interleave_and_each_is_closed_by_its_own_last_frame():
    # agent.md 1.10 D23
    async with doors(HALVES, HALVES) as house, house.talk() as talk:
        sessions = [str(uuid4()), str(uuid4())]
        for session_id in sessions:
            talk.say(content="hi", session_id=session_id)
        heard = {session_id: Heard() for session_id in sessions}
        frames = []
        while not all(found.closing for found in heard.values()):
            frame = await talk.frame()
            frames.append(frame["session_id"])
            found = heard[frame["session_id"]]
            assert not found.closing
            if "event" in frame:
                found.take(frame)
            else:
                found.closing = frame
            if sum(len(each.events) for each in heard.values()) == 4:
                house.backend.release.set()
        for found in heard.values():
            check_frames(found)
        assert frames != sorted(frames, key=sessions.index), "the runs were interleaved"
        await talk.is_silent()


async def test_a_run_that_fails_is_closed_by_an_error_with_its_code():
    async with doors([TextPiece("oh"), ProviderUnavailable("no luck")]) as house, house.talk() as talk:
        heard = await talk.ask("hi")
        assert (heard.last["type"], heard.last["code"]) == ("error", "provider_unavailable")
        assert (heard.closing["code"], heard.closing["retryable"]) == ("provider_unavailable", True)


async def test_the_frame_that_closes_a_run_agrees_with_its_last_event_although_it_could_not_be_stored(caplog):
    store_down = StorageUnavailable()
    async with doors(HALVES) as house, house.talk() as talk:
        talk.say(content="hi")
        await soon(house.backend.parked.wait())
        house.store.faults |= {"save_run": store_down, "get_run": store_down}
        with caplog.at_level(logging.ERROR):
            house.backend.release.set()
            heard = await talk.record()
        assert (heard.last["type"], heard.closing["type"], heard.closing["content"]) == (
            "done",
            "response",
            "half whole",
        )


async def test_a_bug_in_one_message_is_told_and_logged_and_the_socket_lives(caplog):
    async with doors() as house, house.talk() as talk:
        house.store.faults["get_claim"] = RuntimeError("a secret")
        with caplog.at_level(logging.ERROR):
            talk.say(content="hi", idempotency_key="k")
            refused = await talk.frame()
        assert (refused["code"], "a secret" in str(refused), "a secret" in caplog.text) == ("internal", False, True)
        assert (await talk.ask("hi")).last["type"] == "done"


async def test_a_run_whose_events_are_gone_is_told_so_however_often_it_is_asked_for():
    async with doors() as house, house.talk() as talk:
        await talk.ask("hi", idempotency_key="k")
        for log in house.store._runs.values():
            house.store._drop_events(log)
        for _ in range(2):
            talk.say(content="hi", idempotency_key="k")
            assert (await talk.frame())["code"] == "replay_expired"


def a_run(status, id="r", **fields):  # noqa: A002  the field's name
    return Run(id, "s", "me", "default", status, "m", "hi", START, START, **fields)


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (a_run("cancelled"), "cancelled"),
        (a_run("interrupted"), "interrupted"),
        (a_run("running"), "interrupted"),
        (a_run("waiting_approval"), "laid_aside"),
        (a_run("queued"), "laid_aside"),
        (a_run("failed", error_code="timeout"), "timeout"),
        (a_run("failed", error_code="of_a_later_version"), "internal"),
        (a_run("failed"), "internal"),
    ],
)
async def test_a_run_without_an_answer_is_closed_by_why(run, code):
    store = FaultyStore()
    assert (await failure_of(store, run)).code == code
    frame = json.loads(await closing(store, run))
    assert (frame["type"], frame["code"], frame["run_id"], frame["session_id"]) == ("error", code, "r", "s")


async def test_a_run_that_failed_is_closed_in_the_words_of_its_last_event_as_long_as_that_is_there():
    calls = [calling(call("c1", "skills_help", "{}"))] * 2
    async with doors(*calls, agent={"run_tool_calls": 0}) as house, house.talk() as talk:
        heard = await talk.ask("hi")
        words = heard.last["message"]
        assert words == heard.closing["message"] == "The run's budget of 0 skill calls has 0 left, not 1."
        reply = await house.post("/api/v1/agent/chat", {"message": "hi"})
        assert (reply.status, reply.json()["message"]) == (429, words)
        run = a_run("failed", error_code="budget_exceeded", id=heard.run_id, last_seq=heard.last["seq"])
        assert (await failure_of(house.store, run)).message == words
        house.store.faults["events"] = StorageUnavailable()
        assert (await failure_of(house.store, run)).message == "The budget is used up."
        house.store.faults.clear()
        for log in house.store._runs.values():
            house.store._drop_events(log)
        assert (await failure_of(house.store, run)).message == "The budget is used up."


# --- bounds ------------------------------------------------------------------------------------------------------


async def test_a_socket_has_no_more_messages_open_than_the_bound():
    async with doors() as house, house.talk() as talk:
        house.backend._then = lambda _request: HALVES
        for _ in range(FOLLOWED_RUNS):
            talk.say(content="hi", session_id=str(uuid4()))
        talk.say(content="one too many", session_id=str(uuid4()))
        refused = await talk.until_closed()
        assert (refused["code"], refused["retryable"], refused["retry_after"]) == ("overloaded", True, 1)
        house.backend.release.set()
        assert [(await talk.until_closed())["type"] for _ in range(FOLLOWED_RUNS)] == ["response"] * FOLLOWED_RUNS
        assert (await talk.ask("hi")).last["type"] == "done"


async def test_commands_have_places_of_their_own_behind_those_of_messages_and_no_more_than_the_bound():
    async with doors() as house, house.talk() as talk:
        gate = house.store.gate("get_approval")
        for _ in range(FOLLOWED_RUNS + COMMANDS):
            talk.say(type="approval_response", approval_id=UNKNOWN, approved=True)
        talk.say(content="no place for a run")
        assert (await talk.until_closed())["code"] == "overloaded"
        talk.say(type="cancel", run_id=UNKNOWN)
        assert (await talk.until_closed())["code"] == "overloaded"
        gate.set()
        for _ in range(FOLLOWED_RUNS + COMMANDS):
            assert (await talk.until_closed())["code"] == "approval_not_found"
        assert (await talk.ask("hi")).last["type"] == "done"


async def test_a_binary_frame_closes_the_socket_with_1003():
    async with doors() as house, house.talk() as talk:
        talk.peer.put(b"\x00")
        assert (await talk.peer.end())["code"] == 1003


@pytest.mark.parametrize("more", [0, 1])
async def test_a_frame_may_be_as_long_as_the_bound_and_no_longer(more):
    limit = 100 * ESCAPED + FRAME_OVERHEAD_BYTES
    async with doors(limits={"message_bytes": 100}) as house, house.talk() as talk:
        talk.peer.put("x" * (limit + more))
        if more:
            assert (await talk.peer.end())["code"] == 1009
        else:
            assert (await talk.frame())["code"] == "body_too_large"


# --- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["frame", "configuration"])
async def test_a_run_ends_with_its_socket_when_its_client_wants_that(by):
    agent = {"on_disconnect": "cancel"} if by == "configuration" else {}
    options = {"run_options": {"on_disconnect": "cancel"}} if by == "frame" else {}
    async with doors(HALVES, agent=agent) as house:
        async with house.talk() as talk:
            talk.say(content="hi", **options)
            run_id = (await talk.until("text_delta"))["run_id"]
        assert await ended(house, run_id) == "cancelled"
        seen = await house.get(f"/api/v1/runs/{run_id}/stream")
        assert b'"reason":"the client disconnected"' in seen.body


async def test_a_run_goes_on_without_its_socket_and_another_may_resume_it():
    async with doors(HALVES) as house:
        async with house.talk() as talk:
            talk.say(content="hi")
            run_id = (await talk.until("text_delta"))["run_id"]
        assert await status_of(house, run_id) == "running"
        async with house.talk() as talk:
            talk.say(type="resume", run_id=run_id, after_seq=2)
            house.backend.release.set()
            assert (await talk.record(after=2)).closing["content"] == "half whole"


async def test_a_run_that_was_heard_to_its_end_is_not_cancelled_by_a_store_that_fails_then():
    options = {"run_options": {"on_disconnect": "cancel"}}
    async with doors(HALVES) as house:
        async with house.talk() as talk:
            talk.say(content="hi", **options)
            await talk.until("text_delta")
            house.store.faults["get_run"] = StorageUnavailable()
        del house.store.faults["get_run"]


async def test_every_task_of_a_socket_ends_with_it():
    async with doors(HALVES) as house:
        before = asyncio.all_tasks()
        async with house.talk() as talk:
            talk.say(content="hi")
            run_id = (await talk.until("text_delta"))["run_id"]
            talk.say(type="resume", run_id=run_id)
            await talk.until("run_started")
            assert len(asyncio.all_tasks() - before) > 3
        house.backend.release.set()
        await ended(house, run_id)
        await until(lambda: asyncio.all_tasks() <= before)


async def test_a_draining_gateway_lets_runs_finish_then_closes_with_1012_and_takes_no_new_socket():
    async with doors(HALVES) as house, house.talk() as talk:
        talk.say(content="hi")
        await talk.until("text_delta")
        house.drain.begin("test")
        talk.say(content="too late", session_id=str(uuid4()))
        assert (await talk.until_closed())["code"] == "draining"
        house.backend.release.set()
        assert (await talk.until_closed())["content"] == "half whole"
        assert await talk.frame() == {"type": "bye", "code": 1012, "reason": "restart", "message": RESTART.message}
        closed = await talk.peer.end()
        assert (closed["code"], closed["reason"]) == (1012, "restart")
        await soon(house.drain.finished.wait())
        refused = await refusal(house)
        assert (refused.status, json.loads(refused.body)["code"]) == (503, "draining")


async def refusal(house):
    async with websocket(house.app, "/ws", headers=house.headers()) as peer:
        return peer.refusal


class Lost:
    """A socket whose client is gone: its handshake waits, then fails. Or only its last frame fails."""

    def __init__(self, fails_at):
        self.fails_at = fails_at
        self.waits = asyncio.Event()
        self.go = asyncio.Event()
        self.sent = []

    async def __call__(self, message):
        if message["type"] == self.fails_at:
            self.waits.set()
            await self.go.wait()
            raise OSError
        self.sent.append(message["type"])


@pytest.mark.parametrize("fails_at", ["websocket.accept", "websocket.close"])
async def test_a_drain_does_not_wait_for_a_socket_that_is_lost_in_its_handshake_or_its_close(fails_at):
    async with doors() as house:
        lost, inbox = Lost(fails_at), asyncio.Queue()
        inbox.put_nowait({"type": "websocket.connect"})
        scope = scope_of("websocket", "/ws", pairs(house.headers()), subprotocols=[])
        socket = asyncio.create_task(house.app(scope, inbox.get, lost))
        if fails_at == "websocket.accept":
            await soon(lost.waits.wait())
        else:
            await until(lambda: "websocket.send" in lost.sent)
        house.drain.begin("test")
        await soon(lost.waits.wait())
        lost.go.set()
        await soon(asyncio.wait({socket}))
        await asyncio.wait_for(house.drain.finished.wait(), 1.0)


async def test_a_drain_cuts_a_client_that_does_not_read_when_its_time_is_over(caplog):
    go = asyncio.Event()

    def slow(app):
        async def slowed(scope, receive, send):
            async def slowly(message):
                if message["type"] == "websocket.send":
                    await go.wait()
                await send(message)

            await app(scope, receive, slowly if scope["type"] == "websocket" else send)

        return slowed

    async with doors(drain_s=0.1, total_s=1.0, middleware=[slow]) as house:
        async with websocket(house.app, "/ws", headers=house.headers()) as peer:
            with caplog.at_level(logging.INFO, "argentor.ws"):
                house.drain.begin("test")
                assert (await peer.end())["code"] == 1012
        assert "it does not read" in caplog.text
        await soon(house.drain.finished.wait())


async def test_a_goodbye_gives_what_is_owed_its_time_and_no_more():
    async with doors(HALVES, drain_s=0.2, total_s=5.0) as house, house.talk() as talk:
        talk.say(content="hi")
        await talk.until("text_delta")
        house.drain.begin("test")
        assert (await talk.until_closed())["code"] == "cancelled"
        assert (await talk.peer.end())["code"] == 1012


async def test_who_waits_for_a_run_that_failed_hears_when_to_come_back():
    limited = [ProviderRateLimited(retry_after=7)]
    async with doors(limited, limited) as house, house.talk() as talk:
        heard = await talk.ask("hi")
        assert [heard.last["retry_after"], heard.closing["retry_after"]] == [7, 7]
        reply = await house.post("/api/v1/agent/chat", {"message": "hi"})
        assert (reply.status, reply.json()["retry_after"], reply.header("retry-after")) == (503, 7, "7")

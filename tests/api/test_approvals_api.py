"""`argentor_asgi.api.approvals`, and the same over `/ws`: what a client hears of a call that waits, and answers.

agent.md 8.7, 1.10 D10; core.md G1 to G4; rest.md W1.
"""

import asyncio
from uuid import uuid4

import pytest
from asgi_driver import soon, until
from doors import CHAT, KEYS, STREAM, doors, streamed
from scripted_backend import answer
from waiting_room import asking

from argentor_asgi.agent.skills import SkillContext, skill
from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.gateway.outbox import ANSWERS
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.turn import TOOL_CALLS_PER_TURN
from argentor_asgi.sessions.sqlite import SqliteStore

pytestmark = pytest.mark.slow

APPROVALS = "/api/v1/approvals"
BOTH = ("me", "you")


class Post:
    """A skill that needs a person, and what it has sent, as (recipient, reviewer)."""

    def __init__(self):
        self.sent = []

    @property
    def skills(self):
        @skill("send", "Sends.", needs_approval=True, risk_level="high")
        def send(to: str, context: SkillContext) -> str:
            self.sent.append((to, context.reviewer))
            return f"sent to {to}"

        return [send]


def opened(*scripts, post=None, **settings):
    """Open the doors of a gateway that may send, after a person has agreed."""
    return doors(*(scripts or (asking("c1"), answer("done"))), skills=(post or Post()).skills, **settings)


async def pending(house, count=1):
    """Wait until so many calls wait, and return their views, or the only one."""
    async with asyncio.timeout(5):
        while len(found := (await house.get(APPROVALS)).json()) != count:  # noqa: ASYNC110  no event tells of it
            await asyncio.sleep(0)
    return found[0] if count == 1 else found


async def decide(house, approval, **body):
    return await house.post(f"{APPROVALS}/{approval['approval_id']}", {"approved": True} | body)


def code_of(found):
    return found.status, found.json()["code"]


async def guest_of(house, *scopes):
    """Make a key with these scopes alone, and return the headers that carry it."""
    made = await house.post("/api/v1/keys", {"name": "guest", "scopes": list(scopes)})
    assert made.status == 201, made.body
    return {"x_api_key": made.json()["key"]}


async def heard(talk):
    """Take frames until one closes a run; return the run's events, the frames beside it, and the closing one."""
    events, beside = [], []
    while True:
        frame = await talk.frame()
        if frame.get("msg_type") == "stream":
            events.append(frame["event"])
        elif frame["type"] in {"response", "error"}:
            return events, beside, frame
        else:
            beside.append(frame)


async def beside(talk, kind="approval_request"):
    """Return the next frame of this type that is no event of a run."""
    while (frame := await talk.frame()).get("type") != kind:
        pass
    return frame


# --- over REST ---------------------------------------------------------------------------------------------------


async def test_a_blocking_chat_waits_for_an_approval_that_another_request_gives():
    post = Post()
    async with opened(post=post) as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        assert post.sent == []
        assert {name: found[name] for name in ("tool", "arguments", "risk_level", "status", "call_id")} == {
            "tool": "send",
            "arguments": {"to": "you"},
            "risk_level": "high",
            "status": "pending",
            "call_id": "c1",
        }
        assert found["task_id"] == found["approval_id"]
        assert [found[name] for name in ("reviewer", "reason", "edited_arguments", "decided_at")] == [None] * 4
        assert (await house.get(f"{APPROVALS}/{found['approval_id']}")).json() == found
        assert (await house.get(f"/api/v1/runs/{found['run_id']}")).json()["status"] == "waiting_approval"
        decided = await decide(house, found, reason="go", edited_arguments={"to": "them"})
        assert (decided.status, decided.json()["status"], decided.json()["reviewer"]) == (200, "approved", "anonymous")
        reply = await chat.end()
        assert (reply.json()["response"], post.sent) == ("done", [("them", "anonymous")])
        assert (await house.get(APPROVALS)).json() == []
        [kept] = (await house.get(f"{APPROVALS}?status=all")).json()
        assert kept == decided.json() == (await house.get(f"{APPROVALS}?status=approved")).json()[0]
        assert (kept["edited_arguments"], kept["reason"]) == ({"to": "them"}, "go")


async def test_edited_arguments_that_the_skill_would_refuse_decide_nothing_and_can_be_mended():
    post = Post()
    async with opened(post=post) as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        refused = await decide(house, found, edited_arguments={"too": "them"})
        assert code_of(refused) == (422, "invalid_input")
        (detail,) = refused.json()["details"]
        assert detail["pointer"] == "/edited_arguments"
        assert "Its fields: to (required)" in detail["message"]
        async with house.talk() as talk:
            talk.say(type="approval_response", task_id=found["task_id"], approved=True, edited_arguments={"to": 7})
            assert (await beside(talk, "error"))["code"] == "invalid_input"
        assert (await pending(house)) == found
        assert (await decide(house, found, edited_arguments={"to": "them"})).status == 200
        assert (await chat.end()).status == 200
        assert post.sent == [("them", "anonymous")]


async def test_a_misspelt_edit_decides_nothing_and_what_the_originals_clients_add_does_no_harm():
    post = Post()
    async with opened(post=post) as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        refused = await decide(house, found, edited={"to": "them"})
        assert code_of(refused) == (422, "invalid_input")
        assert refused.json()["details"][0]["pointer"] == "/edited"
        async with house.talk() as talk:
            talk.say(type="approval_response", task_id=found["task_id"], approved=True, arguments={"to": "them"})
            assert (await beside(talk, "error"))["details"][0]["pointer"] == "/arguments"
        assert (await pending(house)) == found
        assert (await decide(house, found, reviewer="me", task_id=found["task_id"])).json()["reviewer"] == "anonymous"
        assert (await chat.end()).status == 200
        assert post.sent == [("you", "anonymous")]


async def test_a_stream_tells_of_the_request_and_of_its_end():
    async with opened() as house:
        stream = house.begin("POST", STREAM, {"input": "send it"})
        found = await pending(house)
        await decide(house, found, approved=False, reason="no")
        told = streamed(await stream.end())
        [request], [resolved] = told.of("approval_request"), told.of("approval_resolved")
        assert (request["approval_id"], request["tool"]) == (found["approval_id"], "send")
        assert (resolved["approved"], resolved["reason"]) == (False, "no")
        assert [result["is_error"] for result in told.of("tool_result")] == [True]


@pytest.mark.parametrize(("door", "body"), [(CHAT, {"message": "send it"}), (STREAM, {"input": "send it"})])
async def test_a_client_that_wants_no_waiting_has_such_calls_denied(door, body):
    post = Post()
    async with opened(post=post) as house:
        assert (await soon(house.post(door, {**body, "on_approval": "deny"}))).status == 200
        assert ((await house.get(f"{APPROVALS}?status=all")).json(), post.sent) == ([], [])
        assert (await house.post(door, {**body, "on_approval": "perhaps"})).status == 422


async def test_a_second_answer_hears_409_and_how_it_was_decided():
    async with opened() as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        assert (await decide(house, found, approved=False)).status == 200
        again = await decide(house, found)
        assert code_of(again) == (409, "approval_decided")
        assert again.json()["approval_status"] == "denied"
        await chat.end()


async def test_a_call_that_nobody_answers_is_denied_when_its_time_is_over():
    post = Post()
    async with opened(post=post, agent={"approval_timeout_s": 0.05}) as house:
        reply = await soon(house.post(CHAT, {"message": "send it"}))
        assert (reply.status, post.sent) == (200, [])
        [kept] = (await house.get(f"{APPROVALS}?status=expired")).json()
        assert (kept["status"], kept["reviewer"]) == ("expired", None)
        assert (await decide(house, kept)).json()["approval_status"] == "expired"


async def test_another_owner_finds_nothing_and_decides_nothing():
    """core.md G2."""
    post = Post()
    async with opened(post=post, keys=BOTH) as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found, you = await pending(house), house.as_("you")
        assert (await you.get(f"{APPROVALS}?status=all")).json() == []
        assert code_of(await you.get(f"{APPROVALS}/{found['approval_id']}")) == (404, "approval_not_found")
        assert code_of(await decide(you, found)) == (404, "approval_not_found")
        assert post.sent == []
        assert (await decide(house, found)).json()["reviewer"] == "me"
        await chat.end()
        assert post.sent == [("you", "me")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, 422),
        ({"approved": "yes"}, 422),
        ({"approved": False, "edited_arguments": {}}, 422),
        ({"approved": True, "edited_arguments": [1]}, 422),
        ({"approved": True, "reason": "x" * 1001}, 422),
    ],
)
async def test_an_answer_of_the_wrong_shape_decides_nothing(body, expected):
    async with opened() as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        target = f"{APPROVALS}/{found['approval_id']}"
        assert (await house.post(target, body)).status == expected
        assert (await house.get(target)).json() == found
        await decide(house, found)
        await chat.end()


async def test_an_id_that_is_none_is_refused():
    async with opened() as house:
        for ask in (house.get, lambda target: house.post(target, {"approved": True})):
            assert code_of(await ask(f"{APPROVALS}/{uuid4()}")) == (404, "approval_not_found")
            assert code_of(await ask(f"{APPROVALS}/nope")) == (400, "invalid_path")


async def test_each_way_needs_its_scope():
    async with opened(keys=("me",)) as house:
        target = f"{APPROVALS}/{uuid4()}"
        chatting, seeing, deciding = [
            await guest_of(house, scope) for scope in ("chat:write", "approvals:read", "approvals:write")
        ]
        for headers, expected in ((chatting, 403), (deciding, 403), (seeing, 404)):
            assert (await house.get(target, **headers)).status == expected
            assert (await house.get(APPROVALS, **headers)).status == (200 if expected == 404 else 403)
        for headers, expected in ((chatting, 403), (seeing, 403), (deciding, 404)):
            assert (await house.post(target, {"approved": True}, **headers)).status == expected


@pytest.mark.parametrize(("scope", "expected"), [("approvals:write", "approved"), ("approvals:read", None)])
async def test_a_run_waits_only_for_one_who_may_approve(scope, expected):
    post = Post()
    async with opened(post=post, keys=("me",)) as house:
        mine = await guest_of(house, "chat:write", "approvals:read", scope)
        chat = asyncio.create_task(house.post(CHAT, {"message": "send it"}, **mine))
        if expected is not None:
            await until(lambda: house.store._approvals)
            [approval_id] = house.store._approvals
            assert (await house.post(f"{APPROVALS}/{approval_id}", {"approved": True}, **mine)).status == 200
        assert (await soon(chat)).status == 200
        found = (await house.get(f"{APPROVALS}?status=all", **mine)).json()
        assert ([each["status"] for each in found], len(post.sent)) == ([expected] * len(found), len(found))
        assert len(found) == (expected is not None)


async def test_a_list_is_paged_and_keeps_its_status():
    async with opened(asking("c1", "c2", "c3"), answer("done")) as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house, 3)
        first = await house.get(f"{APPROVALS}?limit=2")
        assert [len(first.json()), "status=pending" in first.header("link")] == [2, True]
        reference = first.header("link").split(";")[0].strip("<>")
        rest = await house.get(APPROVALS + reference)
        assert first.json() + rest.json() == found
        assert rest.header("link") is None
        for each in found:
            await decide(house, each)
        await chat.end()
        assert (await house.get(f"{APPROVALS}?status=nothing")).status == 422
        assert (await house.get(f"{APPROVALS}?cursor=x")).status == 422


async def test_a_store_that_fails_is_told():
    async with opened() as house:
        house.store.faults |= {name: StorageUnavailable() for name in ("get_approval", "list_approvals")}
        target = f"{APPROVALS}/{uuid4()}"
        for found in (
            await house.get(APPROVALS),
            await house.get(target),
            await house.post(target, {"approved": True}),
        ):
            assert code_of(found) == (503, "storage_unavailable")


async def test_a_session_that_waits_is_not_deleted_under_its_run():
    async with opened() as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        session = f"/api/v1/sessions/{found['session_id']}"
        assert code_of(await house.delete(session)) == (409, "session_busy")
        await house.post(f"/api/v1/runs/{found['run_id']}/cancel")
        await chat.end()
        assert (await house.get(f"{APPROVALS}/{found['approval_id']}")).json()["status"] == "cancelled"
        assert (await house.delete(session)).status == 200
        assert (await house.get(f"{APPROVALS}/{found['approval_id']}")).status == 404


# --- over a WebSocket --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["approval_id", "task_id"])
async def test_a_client_hears_the_request_as_an_event_and_in_the_originals_frame_and_answers_it(name):
    """core.md G1, rest.md W1: an answer is an answer, and no chat text."""
    post = Post()
    async with opened(post=post) as house, house.talk() as talk:
        talk.say(content="send it")
        frames = []
        while len(frames) < 2:
            frame = await talk.frame()
            frames += [frame] if "approval_request" in (frame.get("type"), frame.get("event", {}).get("type")) else []
        [event] = [frame["event"] for frame in frames if "event" in frame]
        [frame] = [frame for frame in frames if "event" not in frame]
        assert post.sent == []
        assert frame == {
            "type": "approval_request",
            "task_id": event["approval_id"],
            "description": event["description"],
            "risk_level": "high",
            "context": {
                "run_id": frame["context"]["run_id"],
                "session_id": talk.session_id,
                "tool": "send",
                "arguments": {"to": "you"},
                "expires_at": event["expires_at"],
            },
        }
        talk.say(type="approval_response", approved=True, edited_arguments={"to": "them"}, **{name: frame["task_id"]})
        events, others, closing = await heard(talk)
        assert others == [
            {
                "type": "accepted",
                "request": "approval_response",
                "approval_id": frame["task_id"],
                "run_id": frame["context"]["run_id"],
                "status": "approved",
            }
        ]
        assert [found["type"] for found in events[:2]] == ["approval_resolved", "tool_result"]
        assert (closing["content"], post.sent) == ("done", [("them", "anonymous")])
        assert len(house.backend.requests) == 2


async def test_every_socket_of_the_owner_hears_of_it_and_no_other():
    """core.md G2."""
    async with (
        opened(keys=BOTH) as house,
        house.talk() as talk,
        house.talk() as second,
        house.as_("you").talk() as stranger,
    ):
        talk.say(content="send it")
        frame = await beside(second)
        stranger.say(type="approval_response", approval_id=frame["task_id"], approved=True)
        assert (await stranger.frame())["code"] == "approval_not_found"
        await stranger.is_silent()
        second.say(type="approval_response", approval_id=frame["task_id"], approved=False)
        assert (await beside(second, "accepted"))["status"] == "denied"
        await second.is_silent()
        events, _, closing = await heard(talk)
        assert (events[-1]["type"], closing["type"]) == ("done", "response")


async def test_a_client_that_comes_later_hears_what_waits_and_may_answer_when_the_asker_has_gone():
    """core.md G4: an approval survives the connection that it was asked on."""
    post = Post()
    async with opened(post=post) as house:
        async with house.talk() as talk:
            talk.say(content="send it")
            first = await beside(talk)
        async with house.talk() as later:
            assert await later.frame() == first
            later.say(type="resume", run_id=first["context"]["run_id"])
            await later.until("approval_request")
            later.say(type="approval_response", approval_id=first["task_id"], approved=True)
            events, _, closing = await heard(later)
            assert (events[-1]["type"], closing["content"]) == ("done", "done")
        async with house.talk() as last:
            await last.is_silent()
        assert post.sent == [("you", "anonymous")]


async def test_what_cannot_be_answered_is_refused_in_a_frame_with_its_reason():
    async with opened() as house, house.talk() as talk:
        talk.say(type="approval_response", approval_id="unknown", approved=True)
        assert (await talk.frame())["code"] == "approval_not_found"
        talk.say(type="approval_response", approved=True)
        assert (await talk.frame())["code"] == "invalid_input"
        talk.say(content="send it")
        task_id = (await beside(talk))["task_id"]
        talk.say(type="approval_response", approval_id=task_id, approved=False, edited_arguments={})
        assert (await beside(talk, "error"))["code"] == "invalid_input"
        talk.say(type="approval_response", approval_id=task_id, approved=True)
        await heard(talk)
        talk.say(type="approval_response", approval_id=task_id, approved=True)
        refused = await talk.frame()
        assert (refused["code"], refused["approval_status"]) == ("approval_decided", "approved")


async def test_a_key_without_the_scopes_hears_nothing_and_answers_nothing():
    async with opened(keys=("me",)) as house:
        guest = (await guest_of(house, "chat:write"))["x_api_key"]
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        KEYS["guest"] = guest
        try:
            async with house.as_("guest").talk() as talk:
                await talk.is_silent()
                talk.say(type="approval_response", approval_id=found["approval_id"], approved=True)
                assert (await talk.frame())["code"] == "forbidden"
        finally:
            del KEYS["guest"]
        await decide(house, found)
        await chat.end()


async def test_a_run_over_a_socket_may_ask_for_no_waiting():
    async with opened() as house, house.talk() as talk:
        told = await talk.ask("send it", run_options={"on_approval": "deny"})
        assert "approval_request" not in told.types
        assert told.closing["type"] == "response"


async def test_as_many_requests_as_a_turn_can_make_do_not_cut_a_client_that_reads():
    calls = [f"c{number}" for number in range(TOOL_CALLS_PER_TURN)]
    assert len(calls) >= ANSWERS
    async with opened(asking(*calls), answer("done")) as house, house.talk() as idle, house.talk() as talk:
        talk.say(content="send it")
        asked = [await beside(idle) for _ in calls]
        assert len({frame["task_id"] for frame in asked}) == len(calls)
        for frame in asked:
            idle.say(type="approval_response", approval_id=frame["task_id"], approved=True)
            await beside(idle, "accepted")
        _, _, closing = await heard(talk)
        assert closing["type"] == "response"


# --- over a restart ----------------------------------------------------------------------------------------------


async def test_a_run_waits_through_a_stop_and_a_start_of_the_whole_gateway(tmp_path):
    """Who reads it is let go in time; afterwards it is listed, answered and worked as if nothing had been."""
    post, path = Post(), tmp_path / "db"
    async with opened(post=post, store=SqliteStore(path, clock=SystemClock())) as house:
        chat = house.begin("POST", CHAT, {"message": "send it"})
        found = await pending(house)
        stream = house.begin("GET", f"/api/v1/runs/{found['run_id']}/stream")
        await until(lambda: b"approval_request" in stream.answer.body)
        async with house.talk() as talk:
            talk.say(type="resume", run_id=found["run_id"])
            await talk.until("approval_request")
            house.drain.begin("the test stops it")
            assert (await talk.until_closed())["code"] == "laid_aside"
        assert code_of(await chat.end())[1] == "laid_aside"
        assert (await stream.end()).body.count(b"event: approval_request") == 1
    async with opened(answer("done"), post=post, store=SqliteStore(path, clock=SystemClock())) as house:
        assert await pending(house) == found
        stream = house.begin("GET", f"/api/v1/runs/{found['run_id']}/stream")
        assert (await decide(house, found)).status == 200
        told = streamed(await stream.end())
        assert (told.last["type"], told.types.count("run_started")) == ("done", 1)
        assert told.types.count("approval_request") == told.types.count("approval_resolved") == 1
        assert post.sent == [("you", "anonymous")]
        [session] = (await house.get("/api/v1/sessions")).json()
        assert session["message_count"] == 4
        run = (await house.get(f"/api/v1/runs/{found['run_id']}")).json()
        assert (run["status"], run["turns"], run["usage"]["input_tokens"]) == ("done", 2, 6)

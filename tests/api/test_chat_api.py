"""`argentor_asgi.api.chat`: statuses, shapes and headers of the doors to the agent."""

import asyncio
import re
from uuid import UUID, uuid4

import pytest
from asgi_driver import soon, websocket
from doors import CHAT, STREAM, doors, streamed
from recording import heard_of, sents
from scripted_backend import Park, answer

from argentor_asgi.compose import openapi
from argentor_asgi.errors import (
    BudgetExceeded,
    ContentFiltered,
    ContextOverflow,
    InputBlocked,
    OutputBlocked,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
    StorageUnavailable,
    StreamTruncated,
)
from argentor_asgi.protocol.llm import Finish, TextPiece, ToolArgs, ToolEnd, ToolStart

pytestmark = pytest.mark.slow

HALVES = [TextPiece("half "), Park(), TextPiece("whole"), Finish("stop")]


def code_of(found):
    return found.status, found.json()["code"]


async def started(house, **body):
    """Begin a stream and wait until its run is in the middle; return the exchange, the run's id and its session's."""
    exchange = house.begin("POST", STREAM, {"input": "one"} | body)
    await soon(house.backend.parked.wait())
    await exchange.seen(lambda found: b"event: text" in found.body)
    first = next(sents(exchange.answer.chunks[0].split(b"\n\n")[0] + b"\n\n"))
    return exchange, first.data["run_id"], first.data["session_id"]


# --- one request, one answer -------------------------------------------------------------------------------------


async def test_a_message_is_answered_in_one_piece():
    async with doors(answer("he", "llo")) as house:
        found = await house.post(CHAT, {"message": "hi"})
        reply = found.json()
        assert (found.status, found.header("content-type")) == (200, "application/json")
        ids = [str(UUID(reply.pop(name))) for name in ("session_id", "run_id")]
        assert len(set(ids)) == 2
        usage = reply.pop("usage")
        assert (usage["input_tokens"], usage["output_tokens"]) == (3, 2)
        assert reply == {"response": "hello", "model": "scripted-1", "turns": 1, "finish_reason": "stop"}


async def test_a_message_goes_on_with_its_session():
    async with doors() as house:
        session_id = (await house.post(CHAT, {"message": "one"})).json()["session_id"]
        again = await house.post(CHAT, {"message": "two", "session_id": session_id.upper()})
        assert again.json()["session_id"] == session_id
        assert [message.content for message in house.backend.requests[1].messages] == ["one", "ok", "two"]


@pytest.mark.parametrize(
    ("target", "body", "status", "code"),
    [
        (CHAT, {"message": " "}, 400, "empty_input"),
        (CHAT, {"message": ""}, 400, "empty_input"),
        (STREAM, {"input": " "}, 400, "empty_input"),
        (CHAT, {"message": "\x00"}, 422, "content_rejected"),
        (STREAM, {"input": "x" * 101}, 413, "body_too_large"),
        (CHAT, {}, 422, "invalid_input"),
        (CHAT, {"message": 7}, 422, "invalid_input"),
        (CHAT, {"message": "x", "session_id": "nonsense"}, 422, "invalid_input"),
        (CHAT, {"message": "x", "on_busy": "wait"}, 422, "invalid_input"),
        (STREAM, {"input": "x", "role": "system"}, 422, "invalid_input"),
        (STREAM, {"input": "x", "model": "gpt-oh"}, 422, "invalid_input"),
        (STREAM, {"input": "x", "on_disconnect": "wait"}, 422, "invalid_input"),
    ],
)
async def test_what_is_no_message_is_refused_with_nothing_stored(target, body, status, code):
    async with doors(limits={"message_bytes": 100}) as house:
        assert code_of(await house.post(target, body)) == (status, code)
        assert (await house.get("/api/v1/runs")).json() == []


async def test_another_model_is_refused_by_pointing_at_it_and_the_one_that_is_served_is_taken():
    async with doors() as house:
        refused = await house.post(STREAM, {"input": "x", "model": "gpt-oh"})
        assert refused.json()["details"] == [{"pointer": "/model", "message": "only scripted-1 is served"}]
        for model in ("scripted-1", None):
            assert streamed(await house.post(STREAM, {"input": "x", "model": model})).last["type"] == "done"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ProviderUnavailable("no luck"), 502),
        (ProviderRateLimited(), 503),
        (ProviderAuth(), 502),
        (ProviderBadRequest(), 502),
        (StreamTruncated(), 502),
        (ContentFiltered(), 422),
        (ContextOverflow(), 422),
        (OutputBlocked(), 422),
        (BudgetExceeded(), 429),
        (StorageUnavailable(), 503),
    ],
)
async def test_a_run_that_fails_is_a_declared_problem_for_who_waits_for_one_answer(error, status):
    # agent.md 1.10 D24
    async with doors([TextPiece("oh"), error]) as house:
        assert code_of(await house.post(CHAT, {"message": "x"})) == (status, error.code)
    assert error.code in declared(CHAT, status)


@pytest.mark.parametrize("target", [CHAT, STREAM])
def test_what_a_message_may_be_refused_with_is_declared(target):
    assert all(error.code in declared(target, error.status) for error in (InputBlocked, BudgetExceeded))


def declared(target, status):
    """Return which codes the description has for this status of a POST."""
    words = openapi()["paths"][target]["post"]["responses"][str(status)]["description"]
    return re.findall(r"^`([a-z_]+)`:", words, re.MULTILINE)


async def test_a_run_that_takes_too_long_is_504():
    async with doors(HALVES, agent={"run_timeout_s": 0.01}) as house:
        assert code_of(await house.post(CHAT, {"message": "x"})) == (504, "timeout")


async def test_a_run_that_is_cancelled_is_409_for_who_waits_for_it():
    async with doors(HALVES) as house:
        waiting = house.begin("POST", CHAT, {"message": "x"})
        await soon(house.backend.parked.wait())
        [run] = (await house.get("/api/v1/runs")).json()
        await house.post(f"/api/v1/runs/{run['run_id']}/cancel")
        assert code_of(await waiting.end()) == (409, "cancelled")


async def test_a_client_that_leaves_before_its_answer_leaves_the_run_going():
    async with doors(HALVES) as house:
        waiting = house.begin("POST", CHAT, {"message": "x"})
        await soon(house.backend.parked.wait())
        waiting.leave()
        house.backend.release.set()
        await waiting.end()
        [run] = (await house.get("/api/v1/runs")).json()
        assert (await house.get(f"/api/v1/runs/{run['run_id']}/stream")).status == 200
        assert (await house.get(f"/api/v1/runs/{run['run_id']}")).json()["status"] == "done"


# --- streams -----------------------------------------------------------------------------------------------------


async def test_a_stream_is_the_run_from_its_first_to_its_terminal_event():
    # agent.md 1.10 D5
    async with doors(answer("he", "llo")) as house:
        found = await house.post(STREAM, {"input": "hi", "role": "user"})
        heard = streamed(found)
        assert heard.types == ["run_started", "text_delta", "text_delta", "turn_end", "done"]
        assert (heard.last["text"], found.header("cache-control")) == ("hello", "no-cache")
        assert [frame.event for frame in sents(found.body)][:2] == ["session", "text"]


async def test_a_stream_leaves_out_the_pieces_of_a_call_and_sends_it_whole():
    # agent.md 1.10 D8
    steps = [ToolStart("c1", "echo"), Park(), ToolArgs("c1", '{"text":"x"}'), ToolEnd("c1"), Finish("tool_calls")]
    async with doors(steps, answer("ok")) as house:
        exchange = house.begin("POST", STREAM, {"input": "hi"})
        await soon(house.backend.parked.wait())
        await exchange.seen(lambda found: b"event: session" in found.body)
        house.backend.release.set()
        heard = streamed(await exchange.end())
        expected = ["run_started", "tool_call_end", "turn_end", "tool_result", "text_delta", "turn_end", "done"]
        assert (heard.types, heard.of("tool_call_end")[0]["arguments"]) == (expected, {"text": "x"})


async def test_a_run_that_fails_is_an_event_of_its_stream():
    async with doors([TextPiece("oh"), ProviderUnavailable("no luck")]) as house:
        heard = streamed(await house.post(STREAM, {"input": "hi"}))
        assert (heard.last["type"], heard.last["code"]) == ("error", "provider_unavailable")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stream_resumes_behind_its_last_event_id_and_starts_nothing(method):
    async with doors(HALVES) as house:
        exchange, run_id, _ = await started(house)
        exchange.leave()
        await exchange.end()
        header = {"last-event-id": f"{run_id}:2"}
        target = STREAM if method == "POST" else f"/api/v1/runs/{run_id}/stream"
        body = {"input": "one"} if method == "POST" else None
        resumed = house.begin(method, target, body, header)
        house.backend.release.set()
        heard = streamed(await resumed.end(), resumed=True)
        assert (heard.run_id, heard.seqs[0], heard.last["text"]) == (run_id, 3, "half whole")
        assert len(house.backend.requests) == 1


async def test_posting_again_past_the_end_is_a_stream_without_events():
    async with doors() as house:
        heard = streamed(await house.post(STREAM, {"input": "one"}))
        again = await house.post(STREAM, {"input": "one"}, last_event_id=f"{heard.run_id}:{heard.seqs[-1]}")
        assert (again.status, again.body, len(house.backend.requests)) == (200, b"", 1)


async def test_a_last_event_id_that_is_none_of_ours_starts_a_run():
    async with doors() as house:
        heard = streamed(await house.post(STREAM, {"input": "one"}, last_event_id="somebody-elses"))
        assert (heard.seqs[0], heard.last["type"]) == (1, "done")


async def test_resuming_a_run_that_is_unknown_or_foreign_or_gone_is_refused_before_the_stream():
    async with doors(keys=("me", "you")) as house:
        heard = streamed(await house.post(STREAM, {"input": "one"}))
        for who, run_id in ((house, uuid4()), (house.as_("you"), heard.run_id)):
            refused = await who.post(STREAM, {"input": "one"}, last_event_id=f"{run_id}:1")
            assert code_of(refused) == (404, "run_not_found")
        house.store._drop_events(house.store._runs[heard.run_id])
        gone = await house.post(STREAM, {"input": "one"}, last_event_id=f"{heard.run_id}:1")
        assert code_of(gone) == (410, "replay_expired")
        assert (gone.json()["run_status"], gone.json()["text"]) == ("done", "ok")


@pytest.mark.parametrize("by", ["body", "configuration"])
async def test_a_run_ends_with_its_stream_when_its_client_wants_that(by):
    agent = {"on_disconnect": "cancel"} if by == "configuration" else {}
    async with doors(HALVES, agent=agent) as house:
        exchange, run_id, _ = await started(house, **({"on_disconnect": "cancel"} if by == "body" else {}))
        exchange.leave()
        await exchange.end()
        seen = streamed(await soon(house.get(f"/api/v1/runs/{run_id}/stream")))
        assert (seen.last["type"], seen.last["reason"]) == ("cancelled", "the client disconnected")


@pytest.mark.parametrize("on_disconnect", ["continue", None])
async def test_a_run_goes_on_without_its_stream_by_default(on_disconnect):
    async with doors(HALVES) as house:
        exchange, run_id, _ = await started(house, on_disconnect=on_disconnect)
        exchange.leave()
        await exchange.end()
        following = house.begin("GET", f"/api/v1/runs/{run_id}/stream")
        house.backend.release.set()
        assert streamed(await following.end()).last["text"] == "half whole"


async def test_a_stream_that_was_read_to_its_end_cancels_nothing_and_asks_the_store_nothing(caplog):
    async with doors() as house:
        house.store.faults["get_run"] = StorageUnavailable()
        heard = streamed(await house.post(STREAM, {"input": "one", "on_disconnect": "cancel"}))
        past = {"last_event_id": f"{heard.run_id}:{heard.seqs[-1]}"}
        del house.store.faults["get_run"]
        await house.post(STREAM, {"input": "one", "on_disconnect": "cancel"}, **past)
        assert (heard.last["type"], caplog.records) == ("done", [])


# --- a busy session ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", [None, "reject", "enqueue"])
@pytest.mark.parametrize(("target", "field"), [(CHAT, "message"), (STREAM, "input")])
async def test_a_busy_session_is_409_unless_the_request_or_the_configuration_says_otherwise(configured, target, field):
    async with doors(HALVES, agent={"on_busy": configured}) as house:
        exchange, _, session_id = await started(house)
        asking = house.begin("POST", target, {field: "two", "session_id": session_id})
        if configured != "enqueue":
            refused = await asking.end()
            assert (code_of(refused), refused.header("retry-after")) == ((409, "session_busy"), "1")
        queued = house.begin("POST", CHAT, {"message": "three", "session_id": session_id, "on_busy": "enqueue"})
        house.backend.release.set()
        assert (await queued.end()).json()["response"] == "ok"
        assert (await asking.end()).status == (200 if configured == "enqueue" else 409)
        heard_of(list(sents((await exchange.end()).body)))


async def test_steering_streams_the_run_that_takes_the_words():
    async with doors(HALVES, answer("both")) as house:
        exchange, run_id, session_id = await started(house)
        steering = house.begin("POST", STREAM, {"input": "two", "session_id": session_id, "on_busy": "steer"})
        await steering.seen(lambda found: b"event: text" in found.body)
        house.backend.release.set()
        heard = [streamed(await found.end()) for found in (exchange, steering)]
        assert [found.run_id for found in heard] == [run_id] * 2
        assert heard[0].events == heard[1].events
        assert (heard[0].last["text"], "steered" in heard[0].types) == ("both", True)


async def test_a_foreign_session_is_404_busy_or_not():
    async with doors(HALVES, keys=("me", "you")) as house:
        exchange, _, session_id = await started(house)
        for _ in range(2):
            for target, field in ((CHAT, "message"), (STREAM, "input")):
                refused = await house.as_("you").post(target, {field: "x", "session_id": session_id})
                assert code_of(refused) == (404, "session_not_found")
            house.backend.release.set()
            await exchange.end()


# --- Idempotency-Key ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forms", [("k", "k"), ('"k"', "k"), ("k", '"k"'), ("a b~!", "a b~!"), ("x" * 255, "x" * 255)])
async def test_a_key_is_bare_or_quoted_and_finds_the_first_answer(forms):
    async with doors() as house:
        first, again = [await house.post(CHAT, {"message": "hi"}, idempotency_key=form) for form in forms]
        assert (first.status, again.json()) == (200, first.json())
        stream = await house.post(STREAM, {"input": "hi"}, idempotency_key=forms[0])
        assert streamed(stream).run_id == first.json()["run_id"]
        assert len(house.backend.requests) == 1


@pytest.mark.parametrize("key", ["", '""', '"', '"open', "x" * 256, f'"{"x" * 256}"', "tab\there", "umläut"])
@pytest.mark.parametrize(("target", "field"), [(CHAT, "message"), (STREAM, "input")])
async def test_a_bad_key_is_400(key, target, field):
    async with doors() as house:
        refused = await house.post(target, {field: "hi"}, idempotency_key=key)
        assert code_of(refused) == (400, "bad_request")
        assert house.backend.requests == []


async def test_a_key_of_another_request_is_422_and_another_owners_key_is_free():
    async with doors(keys=("me", "you")) as house:
        first = await house.post(CHAT, {"message": "hi"}, idempotency_key="k")
        assert code_of(await house.post(CHAT, {"message": "ho"}, idempotency_key="k")) == (
            422,
            "idempotency_key_reused",
        )
        other = await house.as_("you").post(CHAT, {"message": "hi"}, idempotency_key="k")
        assert (other.status, other.json()["run_id"] != first.json()["run_id"]) == (200, True)


async def test_a_key_whose_session_was_deleted_is_404_as_the_description_says():
    async with doors() as house:
        first = await house.post(CHAT, {"message": "hi"}, idempotency_key="k")
        await house.delete(f"/api/v1/sessions/{first.json()['session_id']}")
        for target, body in ((CHAT, {"message": "hi"}), (STREAM, {"input": "hi"})):
            assert code_of(await house.post(target, body, idempotency_key="k")) == (404, "run_not_found")


async def test_two_requests_with_one_key_at_once_are_one_run():
    async with doors(HALVES) as house:
        both = [house.begin("POST", CHAT, {"message": "hi"}, {"idempotency-key": "k"}) for _ in range(2)]
        await soon(house.backend.parked.wait())
        house.backend.release.set()
        first, second = await asyncio.gather(*(found.end() for found in both))
        assert (first.json(), len(house.backend.requests)) == (second.json(), 1)


# --- limits, drain, status ---------------------------------------------------------------------------------------


async def test_a_gateway_at_its_limit_of_runs_is_503():
    async with doors(HALVES, limits={"runs": 1}) as house:
        exchange, _, _ = await started(house)
        refused = await house.post(CHAT, {"message": "hi"})
        assert (code_of(refused), refused.header("retry-after")) == ((503, "overloaded"), "1")
        house.backend.release.set()
        await exchange.end()
        assert (await house.post(CHAT, {"message": "hi"})).status == 200


async def test_a_draining_gateway_is_503_and_its_streams_end_with_their_runs():
    async with doors(HALVES) as house:
        exchange, _, _ = await started(house)
        house.drain.begin("test")
        for target, body in ((CHAT, {"message": "hi"}), (STREAM, {"input": "hi"})):
            refused = await house.post(target, body)
            assert (code_of(refused), refused.header("retry-after")) == ((503, "draining"), "30")
        house.backend.release.set()
        assert streamed(await exchange.end()).last["type"] == "done"


async def test_a_store_that_fails_is_503():
    async with doors() as house:
        house.store.faults["begin_run"] = StorageUnavailable()
        for target, body in ((CHAT, {"message": "hi"}), (STREAM, {"input": "hi"})):
            assert code_of(await house.post(target, body)) == (503, "storage_unavailable")


async def test_the_agents_status_is_that_of_the_probes_and_counts_live_runs():
    async with doors(HALVES) as house:
        exchange, _, _ = await started(house)
        status = (await house.get("/api/v1/agent/status")).json()
        skills = len((await house.get("/api/v1/skills")).json())
        expected = {"ready": True, "skills_loaded": skills, "provider": "scripted", "model": "scripted-1", "runs": 1}
        assert status == expected
        house.backend.release.set()
        await exchange.end()
        status = (await house.get("/api/v1/agent/status")).json()
        assert (status["ready"], status["runs"]) == (True, 0)
        house.drain.begin("test")
        assert code_of(await house.get("/api/v1/agent/status")) == (503, "draining")


async def test_an_agent_whose_store_fails_is_not_ready():
    async with doors() as house:
        house.store.faults["check"] = StorageUnavailable()
        assert (await house.get("/api/v1/agent/status")).json()["ready"] is False


@pytest.mark.parametrize(("bound", "who"), [("connections", "you"), ("connections_per_principal", "me")])
async def test_a_socket_too_many_is_503_until_one_has_gone(bound, who):
    async with doors(keys=("me", "you"), limits={bound: 1}) as house:
        other = house.as_(who)
        async with house.talk(), websocket(other.app, "/ws", headers=other.headers()) as peer:
            assert (peer.refusal.status, peer.refusal.json()["code"]) == (503, "overloaded")
        async with other.talk() as talk:
            await talk.is_silent()


async def test_without_a_key_every_door_is_401():
    async with doors(keys=("me",)) as house:
        stranger = house.as_(None)
        for target, body in ((CHAT, {"message": "hi"}), (STREAM, {"input": "hi"})):
            assert code_of(await stranger.post(target, body)) == (401, "unauthenticated")
        assert code_of(await stranger.get("/api/v1/agent/status")) == (401, "unauthenticated")

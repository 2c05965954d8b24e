"""The embedded model as a backend: its stream, its estimate, its end, and that hostile input stays cheap."""

import asyncio
import json

import pytest
from contracts.llm_backend import LlmBackendContract, user
from hypothesis import given
from hypothesis import strategies as st
from planner_talk import TOOLS, calling, message

from argentor_asgi.agent.builtin import planner
from argentor_asgi.agent.builtin.backend import PIECE, BuiltinBackend, tokens, word_groups
from argentor_asgi.agent.builtin.moves import Ask, Call, Context, Say
from argentor_asgi.agent.builtin.planner import decide, plan
from argentor_asgi.agent.builtin.steps import pieces
from argentor_asgi.agent.builtin.text import normalise
from argentor_asgi.protocol.llm import Finish, LlmRequest, TextPiece, ToolArgs, ToolEnd, ToolStart, UsageReport


class TestTheContract(LlmBackendContract):
    def make(self):
        return BuiltinBackend()

    def text_request(self):
        return LlmRequest("", [user("tell me a joke")], TOOLS)

    def tool_request(self):
        return LlmRequest("", [user("what is 17*23?")], TOOLS)


def request(text, **settings):
    return LlmRequest("You help.", [message("user", text)], TOOLS, **settings)


async def events(text, **settings):
    return [event async for event in BuiltinBackend().stream(request(text, **settings))]


async def test_a_call_is_streamed_start_pieces_end_then_usage_then_finish():
    found = await events("what is 17*23?")
    kinds = [type(event) for event in found]
    pieces = [event.piece for event in found if isinstance(event, ToolArgs)]
    assert kinds == [TextPiece, ToolStart, *[ToolArgs] * len(pieces), ToolEnd, UsageReport, Finish]
    assert json.loads("".join(pieces)) == {"operation": "evaluate", "expression": "17*23"}
    assert max(map(len, pieces)) == PIECE
    assert found[-1] == Finish("tool_calls")
    assert {event.id for event in found if isinstance(event, ToolStart | ToolArgs | ToolEnd)} == {"call_1"}


async def test_an_answer_is_streamed_in_pieces_and_stops():
    found = await events("tell me a joke")
    text = "".join(event.text for event in found if isinstance(event, TextPiece))
    assert text == plan([message("user", "tell me a joke")], TOOLS).text
    assert [type(event) for event in found[-2:]] == [UsageReport, Finish]
    assert found[-1].reason == "stop"


async def test_usage_is_an_estimate_of_both_sides():
    usage = (await events("what is 17*23?"))[-2].usage
    assert usage.estimated
    assert usage.input_tokens == tokens("You help.") + tokens("what is 17*23?") + 8
    assert usage.output_tokens > 0


async def test_a_limit_on_the_answer_is_kept_and_told():
    found = await events("tell me a joke", max_tokens=5)
    assert sum(len(event.text) for event in found if isinstance(event, TextPiece)) == 20
    assert found[-1].reason == "length"


async def test_what_utf8_cannot_carry_is_replaced():
    history = [message("user", "\ud800"), message("user", "what did I ask?")]
    found = [event async for event in BuiltinBackend().stream(LlmRequest("", history, TOOLS))]
    assert "".join(event.text for event in found if isinstance(event, TextPiece)) == "You asked: ?"
    assert [event async for event in BuiltinBackend().stream(request("sha256 of \ud800"))][-1].reason == "tool_calls"


async def test_a_limit_does_not_cut_a_call():
    assert (await events("what is 17*23?", max_tokens=1))[-1].reason == "tool_calls"


async def test_the_iterator_may_be_closed_at_any_event():
    whole = len(await events("what is 17*23?"))
    for count in range(whole):
        stream = BuiltinBackend().stream(request("what is 17*23?"))
        for _ in range(count):
            await anext(stream)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_cancelling_ends_a_paced_stream_between_two_pieces():
    seen = asyncio.Event()

    async def read():
        async for _ in BuiltinBackend(pace_s=3600).stream(request("help")):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_tasks_run_between_pieces():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    found = await events("help")
    task.cancel()
    assert turns >= sum(isinstance(event, TextPiece) for event in found)


async def test_closing_the_backend_needs_nothing():
    await BuiltinBackend().aclose()


def test_it_is_called_what_the_caller_is_told():
    assert (BuiltinBackend().name, BuiltinBackend().model) == ("builtin", "argentor-builtin/1")


@given(st.text(max_size=300))
def test_word_groups_join_to_the_text(text):
    groups = list(word_groups(text))
    assert "".join(groups) == text
    assert all(0 < len(group) <= 4 * PIECE for group in groups)


SEEDS = [
    "a", "1", " ", "\n", ";", '"', "“", "'", '\\"', "(", "{", "[]", '{"a":', "then ", "- a\n", "1+", "1,000", "2²",
    "ﷺ",
    "replace a with b in ", "is a valid email ", "csv by ", "a=1 ", "filter [] where ", "set a to ", "my ", "of ", "é",
    "sqrt(", "days between ", "remember a; ", "get a from {} ", "hmac of a with key ", "please ", "x 2",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("head", ["", "what is ", "/tool hash "])
def test_hostile_input_of_100_000_characters_does_not_explode(head, seed):
    text = normalise(head + seed * (100_000 // len(seed)))
    context = Context("en", {spec.name: spec for spec in TOOLS})
    # What is linear ends in a blink; a quadratic pattern would hold the suite up for minutes, and so show itself.
    assert all(piece.text in text for piece in pieces(text)[:9])
    assert isinstance(decide(text, context), Call | Ask | Say)


async def test_the_history_may_hold_calls_of_another_model():
    call = planner.PlannedCall("toolu_1", "hash", {})
    history = [calling("x", call), message("user", "what is 17*23?")]
    found = [event async for event in BuiltinBackend().stream(LlmRequest("", history, TOOLS))]
    assert found[-1].reason == "tool_calls"

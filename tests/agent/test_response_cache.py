"""Answers from memory: only where they are the same answer, and only to the same tenant (agent.md 1.10 D17)."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from scripted_backend import USAGE, ScriptedBackend, answer, call, calling
from still_clock import StillClock

from argentor_asgi.agent.response_cache import ANSWER_BYTES, ANSWER_EVENTS, KEPT_BYTES, CachedBackend
from argentor_asgi.errors import ProviderUnavailable
from argentor_asgi.protocol.llm import Finish, LlmRequest, TextPiece, ToolSpec, UsageReport
from argentor_asgi.protocol.messages import Message, Part, Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def said(text="hi", role="user", number=0):
    return Message(f"m{number}", role, text, "s", NOW, (Part("text", text=text),))


def asking(*messages, **fields):
    return LlmRequest("Be brief.", messages or (said(),), **fields)


def cached(*scripts, entries=2, ttl_s=10.0, temperature=0.0):
    backend, clock = ScriptedBackend(*scripts), StillClock(0.0)
    return CachedBackend(backend, entries=entries, ttl_s=ttl_s, temperature=temperature, clock=clock), backend, clock


async def text_of(backend, request):
    return "".join([event.text async for event in backend.stream(request) if isinstance(event, TextPiece)])


async def test_the_same_question_is_answered_from_memory_and_costs_no_tokens():
    backend, asked, _ = cached(answer("a", "b"))
    first = [event async for event in backend.stream(asking())]
    again = [event async for event in backend.stream(replace(asking(), messages=(said(number=7),)))]
    assert [event for event in first if not isinstance(event, UsageReport)] == [
        TextPiece("a"),
        TextPiece("b"),
        Finish("stop"),
    ]
    assert again == [TextPiece("a"), TextPiece("b"), UsageReport(Usage()), Finish("stop")]
    assert UsageReport(USAGE) in first
    assert (len(asked.requests), backend.hits, backend.misses) == (1, 1, 1)


@pytest.mark.parametrize(
    "other",
    [
        asking(tenant="another"),
        asking(said("hi "), said("there")),
        asking(said("h"), said("ithere")),
        asking(said("hithere", "assistant")),
        replace(asking(), system="Be long."),
        asking(tools=(ToolSpec("add", "Adds.", {"type": "object"}),)),
        asking(max_tokens=5),
    ],
)
async def test_whatever_shapes_the_answer_or_whose_it_is_makes_another_question(other):
    backend, _, _ = cached(answer("one"), answer("two"))
    assert await text_of(backend, asking(said("hi"), said("there"))) == "one"
    assert await text_of(backend, other) == "two"


@pytest.mark.parametrize("temperature", [None, 0.1])
async def test_only_at_temperature_nought_is_anything_kept(temperature):
    backend, asked, _ = cached(answer("one"), answer("two"), temperature=temperature)
    assert [await text_of(backend, asking()), await text_of(backend, asking())] == ["one", "two"]
    assert (len(asked.requests), len(backend), backend.hits, backend.misses) == (2, 0, 0, 0)


async def test_the_requests_own_temperature_counts():
    backend, _, _ = cached(answer("one"), answer("two"))
    hot = asking(temperature=0.7)
    assert [await text_of(backend, hot), await text_of(backend, hot)] == ["one", "two"]


async def test_a_conversation_with_calls_is_never_answered_from_memory():
    backend, _, _ = cached(answer("one"), answer("two"))
    called = Message("a", "assistant", "", "s", NOW, (Part("tool_call", id="c", name="add", arguments={}),))
    history = asking(said(), called)
    assert [await text_of(backend, history), await text_of(backend, history)] == ["one", "two"]


@pytest.mark.parametrize(
    "script", [calling(call("c", "add")), answer("cut", reason="length"), answer("no", reason="content_filter")]
)
async def test_what_is_no_whole_answer_is_not_kept(script):
    backend, _, _ = cached(script, answer("two"))
    await text_of(backend, asking())
    assert len(backend) == 0


async def test_a_stream_that_breaks_off_is_not_kept():
    backend, _, _ = cached([TextPiece("a"), ProviderUnavailable()], answer("two"))
    with pytest.raises(ProviderUnavailable):
        await text_of(backend, asking())
    assert await text_of(backend, asking()) == "two"


async def test_an_answer_is_kept_for_its_time_and_no_longer():
    backend, _, clock = cached(answer("one"), answer("two"))
    await text_of(backend, asking())
    clock.at = 9.9
    assert await text_of(backend, asking()) == "one"
    clock.at = 10.0
    assert await text_of(backend, asking()) == "two"


async def test_at_its_bound_it_forgets_what_was_used_longest_ago():
    backend, asked, _ = cached(*(answer(str(number)) for number in range(9)))
    one, two, three = asking(said("1")), asking(said("2")), asking(said("3"))
    for request in (one, two, one, three):
        await text_of(backend, request)
    assert len(backend) == 2
    before = len(asked.requests)
    await text_of(backend, one)
    assert len(asked.requests) == before
    await text_of(backend, two)
    assert len(asked.requests) == before + 1


async def test_an_answer_of_too_many_pieces_is_not_kept():
    backend, _, _ = cached(answer(*["x"] * (ANSWER_EVENTS - 1)), answer(*["x"] * ANSWER_EVENTS))
    await text_of(backend, asking(said("fits")))
    assert len(backend) == 1
    await text_of(backend, asking(said("does not")))
    assert len(backend) == 1


async def test_closing_the_stream_closes_the_models():
    backend, asked, _ = cached(answer("a", "b"))
    stream = backend.stream(asking())
    await anext(stream)
    await stream.aclose()
    assert asked.streams == 0
    assert len(backend) == 0


async def test_it_is_closed_with_its_model():
    backend, asked, _ = cached()
    await backend.aclose()
    assert asked.is_closed


async def test_answers_are_kept_up_to_a_bound_of_bytes_however_many_there_may_be():
    large = "x" * (ANSWER_BYTES - 1000)
    most = KEPT_BYTES // ANSWER_BYTES
    backend, _, _ = cached(*[answer(large)] * (most + 2), entries=10_000)
    for number in range(most + 2):
        await text_of(backend, asking(said(str(number))))
        assert backend.kept_bytes <= KEPT_BYTES
    assert len(backend) == most
    assert await text_of(backend, asking(said(str(most + 1)))) == large
    assert backend.hits == 1


@pytest.mark.parametrize(
    ("script", "is_kept"),
    [
        (answer("x" * (ANSWER_BYTES - 1000)), True),
        (answer("x" * ANSWER_BYTES), False),
        (answer(*["x" * 1000] * 1000), False),
        ([TextPiece("a"), Finish("stop", metadata={"thought": "x" * ANSWER_BYTES})], False),
    ],
)
async def test_one_answer_is_kept_up_to_a_bound_of_bytes(script, is_kept):
    backend, asked, _ = cached(script, script)
    first = await text_of(backend, asking())
    assert await text_of(backend, asking()) == first
    assert (len(backend), len(asked.requests)) == (int(is_kept), 1 if is_kept else 2)
    assert (backend.kept_bytes > 0) == is_kept


async def test_an_answer_that_is_kept_anew_takes_its_room_once():
    backend, _, clock = cached(answer("one"), answer("two!"))
    await text_of(backend, asking())
    first = backend.kept_bytes
    clock.at = 11
    assert await text_of(backend, asking()) == "two!"
    assert (len(backend), backend.kept_bytes) == (1, first + 1)

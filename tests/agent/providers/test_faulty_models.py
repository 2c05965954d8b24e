"""Hosted models behind `Resilient`, against a foreign server that breaks its answers as told (agent.md 8 item 4)."""

import asyncio

import pytest
from hosted_models import HELLO, LOOK_THERE, PROVIDER_OF, WIRES, asking, heard
from model_servers import llmock

from argentor_asgi.agent.providers.hosted import Refused
from argentor_asgi.agent.resilience.breaker import Rules
from argentor_asgi.agent.resilience.failover import Patience, Resilient
from argentor_asgi.errors import ContextOverflow, ProviderAuth, StreamTruncated
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.llm import Finish, Retrying, TextPiece, ToolStart, UsageReport

pytestmark = pytest.mark.slow

PLACE = {"openai": "", "anthropic": "/anthropic", "gemini": "/gemini"}
FAULTS = ("truncate", "disconnect", "malformed", "stall")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with llmock(tmp_path_factory.mktemp("llmock")) as running:
        yield running


async def answered(models, wire, *behaviours, request=HELLO):
    """Return what is said in an answer that meets these behaviours, its error last if it has one, and the waits."""
    if behaviours:
        await asyncio.to_thread(models.ask, "POST", "/_llmock/scenario", {"behaviors": behaviours})
    clock, slept = SystemClock(), []

    async def sleep(seconds):
        slept.append(seconds)

    backend = Resilient(
        [asking(models.url + PLACE[wire], wire, model="m-1", idle_s=0.3)],
        patience=Patience(3, Rules(5, 30.0)),
        clock=clock,
        metrics=Metrics(clock=clock),
        sleep=sleep,
        draw=lambda: 0.5,
    )
    return await heard(backend, request), slept


@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_and_a_call_come_whole(models, wire):
    events, _ = await answered(models, wire)
    assert any(isinstance(event, TextPiece) for event in events)
    assert [event.model for event in events if isinstance(event, UsageReport)][-1] == "m-1"
    assert events[-1].reason == "stop"
    events, _ = await answered(models, wire, request=LOOK_THERE)
    assert [event.name for event in events if isinstance(event, ToolStart)] == ["look"]
    assert events[-1].reason == "tool_calls"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_that_breaks_before_its_first_word_is_asked_for_again(models, wire, fault):
    broken = {"type": "stream_fault", "kind": fault, "after_chunks": 0, "stall_seconds": 5}
    events, slept = await answered(models, wire, broken)
    retried, *said = [event for event in events if not isinstance(event, UsageReport)]
    assert (retried.attempt, retried.delay_ms, slept) == (1, 250, [0.25])
    assert retried.reason in {"stream_truncated", "provider_unavailable"}
    assert isinstance(said[0], TextPiece)
    assert isinstance(said[-1], Finish)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_that_breaks_after_its_first_word_is_truncated(models, wire, fault):
    """agent.md 1.10 D13: never a normal end."""
    broken = {"type": "stream_fault", "kind": fault, "after_chunks": 4, "stall_seconds": 5}
    events, slept = await answered(models, wire, broken)
    assert any(isinstance(event, TextPiece) for event in events)
    assert not any(isinstance(event, Finish | Retrying) for event in events)
    assert isinstance(events[-1], StreamTruncated)
    assert slept == []


@pytest.mark.parametrize("wire", WIRES)
async def test_refusals_are_waited_for_as_they_say(models, wire):
    limited = {"type": "fail", "status": 429, "retry_after": 3}
    overloaded = {"type": "fail", "status": 529, "retry_after": 1}
    events, slept = await answered(models, wire, limited, overloaded)
    assert events[:2] == [Retrying(1, 3000, "provider_rate_limited"), Retrying(2, 1000, "provider_unavailable")]
    assert slept == [3.0, 1.0]
    assert isinstance(events[-1], Finish)


@pytest.mark.parametrize("wire", WIRES)
async def test_what_is_no_fault_of_the_provider_is_told_at_once(models, wire):
    (error,), _ = await answered(models, wire, {"type": "fail", "status": 401})
    assert isinstance(error, ProviderAuth)
    assert isinstance(error.__cause__, Refused)
    long = {"type": "fail", "status": 400, "code": "context_length_exceeded", "message": "prompt is too long"}
    (error,), _ = await answered(models, wire, long)
    assert isinstance(error, ContextOverflow)


def test_every_wire_is_asked():
    assert set(PLACE) == set(WIRES) == set(PROVIDER_OF)

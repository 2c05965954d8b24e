"""Two rounds with a foreign model server on each wire: a call, its result, and the answer (agent.md 8 item 3)."""

import asyncio
from dataclasses import replace

import pytest
from hosted_models import WIRES, asking
from model_servers import aimock
from wire_cases import CASES, MODELS, golden, message, result

from argentor_asgi.protocol.llm import TextPiece, UsageReport
from argentor_asgi.protocol.schema import encode
from argentor_asgi.protocol.turn import Turn

pytestmark = pytest.mark.slow

FIXTURES = [
    {
        "match": {"userMessage": "17*23", "turnIndex": 0},
        "response": {
            "content": "Let me compute that.",
            "toolCalls": [{"name": "calculator", "arguments": {"expression": "17*23"}}],
        },
    },
    {"match": {"userMessage": "17*23", "turnIndex": 1}, "response": {"content": "17*23 is 391."}},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with aimock(tmp_path_factory.mktemp("aimock"), FIXTURES) as running:
        yield running


async def heard(models, wire, request):
    backend = asking(models.url, wire, model=MODELS[wire])
    try:
        return [event async for event in backend.stream(request)]
    finally:
        await backend.aclose()


@pytest.mark.parametrize("wire", WIRES)
async def test_the_result_of_a_call_brings_the_answer(models, wire):
    # agent.md 1.10 D1
    turn, request = Turn(next_index=0, taken=set()), CASES["first_round"]
    for event in await heard(models, wire, request):
        turn.feed(event)
    (call,) = turn.calls
    assert (turn.text, call.name, call.arguments) == ("Let me compute that.", "calculator", {"expression": "17*23"})
    answered = [message("assistant", *turn.parts), message("tool", result(call.id, '{"result":391}'))]
    events = await heard(models, wire, replace(request, messages=[*request.messages, *answered]))
    assert "".join(event.text for event in events if isinstance(event, TextPiece)) == "17*23 is 391."
    assert [event.usage.output_tokens > 0 for event in events if isinstance(event, UsageReport)][-1]
    assert events[-1].reason == "stop"


@pytest.mark.parametrize("wire", WIRES)
async def test_the_server_has_seen_what_the_golden_says(models, wire):
    """Its journal has every body as if it were OpenAI's, with notes of its own; of the others it keeps the length."""
    # agent.md 1.10 D1
    await heard(models, wire, CASES["second_round"])
    seen = (await asyncio.to_thread(models.journal))[-1]
    expected = golden(wire, "second_round")
    assert int(seen["headers"]["content-length"]) == len(expected)
    if wire == "openai":
        sent = {name: value for name, value in seen["body"].items() if not name.startswith("_")}
        assert encode(sent) == expected

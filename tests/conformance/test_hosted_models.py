"""What a hosted model may come to, on every wire and by every way in: the same events, and the same session behind it.

agent.md 8 items 1 and 2, with a foreign model server on the real wires (aimock) and the whole gateway over sockets.
"""

import asyncio
import signal
from dataclasses import dataclass, field

import pytest
from failing_models import ANSWER, says
from hosted_gateways import WAYS, Told, asking, hosted_gateways, served
from hosted_models import TEXT
from model_servers import aimock
from processes import STOP_S
from raw_server import raw_server

pytestmark = pytest.mark.slow

WIRES = ("openai", "anthropic", "gemini")
SAYS = "Let me see."
EXPRESSION = {"operation": "evaluate", "expression": "17*23"}
MAX_TURNS = 4


def call(number: int, name: str = "calculator", **arguments: object) -> dict:
    return {"id": f"call_{number}", "name": name, "arguments": arguments}


@dataclass(frozen=True)
class Case:
    """What the user says, what the model answers by turns, and what must come of it.

    `answers`: the fixtures' responses; all of them but the last are calls, and their results lead to the next.
    `content`: the last message of the assistant, None where the last is another's; `results`: whether each of the
    calls failed, in their order, and a part of what its result says.
    """

    asked: str
    answers: tuple[dict, ...]
    content: str | None = None
    code: str | None = None
    finish: str | None = "stop"
    results: tuple[tuple[bool, str], ...] = ()
    wires: tuple[str, ...] = WIRES
    refusal_of: dict[str, str] = field(default_factory=dict)


PARALLEL = (
    call(1, **EXPRESSION),
    call(2, "hash", operation="sha256", input="hello"),
    call(3, "text_transform", operation="reverse", text="abc"),
    call(4, operation="add", a=2, b=3),
)
CASES = {
    case.asked: case
    for case in (
        Case("say it plain", ({"content": "Hello there, and good day to you."},), "Hello there, and good day to you."),
        Case("think aloud", ({"content": "So it is.", "reasoning": "Is it so? Yes."},), "So it is."),
        Case(
            "call one skill",
            ({"content": SAYS, "toolCalls": [call(1, **EXPRESSION)]}, {"content": "17*23 is 391."}),
            "17*23 is 391.",
            results=((False, "391"),),
        ),
        Case(
            "call several skills",
            ({"content": SAYS, "toolCalls": PARALLEL}, {"content": "All four are done."}),
            "All four are done.",
            results=((False, "391"), (False, "2cf24dba"), (False, "cba"), (False, "5")),
        ),
        Case(
            "call a skill that fails",
            ({"toolCalls": [call(1, operation="divide", a=1, b=0)]}, {"content": "That cannot be divided."}),
            "That cannot be divided.",
            results=((True, "zero"),),
        ),
        Case(
            "call a skill that nobody knows",
            ({"toolCalls": [call(1, "calculater", **EXPRESSION)]}, {"content": "There is no such skill."}),
            "There is no such skill.",
            results=((True, "calculator"),),
        ),
        Case(
            "call a skill with bad arguments",
            ({"toolCalls": [call(1, operation=7)]}, {"content": "I had it wrong."}),
            "I had it wrong.",
            results=((True, "operation"),),
        ),
        Case(
            "write arguments that are no JSON",
            (
                {"toolCalls": [{"id": "call_1", "name": "calculator", "arguments": '{"operation": "eva'}]},
                {"content": "I wrote no JSON."},
            ),
            "I wrote no JSON.",
            results=((True, "JSON"),),
            wires=("openai",),
        ),
        Case(
            "call and call again",
            ({"content": SAYS, "toolCalls": [call(1, **EXPRESSION)]},),
            code="max_turns",
            results=((False, "391"),) * MAX_TURNS,
        ),
        Case(
            "fail and fail again",
            ({"toolCalls": [call(1, operation="divide", a=1, b=0)]},),
            code="tool_failed",
            results=((True, "zero"),) * 3,
        ),
        Case("go on too long", ({"content": "Once upon a", "finishReason": "length"},), "Once upon a", finish="length"),
        Case(
            "ask for what is refused",
            ({"content": "I will not", "finishReason": "content_filter"},),
            "I will not",
            code="content_filtered",
            refusal_of={"anthropic": "refusal"},
        ),
        Case(
            "say too much",
            (
                {
                    "error": {
                        "message": "This model's maximum context length is 8192 tokens.",
                        "type": "invalid_request_error",
                        "code": "context_length_exceeded",
                    },
                    "status": 400,
                },
            ),
            code="context_overflow",
        ),
    )
}
SHORTER = [
    "say it plain",
    "think aloud",
    "call one skill",
    "call several skills",
    "call a skill that fails",
    "call a skill that nobody knows",
    "call and call again",
    "go on too long",
    "ask for what is refused",
    "say too much",
]
ASKED = [("openai", name) for name in CASES] + [(wire, name) for wire in WIRES[1:] for name in SHORTER]
OVERFLOWS = CASES["say too much"].answers[0]
FITS = (
    {"match": {"userMessage": "what was all that", "turnIndex": 3}, "response": OVERFLOWS},
    {"match": {"userMessage": "what was all that"}, "response": {"content": "Half of it I know."}},
)
"""A question that only fits the model with less of what was said before it."""


def fixtures():
    """Yield what the model server answers: the question and how many results it has had decide."""
    for wire in WIRES:
        for case in CASES.values():
            model = {"model": asking("", wire)["llm_model"]}
            first, *rest = ({**answer} for answer in case.answers)
            if "finishReason" in first:
                first["finishReason"] = case.refusal_of.get(wire, first["finishReason"])
            if rest:
                match = {"userMessage": case.asked, "hasToolResult": True, **model}
                yield {"match": match, "response": rest[0]}
            yield {"match": {"userMessage": case.asked, **model}, "response": first}
    yield from FITS


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with aimock(tmp_path_factory.mktemp("aimock"), list(fixtures()), "--chunk-size", "7") as running:
        yield running


@pytest.fixture(scope="module")
def houses(models, tmp_path_factory):
    directory = tmp_path_factory.mktemp("gateways")
    settings = {wire: asking(models.url, wire, agent_max_turns=MAX_TURNS) for wire in WIRES}
    with hosted_gateways(directory, **settings) as running:
        yield running


@pytest.mark.parametrize(("wire", "asked"), ASKED, ids=str)
async def test_however_it_is_asked_it_comes_to_the_same(wire, asked, houses):
    case = CASES[asked]
    rest, ws, sse = [await houses[wire].ask(way, case.asked) for way in WAYS]
    for told in (rest, ws, sse):
        assert told.code == case.code, told.answer
        assert told.run["status"] == ("failed" if case.code else "done")
        assert told.run["error_code"] == case.code
        ended_as_it_should(told, case)
        kept_as_it_should(told, case)
    assert rest.stored == ws.stored == sse.stored
    assert rest.events == ws.events == sse.events


def ended_as_it_should(told: Told, case: Case) -> None:
    last = told.heard.last
    if case.code:
        assert (last["type"], last["code"], last["retryable"]) == ("error", case.code, False)
        assert told.heard.of("done") == []
    else:
        assert (last["type"], last["text"], last["finish_reason"]) == ("done", case.content, case.finish)
        assert last["tokens_used"] == last["usage"]["input_tokens"] + last["usage"]["output_tokens"]
    results = told.heard.of("tool_result")
    assert [result["is_error"] for result in results] == [failed for failed, _ in case.results]
    assert sorted(result["id"] for result in results) == sorted(part["id"] for part in told.parts("tool_call"))


def kept_as_it_should(told: Told, case: Case) -> None:
    roles = [message["role"] for message in told.stored]
    rounds = roles.count("tool")
    assert roles == ["user", *["assistant", "tool"] * rounds, *["assistant"] * (case.content is not None)]
    assert told.said[0] == ("user", case.asked)
    assert case.content in {None, told.said[-1][1]}
    calls, results = told.parts("tool_call"), told.parts("tool_result")
    assert [part["id"] for part in results] == [part["id"] for part in calls]
    assert [part["is_error"] for part in results] == [failed for failed, _ in case.results]
    assert len(calls) == len({part["id"] for part in calls})
    for part, (_, words) in zip(results, case.results, strict=True):
        assert words in part["content"]
    assert [message["metadata"].get("interrupted") for message in told.stored if message["role"] == "assistant"] == [
        *[None] * rounds,
        *[True if case.code else None] * (case.content is not None),
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", WIRES)
async def test_a_session_goes_on_after_whatever_happened_in_it(wire, way, houses):
    """A refusal, a failure and an endless loop leave a history that can be gone on with."""
    house, session_id = houses[wire], None
    for asked in ("ask for what is refused", "call and call again", "say too much", "call several skills"):
        told = await house.ask(way, asked, session_id)
        assert told.code == CASES[asked].code
        session_id = told.session_id
    assert told.said[-1] == ("assistant", "All four are done.")
    assert [content for role, content in told.said if role == "user"] == [
        "ask for what is refused",
        "call and call again",
        "say too much",
        "call several skills",
    ]


@pytest.mark.parametrize("way", WAYS)
async def test_a_conversation_that_does_not_fit_is_halved_once_and_goes_on(way, houses):
    house, session_id = houses["openai"], None
    for _ in range(3):
        session_id = (await house.ask(way, "say it plain", session_id)).session_id
    told = await house.ask(way, "what was all that", session_id)
    assert (told.code, told.said[-1]) == (None, ("assistant", "Half of it I know."))
    assert len(told.said) == 8  # the model was shown less, and nothing of it is lost
    assert [event["finish_reason"] for event in told.heard.of("turn_end")] == ["context_overflow", "stop"]


async def test_a_model_says_what_it_thinks_and_no_client_takes_it_for_the_answer(houses):
    for wire in WIRES:
        for way in WAYS:
            told = await houses[wire].ask(way, "think aloud")
            thought = "".join(event["text"] for event in told.heard.of("reasoning_delta"))
            assert (thought, told.text) == ("Is it so? Yes.", "So it is.")
            assert [part["text"] for part in told.parts("reasoning")] == ["Is it so? Yes."]


@pytest.mark.parametrize(("kind", "code"), [("serve", 0), ("uvicorn", -signal.SIGTERM)])
async def test_a_gateway_as_it_is_served_asks_its_model_and_lets_go_of_it_at_its_stop(kind, code, tmp_path):
    """uvicorn raises the signal again when it has stopped."""
    async with raw_server(says(*TEXT["openai"])) as raw, served(kind, tmp_path, asking(raw.url)) as (house, running):
        for way in WAYS:
            told = await house.ask(way, "say it")
            assert (told.code, told.said) == (None, [("user", "say it"), ("assistant", ANSWER)])
        assert (await house.get("/health/ready"))["checks"]["llm"] == "ok"
        assert len(raw.lines) == 1  # all over one connection
        assert not raw.lines[0].closed.done()
        running.terminate()
        await raw.lines[0].gone()
        assert await asyncio.to_thread(running.wait_s, STOP_S) == code

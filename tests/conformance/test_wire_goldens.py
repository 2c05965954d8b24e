"""What the gateway sends a provider in a conversation with skills, byte for byte, on each wire (agent.md 8 item 3).

A relay keeps the requests as they were sent; the model server behind it, a foreign one with the real wires, takes each
of them for what it is: the results are found by the ids of their calls. The list of skills, the same in every request,
stands for its names in the goldens (`tests/goldens/gateway_*.json`); one declaration of each wire has its own. To write
a golden anew, delete it and run this: what is missing is written, and fails.
"""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hosted_gateways import KEY, MODEL_OF, asking, hosted_gateways
from model_servers import aimock
from relay import relay

pytestmark = pytest.mark.slow

GOLDENS = Path(__file__).parents[1] / "goldens"
WIRES = ("openai", "anthropic", "gemini")
PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": f"/v1beta/models/{MODEL_OF['gemini']}:streamGenerateContent?alt=sse",
}
KEYS = {
    "openai": f"authorization: Bearer {KEY}",
    "anthropic": f"x-api-key: {KEY}",
    "gemini": f"x-goog-api-key: {KEY}",
}
HISTORY = {"openai": "messages", "anthropic": "messages", "gemini": "contents"}
REVERSED = "¿Cuánto es 17*23, y «ñandú» al revés?"
DIVIDED = "And 1/0?"
FIXTURES = [
    {"match": {"userMessage": DIVIDED, "toolCallId": "call_3"}, "response": {"content": "There is no such number."}},
    {
        "match": {"userMessage": DIVIDED, "hasToolResult": False},
        "response": {
            "toolCalls": [
                {"id": "call_3", "name": "calculator", "arguments": {"operation": "divide", "a": 1, "b": 0}},
            ]
        },
    },
    {
        "match": {"userMessage": REVERSED, "toolCallId": "call_2", "toolResultContains": "údnañ"},
        "response": {"content": "391, y «údnañ»."},
    },
    {
        "match": {"userMessage": REVERSED, "hasToolResult": False},
        "response": {
            "content": "Voy a calcularlo.",
            "reasoning": "First the sum.",
            "reasoningSignature": "c2lnbmVk",
            "toolCalls": [
                {"id": "call_1", "name": "calculator", "arguments": {"operation": "evaluate", "expression": "17*23"}},
                {"id": "call_2", "name": "text_transform", "arguments": {"operation": "reverse", "text": "ñandú"}},
            ],
        },
    },
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with aimock(tmp_path_factory.mktemp("aimock"), FIXTURES, "--chunk-size", "5") as running:
        yield running


@pytest.fixture(scope="module")
def lines():
    with relay() as openai, relay() as anthropic, relay() as gemini:
        yield {"openai": openai, "anthropic": anthropic, "gemini": gemini}


@pytest.fixture(scope="module")
def houses(lines, tmp_path_factory):
    settings = {wire: asking(lines[wire].url, wire, agent_system_prompt="Be exact. Sé exacto.") for wire in WIRES}
    with hosted_gateways(tmp_path_factory.mktemp("gateways"), **settings) as running:
        yield running


async def talked(house, line, models):
    """Have a conversation of two messages; return its four requests as they were sent."""
    line.to(models.port)
    first = await house.ask("sse", REVERSED)
    second = await house.ask("ws", DIVIDED, first.session_id)
    assert (first.code, first.said[-1][1]) == (None, "391, y «údnañ».")
    assert (second.code, second.said[-1][1]) == (None, "There is no such number.")
    assert len(line.asked) == 4
    return line.asked


@pytest.mark.parametrize("wire", WIRES)
async def test_a_provider_is_sent_what_the_goldens_say(wire, houses, lines, models):
    asked = await talked(houses[wire], lines[wire], models)
    bodies = [body for _, body in asked]
    for name, body in (("first", bodies[0]), ("last", bodies[-1])):
        assert without_skills(body) == golden(f"gateway_{wire}_{name}", without_skills(body))
    declared = skills_of(bodies[0])
    calculator = next(each for each in flat(declared) if name_of(each) == "calculator")
    assert encoded(calculator) == golden(f"gateway_{wire}_skill", encoded(calculator))
    assert encoded(calculator) in bodies[0]


@pytest.mark.parametrize("wire", WIRES)
async def test_every_request_begins_with_the_one_before_it(wire, houses, lines, models):
    """A provider reads again from its cache what it has read, if it comes byte for byte the same."""
    bodies = [body for _, body in await talked(houses[wire], lines[wire], models)]
    assert len({encoded(skills_of(body)) for body in bodies}) == 1
    histories = [json.loads(body)[HISTORY[wire]] for body in bodies]
    for before, after in pairwise(histories):
        assert encoded(after[: len(before)]) == encoded(before)
        assert len(after) > len(before)


@pytest.mark.parametrize("wire", WIRES)
async def test_the_server_takes_every_request_for_what_it_is(wire, houses, lines, models):
    asked = await talked(houses[wire], lines[wire], models)
    seen = [entry for entry in models.journal() if entry["path"] == PATHS[wire]][-4:]
    assert [entry["response"]["status"] for entry in seen] == [200] * 4
    matched = [entry["response"]["fixture"]["match"].get("toolCallId") for entry in seen]
    assert matched == [None, "call_2", None, "call_3"]
    for entry, (head, body) in zip(seen, asked, strict=True):
        assert head.split(b"\r\n")[0].decode() == f"POST {PATHS[wire]} HTTP/1.1"
        assert KEYS[wire] in head.decode().split("\r\n")
        assert KEY.encode() not in head.split(b"\r\n")[0] + body
        assert int(entry["headers"]["content-length"]) == len(body)
        if wire == "openai":  # its journal has bodies of the other wires in this one's shape
            kept = {name: value for name, value in entry["body"].items() if not name.startswith("_")}
            assert encoded(kept) == body


async def test_every_wire_is_told_of_the_same_skills(houses, lines, models):
    told = {}
    for wire in WIRES:
        bodies = [body for _, body in await talked(houses[wire], lines[wire], models)]
        told[wire] = [(name_of(each), schema_of(each)) for each in flat(skills_of(bodies[0]))]
    assert told["openai"] == told["anthropic"] == told["gemini"]
    listed = await houses["openai"].get("/api/v1/skills")
    assert sorted(name for name, _ in told["openai"]) == sorted(skill["name"] for skill in listed)
    assert all(schema["type"] == "object" for _, schema in told["openai"])


# --- the list of skills in a body ------------------------------------------------------------------------------------


def span(body: bytes) -> tuple[str, int, int]:
    """Return the body as text, and where the list of skills begins and ends in it."""
    text = body.decode()
    start = text.index('"tools":') + len('"tools":')
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text, start, end


def skills_of(body: bytes) -> list:
    text, start, end = span(body)
    return json.loads(text[start:end])


def flat(declared: list) -> list:
    return declared[0].get("functionDeclarations", declared)


def name_of(declared: dict) -> str:
    return declared.get("function", declared)["name"]


def schema_of(declared: dict) -> dict:
    found = declared.get("function", declared)
    return next(found[name] for name in ("parameters", "input_schema", "parametersJsonSchema") if name in found)


def without_skills(body: bytes) -> bytes:
    """Return the body, the names of the skills in the place of what it says of them; no other byte is touched."""
    text, start, end = span(body)
    names = [name_of(each) for each in flat(json.loads(text[start:end]))]
    return (text[:start] + encoded(names).decode() + text[end:]).encode()


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def golden(name: str, found: bytes) -> bytes:
    """Return the golden's bytes; one that is missing is written from what was found, and fails."""
    file = GOLDENS / f"{name}.json"
    if not file.exists():
        file.write_text(json.dumps(json.loads(found), indent=2, ensure_ascii=False) + "\n")
        pytest.fail(f"{file.name} was missing and is written: read it")
    return encoded(json.loads(file.read_text()))

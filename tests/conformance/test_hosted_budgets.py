"""What hosted models may use and cost, and what is answered from memory, by every way in (agent.md 2.3 rule 9).

The model server tells the tokens of each answer, so that every number here is known beforehand.
"""

import asyncio
import json

import pytest
from hosted_gateways import MODEL_OF, WAYS, asking, hosted_gateways
from model_servers import aimock
from recording import client, talking

pytestmark = pytest.mark.slow

PRICED = {"llm_prices": [{"model": MODEL_OF["openai"], "input": 2, "output": 10, "cached_input": 0.5}]}
USED = {"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 400}}
ANSWERED = {"content": "That is all.", "usage": USED}
COST = (600 * 2 + 400 * 0.5 + 500 * 10) / 1_000_000
DAY_S = 86_400


def calls(*expressions):
    made = [
        {"id": f"call_{at}", "name": "calculator", "arguments": {"operation": "evaluate", "expression": expression}}
        for at, expression in enumerate(expressions)
    ]
    return {"content": "Let me see. ", "toolCalls": made, "usage": USED}


FIXTURES = [
    {"match": {"userMessage": "one sum", "hasToolResult": True}, "response": ANSWERED},
    {"match": {"userMessage": "one sum"}, "response": calls("1+1")},
    {"match": {"userMessage": "three sums", "hasToolResult": True}, "response": ANSWERED},
    {"match": {"userMessage": "three sums"}, "response": calls("1+1", "2+2", "3+3")},
    {"match": {"userMessage": "go on for ever"}, "response": calls("1+1")},
    {"match": {"userMessage": "what is"}, "response": ANSWERED},
]


def key(name, **rights):
    return {"name": name, "key": f"agtr-{name}-5ecret-0123456789abcdef", **rights}


KEYS = [key("ann"), key("bob"), key("eve", tenant="elsewhere")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    with aimock(tmp_path_factory.mktemp("aimock"), FIXTURES) as running:
        yield running


@pytest.fixture(scope="module")
def houses(models, tmp_path_factory):

    def told(**settings):
        """Return the settings of a gateway before a provider that tells what it had in its cache."""
        return asking(f"{models.url}/api", **{"llm_provider": "openrouter", **settings})

    cached = {"llm_cache_entries": 10, "llm_temperature": 0, **PRICED}
    settings = {
        "priced": told(**PRICED),
        "unpriced": told(),
        "tokens": told(agent_run_tokens=2000, **PRICED),
        "cost": told(agent_run_cost=0.01, **PRICED),
        "calls": told(agent_run_tool_calls=2),
        **{f"day_{way}": told(limits_cost_per_day=COST, **PRICED) for way in WAYS},
        "cached": told(**cached),
        "shared": told(auth_keys=KEYS, limits_enabled=False, **cached),
    }
    with hosted_gateways(tmp_path_factory.mktemp("gateways"), **settings) as running:
        yield running


def about(found):
    return pytest.approx(found, abs=1e-9)


async def test_a_run_costs_what_its_answers_cost(houses):
    for way in WAYS:
        told = await houses["priced"].ask(way, "one sum")
        assert (told.code, told.run["turns"], told.run["tool_calls"]) == (None, 2, 1)
        assert told.heard.last["cost"] == told.run["cost"] == about(2 * COST)
        usage = {"input_tokens": 2000, "output_tokens": 1000, "cached_tokens": 800, "estimated": False}
        assert told.heard.last["usage"] == told.run["usage"] == usage
        assert told.heard.last["tokens_used"] == 3000


async def test_what_has_no_price_has_no_cost(houses):
    for way in WAYS:
        told = await houses["unpriced"].ask(way, "one sum")
        assert (told.code, told.heard.last["cost"], told.run["cost"]) == (None, None, None)


def used_up(told, *words):
    """Check that the run ended at a budget, and that the words which name it are in the event."""
    assert told.code == "budget_exceeded"
    last = told.heard.last
    assert (last["type"], last["code"], last["retryable"]) == ("error", "budget_exceeded", False)
    assert not [word for word in words if word not in last["message"]], last
    assert told.heard.of("done") == []
    assert told.run["status"] == "failed"
    assert told.answer["message"] == last["message"]
    calls, results = told.parts("tool_call"), told.parts("tool_result")
    assert [call["id"] for call in calls] == [result["id"] for result in results]


@pytest.mark.parametrize("way", WAYS)
async def test_tokens_of_a_run_are_bounded(way, houses, models):
    told = await houses["tokens"].ask(way, "go on for ever")
    used_up(told, "2000", "tokens")
    assert told.run["turns"] == 2  # the first used 1,500, the second what was over
    assert told.run["cost"] == about(2 * COST)
    asked = [entry["body"]["max_tokens"] for entry in await asyncio.to_thread(models.journal)][-2:]
    assert asked == [2000, 500]  # no answer may be longer than what is left
    again = await houses["tokens"].ask(way, "what is left?", told.session_id)
    assert again.code is None  # each run has its own


@pytest.mark.parametrize("way", WAYS)
async def test_the_cost_of_a_run_is_bounded(way, houses):
    told = await houses["cost"].ask(way, "go on for ever")
    used_up(told, "0.01", "cost")
    assert told.run["turns"] == 2
    assert told.run["cost"] == about(2 * COST)


@pytest.mark.parametrize("way", WAYS)
async def test_calls_of_skills_of_a_run_are_bounded(way, houses):
    told = await houses["calls"].ask(way, "go on for ever")
    used_up(told, "2 skill calls")
    assert told.run["tool_calls"] == 2
    assert [result["is_error"] for result in told.parts("tool_result")] == [False, False, True]
    told = await houses["calls"].ask(way, "three sums")
    used_up(told, "2 skill calls", "3")
    assert told.run["tool_calls"] == 0  # all of a turn, or none
    assert told.heard.of("tool_result") == []
    again = await houses["calls"].ask(way, "one sum", told.session_id)
    assert (again.code, again.run["tool_calls"]) == (None, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_day_that_is_used_up_admits_no_more_runs_till_midnight(way, houses, models):
    house = houses[f"day_{way}"]
    told = await house.ask(way, "one sum")  # a run that begins within the day's budget may end above it
    assert told.code in {None, "budget_exceeded"}
    before = len(await asyncio.to_thread(models.journal))
    refused = await house.ask(way, "what is left?", told.session_id)
    assert (refused.code, refused.streamed) == ("budget_exceeded", None)
    if way == "ws":
        assert 0 < refused.answer["retry_after"] <= DAY_S
    else:
        assert refused.status == 429
        assert 0 < int(refused.headers["retry-after"]) <= DAY_S
    assert "0.0064" in json.dumps(refused.answer)
    assert len(await asyncio.to_thread(models.journal)) == before
    assert (await house.get(f"/api/v1/sessions/{told.session_id}"))["message_count"] == len(told.said)


# --- answers that are given again ------------------------------------------------------------------------------------


async def test_the_same_question_is_answered_once_by_the_provider(houses, models):
    house = houses["cached"]
    before = len(await asyncio.to_thread(models.journal))
    first = await house.ask("rest", "what is this?")
    for way in WAYS:
        again = await house.ask(way, "what is this?")
        assert (again.code, again.text, again.said) == (None, first.text, first.said)
        assert again.session_id != first.session_id
        assert again.heard.last["cost"] == again.heard.last["tokens_used"] == 0
    assert len(await asyncio.to_thread(models.journal)) == before + 1
    assert await house.metric("argentor_llm_cache_hits_total") == len(WAYS)
    assert await house.metric("argentor_llm_cache_misses_total") == 1
    other = await house.ask("ws", "what is that?")
    further = await house.ask("ws", "what is this?", first.session_id)
    assert (other.code, further.code) == (None, None)
    assert len(await asyncio.to_thread(models.journal)) == before + 3
    assert await house.metric("argentor_llm_cache_misses_total") == 3


async def test_an_answer_with_skills_is_never_given_again(houses, models):
    before = len(await asyncio.to_thread(models.journal))
    for _ in range(2):
        told = await houses["cached"].ask("ws", "one sum")
        assert told.heard.last["cost"] == about(2 * COST)
    assert len(await asyncio.to_thread(models.journal)) == before + 4


async def test_an_answer_is_given_again_to_its_own_tenant_alone(houses, models):
    house = houses["shared"]

    async def asked(name):
        """Return how many requests the provider saw of one question, asked over REST."""
        before = len(await asyncio.to_thread(models.journal))
        async with client(house.port) as http:
            reply = await http.post(
                f"{house.prefix}/api/v1/agent/chat",
                json={"message": "what is ours?"},
                headers={"x-api-key": key(name)["key"]},
            )
        assert reply.json()["response"] == ANSWERED["content"], reply.text
        return len(await asyncio.to_thread(models.journal)) - before

    assert [await asked(name) for name in ("ann", "ann", "bob", "eve", "eve", "ann")] == [1, 0, 0, 1, 0, 0]


async def test_a_socket_hears_of_a_budget_and_goes_on(houses):
    house = houses["calls"]
    async with talking(house.port, f"{house.prefix}/ws") as talk:
        for _ in range(2):
            heard = await talk.ask("go on for ever")
            assert heard.closing["code"] == "budget_exceeded"
            assert "2 skill calls" in heard.closing["message"]
        assert (await talk.ask("what is left?")).closing["type"] == "response"

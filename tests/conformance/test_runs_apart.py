"""Many runs at once in one gateway, each with its own trace, session and calls: nothing of one is in another.

agent.md 1.10 D19 (one recorder for all), D2 and D14 (ids and order of calls).
"""

import asyncio
import json
from collections import defaultdict
from uuid import UUID

import pytest
from collector import collecting
from doors import STREAM, streamed
from hosted_env import hosted_house
from hosted_models import openai_chunk
from raw_server import raw_server

from argentor_asgi.config import Otel

pytestmark = pytest.mark.slow

RUNS = 20
IDS = ("call_0", "call_1")
"""The ids of each run's calls: the same in all of them, as careless servers have it."""


def trace(number):
    return f"{number + 1:032x}"


def session(number):
    return str(UUID(int=number + 1, version=4))


async def test_runs_at_the_same_time_leave_nothing_of_theirs_in_each_other():
    together = asyncio.Barrier(RUNS)

    async def model(asked, line):
        """Call the calculator twice about the number that was said, when all have asked; then tell the results."""
        *_, said = (each for each in asked.json()["messages"] if each["role"] == "user")
        results = [each["content"] for each in asked.json()["messages"] if each["role"] == "tool"]
        await together.wait()
        if results:
            words = [json.loads(each)["result"] for each in results]
            await line.events(openai_chunk({"content": f"{words} of {said['content']}"}, "stop"), "[DONE]")
            return
        calls = []
        for index, call_id in enumerate(IDS):
            asking = {"operation": "evaluate", "expression": f"{said['content']}*1000+{index}"}
            calls.append({"index": index, "id": call_id, "function": _function(asking)})
        await line.events(openai_chunk({"tool_calls": calls}), openai_chunk({}, "tool_calls"), "[DONE]")

    with collecting() as collector:
        async with raw_server(model) as raw, hosted_house(raw.url, otel=Otel(endpoint=collector.url)) as house:

            async def ask(number):
                parent = {"traceparent": f"00-{trace(number)}-00f067aa0ba902b7-01"}
                body = {"input": str(number), "session_id": session(number)}
                return streamed(await house.post(STREAM, body, **parent))

            heard = await asyncio.gather(*map(ask, range(RUNS)))
            for number, run in enumerate(heard):
                assert run.last["text"] == f"{[number * 1000, number * 1000 + 1]} of {number}"
                stored = (await house.get(f"/api/v1/sessions/{session(number)}")).json()["messages"]
                assert stored[0]["content"] == str(number)
                assert [each["role"] for each in stored] == ["user", "assistant", "tool", "assistant"]
    spans = defaultdict(list)
    for span in collector.spans:
        spans[span.trace_id].append(span)
    for number, run in enumerate(heard):
        is_traced_alone(spans[trace(number)], run, session(number))


def _function(arguments):
    return {"name": "calculator", "arguments": json.dumps(arguments)}


def is_traced_alone(spans, run, session_id):
    """Check that these are a request's span and those of its run, and that they point to each other alone."""
    names = sorted(span.name.split()[0] for span in spans)
    assert names == ["POST", "chat", "chat", "execute_tool", "execute_tool", "invoke_agent"]
    [work] = [span for span in spans if span.name.startswith("invoke_agent")]
    assert (work.attributes["argentor.run.id"], work.attributes["gen_ai.conversation.id"]) == (run.run_id, session_id)
    ids = {span.span_id for span in spans}
    assert all(span.parent_id in {*ids, "00f067aa0ba902b7"} for span in spans)

"""What a trace says of a run, its turns and its calls: names, parents, failures, and not a word of what was said."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from collector import collecting
from scripted_backend import Park, answer, call, calling
from workbench import SESSION, bench

from argentor_asgi.agent.skills import SkillContext, SkillRefused, skill
from argentor_asgi.errors import Overloaded
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.tracing import Tracing
from argentor_asgi.protocol.llm import TextPiece

OUTER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SERVED = {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 2}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "scripted", "gen_ai.request.model": "scripted-1"}


@skill("traced", "Tells its trace.")
def traced(context: SkillContext) -> str:
    return str(context.trace_parent)


@skill("refuse", "Refuses.")
def refuse() -> str:
    raise SkillRefused("SECRET")


@dataclass
class Traced:
    """A bench whose spans are kept; `spans` once it is left."""

    bench: object
    collector: object

    def named(self, name):
        return self.collector.named(name)


@asynccontextmanager
async def tracing(*scripts, skills=(), trace=OUTER, **settings):
    with collecting() as collector:
        made = bench(*scripts, skills=skills, **settings)
        made.trace = trace
        made.spans = Tracing(endpoint=collector.url, service_name="gate", version="9", clock=SystemClock())
        yield Traced(made, collector)
        if made.spans.is_on:
            await made.spans.close()


async def test_a_run_its_turns_and_its_calls_are_one_tree_below_what_asked():
    # agent.md 1.10 D19
    async with tracing(calling(call("c", "traced", "{}")), answer("done"), skills=[traced]) as made:
        await made.bench.work("SECRET question")
        await made.bench.spans.close()
    run, skill_call = made.named("invoke_agent argentor"), made.named("execute_tool traced")
    turns = [each for each in made.collector.spans if each.name == "chat scripted-1"]
    assert (run.trace_id, run.parent_id) == (OUTER[3:35], OUTER[36:52])
    assert {each.trace_id for each in made.collector.spans} == {run.trace_id}
    assert [each.parent_id for each in (skill_call, *turns)] == [run.span_id] * 3
    assert run.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "argentor",
        "gen_ai.conversation.id": SESSION,
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.output_tokens": 4,
        "argentor.run.id": "r1",
    }
    assert [each.attributes["gen_ai.response.finish_reasons"] for each in turns] == [["tool_calls"], ["stop"]]
    assert turns[1].attributes == {**CHAT, **SERVED, "gen_ai.response.finish_reasons": ["stop"]}
    assert skill_call.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "traced",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "c",
    }
    assert not any(each.is_error for each in made.collector.spans)
    assert not any(b"SECRET" in body for body in made.collector.raw)


async def test_models_and_skills_are_told_the_span_that_calls_them():
    async with tracing(calling(call("c", "traced", "{}")), answer("done"), skills=[traced]) as made:
        worked = await made.bench.work()
        await made.bench.spans.close()
    told = [request.trace_parent for request in made.bench.backend.requests]
    assert [text[:36] for text in told] == [OUTER[:36]] * 2
    turns = {each.span_id for each in made.collector.spans if each.name == "chat scripted-1"}
    assert {text[36:52] for text in told} == turns
    (result,) = [event for event in worked.events if event.type == "tool_result"]
    assert result.content == f"{OUTER[:36]}{made.named('execute_tool traced').span_id}-01"


@pytest.mark.parametrize("trace", [None, OUTER])
async def test_where_no_spans_are_kept_the_outer_trace_is_passed_on_as_it_came(trace):
    made = bench(calling(call("c", "traced", "{}")), answer("done"), skills=[traced])
    made.trace = trace
    worked = await made.work()
    assert [request.trace_parent for request in made.backend.requests] == [trace, trace]
    (result,) = [event for event in worked.events if event.type == "tool_result"]
    assert result.content == str(trace)


async def test_a_run_that_nobody_asked_for_begins_a_trace():
    async with tracing(answer("done"), trace=None) as made:
        await made.bench.work()
        await made.bench.spans.close()
    assert made.named("invoke_agent argentor").parent_id == ""


async def test_a_model_that_fails_ends_its_turn_and_its_run_with_the_code():
    async with tracing([TextPiece("half"), Overloaded()]) as made:
        await made.bench.work()
        await made.bench.spans.close()
    for name in ("chat scripted-1", "invoke_agent argentor"):
        found = made.named(name)
        assert (found.is_error, found.attributes["error.type"]) == (True, "overloaded")
        assert "gen_ai.response.finish_reasons" not in found.attributes


async def test_a_call_that_is_refused_or_invented_is_an_error_without_its_words():
    script = calling(call("c", "refuse", "{}"), call("d", "SECRET", '{"SECRET": 1}'))
    async with tracing(script, answer("done"), skills=[refuse]) as made:
        await made.bench.work()
        await made.bench.spans.close()
    for name in ("execute_tool refuse", "execute_tool unknown"):
        assert made.named(name).attributes["error.type"] == "tool_error"
    assert not any(b"SECRET" in body for body in made.collector.raw)


async def test_a_run_that_is_cancelled_ends_every_span_that_it_began():
    hangs = asyncio.Event()

    @skill("hang", "Hangs.")
    async def hang() -> str:
        hangs.set()
        await asyncio.Event().wait()
        return ""

    async with tracing(calling(call("c", "hang", "{}")), skills=[hang]) as made:
        await made.bench.open()
        await made.bench.ask()
        task = asyncio.create_task(made.bench.carry())
        await hangs.wait()
        task.cancel()
        await task
        await made.bench.spans.close()
    found = {each.name: each.attributes.get("error.type") for each in made.collector.spans}
    assert found == {
        "chat scripted-1": None,
        "execute_tool hang": "cancelled",
        "invoke_agent argentor": "cancelled",
    }


async def test_a_turn_that_is_cancelled_says_so():
    async with tracing([TextPiece("half"), Park()]) as made:
        await made.bench.open()
        await made.bench.ask()
        task = asyncio.create_task(made.bench.carry())
        await made.bench.backend.parked.wait()
        task.cancel()
        await task
        await made.bench.spans.close()
    assert made.named("chat scripted-1").attributes["error.type"] == "cancelled"


async def test_the_time_to_the_first_text_is_counted_once_a_run():
    made = bench(calling(call("c", "traced", "{}")), answer("two", "pieces"), skills=[traced])
    await made.work()
    await made.work()
    text = (await made.metrics.render(None))[0].decode()
    assert "argentor_time_to_first_token_seconds_count 2.0" in text


async def test_a_run_without_text_has_no_time_to_it():
    made = bench([Overloaded()])
    await made.work()
    assert "argentor_time_to_first_token_seconds_count 0.0" in (await made.metrics.render(None))[0].decode()

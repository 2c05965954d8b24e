"""The skill `agent_delegate`: runs inside runs."""

import asyncio
import json
from dataclasses import replace

import pytest
from scripted_backend import USAGE, Park, answer, call, calling
from workbench import ME, bench

from argentor_asgi.agent.allowances import Allowance
from argentor_asgi.agent.budgets import RunBudget
from argentor_asgi.agent.delegate import MAX_DEPTH, TIMEOUT_S, delegate_skill
from argentor_asgi.agent.runner import AgentRunner
from argentor_asgi.agent.skills import SkillContext, skill
from argentor_asgi.errors import BudgetExceeded, ProviderAuth
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.events import ToolResult
from argentor_asgi.protocol.llm import TextPiece

TOKENS = USAGE.input_tokens + USAGE.output_tokens


def delegating(*scripts, skills=(), seen=None, timeout_s=TIMEOUT_S, **settings):
    """Return a bench whose agent may hand tasks over; `seen` gets the context of every inner run."""

    async def run(store, context, emit):
        if seen is not None:
            seen.append(context)
        await AgentRunner(replace(made.runner._kit, sessions=store)).run(context, emit)

    made = bench(*scripts, **settings)
    made.skills = [delegate_skill(run, clock=SystemClock(), timeout_s=timeout_s), *skills]
    return made


def hand_over(call_id="c1", **arguments):
    return calling(call(call_id, "agent_delegate", json.dumps({"task": "count the stars", **arguments})))


def results(worked):
    return [event for event in worked.events if isinstance(event, ToolResult)]


async def test_a_task_is_worked_by_a_run_of_its_own_and_its_answer_comes_back():
    seen = []
    made = delegating(hand_over(context="only the bright ones"), answer("four"), answer("It says four."), seen=seen)
    made.trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    worked = await made.work("How many stars?")
    (result,) = results(worked)
    assert not result.is_error
    assert json.loads(result.content) == {
        "text": "four",
        "turns": 1,
        "tokens": TOKENS,
    }
    assert worked.context.text == "It says four."
    inner = made.backend.requests[1]
    assert [message.content for message in inner.messages] == ["count the stars\n\nonly the bright ones"]
    (context,) = seen
    assert (context.run_id, context.scope, context.depth, context.approver) == ("r1.c1", ME, 1, None)
    assert context.trace == made.trace
    # Neither the conversation nor its readers hear of what happened inside.
    assert [message.role for message in await made.history()] == ["user", "assistant", "tool", "assistant"]
    assert worked.kinds.count("turn_end") == 2


async def test_the_inner_run_uses_its_caller_s_budget_and_counts_for_its_caller():
    made = delegating(hand_over(), answer("four"), answer("It says four."))
    made.budget = RunBudget()
    worked = await made.work()
    assert made.budget._used.tokens == 3 * TOKENS
    assert worked.context.usage == USAGE.plus(USAGE).plus(USAGE)


async def test_a_budget_that_ends_inside_is_told_with_its_code_and_ends_the_caller_as_well():
    made = delegating(hand_over(), answer("four"))
    made.budget = RunBudget(Allowance(tokens=TOKENS))
    worked = await made.work()
    (result,) = results(worked)
    assert result.is_error
    assert result.content.startswith("The task failed (budget_exceeded): The run used its budget of")
    assert isinstance(worked.error, BudgetExceeded)


async def test_tasks_are_handed_on_so_far_and_no_further():
    seen = []
    made = delegating(
        *(hand_over(f"c{depth}") for depth in range(MAX_DEPTH + 1)),
        answer("did it"),
        *(answer("passed on") for _ in range(MAX_DEPTH)),
        seen=seen,
    )
    worked = await made.work()
    assert [context.depth for context in seen] == [1, MAX_DEPTH]
    refused = made.backend.requests[MAX_DEPTH + 1].messages[-1].content
    assert "at most 2 times; do this one yourself" in refused
    assert [result.is_error for result in results(worked)] == [False]


async def test_what_fails_inside_is_told_with_its_stable_code_and_what_was_said():
    made = delegating(hand_over(), [TextPiece("I think"), ProviderAuth()], answer("It failed."))
    (result,) = results(await made.work())
    assert result.is_error
    assert result.content == f"The task failed (provider_auth): {ProviderAuth().message} It had said: I think"


async def test_an_inner_run_that_takes_too_long_is_ended_and_what_it_said_is_told():
    made = delegating(hand_over(), [TextPiece("Wait"), Park()], answer("Too long."), timeout_s=6.05)
    (result,) = results(await made.work())
    assert result.is_error
    assert result.content.startswith("The task failed (timeout)")
    assert result.content.endswith("It had said: Wait")
    assert made.backend.streams == 0


async def test_cancelling_the_caller_ends_the_inner_run_and_its_model_call():
    made = delegating(hand_over(), [TextPiece("Wait"), Park()])
    await made.open()
    await made.ask()
    run = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    assert made.backend.streams == 1
    run.cancel()
    worked = await run
    assert worked.kinds[-1] == "cancelled"
    assert made.backend.streams == 0


async def test_nobody_is_asked_for_approvals_inside():
    @skill("launch", "Launches.", needs_approval=True)
    def launch() -> str:
        raise AssertionError("nobody agreed")

    made = delegating(hand_over(), calling(call("c2", "launch", "{}")), answer("denied"), answer("ok"), skills=[launch])
    (result,) = results(await made.work())
    assert json.loads(result.content)["text"] == "denied"
    denied = made.backend.requests[2].messages[-1].content
    assert "not approved" in denied


async def test_skills_inside_work_on_the_caller_s_account():
    @skill("whose", "Says who calls.")
    def whose(context: SkillContext) -> list[object]:
        return [context.scope.owner, context.session_id, context.depth]

    made = delegating(hand_over(), calling(call("c2", "whose", "{}")), answer("me"), answer("ok"), skills=[whose])
    await made.work()
    assert json.loads(made.backend.requests[2].messages[-1].content) == ["me", "s", 1]


@pytest.mark.parametrize("arguments", [{}, {"task": ""}, {"task": "x" * 100_001}, {"task": "x", "depth": 0}])
async def test_a_task_is_words_and_nothing_else(arguments):
    made = delegating(calling(call("c1", "agent_delegate", json.dumps(arguments))), answer("ok"))
    (result,) = results(await made.work())
    assert result.is_error
    assert "argument validation failed for agent_delegate" in result.content


def test_it_may_take_longer_than_other_skills_and_counts_as_one_that_changes_things():
    descriptor = delegating().skills[0].descriptor
    assert (descriptor.timeout_s, descriptor.effect, descriptor.parallel_safe) == (240.0, "write", False)
    assert descriptor.parameters_schema["required"] == ["task"]

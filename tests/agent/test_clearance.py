"""Whether the calls of a turn may run, as the loop acts on it: policy, a person, and what the model hears of a no."""

import pytest
from scripted_backend import answer, call, calling
from workbench import bench

from argentor_asgi.agent.approver import Answer
from argentor_asgi.agent.clearance import clear
from argentor_asgi.agent.policy import Policy
from argentor_asgi.agent.skills import SkillContext, SkillRegistry, skill
from argentor_asgi.config import Agent, Capabilities
from argentor_asgi.protocol.events import ToolResult
from argentor_asgi.protocol.turn import Call


@skill("add", "Adds.")
def add(a: int, b: int) -> int:
    return a + b


@skill("wipe", "Deletes everything.", effect="write", needs_approval=True, parallel_safe=False)
def wipe(what: str, context: SkillContext) -> str:
    return f"{what} is gone, said {context.reviewer}"


@skill("reach", "Reaches out.", capabilities=("network_access",))
def reach() -> str:
    raise AssertionError("never called")


class Person:
    """Answers each question by its tool, and keeps what was asked."""

    def __init__(self, **answers: Answer):
        self.answers = answers
        self.asked = []

    async def ask(self, questions):
        self.asked.append(list(questions))
        return [self.answers[question.tool] for question in questions]


def yes(**edited) -> Answer:
    return Answer(approved=True, reviewer="ann", reason=None, edited_arguments=edited or None)


def no(reason=None) -> Answer:
    return Answer(approved=False, reviewer="ann", reason=reason)


def wiping(call_id="w", what="all"):
    return call(call_id, "wipe", f'{{"what":"{what}"}}')


def adding(call_id="a"):
    return call(call_id, "add", '{"a":1,"b":2}')


def judging(mode="default", **settings):
    return Policy(Agent(permission_mode=mode, **settings), Capabilities())


def results(worked):
    return [(event.id, event.content, event.is_error) for event in worked.events if isinstance(event, ToolResult)]


async def test_a_call_that_a_person_agrees_to_runs_and_knows_who_agreed():
    made = bench(calling(wiping()), answer("done"), skills=[add, wipe])
    made.approver = Person(wipe=yes())
    worked = await made.work()
    assert results(worked) == [("w", "all is gone, said ann", False)]
    ((question,),) = made.approver.asked
    assert (question.call_id, question.tool, question.arguments) == ("w", "wipe", {"what": "all"})
    assert question.risk_level == "medium"


async def test_a_call_that_a_person_refuses_does_not_run_and_the_model_hears_why():
    made = bench(calling(wiping()), answer("pity"), skills=[wipe])
    made.approver = Person(wipe=no("not today"))
    worked = await made.work()
    assert results(worked) == [("w", "The call was not approved: not today.", True)]
    assert worked.kinds[-1] == "done"
    assert worked.context.tool_calls == 0


async def test_with_nobody_to_ask_a_call_that_needs_a_person_is_refused_at_once():
    # agent.md 1.10 D10: the original approves by itself where nobody listens.
    made = bench(calling(wiping()), answer("pity"), skills=[wipe])
    worked = await made.work()
    assert results(worked) == [("w", "The call was not approved: nobody can approve it here.", True)]


async def test_all_questions_of_a_turn_are_asked_before_any_of_its_calls_runs():
    ran = []

    @skill("note", "Notes.")
    def note() -> str:
        ran.append("note")
        return "noted"

    class Watching(Person):
        async def ask(self, questions):
            assert ran == []
            return await super().ask(questions)

    made = bench(calling(call("n", "note"), wiping("w1"), wiping("w2")), answer("ok"), skills=[note, wipe])
    made.approver = Watching(wipe=yes())
    worked = await made.work()
    assert [len(asked) for asked in made.approver.asked] == [2]
    assert [call_id for call_id, *_ in results(worked)] == ["n", "w1", "w2"]


async def test_edited_arguments_are_what_runs_and_what_the_model_sees_it_called():
    made = bench(calling(wiping(), adding()), answer("done"), skills=[add, wipe])
    made.approver = Person(wipe=yes(what="one"))
    worked = await made.work()
    assert results(worked)[0] == ("w", "one is gone, said ann", False)
    assert [part.arguments for part in made.backend.requests[1].messages[1].tool_calls] == [
        {"what": "one"},
        {"a": 1, "b": 2},
    ]
    await made.work("again")
    assert made.backend.requests[2].messages[1].tool_calls[0].arguments == {"what": "one"}


async def test_edited_arguments_are_checked_as_any_others():
    made = bench(calling(wiping()), answer("done"), skills=[wipe])
    made.approver = Person(wipe=yes(whom="x"))
    (_, content, is_error) = results(await made.work())[0]
    assert is_error
    assert content.startswith("argument validation failed for wipe")


async def test_a_skill_on_the_deny_list_is_never_asked_for():
    made = bench(calling(wiping()), answer("ok"), skills=[wipe])
    made.approver, made.policy = Person(), judging("permissive", deny_skills=("wi*",))
    (_, content, is_error) = results(await made.work())[0]
    assert is_error
    assert content.startswith("Permission denied")
    assert made.approver.asked == []


async def test_a_skill_whose_capability_is_not_granted_is_not_called():
    made = bench(calling(call("r", "reach")), answer("ok"), skills=[reach])
    (_, content, is_error) = results(await made.work())[0]
    assert is_error
    assert content.startswith("Permission denied: skill 'reach' requires capability")


async def test_in_plan_mode_calls_are_noted_and_nothing_runs():
    made = bench(calling(wiping(), adding()), answer("planned"), skills=[add, wipe])
    made.policy = judging("plan")
    worked = await made.work()
    assert [(content.startswith("Captured (plan mode)"), is_error) for _, content, is_error in results(worked)] == [
        (True, False),
        (True, False),
    ]
    assert worked.context.tool_calls == 0


@pytest.mark.parametrize("name", ["nope", "WIPE"])
async def test_an_unknown_skill_is_nobodys_question(name):
    made = bench(calling(call("x", name)), answer("ok"), skills=[wipe])
    made.approver, made.policy = Person(), judging(approval_skills=("*",))
    (_, content, _) = results(await made.work())[0]
    assert content.startswith("There is no skill named")
    assert made.approver.asked == []


async def test_a_call_that_is_broken_anyway_is_nobodys_question():
    made = bench(calling(call("w", "wipe", "[1]")), answer("ok"), skills=[wipe])
    made.approver = Person()
    assert results(await made.work())[0][1].startswith("The arguments must be one JSON object.")
    assert made.approver.asked == []


async def test_nobody_is_asked_about_a_call_that_its_skill_would_refuse():
    """agent.md 1.10 D12: the model hears what is wrong and mends it, before a person looks at it."""
    person = Person(wipe=yes())
    made = bench(calling(call("w", "wipe", '{"surprise": 1}'), wiping("v")), answer("done"), skills=[wipe])
    made.policy, made.approver = judging(), person
    worked = await made.work()
    first, second = [event for event in worked.events if isinstance(event, ToolResult)]
    assert first.is_error
    assert "argument validation failed for wipe" in first.content
    assert second.content == "all is gone, said ann"
    assert [[question.call_id for question in questions] for questions in person.asked] == [["v"]]


async def test_a_call_that_waited_before_a_restart_is_asked_for_whatever_policy_says_now():
    calls = [Call("a", "add", arguments={"a": 1, "b": 2}), Call("o", "add", arguments={"a": 1, "b": 2})]
    person = Person(add=no())
    skills, policy = SkillRegistry([add]), judging("permissive")
    await clear(calls, skills=skills, policy=policy, approver=person, asked_before={"a"})
    assert [[question.call_id for question in asked] for asked in person.asked] == [["a"]]
    assert [each.denial for each in calls] == ["approval_denied", None]


async def test_such_a_call_is_not_asked_for_once_policy_refuses_it_and_whoever_asked_hears_of_it():
    calls = [Call("a", "add", arguments={"a": 1, "b": 2})]
    person = Person()
    policy = judging("permissive", deny_skills=("add",))
    await clear(calls, skills=SkillRegistry([add]), policy=policy, approver=person, asked_before={"a"})
    assert (person.asked, calls[0].denial) == ([[]], "permission_denied")

from dataclasses import replace

from skillcalls import answer, context_of, refusal

from argentor_asgi.agent.builtin_skills.human_approval import human_approval
from argentor_asgi.agent.policy import Ask, Policy
from argentor_asgi.agent_sections import Agent, Capabilities


async def test_who_agreed_is_told() -> None:
    context = replace(context_of(), reviewer="key:ana")
    assert await answer(human_approval, context, task="Delete the backups", risk_level="high") == {
        "approved": True,
        "task": "Delete the backups",
        "risk_level": "high",
        "reviewer": "key:ana",
    }


async def test_a_call_that_nobody_agreed_to_is_denied() -> None:
    """agent.md 1.10 D10: the original's agreed to everything by itself."""
    assert await refusal(human_approval, task="Delete it") == "Permission denied: no person has agreed to this."


def test_every_mode_that_would_run_it_asks_first() -> None:
    """agent.md 1.10 D10."""
    for mode in ("default", "permissive", "read_only"):
        judged = Policy(Agent(permission_mode=mode), Capabilities()).judge(human_approval.descriptor, {"task": "Go"})
        assert isinstance(judged, Ask)


def test_the_person_sees_the_task_and_the_risk_that_the_call_claims() -> None:
    judged = Policy(Agent(), Capabilities()).judge(human_approval.descriptor, {"task": "Go", "risk_level": "critical"})
    assert judged == Ask("critical", 'Call human_approval with {"task":"Go","risk_level":"critical"}')


async def test_a_task_that_no_person_would_read_is_refused() -> None:
    assert "argument validation failed" in await refusal(human_approval, task="x" * 1001)

"""The skill `human_approval`: the model lays something before a person, and hears that they agreed.

Each call needs a person as those of any skill that says so do: the question goes to the run's approver, and where there
is none the answer is no. It runs only after a yes.
"""

from typing import Annotated

from argentor_asgi.agent.skills import SkillContext, SkillRefused, skill
from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.schema import JsonObject, Meta

TASK_CHARS = 1000
"""The longest task: a person reads it."""


@skill(
    "human_approval",
    "Asks a person whether something may be done, and waits. Use it before what cannot be undone.",
    parallel_safe=False,
    needs_approval=True,
    risk_level="medium",
)
def human_approval(
    task: Annotated[
        str, Meta(min_length=1, max_length=TASK_CHARS, description="What is to be done, in words for that person.")
    ],
    context: SkillContext,
    risk_level: Annotated[RiskLevel, Meta(description="How much is at stake.")] = "medium",
) -> JsonObject:
    """Return `{"approved": true, "task", "risk_level", "reviewer"}`; refuses when no person is named who agreed."""
    if context.reviewer is None:
        raise SkillRefused("Permission denied: no person has agreed to this.")
    return {"approved": True, "task": task, "risk_level": risk_level, "reviewer": context.reviewer}

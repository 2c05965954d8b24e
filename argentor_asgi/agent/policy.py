"""The policy: what becomes of one call of a skill. The one place where modes, lists, capabilities and approvals meet.

    policy = Policy(config.agent, config.capabilities)
    match policy.judge(descriptor, arguments):
        case Allow(): ...
        case Deny(reason): ...          # a failed result with this content
        case Capture(content): ...      # a successful result with this content, and nothing runs
        case Ask(risk_level, description): ...      # ask, then judge again with `approved=True`

What refuses wins over what asks: a person is never asked for what would not run anyway.
"""

from argentor_asgi.agent.capabilities import Grants
from argentor_asgi.agent.permissions import (
    ALLOWED,
    Allow,
    Ask,
    Capture,
    Custom,
    Deny,
    Verdict,
    denied,
    find_mode,
    matches_any,
    question,
)
from argentor_asgi.agent.skills import SkillDescriptor
from argentor_asgi.agent_sections import Agent, Capabilities
from argentor_asgi.protocol.schema import JsonObject

__all__ = ["Allow", "Ask", "Capture", "Custom", "Deny", "Policy", "Verdict"]


class Policy:
    """Judges calls; holds no state of any of them, so that one serves every run."""

    __slots__ = ("_agent", "_grants", "_mode")

    def __init__(self, agent: Agent, capabilities: Capabilities, custom: Custom | None = None) -> None:
        """Prepare; `custom` is what the mode `custom` asks: with none, or where it raises, the answer is no."""
        self._agent = agent
        self._grants = Grants(capabilities)
        self._mode = find_mode(agent.permission_mode, custom)

    def judge(self, descriptor: SkillDescriptor, arguments: JsonObject, *, approved: bool = False) -> Verdict:
        """Return what becomes of the call. Raises nothing.

        In order: the deny-list, the mode, capabilities, approval. `approved`: a person has agreed to these arguments;
        everything but the asking is judged again, and it is never answered with `Ask`. A path is looked up in the file
        system, which blocks for as long as that takes.
        """
        agent = self._agent
        if agent.deny_skills and matches_any(agent.deny_skills, descriptor.name):
            return denied(f"skill '{descriptor.name}' is on the list of those that are never called.")
        verdict = self._mode(descriptor, arguments, agent.allow_skills)
        if isinstance(verdict, Deny | Capture):
            return verdict
        # PERF: most skills need nothing, and this is asked for each call.
        needs = descriptor.required_capabilities or descriptor.checked_arguments
        if needs and (reason := self._grants.refusal(descriptor, arguments)) is not None:
            return denied(reason)
        if approved:
            return ALLOWED
        if isinstance(verdict, Ask):
            return verdict
        return question(descriptor, arguments) if self._needs_person(descriptor) else verdict

    def _needs_person(self, descriptor: SkillDescriptor) -> bool:
        asking = self._agent.approval_skills
        return descriptor.needs_approval or bool(asking and matches_any(asking, descriptor.name))

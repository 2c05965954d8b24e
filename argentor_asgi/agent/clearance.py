"""Whether the calls of a turn may run: judged by policy, and where it says so by a person, before any of them runs."""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from argentor_asgi.agent.approver import Answer, Approver, Question
from argentor_asgi.agent.policy import Allow, Ask, Capture, Deny, Verdict
from argentor_asgi.agent.skills import SkillDescriptor, SkillRegistry
from argentor_asgi.protocol.schema import JsonObject
from argentor_asgi.protocol.turn import Call

NOBODY: Final = Answer(approved=False, reviewer=None, reason="nobody can approve it here")
"""The answer where there is no approver."""
PERMISSION_DENIED: Final = "permission_denied"
APPROVAL_DENIED: Final = "approval_denied"


class Judge(Protocol):
    """Says what policy has to say about a call."""

    def judge(self, descriptor: SkillDescriptor, arguments: JsonObject, *, approved: bool = False) -> Verdict:
        """Judge one call; `approved`: a person has agreed to it, so that it need not be asked for."""
        ...


async def clear(
    calls: Sequence[Call],
    *,
    skills: SkillRegistry,
    policy: Judge,
    approver: Approver | None,
    asked_before: Collection[str] = (),
) -> None:
    """Judge the calls and wait for a person where one is needed.

    Afterwards each call either runs, with the arguments that it has then, or says why not (`refusal`), or what is told
    in its place (`captured`). Calls of unknown skills are left as they are. One that a person edited is judged again.
    Nobody is asked about a call whose arguments its skill would refuse. `asked_before`: the ids of calls that wait for
    a person since before a restart, and do so whatever policy says now, unless it refuses them: the approver hears then
    that they are asked for no more.
    """
    asked: list[tuple[Call, Question]] = []
    for call in calls:
        question = _judged(call, skills, policy, is_asked=call.id in asked_before)
        if question is not None:
            asked.append((call, question))
    if not (asked or asked_before):
        return
    questions = [question for _, question in asked]
    answers = [NOBODY] * len(asked) if approver is None else await approver.ask(questions)
    for (call, _), answer in zip(asked, answers, strict=True):
        _settle(call, answer, skills, policy)


def _judged(call: Call, skills: SkillRegistry, policy: Judge, *, is_asked: bool) -> Question | None:
    """Say of the call what policy says of it; return what a person is to be asked, if anything."""
    found = skills.get(call.name)
    if found is None or not call.runs:
        return None
    arguments = call.arguments or {}
    verdict = policy.judge(found.descriptor, arguments)
    if is_asked and isinstance(verdict, Allow):
        verdict = Ask(found.descriptor.risk_level, found.descriptor.description)
    if isinstance(verdict, Ask):
        call.refusal = found.wrong(arguments)
        if call.refusal is None:
            return Question(call.id, call.name, arguments, verdict.risk_level, verdict.description)
        return None
    _apply(call, verdict)
    return None


def _apply(call: Call, verdict: Verdict) -> None:
    match verdict:
        case Deny(reason):
            call.refusal, call.denial = reason, PERMISSION_DENIED
        case Capture(content):
            call.captured = content
        case _:
            pass


def _settle(call: Call, answer: Answer, skills: SkillRegistry, policy: Judge) -> None:
    """Let the call run as its reviewer said, if policy still lets it; else say why not, in words for the model."""
    if not answer.approved:
        call.refusal = f"The call was not approved: {answer.reason or 'the reviewer said no'}."
        call.denial = APPROVAL_DENIED
        return
    call.reviewer = answer.reviewer
    if answer.edited_arguments is not None:
        call.arguments, call.is_edited = answer.edited_arguments, True
    found = skills.get(call.name)
    if found is not None:
        _apply(call, policy.judge(found.descriptor, call.arguments or {}, approved=True))

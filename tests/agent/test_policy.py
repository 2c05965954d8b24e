from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.policy import Allow, Ask, Capture, Deny, Policy, Verdict
from argentor_asgi.agent.skills import SkillDescriptor
from argentor_asgi.agent_sections import Agent, Capabilities

MODES = st.sampled_from(["default", "strict", "permissive", "plan", "read_only", "custom"])
LISTS = st.sampled_from([(), ("probe",), ("pro*",), ("other", "*e"), ("other",)])
AGENTS = st.builds(Agent, permission_mode=MODES, allow_skills=LISTS, deny_skills=LISTS, approval_skills=LISTS)
GRANTS = st.builds(Capabilities, database_query=st.booleans(), network_access=st.sampled_from([(), ("*",)]))
SKILLS = st.builds(
    SkillDescriptor,
    name=st.just("probe"),
    description=st.just(""),
    parameters_schema=st.just({"type": "object"}),
    required_capabilities=st.sampled_from([(), ("database_query",), ("network_access", "database_query")]),
    effect=st.sampled_from(["read", "write"]),
    needs_approval=st.booleans(),
    checked_arguments=st.sampled_from([{}, {"host": "network_access"}]),
)
ARGUMENTS = st.sampled_from([{}, {"host": "example.com"}, {"host": "127.0.0.1"}])
CUSTOM = st.sampled_from([None, True, False, Ask("low", "May I?"), Capture("noted")])


def declared(name: str = "probe", **more) -> SkillDescriptor:
    return SkillDescriptor(name, "", {"type": "object"}, **more)


def judge(agent: Agent, descriptor: SkillDescriptor | None = None, **more) -> Verdict:
    return Policy(agent, Capabilities()).judge(descriptor or declared(), {"n": 1}, **more)


@given(MODES)
def test_the_deny_list_wins_in_every_mode(mode) -> None:
    agent = Agent(permission_mode=mode, allow_skills=("*",), deny_skills=("other", "pro*"))
    judged = Policy(agent, Capabilities(), lambda *_: True).judge(declared(), {})
    assert judged == Deny("Permission denied: skill 'probe' is on the list of those that are never called.")


def test_the_deny_list_wins_over_what_a_person_agreed_to() -> None:
    assert isinstance(judge(Agent(deny_skills=("probe",)), declared(needs_approval=True), approved=True), Deny)


def test_a_listed_skill_needs_a_person_even_where_all_is_allowed() -> None:
    agent = Agent(permission_mode="permissive", approval_skills=("pro*",))
    assert judge(agent) == Ask("low", 'Call probe with {"n":1}')
    assert judge(agent, approved=True) == Allow()


def test_a_skill_that_says_so_needs_a_person_even_where_all_is_allowed() -> None:
    agent = Agent(permission_mode="permissive")
    assert isinstance(judge(agent, declared(needs_approval=True)), Ask)
    assert judge(agent, declared(needs_approval=True), approved=True) == Allow()


def test_what_the_mode_denies_is_not_asked() -> None:
    assert isinstance(judge(Agent(permission_mode="strict"), declared(needs_approval=True)), Deny)
    assert isinstance(judge(Agent(permission_mode="read_only"), declared(needs_approval=True, effect="write")), Deny)
    assert isinstance(judge(Agent(permission_mode="custom"), declared(needs_approval=True)), Deny)


def test_a_plan_captures_what_would_be_asked() -> None:
    assert isinstance(judge(Agent(permission_mode="plan"), declared(needs_approval=True)), Capture)


def test_by_default_a_skill_that_is_not_listed_runs_once_a_person_agreed() -> None:
    agent = Agent(allow_skills=("other",))
    assert isinstance(judge(agent), Ask)
    assert judge(agent, approved=True) == Allow()


def test_what_is_not_granted_is_not_asked_for() -> None:
    descriptor = declared(needs_approval=True, required_capabilities=("database_query",))
    assert judge(Agent(), descriptor) == Deny(
        "Permission denied: skill 'probe' requires capability database_query, which is not granted."
    )
    assert isinstance(Policy(Agent(), Capabilities(database_query=True)).judge(descriptor, {}), Ask)


def test_arguments_that_a_person_changed_are_checked_again() -> None:
    descriptor = declared(needs_approval=True, checked_arguments={"host": "network_access"})
    policy = Policy(Agent(), Capabilities(network_access=("example.com",)))
    assert isinstance(policy.judge(descriptor, {"host": "example.com"}), Ask)
    assert policy.judge(descriptor, {"host": "example.com"}, approved=True) == Allow()
    assert policy.judge(descriptor, {"host": "example.org"}, approved=True) == Deny(
        "Permission denied: argument validation failed for 'probe': host: the host 'example.org' is not among those "
        "allowed."
    )


def test_a_callback_that_asks_is_heard_until_a_person_agreed() -> None:
    policy = Policy(Agent(permission_mode="custom"), Capabilities(), lambda *_: Ask("high", "May I?"))
    assert policy.judge(declared(), {}) == Ask("high", "May I?")
    assert policy.judge(declared(), {}, approved=True) == Allow()


@given(AGENTS, GRANTS, SKILLS, ARGUMENTS, CUSTOM)
def test_a_person_changes_a_question_into_a_yes_and_nothing_else(agent, grants, descriptor, arguments, said) -> None:
    policy = Policy(agent, grants, None if said is None else lambda *_: said)
    before = policy.judge(descriptor, arguments)
    after = policy.judge(descriptor, arguments, approved=True)
    assert after == (Allow() if isinstance(before, Ask) else before)


@given(AGENTS, GRANTS, SKILLS, ARGUMENTS, CUSTOM)
def test_nothing_runs_that_any_rule_forbids(agent, grants, descriptor, arguments, said) -> None:
    policy = Policy(agent, grants, None if said is None else lambda *_: said)
    judged = policy.judge(descriptor, arguments)
    if not isinstance(judged, Allow):
        return
    assert agent.permission_mode != "plan"
    assert agent.deny_skills in {(), ("other",)}
    assert agent.approval_skills in {(), ("other",)}
    assert not descriptor.needs_approval
    assert agent.permission_mode != "read_only" or descriptor.effect == "read"
    assert not descriptor.required_capabilities or grants.database_query
    assert arguments.get("host") != "127.0.0.1" or not descriptor.checked_arguments

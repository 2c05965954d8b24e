import os
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator
from skillcalls import answer

from argentor_asgi.agent.opt_in_skills import opt_in
from argentor_asgi.agent_sections import Agent, Capabilities

ALL = ("http_fetch", "file_read", "regex", "agent_delegate")
GRANTED = Capabilities(file_read=("/srv",), network_access=("*",))


def names(*wanted: str) -> list[str]:
    return [skill.descriptor.name for skill in opt_in(Agent(skills=wanted), GRANTED).skills]


def test_there_are_the_skills_that_are_named_and_no_others() -> None:
    assert names() == []
    assert names("regex") == ["regex"]
    assert sorted(names(*ALL)) == ["file_read", "http_fetch", "regex"]


def test_they_change_nothing_and_say_what_they_need() -> None:
    for skill in opt_in(Agent(skills=ALL), GRANTED).skills:
        assert skill.descriptor.effect == "read"
        Draft202012Validator.check_schema(skill.descriptor.parameters_schema)
        fields = skill.descriptor.parameters_schema["properties"]
        assert all(field["description"] for field in fields.values())
        assert set(skill.descriptor.checked_arguments) <= set(fields)
        assert set(skill.descriptor.required_capabilities) == set(skill.descriptor.checked_arguments.values())


async def test_there_may_be_nothing_to_close() -> None:
    await opt_in(Agent(), Capabilities()).aclose()


@pytest.mark.slow
async def test_closing_ends_what_they_work_with() -> None:
    opted = opt_in(Agent(skills=("regex", "http_fetch")), GRANTED)
    assert (await answer(opted.skills[0], operation="validate", pattern="a"))["valid"] is True
    assert opted._workers is not None
    (pid,) = opted._workers.pids
    assert os.getpgid(pid) == pid
    await opted.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await opted.aclose()


@pytest.mark.slow
def test_naming_the_package_imports_none_of_them() -> None:
    code = (
        "import sys; from argentor_asgi.agent.opt_in_skills import opt_in; import argentor_asgi.agent.policy;"
        "print([name for name in ('httpx2', 'httpcore2', 'argentor_asgi.net.http', 'argentor_asgi.net.addresses',"
        " 'argentor_asgi.agent.opt_in_skills.regex') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603  our own words
    assert done.stdout.strip() == "[]"

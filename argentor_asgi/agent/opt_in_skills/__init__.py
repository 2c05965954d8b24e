"""The skills that a gateway has only when its configuration names them: each reaches what the default ones do not.

    opted = opt_in(config.agent, config.capabilities)
    registry = SkillRegistry([*default_skills(store), *opted.skills])
    ...
    await opted.aclose()

Their modules are imported when they are asked for, so that naming this package costs nothing.
"""

from typing import TYPE_CHECKING

from argentor_asgi.agent.skills import Skill
from argentor_asgi.agent_sections import Agent, Capabilities

if TYPE_CHECKING:
    from argentor_asgi.agent.opt_in_skills.regex import Workers
    from argentor_asgi.net.http import Client

__all__ = ["OptInSkills", "opt_in"]


class OptInSkills:
    """Owns what the skills work with: connections, worker processes."""

    __slots__ = ("_client", "_workers", "skills")

    def __init__(
        self, skills: list[Skill], *, client: "Client | None" = None, workers: "Workers | None" = None
    ) -> None:
        """Own `client` and `workers`, those of the skills, if they have any."""
        self.skills = skills
        self._client = client
        self._workers = workers

    async def aclose(self) -> None:
        """Close the connections and end the processes; calls that go on fail. Takes `regex.END_S` at most for each."""
        if self._workers is not None:
            await self._workers.aclose()
        if self._client is not None:
            await self._client.aclose()


def opt_in(agent: Agent, capabilities: Capabilities, *, client: "Client | None" = None) -> OptInSkills:
    """Return the skills that `agent.skills` names, but `agent_delegate`, which needs the runner.

    `client`: what `http_fetch` connects with; by default one that connects to public addresses alone. Either is closed
    with the skills.
    """
    skills: list[Skill] = []
    workers = None
    # Each module, and what it needs, is imported for those who want it alone.
    if "file_read" in agent.skills:
        from argentor_asgi.agent.opt_in_skills.file_read import file_read_skill  # noqa: PLC0415  as said above

        skills.append(file_read_skill(capabilities.file_read))
    if "regex" in agent.skills:
        from argentor_asgi.agent.opt_in_skills.regex import Workers, regex_skill  # noqa: PLC0415  as said above

        workers = Workers()
        skills.append(regex_skill(workers))
    if "http_fetch" in agent.skills:
        from argentor_asgi.agent.opt_in_skills.http_fetch import http_fetch_skill, public_client  # noqa: PLC0415

        client = client or public_client()
        skills.append(http_fetch_skill(client, capabilities.network_access))
    return OptInSkills(skills, client=client, workers=workers)

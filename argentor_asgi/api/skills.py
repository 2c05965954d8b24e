"""Skills: what the agent can do."""

from dataclasses import dataclass

from argentor_asgi.agent.skills import Effect
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import SkillNotFound
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.schema import JsonObject, JsonValue


@dataclass(frozen=True)
class SkillSummary:
    """A skill, by name."""

    name: str
    description: str


@dataclass(frozen=True)
class SkillView:
    """A skill with the JSON Schema of its arguments and what it needs."""

    name: str
    description: str
    parameters_schema: JsonObject
    required_capabilities: list[JsonValue]
    effect: Effect


@route("GET", "/api/v1/skills", needs="skills:read", tags=("skills",))
async def list_skills(services: Services) -> list[SkillSummary]:
    """List the skills by name."""
    return [SkillSummary(found.name, found.description) for found in services.skills.descriptors()]


@route("GET", "/api/v1/skills/{name}", needs="skills:read", errors=(SkillNotFound,), tags=("skills",))
async def read_skill(services: Services, name: str) -> SkillView:
    """Return one skill."""
    skill = services.skills.get(name)
    if skill is None:
        raise SkillNotFound(f"No skill is called {name!r:.80}.")
    found = skill.descriptor
    capabilities = list(found.required_capabilities)
    return SkillView(found.name, found.description, found.parameters_schema, capabilities, found.effect)

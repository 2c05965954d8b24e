"""Skills: what the agent can do."""

from dataclasses import dataclass

from argentor_asgi.agent.skills import Effect
from argentor_asgi.asgi.route import route
from argentor_asgi.errors import SkillNotFound
from argentor_asgi.gateway.services import Services
from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.schema import JsonObject, JsonValue


@dataclass(frozen=True)
class SkillSummary:
    """A skill, by name."""

    name: str
    description: str


@dataclass(frozen=True)
class SkillView:
    """A skill as it describes itself: the JSON Schema of its arguments, what it needs, and what its calls do.

    `needs_approval`: whether a person must agree to each call, whatever is configured; `risk_level` is what they are
    told. `parallel_safe`: whether calls of one turn may run at the same time.
    """

    name: str
    description: str
    parameters_schema: JsonObject
    required_capabilities: list[JsonValue]
    effect: Effect
    needs_approval: bool
    risk_level: RiskLevel
    parallel_safe: bool


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
    return SkillView(
        found.name,
        found.description,
        found.parameters_schema,
        list(found.required_capabilities),
        found.effect,
        found.needs_approval,
        found.risk_level,
        found.parallel_safe,
    )

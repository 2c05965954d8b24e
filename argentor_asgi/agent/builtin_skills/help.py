"""The skill `skills_help`: what the agent can do, read from the registry."""

from typing import Annotated

from argentor_asgi.agent.skills import FunctionSkill, SkillRefused, SkillRegistry, skill
from argentor_asgi.protocol.schema import JsonObject, Meta


def skills_help(registry: SkillRegistry) -> FunctionSkill:
    """Return the skill that lists and describes the skills of `registry`, those registered later too."""

    @skill("skills_help", "Lists the skills there are, or describes one with its arguments.")
    def described(
        name: Annotated[str | None, Meta(description="The skill to describe; without it all are listed.")] = None,
    ) -> JsonObject:
        """Return `{"skills": [{"name", "description"}], "total"}`; one that is named comes with its schema."""
        if name is None:
            known = [{"name": each.name, "description": each.description} for each in registry.descriptors()]
            return {"skills": known, "total": len(known)}
        if (found := registry.get(name)) is None:
            raise SkillRefused(registry.unknown(name))
        told = found.descriptor
        one = {"name": told.name, "description": told.description, "parameters_schema": told.parameters_schema}
        return {"skills": [one], "total": 1}

    return described

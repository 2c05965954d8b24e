"""The skills that every gateway has: pure Python, no shell, no network, no file; imports `agent.skills` and below.

    registry = with_help(SkillRegistry(default_skills(store)))

`default_skills` imports the modules when it is called, so that naming this package costs nothing. `with_help` adds
`skills_help`, which needs the registry that it describes.
"""

from argentor_asgi.agent.skills import Skill, SkillRegistry
from argentor_asgi.sessions.store import NoteStore

__all__ = ["default_skills", "with_help"]


def default_skills(notes: NoteStore) -> list[Skill]:
    """Return the default skills, the memory ones over `notes`; `skills_help` is added by `with_help`."""
    # An application with skills of its own need not pay for these.
    from argentor_asgi.agent.builtin_skills import (  # noqa: PLC0415  as said above
        calculator,
        csv_processor,
        data_validator,
        dates,
        diff,
        encodings,
        human_approval,
        json_query,
        memory,
        summarizer,
        text_transform,
        uuids,
    )

    return [
        calculator.calculator,
        dates.datetime_skill,
        json_query.json_query,
        text_transform.text_transform,
        data_validator.data_validator,
        csv_processor.csv_processor,
        encodings.hash_skill,
        encodings.encode_decode,
        uuids.uuid_generator,
        diff.diff_skill,
        summarizer.summarizer,
        human_approval.human_approval,
        *memory.memory_skills(notes),
    ]


def with_help(registry: SkillRegistry) -> SkillRegistry:
    """Return `registry` with `skills_help` about itself registered in it; raises `ConfigError` when it is there."""
    from argentor_asgi.agent.builtin_skills.help import skills_help  # noqa: PLC0415  as in default_skills

    registry.register(skills_help(registry))
    return registry

"""How a skill with many operations is written: a table of typed functions, each of which says what it needs."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from argentor_asgi.agent.skills import SkillRefused
from argentor_asgi.protocol.schema import JsonValue

Operations: TypeAlias = Mapping[str, Callable[..., JsonValue]]
"""The operations of a skill. A function's parameters are the arguments it uses; those without default are needed."""


def present(**arguments: JsonValue) -> dict[str, JsonValue]:
    """Return the arguments that were given; a model may send null for one that it leaves out."""
    return {name: value for name, value in arguments.items() if value is not None}


def perform(table: Operations, operation: str, arguments: Mapping[str, JsonValue]) -> JsonValue:
    """Return what the operation makes of those arguments that it uses.

    Raises `SkillRefused` naming each one that it needs and that is not there.
    """
    function = table[operation]
    needs = _parameters(function)
    missing = [name for name, required in needs if required and name not in arguments]
    if missing:
        raise SkillRefused(f"The operation {operation} also needs: {', '.join(missing)}.")
    return function(**{name: arguments[name] for name, _ in needs if name in arguments})


def refuse_longer(text: str, limit_bytes: int, name: str) -> None:
    """Raise `SkillRefused` when `text` is longer than `limit_bytes` in UTF-8."""
    if len(text) > limit_bytes or len(text.encode("utf-8", "replace")) > limit_bytes:
        raise SkillRefused(f"{name} is too long: at most {limit_bytes} bytes are taken.")


@lru_cache(maxsize=512)
def _parameters(function: Callable[..., JsonValue]) -> tuple[tuple[str, bool], ...]:
    """Return the name of each parameter and whether it has no default."""
    found = inspect.signature(function).parameters.items()
    return tuple((name, parameter.default is inspect.Parameter.empty) for name, parameter in found)

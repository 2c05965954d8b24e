"""Permission modes: whether the agent may call a skill, by its name and by what it says of itself.

    find_mode("strict")(descriptor, arguments, allow_skills)

A mode is a plain function, and looks at one call. What wins over it (the deny-list), and what comes on top of it
(capabilities, approvals), is `policy`'s.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from argentor_asgi.agent.skills import SkillDescriptor
from argentor_asgi.agent_sections import PermissionMode
from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.schema import JsonObject, encode

CAPTURED_BYTES: Final = 16 * 1024
"""How much of a captured call's arguments, as JSON, is told back."""
DESCRIBED_BYTES: Final = 1024
"""How much of a call's arguments, as JSON, the description of a question has."""

_log = logging.getLogger("argentor.agent")


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may run."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call does not run. `reason`: the whole content of its failed result, from `Permission denied: ` on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Capture:
    """The call is noted and does not run. `content`: that of its result, which is a success."""

    content: str


@dataclass(frozen=True, slots=True)
class Ask:
    """The call runs after a person agreed. `description`: in words for that person, what it is about to do."""

    risk_level: RiskLevel
    description: str


Verdict: TypeAlias = Allow | Deny | Capture | Ask
Custom: TypeAlias = Callable[[SkillDescriptor, JsonObject], Verdict | bool]
"""What an embedding program says of a call: a verdict, or whether it is allowed."""
Mode: TypeAlias = Callable[[SkillDescriptor, JsonObject, tuple[str, ...]], Verdict]
"""Judges a call of a skill with these arguments, by the patterns of `agent.allow_skills`. Raises nothing."""

ALLOWED: Final = Allow()


def matches(pattern: str, name: str) -> bool:
    """Whether `pattern` is `name`; each `*` in it stands for any text. Time is linear in the pattern and the name.

    The part before the first `*` begins the name, the part behind the last one ends it.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    *middle, last = rest
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns is `name`."""
    return any(matches(pattern, name) for pattern in patterns)


def find_mode(name: PermissionMode, custom: Custom | None = None) -> Mode:
    """Return the mode of this name; `custom` is what the mode `custom` asks, and denies everything without."""
    return _by_callback(custom) if name == "custom" else _MODES[name]


def question(descriptor: SkillDescriptor, arguments: JsonObject) -> Ask:
    """Return the question to a person.

    The risk is the skill's, at least medium when it changes something. A skill whose every call needs a person may
    take a `risk_level` argument: it raises the risk, and never lowers it.
    """
    claimed = arguments.get("risk_level") if descriptor.needs_approval else None
    least: RiskLevel = "medium" if descriptor.effect == "write" else "low"
    risk = max(descriptor.risk_level, least, _risk(claimed), key=_RISKS.index)
    return Ask(risk, f"Call {descriptor.name} with {_json(arguments, DESCRIBED_BYTES)}")


def denied(reason: str) -> Deny:
    """Return the refusal with the words before `reason` that every one begins with."""
    return Deny(f"Permission denied: {reason}")


def _default(descriptor: SkillDescriptor, arguments: JsonObject, allowed: tuple[str, ...]) -> Verdict:
    if not allowed or matches_any(allowed, descriptor.name):
        return ALLOWED
    return question(descriptor, arguments)


def _strict(descriptor: SkillDescriptor, _: JsonObject, allowed: tuple[str, ...]) -> Verdict:
    if matches_any(allowed, descriptor.name):
        return ALLOWED
    return denied(f"skill '{descriptor.name}' is not among those allowed.")


def _permissive(_: SkillDescriptor, __: JsonObject, ___: tuple[str, ...]) -> Verdict:
    return ALLOWED


def _plan(descriptor: SkillDescriptor, arguments: JsonObject, _: tuple[str, ...]) -> Verdict:
    return Capture(f"Captured (plan mode): tool={descriptor.name}, args={_json(arguments, CAPTURED_BYTES)}")


def _read_only(descriptor: SkillDescriptor, _: JsonObject, __: tuple[str, ...]) -> Verdict:
    """Judge by the declared effect: a name says nothing, whatever it looks like and whoever lists it."""
    if descriptor.effect == "read":
        return ALLOWED
    return denied(f"skill '{descriptor.name}' changes something, and only reading is allowed.")


def _by_callback(custom: Custom | None) -> Mode:
    def judged(descriptor: SkillDescriptor, arguments: JsonObject, _: tuple[str, ...]) -> Verdict:
        refusal = denied(f"skill '{descriptor.name}' is not allowed.")
        if custom is None:
            return refusal
        try:
            said = custom(descriptor, arguments)
        except Exception:  # noqa: BLE001  whatever a program raises is a no
            _log.exception("the program's permission callback failed for the skill %s", descriptor.name)
            return refusal
        if isinstance(said, bool):
            return ALLOWED if said else refusal
        if isinstance(said, Verdict):
            return said
        _log.error("the program's permission callback returned no verdict for the skill %s", descriptor.name)  # type: ignore[unreachable]  # a program without types may return anything
        return refusal

    return judged


_MODES: dict[str, Mode] = {
    "default": _default,
    "strict": _strict,
    "permissive": _permissive,
    "plan": _plan,
    "read_only": _read_only,
}
_RISKS: tuple[RiskLevel, ...] = ("low", "medium", "high", "critical")


def _risk(claimed: object) -> RiskLevel:
    return next((risk for risk in _RISKS if risk == claimed), "low")


def _json(arguments: JsonObject, limit_bytes: int) -> str:
    data = encode(arguments)
    if len(data) <= limit_bytes:
        return data.decode()
    return f"{data[:limit_bytes].decode('utf-8', 'ignore')}… [cut: {len(data)} bytes]"

"""Skills: what the agent can do, how one is written, and the registry that calls them.

A skill is a typed function under `@skill`: its parameters are the arguments that a model may send, their annotations
the JSON Schema that the model sees. What goes wrong in a call is told to the model as text, so that it can mend it.
"""

import asyncio
import inspect
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Literal, Protocol, TypeVar

from argentor_asgi.agent.budgets import RunBudget
from argentor_asgi.errors import ConfigError, GatewayError, InvalidInput
from argentor_asgi.protocol.events import RiskLevel
from argentor_asgi.protocol.llm import ToolSpec
from argentor_asgi.protocol.schema import (
    JsonObject,
    JsonValue,
    arguments_type,
    convert,
    field_names,
    schemas,
    to_builtins,
)
from argentor_asgi.sessions.records import Scope

Effect = Literal["read", "write"]

TIMEOUT_S = 30.0
"""How long a skill may work on one call."""
OUTPUT_BYTES = 256 * 1024
"""How long, in UTF-8, the output of one call may be; the rest is cut off with a mark."""
SKILL_THREADS = 4
"""How many calls of skills declared with `thread=True` run at the same time, in the whole process."""
NEAREST = 5
"""How many names an unknown one is answered with."""

NOTHING_CHECKED: Mapping[str, str] = {}
"""The arguments of a skill whose capabilities, if any, do not depend on them."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REF = "#/$defs/"
Result = TypeVar("Result")
_log = logging.getLogger("argentor.skills")


@dataclass(frozen=True, slots=True)
class SkillDescriptor:
    """What a skill says of itself. `parameters_schema` is a JSON Schema of type object.

    `effect`: whether it changes anything. `parallel_safe`: whether calls of one turn may run at the same time.
    `needs_approval`: whether a person must agree to each call; `risk_level` is what they are told of it.
    `checked_arguments`: which argument is held against which capability, such as `{"url": "network_access"}`.
    `timeout_s`: how long a call may take, where the registry's own bound is not right for it.
    """

    name: str
    description: str
    parameters_schema: JsonObject
    required_capabilities: tuple[JsonValue, ...] = ()
    effect: Effect = "read"
    parallel_safe: bool = True
    needs_approval: bool = False
    risk_level: RiskLevel = "low"
    checked_arguments: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class SkillContext:
    """Who calls, for what run, and when. What a skill stores belongs to `scope`, whatever its arguments say.

    `trace_parent`: the `traceparent` that what the skill calls may be told, if any. `budget`: what the run may still
    use, None where nothing is counted. `depth`: how many runs this one is inside of. `reviewer`: who approved the call.
    """

    run_id: str
    session_id: str
    call_id: str
    scope: Scope
    now: datetime
    trace_parent: str | None = None
    budget: RunBudget | None = None
    depth: int = 0
    reviewer: str | None = None


@dataclass(frozen=True, slots=True)
class SkillOutput:
    """What a call came to: text, mostly JSON."""

    content: str
    is_error: bool = False
    truncated: bool = False


class Skill(Protocol):
    """Something the agent can do."""

    @property
    def descriptor(self) -> SkillDescriptor:
        """What the skill says of itself."""
        ...

    def wrong(self, arguments: JsonObject) -> str | None:
        """Return what is wrong with the arguments, in words for the model that mends them; None if nothing is."""
        ...

    def execute(self, arguments: JsonObject, context: SkillContext) -> Awaitable[SkillOutput]:
        """Check the arguments and do it. A refusal is an output with `is_error`; cancellation stops the work."""
        ...


class SkillRefused(Exception):
    """A skill's way to say no. The text goes to the model and the user: it says what to do instead."""

    def __init__(self, message: str) -> None:
        """Keep the words."""
        super().__init__(message)
        self.message = message


class FunctionSkill:
    """A skill made by `@skill` from a function; satisfies `Skill`."""

    __slots__ = ("_context_name", "_function", "_kind", "_thread", "descriptor")

    def __init__(self, function: Callable[..., object], descriptor: SkillDescriptor, *, thread: bool) -> None:
        """Read the parameters. Raises `TypeError` for one without annotation, or an async function in a thread."""
        if thread and inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__}: an async function cannot run in a thread")
        self._function = function
        self._thread = thread
        self._context_name = _context_parameter(function)
        self._kind: type[object]
        self._kind, self.descriptor = _described(function, descriptor, self._context_name)

    def wrong(self, arguments: JsonObject) -> str | None:
        """Return what is wrong with the arguments, and which ones are right; None if nothing is."""
        try:
            convert(arguments, self._kind)
        except InvalidInput as error:
            return _mend(self.descriptor, error)
        return None

    async def execute(self, arguments: JsonObject, context: SkillContext) -> SkillOutput:
        """Check the arguments and call the function.

        Arguments of another shape and `SkillRefused` are outputs with `is_error`; any other exception passes through.
        Cancelled, an async function is cancelled; one in a thread runs to its end unheard.
        """
        try:
            record = convert(arguments, self._kind)
        except InvalidInput as error:
            return SkillOutput(_mend(self.descriptor, error), is_error=True)
        values = {name: getattr(record, name) for name in self.descriptor.parameters_schema["properties"]}
        if self._context_name is not None:
            values[self._context_name] = context
        try:
            return SkillOutput(_content(await self._call(values)))
        except SkillRefused as refusal:
            return SkillOutput(refusal.message, is_error=True)

    async def _call(self, values: dict[str, object]) -> object:
        if self._thread:
            return await in_thread(partial(self._function, **values))
        found = self._function(**values)
        return await found if inspect.isawaitable(found) else found


def skill(
    name: str,
    description: str,
    *,
    effect: Effect = "read",
    parallel_safe: bool = True,
    capabilities: tuple[JsonValue, ...] = (),
    thread: bool = False,
    needs_approval: bool = False,
    risk_level: RiskLevel = "low",
    checked_arguments: Mapping[str, str] = NOTHING_CHECKED,
    timeout_s: float | None = None,
) -> Callable[[Callable[..., object]], FunctionSkill]:
    """Make a skill of a typed function, sync or async.

    Its parameters are the arguments: the annotation is the type (`Literal`, dataclasses, `Annotated[..., Meta(ge=1,
    description="...")]`), a default makes one optional. A parameter annotated `SkillContext` gets the context and is no
    argument. The return value, any JSON value or dataclass, becomes JSON text; a `str` is the content as it is. To
    refuse, raise `SkillRefused`. `thread`: a sync function that is too slow for the event loop runs in a worker thread.
    `capabilities` are its `required_capabilities`; the rest is as in `SkillDescriptor`.
    """

    def made(function: Callable[..., object]) -> FunctionSkill:
        descriptor = SkillDescriptor(
            name,
            description,
            {},
            capabilities,
            effect,
            parallel_safe,
            needs_approval,
            risk_level,
            checked_arguments,
            timeout_s,
        )
        return FunctionSkill(function, descriptor, thread=thread)

    return made


class SkillRegistry:
    """The skills of one gateway, by name, and the one way to call them."""

    def __init__(
        self, skills: Iterable[Skill] = (), *, timeout_s: float = TIMEOUT_S, output_bytes: int = OUTPUT_BYTES
    ) -> None:
        """Register `skills`. Raises as `register` does.

        `output_bytes` (> 0) bounds what each call says; `timeout_s` (> 0) calls of skills without a time of their own.
        """
        self._skills: dict[str, Skill] = {}
        self._specs: list[ToolSpec] = []
        self._timeout_s = timeout_s
        self._output_bytes = output_bytes
        for each in skills:
            self.register(each)

    def __len__(self) -> int:
        """Return how many skills there are."""
        return len(self._skills)

    def register(self, added: Skill) -> None:
        """Add a skill. Raises `ConfigError` for a name already taken or no provider would take, or a wrong schema."""
        self.exchange((), (added,))

    def exchange(self, gone: Iterable[str], added: Iterable[Skill]) -> None:
        """Take out the skills of these names, those that are there, and add others. Raises as `register`, unchanged."""
        gone = frozenset(gone)
        known = {name: each for name, each in self._skills.items() if name not in gone}
        for each in added:
            _check(each.descriptor, known)
            known[each.descriptor.name] = each
        self._skills = dict(sorted(known.items()))
        self._specs = [
            ToolSpec(each.name, each.description, each.parameters_schema)
            for each in (skill.descriptor for skill in self._skills.values())
        ]

    def get(self, name: str) -> Skill | None:
        """Return the skill of this name, or None."""
        return self._skills.get(name)

    def fault(self, name: str, arguments: JsonObject) -> str | None:
        """Return what is wrong with these arguments for the skill of this name; None if nothing is, or none has it."""
        found = self._skills.get(name)
        return None if found is None else found.wrong(arguments)

    def descriptors(self) -> list[SkillDescriptor]:
        """Return what every skill says of itself, by name: the same order in every process."""
        return [known.descriptor for known in self._skills.values()]

    def specs(self) -> list[ToolSpec]:
        """Return the skills as a model sees them, by name."""
        return list(self._specs)

    async def call(self, name: str, arguments: JsonObject, context: SkillContext) -> SkillOutput:
        """Call a skill; whatever goes wrong is an output with `is_error` whose text is safe to show.

        Ends within the skill's `timeout_s` or else the registry's, unless a sync skill holds the loop. Only
        cancellation raises.
        """
        found = self._skills.get(name)
        if found is None:
            return SkillOutput(self.unknown(name), is_error=True)
        return fitted(await self._bounded(found, arguments, context), self._output_bytes)

    async def _bounded(self, found: Skill, arguments: JsonObject, context: SkillContext) -> SkillOutput:
        name = found.descriptor.name
        timeout_s = found.descriptor.timeout_s or self._timeout_s
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                return await found.execute(arguments, context)
        except GatewayError as error:
            return SkillOutput(error.message, is_error=True)
        except Exception as error:  # noqa: BLE001  whatever a skill raises must not end the run
            if isinstance(error, TimeoutError) and deadline.expired():
                return SkillOutput(f"The skill {name} timed out after {timeout_s:g} s.", is_error=True)
            _log.exception("skill %s failed in run %s, call %s", name, context.run_id, context.call_id)
            return SkillOutput(f"The skill {name} failed; the gateway's log says why.", is_error=True)

    def unknown(self, name: str) -> str:
        """Return the words for a name that no skill has, with the nearest ones that there are."""
        from difflib import get_close_matches  # noqa: PLC0415  only a model that errs pays for the import

        near = get_close_matches(name[:64], list(self._skills), n=NEAREST, cutoff=0.0)
        return f"There is no skill named {name[:64]!r}. The nearest: {', '.join(near) or 'none, there are no skills'}."


def _check(descriptor: SkillDescriptor, known: Mapping[str, Skill]) -> None:
    """Raise `ConfigError` for a skill that could not be called beside those that are known."""
    if not _NAME.fullmatch(descriptor.name):
        raise ConfigError(f"skill {descriptor.name!r}: a name is 1 to 64 of A-Z a-z 0-9 _ -")
    if descriptor.name in known:
        raise ConfigError(f"skill {descriptor.name!r} is registered twice; give one of them another name")
    if descriptor.parameters_schema.get("type") != "object":
        raise ConfigError(f"skill {descriptor.name!r}: the schema of its arguments must have type object")


def fitted(output: SkillOutput, limit_bytes: int) -> SkillOutput:
    """Return `output` as text that UTF-8 can carry, cut with a mark to at most `limit_bytes` of it."""
    data = output.content.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return SkillOutput(data.decode(), output.is_error, output.truncated)
    mark = f"\n[cut: {len(data)} bytes, the limit is {limit_bytes}]".encode()[-limit_bytes:]
    kept = data[: limit_bytes - len(mark)].decode("utf-8", "ignore")
    return SkillOutput(kept + mark.decode(), output.is_error, truncated=True)


async def in_thread(work: Callable[[], Result]) -> Result:
    """Return what `work` returns, done in one of the `SKILL_THREADS` threads. Cancelled, it goes on there unheard."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), copy_context().run, work)


@lru_cache(maxsize=1)
def _threads() -> Executor:
    """Return the process's worker threads for skills, made when the first one is needed."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  most processes never start a thread here

    return ThreadPoolExecutor(SKILL_THREADS, thread_name_prefix="skill")


def _context_parameter(function: Callable[..., object]) -> str | None:
    """Return the name of the parameter that takes the context."""
    hints = inspect.get_annotations(function, eval_str=True)
    return next((name for name, hint in hints.items() if hint is SkillContext and name != "return"), None)


def _described(
    function: Callable[..., object], descriptor: SkillDescriptor, context_name: str | None
) -> tuple[type[object], SkillDescriptor]:
    """Return the type of the arguments, and the descriptor with its schema, which refers to nothing outside itself."""
    kind = arguments_type(function, without=frozenset({context_name} if context_name else ()))
    (reference,), components = schemas([kind], _REF + "{name}")
    parts = dict(components)
    schema = dict(parts.pop(reference["$ref"].removeprefix(_REF)))
    schema.pop("title", None)
    schema["properties"] = {name: _without_null(schema["properties"][name]) for name in field_names(kind)}
    if parts:
        schema["$defs"] = parts
    return kind, replace(descriptor, parameters_schema=schema)


def _without_null(field: JsonObject) -> JsonObject:
    """Return an optional field's schema without its null: a model leaves the field out, and reads less."""
    if field.get("default", ...) is not None:
        return field
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {key: value for key, value in field.items() if key not in {"anyOf", "default"}}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, **({"anyOf": kinds} if kinds else {})}


def _mend(descriptor: SkillDescriptor, error: InvalidInput) -> str:
    """Return what is wrong with the arguments, and which ones are right."""
    fields: JsonObject = descriptor.parameters_schema["properties"]
    wrong = "; ".join(f"{detail.pointer or '/'}: {detail.message[:200]}" for detail in error.details)
    required = descriptor.parameters_schema.get("required", ())
    named = (name + (" (required)" if name in required else "") for name in fields)
    choices = (
        f" {name} is one of: {', '.join(map(str, field['enum']))}." for name, field in fields.items() if "enum" in field
    )
    return (
        f"argument validation failed for {descriptor.name}: {wrong}. "
        f"Its fields: {', '.join(named) or 'none'}.{''.join(choices)}"
    )


def _content(value: object) -> str:
    """Return a skill's result as text. Not orjson: an integer of any size keeps its digits."""
    if isinstance(value, str):
        return value
    return json.dumps(to_builtins(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

"""Whether a call's arguments are what a tool's JSON Schema says, without trusting the schema.

A schema comes from a server, so checking by it must not hold the loop: regular expressions in it are not run (the
server does that), nothing is fetched, and how many references one check follows is bounded.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from argentor_asgi.protocol.schema import JsonObject, JsonValue

REFERENCES: Final = 2000
"""How many `$ref`s one check follows; two that refer to two each, and so on, are more work than a gateway has time."""
ERRORS: Final = 5
"""How many errors one check tells."""
MESSAGE_CHARACTERS: Final = 200

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")

Rule = Callable[..., Iterator[Exception] | None]


class _Error(Protocol):
    """An error as the library tells it."""

    message: str
    absolute_path: Sequence[JsonValue]


class _Validator(Protocol):
    """A schema as the library checks by it."""

    def iter_errors(self, instance: JsonObject) -> Iterator[_Error]: ...


class SchemaRefused(Exception):
    """What a server calls a schema is none that arguments can be checked by; the text says why."""


class ArgumentCheck:
    """Checks the arguments of one tool."""

    __slots__ = ("_followed", "_schema", "_validator")

    def __init__(self, schema: JsonObject) -> None:
        """Prepare the check. Raises `SchemaRefused`. Needs `argentor-asgi[mcp]`."""
        self._schema = schema
        self._followed = 0
        self._validator = self._prepared(schema)

    def wrong(self, arguments: JsonObject) -> str | None:
        """Return what is wrong with the arguments and which fields there are, in words for a model; None if nothing."""
        self._followed = 0
        try:
            errors = list(islice(self._validator.iter_errors(arguments), ERRORS))
        except Exception as error:  # noqa: BLE001  whatever a schema from elsewhere leads the library to
            return f"the tool's schema cannot be applied to them ({type(error).__name__})."
        if not errors:
            return None
        told = "; ".join(f"{_pointer(error.absolute_path)}: {error.message[:MESSAGE_CHARACTERS]}" for error in errors)
        return f"{told}. Its fields: {self._fields()}."

    def _fields(self) -> str:
        properties, required = self._schema.get("properties"), self._schema.get("required")
        named = properties if isinstance(properties, dict) else {}
        needed = required if isinstance(required, list) else []
        return ", ".join(name + (" (required)" if name in needed else "") for name in named) or "none"

    def _prepared(self, schema: JsonObject) -> _Validator:
        from jsonschema.validators import (  # type: ignore[import-untyped]  # noqa: PLC0415  untyped; only with MCP
            Draft202012Validator,
            extend,
            validator_for,
        )
        from referencing import Registry  # noqa: PLC0415  as above

        try:
            base = validator_for(schema, default=Draft202012Validator)
            base.check_schema(schema)
        except Exception as error:  # noqa: BLE001  as in `wrong`
            raise SchemaRefused(f"{type(error).__name__}: {str(error)[:MESSAGE_CHARACTERS]}") from None
        rules: dict[str, Rule] = dict.fromkeys(("pattern", "patternProperties", "unevaluatedProperties"), _unchecked)
        if "additionalProperties" in base.VALIDATORS:
            rules["additionalProperties"] = _unless_patterns(base.VALIDATORS["additionalProperties"])
        for name in base.VALIDATORS.keys() & set(_REFERENCES):
            rules[name] = self._counted(base.VALIDATORS[name])
        # An empty registry: the library would else fetch what a `$ref` points to.
        validator: _Validator = extend(base, rules)(schema, registry=Registry())
        return validator

    def _counted(self, rule: Rule) -> Rule:
        """Return a rule about references that stops the check when it has followed too many."""

        def counted(validator: object, reference: object, instance: object, schema: object) -> Iterator[Exception]:
            self._followed += 1
            if self._followed > REFERENCES:
                raise SchemaRefused("too many references")
            yield from rule(validator, reference, instance, schema) or ()

        return counted


def _unchecked(*_: object) -> None:
    """Find nothing wrong: this is left to the server."""


def _unless_patterns(rule: Rule) -> Rule:
    """Return a rule about further fields that leaves them to the server where patterns say which there may be."""

    def found(validator: object, allowed: object, instance: object, schema: JsonObject) -> Iterator[Exception] | None:
        return None if "patternProperties" in schema else rule(validator, allowed, instance, schema)

    return found


def _pointer(path: Sequence[JsonValue]) -> str:
    return "/" + "/".join(map(str, path))

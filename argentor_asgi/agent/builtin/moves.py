"""What the planner may do next, and how a matcher reads its operands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from argentor_asgi.agent.builtin.text import Language, after, bare, pattern, unquote
from argentor_asgi.protocol.llm import ToolSpec
from argentor_asgi.protocol.schema import JsonObject, JsonValue, encode

MISSING = object()
"""No earlier result."""

PRIMARY = (
    "result", "hash", "uuid", "uuids", "summary", "diff", "difference", "datetime", "valid", "rows", "keywords",
)  # fmt: skip
"""Where skills put what they found, the first that is there."""

PRONOUNS = frozenset(
    {
        "it", "that", "this", "the result", "that result", "the answer", "the previous result", "the last result",
        "lo anterior", "eso", "esto", "ello", "el resultado", "ese resultado", "el anterior", "la respuesta",
    }
)  # fmt: skip
"""What stands for the previous result."""

_FILLER = (
    r"(?:(?:the|this|following|el|la|este|siguiente) ){0,2}"
    r"(?:text|string|word|words|phrase|sentence|value|texto|cadena|palabra|frase|valor)(?=[:\s\"'“«`])"
)


@dataclass(frozen=True, slots=True)
class Call:
    """Call a skill; `then` turns its result into the next move, by default the answer is the skill's template."""

    skill: str
    arguments: JsonObject
    then: "Callable[[JsonValue], Move] | None" = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for what is missing; `fill` takes the user's next message."""

    question: str
    fill: "Callable[[str], Move]"


@dataclass(frozen=True, slots=True)
class Say:
    """Just answer."""

    text: str


Move: TypeAlias = Call | Ask | Say


@dataclass(frozen=True, slots=True)
class Context:
    """What a matcher knows besides the step: the language, the skills on offer, and what came before."""

    lang: Language
    tools: Mapping[str, ToolSpec]
    previous: JsonValue = MISSING
    asked: Sequence[str] = field(default=())

    def say(self, english: str, spanish: str) -> str:
        """Return the sentence in the user's language."""
        return spanish if self.lang == "es" else english


Matcher: TypeAlias = Callable[[str, Context], Move | None]


def primary(data: JsonValue) -> JsonValue:
    """Return what a later step means by "the result" of `data`."""
    if not isinstance(data, dict):
        return data
    for name in PRIMARY:
        if name in data:
            return data[name]
    rows = data.get("results") or data.get("memories")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "content" in rows[0]:
        return rows[0]["content"]
    return data


def shown(value: JsonValue) -> str:
    """Return a JSON value as a person writes it: text as it is, whole numbers without a fraction, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:  # noqa: PLR2004  exact in a double
        return str(int(value))
    return encode(value).decode()


def refers(operand: str) -> bool:
    """Tell whether the operand is a word for the previous result."""
    return operand.strip(" \t:?!.,").lower() in PRONOUNS


def read(operand: str, context: Context) -> str | None:
    """Return the text that an operand stands for; None when it is blank or refers to a result that is not there."""
    if refers(operand):
        return None if context.previous is MISSING else shown(context.previous)
    operand = (
        pattern(r":\s+").sub("", operand.strip(), count=1) if operand.lstrip().startswith(":") else operand.strip()
    )
    if (rest := after(_FILLER, operand)) and rest.strip(" :"):
        operand = rest.strip().removeprefix(":").strip()
    quoted = unquote(operand) if unquote(operand) is not None else unquote(operand.rstrip("?.! "))
    if quoted is not None:
        return quoted
    return operand.rstrip("?").rstrip() or None


def need(operand: str, context: Context, question: str, build: Callable[[str], Move]) -> Move:
    """Build the move from the operand's text, or ask for it: then the whole next message is the text."""
    value = read(operand, context)
    if value is not None:
        return build(value)

    def fill(answer: str) -> Move:
        quoted = unquote(answer)
        return build(answer if quoted is None else quoted)

    return Ask(question, fill)


def words_of(text: str) -> list[str]:
    """Return the words of at most the first 2,000 characters, in lower case without accents."""
    return bare("".join(c if c.isalnum() else " " for c in text[:2000])).split()

"""The skill `text_transform`: what one does with a text, by code points, in time and space linear in a bounded size."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present, refuse_longer
from argentor_asgi.agent.skills import SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta

TEXT_BYTES = 1024 * 1024
"""The longest text, in UTF-8, in and out."""
REPEAT = 1000
"""How often a text is repeated at most."""

Operation = Literal[
    "uppercase", "lowercase", "title_case", "capitalize", "trim", "reverse", "slug", "split", "join", "replace",
    "pad_left", "pad_right", "truncate", "char_count", "word_count", "line_count", "repeat", "contains", "starts_with",
    "ends_with", "extract_between", "camel_case", "pascal_case", "snake_case", "kebab_case", "remove_whitespace",
]  # fmt: skip

_CAMEL = re.compile(r"([a-z0-9])([A-Z])")
_WORD = re.compile(r"[^\W_]+")
_START = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@skill(
    "text_transform",
    "Changes text: upper, lower, title case; trim, reverse, pad, truncate, repeat, replace, split, join, slug, "
    "camelCase, snake_case, kebab-case; "
    "counts characters, words and lines; looks for text in it.",
)
def text_transform(
    *,
    operation: Annotated[Operation, Meta(description="What to do.")],
    text: Annotated[str | None, Meta(description="The text; every operation but join needs it.")] = None,
    find: Annotated[str | None, Meta(description="What replace, contains, starts_with, ends_with look for.")] = None,
    replacement: Annotated[str | None, Meta(description="What replace puts there.")] = None,
    separator: Annotated[
        str | None, Meta(description="Where split cuts (else at spaces), what join puts between.")
    ] = None,
    parts: Annotated[list[str] | None, Meta(description="The texts that join joins.")] = None,
    width: Annotated[int, Meta(ge=0, le=TEXT_BYTES, description="The length that padding reaches.")] | None = None,
    fill: Annotated[str, Meta(min_length=1, max_length=1, description="The character to pad with.")] = " ",
    length: Annotated[int, Meta(ge=0, description="The characters that truncate keeps.")] | None = None,
    count: Annotated[int, Meta(ge=0, le=REPEAT, description="How often repeat repeats.")] | None = None,
    start: Annotated[str | None, Meta(description="What stands before the text to extract.")] = None,
    end: Annotated[str | None, Meta(description="What stands behind the text to extract.")] = None,
) -> JsonObject:
    """Return `{"result": ...}`: a text, a list of texts, a number or a boolean; refuses what would be over 1 MiB."""
    refuse_longer(text or "", TEXT_BYTES, "text")
    given = present(
        text=text, find=find, replacement=replacement, separator=separator, parts=parts, width=width, fill=fill,
        length=length, count=count, start=start, end=end,
    )  # fmt: skip
    return {"result": perform(_OPERATIONS, operation, given)}


def words(text: str) -> list[str]:
    """Return the words of `text`, those of `camelCase` and `snake_case` too."""
    return _WORD.findall(_CAMEL.sub(r"\1 \2", text))


def _title(text: str) -> str:
    """Return `text` with each word capitalised; an apostrophe does not start a word."""
    return _START.sub(lambda match: match[0][:1].upper() + match[0][1:].lower(), text)


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:].lower()


def _slug(text: str) -> str:
    """Return the ASCII letters and digits of `text`, lower case, accents dropped, with hyphens for all else."""
    from unicodedata import normalize  # noqa: PLC0415  a large library that few calls need

    plain = normalize("NFKD", text.replace("'", "")).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))


def _char_count(text: str) -> int:
    return len(text)


def _split(text: str, separator: str = "") -> list[str]:
    return text.split(separator) if separator else text.split()


def _join(parts: list[str], separator: str = "") -> str:
    size = sum(map(len, parts)) + len(separator) * max(0, len(parts) - 1)
    return _bounded(size, lambda: separator.join(parts))


def _replace(text: str, find: str, replacement: str = "") -> str:
    if not find:
        raise SkillRefused("replace needs something to find: find is empty.")
    size = len(text) + text.count(find) * (len(replacement) - len(find))
    return _bounded(size, lambda: text.replace(find, replacement))


def _truncate(text: str, length: int) -> str:
    """Return at most `length` characters, the last one of a cut text being an ellipsis."""
    if len(text) <= length:
        return text
    return text[: length - 1] + "\u2026" if length else ""


def _between(text: str, start: str, end: str) -> str:
    _, found, rest = text.partition(start) if start else ("", "-", text)
    inside, closed, _ = rest.partition(end) if end else (rest, "-", "")
    if not found or not closed:
        raise SkillRefused("The text does not have both of these around anything.")
    return inside


def _camel(text: str) -> str:
    first, *rest = words(text) or [""]
    return first.lower() + _pascal(" ".join(rest))


def _pascal(text: str) -> str:
    return "".join(word[:1].upper() + word[1:].lower() for word in words(text))


def _bounded(chars: int, make: Callable[[], str]) -> str:
    """Return what `make` makes; refuses it beforehand when it would have over `TEXT_BYTES` characters, then bytes."""
    if chars <= TEXT_BYTES:
        made = make()
        if len(made.encode("utf-8", "replace")) <= TEXT_BYTES:
            return made
    raise SkillRefused(f"The result is too long: at most {TEXT_BYTES} bytes are made.")


def _by(separator: str) -> Callable[[str], str]:
    def joined(text: str) -> str:
        return separator.join(word.lower() for word in words(text))

    return joined


_OPERATIONS: Operations = {
    "uppercase": lambda text: _bounded(len(text), text.upper),
    "lowercase": lambda text: _bounded(len(text), text.lower),
    "title_case": _title,
    "capitalize": _capitalize,
    "trim": lambda text: text.strip(),
    "reverse": lambda text: text[::-1],
    "slug": _slug,
    "split": _split,
    "join": _join,
    "replace": _replace,
    "pad_left": lambda text, width, fill: _bounded(max(width, len(text)), lambda: text.rjust(width, fill)),
    "pad_right": lambda text, width, fill: _bounded(max(width, len(text)), lambda: text.ljust(width, fill)),
    "truncate": _truncate,
    "char_count": _char_count,
    "word_count": lambda text: len(text.split()),
    "line_count": lambda text: len(text.splitlines()),
    "repeat": lambda text, count: _bounded(len(text) * count, lambda: text * count),
    "contains": lambda text, find: find in text,
    "starts_with": lambda text, find: text.startswith(find),
    "ends_with": lambda text, find: text.endswith(find),
    "extract_between": _between,
    "camel_case": _camel,
    "pascal_case": _pascal,
    "snake_case": _by("_"),
    "kebab_case": _by("-"),
    "remove_whitespace": lambda text: "".join(text.split()),
}

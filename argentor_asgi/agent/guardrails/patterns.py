"""Regular expressions of an operator, read into a tree of what an automaton can do, or refused.

The syntax is that of `re`, read by the parser in the standard library: it is private there, so nothing else touches
it, and what it returns is checked piece by piece: a piece that is not known here is refused, whatever it is.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TypeAlias, cast

PATTERN_CHARS = 1000
"""How long a pattern may be."""

_Pieces: TypeAlias = Iterable[tuple[object, object]]


class PatternRefused(Exception):
    """The pattern cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One character that it accepts."""

    accepts: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Boundary:
    """No character: a place where a word begins or ends; where none does, if not `wanted`."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Series:
    """Its parts, one behind the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of its options."""

    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Its part, from `least` to `most` times; None for no end."""

    part: "Node"
    least: int
    most: int | None


Node: TypeAlias = Letter | Boundary | Series | Choice | Repeat


def parse(pattern: str) -> Node:
    """Return the tree of `pattern`. Lazy repeats are as greedy ones: the longest match counts.

    Raises `PatternRefused` for what is no pattern or longer than `PATTERN_CHARS`, for back references, lookarounds,
    conditions, atomic groups, possessive repeats, and the ends of lines and text: of those a stream knows too little.
    """
    if len(pattern) > PATTERN_CHARS:
        raise PatternRefused(f"it is longer than {PATTERN_CHARS} characters")
    try:
        re.compile(pattern)
        parsed = import_module("re._parser").parse(pattern)
        return _Reader(parsed.state.flags).series(parsed)
    except (re.error, OverflowError) as error:
        raise PatternRefused(f"it is no regular expression: {error}") from error
    except RecursionError as error:
        raise PatternRefused("its groups are nested too deeply") from error


def is_word(letter: str) -> bool:
    """Say whether words are made of this character, as `re` has it."""
    return letter.isalnum() or letter == "_"


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads pieces under flags, as bits of `re.RegexFlag`."""

    flags: int

    def series(self, pieces: _Pieces) -> Node:
        return Series(tuple(self._node(str(kind), argument) for kind, argument in pieces))

    def _node(self, kind: str, argument: object) -> Node:
        if kind in {"LITERAL", "NOT_LITERAL", "ANY", "IN"}:
            return Letter(self._letter(kind, argument))
        if kind == "BRANCH":
            _, options = cast("tuple[object, Iterable[_Pieces]]", argument)
            return Choice(tuple(map(self.series, options)))
        if kind == "SUBPATTERN":
            _, added, removed, part = cast("tuple[object, int, int, _Pieces]", argument)
            return replace(self, flags=(self.flags | added) & ~removed).series(part)
        if kind in {"MAX_REPEAT", "MIN_REPEAT"}:
            least, most, part = cast("tuple[int, int, _Pieces]", argument)
            return Repeat(self.series(part), least, None if str(most) == "MAXREPEAT" else most)
        if kind == "AT" and str(argument) in {"AT_BOUNDARY", "AT_NON_BOUNDARY"} and not self.flags & re.ASCII:
            return Boundary(str(argument) == "AT_BOUNDARY")
        raise PatternRefused(f"it uses what cannot be looked for in a stream ({kind.lower().replace('_', ' ')})")

    def _letter(self, kind: str, argument: object) -> Callable[[str], bool]:
        if kind == "ANY":
            return (lambda _: True) if self.flags & re.DOTALL else (lambda letter: letter != "\n")
        if kind == "IN":
            items = [(str(name), value) for name, value in cast("_Pieces", argument)]
        else:
            items = [("LITERAL", argument)] if kind == "LITERAL" else [("NEGATE", None), ("LITERAL", argument)]
        is_negated = items[0][0] == "NEGATE"
        return self._class([self._item(*item) for item in items[is_negated:]], is_negated=is_negated)

    def _class(self, tests: list[Callable[[str], bool]], *, is_negated: bool) -> Callable[[str], bool]:
        if not self.flags & re.IGNORECASE:
            return lambda letter: any(test(letter) for test in tests) != is_negated
        return lambda letter: any(test(form) for test in tests for form in _forms(letter)) != is_negated

    def _item(self, kind: str, value: object) -> Callable[[str], bool]:
        if kind == "LITERAL":
            wanted = chr(cast("int", value))
            return lambda letter: letter == wanted
        if kind == "RANGE":
            first, last = map(chr, cast("tuple[int, int]", value))
            return lambda letter: first <= letter <= last
        if kind == "CATEGORY":
            return self._category(str(value).removeprefix("CATEGORY_"))
        raise PatternRefused(f"it has a set with what is not known here ({kind.lower()})")

    def _category(self, name: str) -> Callable[[str], bool]:
        test = {"DIGIT": str.isdecimal, "SPACE": str.isspace, "WORD": is_word}[name.removeprefix("NOT_")]
        is_negated = name.startswith("NOT_")
        if self.flags & re.ASCII:
            return lambda letter: (letter.isascii() and test(letter)) != is_negated
        return lambda letter: test(letter) != is_negated


def _forms(letter: str) -> set[str]:
    return {letter, letter.lower(), letter.upper()}

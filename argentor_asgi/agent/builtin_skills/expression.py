"""Arithmetic expressions, parsed and computed in one pass (Pratt's method), without `eval`.

    + -  <  * / % `of`  <  unary + -  <  ^ **  <  postfix %          2^3^2 = 2^(3^2), -2^2 = -4, 2^-1 = 0.5

`%` before an operand (a number, a name, a bracket) is the remainder; everywhere else it is per cent, the number divided
by 100: `10 % 3` is 1, `15%` is 0.15, `15% of 240` is 36, `50% - 3` is -2.5. A remainder of a negative number needs
brackets: `10 % (-3)`. Work is linear in the text; nesting and every number on the way are bounded.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from argentor_asgi.agent.builtin_skills import arithmetic
from argentor_asgi.agent.builtin_skills.arithmetic import Number, applied
from argentor_asgi.agent.skills import SkillRefused

EXPRESSION_CHARS = 2000
"""The longest expression, in characters."""
EXPRESSION_DEPTH = 64
"""How deep brackets, signs, powers and function calls may nest."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<rest>[A-Za-z_]\w*|\*\*|\S))"
)
_CONSTANTS: Mapping[str, Number] = {"pi": math.pi, "e": math.e}


class _Function(NamedTuple):
    call: Callable[..., Number]
    least: int = 1
    most: int = 1


_FUNCTIONS: Mapping[str, _Function] = {
    "sqrt": _Function(arithmetic.sqrt),
    "cbrt": _Function(arithmetic.cbrt),
    "abs": _Function(abs),
    "ceil": _Function(math.ceil),
    "floor": _Function(math.floor),
    "round": _Function(arithmetic.rounded, 1, 2),
    "ln": _Function(arithmetic.ln),
    "log10": _Function(arithmetic.log10),
    "log": _Function(arithmetic.logarithm, 2, 2),
    "sin": _Function(math.sin),
    "cos": _Function(math.cos),
    "tan": _Function(math.tan),
    "min": _Function(arithmetic.smallest, 1, EXPRESSION_CHARS),
    "max": _Function(arithmetic.largest, 1, EXPRESSION_CHARS),
    "mean": _Function(arithmetic.mean, 1, EXPRESSION_CHARS),
    "median": _Function(arithmetic.median, 1, EXPRESSION_CHARS),
    "factorial": _Function(arithmetic.factorial),
    "is_prime": _Function(arithmetic.is_prime),
}


def _percent_of(percent: Number, whole: Number) -> Number:
    return arithmetic.divide(percent * whole, 100)


_SIGN = 25
_INFIX: Mapping[str, tuple[int, Callable[[Number, Number], Number]]] = {
    "+": (10, arithmetic.add),
    "-": (10, arithmetic.subtract),
    "*": (20, arithmetic.multiply),
    "/": (20, arithmetic.divide),
    "%": (20, arithmetic.modulo),
    "% of": (20, _percent_of),
    "^": (30, arithmetic.power),
    "**": (30, arithmetic.power),
    "percent": (40, arithmetic.divide),
}


def evaluate(expression: str) -> Number:
    """Return the value of an expression; raises `SkillRefused` saying where it cannot be read or has no value."""
    if len(expression) > EXPRESSION_CHARS:
        raise SkillRefused(f"The expression is too long: at most {EXPRESSION_CHARS} characters are taken.")
    reader = _Reader(_tokens(expression))
    value = reader.expression(0, EXPRESSION_DEPTH)
    if (left := reader.peek()) is not None:
        raise SkillRefused(f"An operator is missing before {left!r}.")
    return value


def _tokens(text: str) -> list[str | Number]:
    """Return numbers, names and signs; the two meanings of `%` are told apart here."""
    matches = _TOKEN.finditer(text)
    found = [_number(match["number"]) if match["number"] else match["rest"].lower() for match in matches]
    return [_sign(item, found[at + 1] if at + 1 < len(found) else None) for at, item in enumerate(found)]


def _number(text: str) -> Number:
    return arithmetic.settled(int(text) if text.isdigit() else float(text))


def _sign(item: str | Number, following: str | Number | None) -> str | Number:
    """Return `item`, a `%` as what its neighbour makes of it; the `of` behind stays and is skipped by the reader."""
    if item != "%":
        return item
    if following == "of":
        return "% of"
    operand = following is not None and (not isinstance(following, str) or following[0].isalpha() or following == "(")
    return "%" if operand else "percent"


class _Reader:
    """A cursor on the tokens. `depth` in its methods: how many levels may still be opened."""

    def __init__(self, tokens: list[str | Number]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str | Number | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> str | Number:
        if (item := self.peek()) is None:
            raise SkillRefused("The expression ends too early.")
        self._at += 1
        return item

    def expression(self, floor: int, depth: int) -> Number:
        """Return the value up to the first operator that does not bind more tightly than `floor`."""
        if depth < 0:
            raise SkillRefused(f"The expression nests deeper than {EXPRESSION_DEPTH} levels.")
        left = self._operand(depth)
        while isinstance(sign := self.peek(), str) and sign in _INFIX and _INFIX[sign][0] > floor:
            self._at += 1
            left = self._infix(left, sign, depth)
        return left

    def _infix(self, left: Number, sign: str, depth: int) -> Number:
        strength, function = _INFIX[sign]
        if sign == "percent":
            return applied(function, left, 100)
        if sign == "% of":
            self._at += 1
        right_first = function is arithmetic.power
        right = self.expression(strength - right_first, depth - right_first)
        return applied(function, left, right)

    def _operand(self, depth: int) -> Number:
        item = self.take()
        if not isinstance(item, str):
            return item
        if item in {"-", "+"}:
            value = self.expression(_SIGN, depth - 1)
            return -value if item == "-" else value
        if item == "(":
            return self._closed(depth)[0]
        if item in _CONSTANTS:
            return _CONSTANTS[item]
        return self._called(item, depth)

    def _called(self, name: str, depth: int) -> Number:
        known = _FUNCTIONS.get(name)
        if known is None:
            raise SkillRefused(
                f"{name[:40]!r} cannot stand there. Known names: {', '.join([*_FUNCTIONS, *_CONSTANTS])}."
            )
        if self.take() != "(":
            raise SkillRefused(f"{name} needs its arguments in brackets: {name}(...).")
        given = self._closed(depth, many=True)
        if not known.least <= len(given) <= known.most:
            raise SkillRefused(f"{name} takes {known.least} to {known.most} arguments, not {len(given)}.")
        return applied(known.call, *given)

    def _closed(self, depth: int, *, many: bool = False) -> list[Number]:
        """Return the values up to the closing bracket: one, or many with commas between them."""
        values = [self.expression(0, depth - 1)]
        while (item := self.take()) == "," and many:
            values.append(self.expression(0, depth - 1))
        if item != ")":
            raise SkillRefused(f"A closing bracket is missing before {item!r}.")
        return values

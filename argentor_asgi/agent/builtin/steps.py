"""Splits a message into the steps that it asks for, in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from argentor_asgi.agent.builtin.text import pattern, spans

STEPS = 8
"""How many steps of one message are taken."""

_WORDS = (
    r"(?:,? ?(?:and|y) )?(?<!\w)(?:then|luego|después|despues)(?!\w)(?! de| del| que)"
    r"|;[;\s]*|\n[\x20\t]{0,4}(?:[-*•]|\d{1,2}[.)])[\x20\t]"
)
_EDGES = ", \t\r\n"
_BULLET = r"[\x20\t]{0,4}(?:[-*•]|\d{1,2}[.)])[\x20\t]{1,4}(?=\S)"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message: its text, and where it starts and ends there."""

    text: str
    start: int
    end: int


def pieces(text: str) -> Sequence[Piece]:
    """Split at `;`, bullets and "then" in two languages, outside quotes and brackets.

    A block (a line that ends in a colon, and more lines) is one piece, whatever it holds. No piece is blank; the
    texts are substrings of `text`, in order.
    """
    if _is_block(text):
        return (_piece(text, 0, len(text)),)
    if listed := _bullets(text):
        return listed
    return tuple(_cut(text))


def _is_block(text: str) -> bool:
    head, newline, rest = text.strip().partition("\n")
    return bool(newline) and head.rstrip().endswith((":", "```")) and bool(rest.strip())


def _bullets(text: str) -> Sequence[Piece]:
    """Return one piece for each line when every line is a list item and no quote goes over a line's end."""
    lines = [line for line in pattern(r"[^\n]+").finditer(text) if line[0].strip()]
    items = [pattern(_BULLET).match(text, line.start(), line.end()) for line in lines]
    if len(lines) < 2 or not all(items):  # noqa: PLR2004  a list has two items
        return ()
    if any(text.find("\n", start, end) >= 0 for start, end in spans(text)):
        return ()
    return tuple(_piece(text, item.end(), line.end()) for line, item in zip(lines, items, strict=True) if item)


def _piece(text: str, start: int, end: int) -> Piece:
    """Return the piece in a range, without blanks and commas at its ends."""
    start += len(text[start:end]) - len(text[start:end].lstrip(_EDGES))
    kept = text[start:end].rstrip(_EDGES)
    return Piece(kept, start, start + len(kept))


def _cut(text: str) -> Iterator[Piece]:
    at = 0
    for start, end in (*_joints(text), (len(text), len(text))):
        if (piece := _piece(text, at, start)).text:
            yield piece
        at = end


def _joints(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the separators that are not literal."""
    literal = iter((*spans(text), (len(text), len(text))))
    start, end = next(literal)
    for found in pattern(_WORDS).finditer(text):
        while end <= found.start() and start < len(text):
            start, end = next(literal)
        if found.end() <= start:
            yield found.span()

"""A text as finders see it: without the disguises that a reader does not notice, every place mapped back to the text.

Folding is one character to one character, or to none, and looks at nothing but the character: so the folded form of a
stream is the folded forms of its pieces, joined. It undoes case, width and style (NFKC, UAX #15), accents, letters of
other scripts that look like Latin ones (after UTS #39), digits of other scripts and exotic dashes and spaces; it drops
what cannot be seen: format characters such as U+200B, combining marks and control characters other than tab and line
ends.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

CONTEXT = 2
"""How many folded characters before the place where it starts a finder may look at."""
FOLDED = 8192
"""For how many characters that are not ASCII the folded form is kept at hand."""

_HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNSEEN = frozenset({"Cf", "Cc", "Mn", "Me"})
_FILLERS = "\u115f\u1160\u3164\uffa0"
_PLAIN = {"Pd": "-", "Zl": "\n", "Zp": "\n", "Zs": " "}
"""What folds to what it is, whatever it looks like, by its category: dashes, ends of lines, spaces."""
_ALIKE = {"\u2212": "-", "\u2800": " "} | dict(
    zip(
        "авекмнорстухіјѕԁһԛԝгѵӏ" + "αεοριντκυχγωη" + "ıɡɑɩօսոհցøłđħʀᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘꜱᴛᴜᴠᴡʏᴢ",
        "abekmhopctyxijsdhqwrvl" + "aeopivtkuxywn" + "igaiounhgoldhrabcdeghijklmnopstuvwyz",
        strict=True,
    )
)


@dataclass(slots=True)  # PERF: one is made for each piece of an answer, and frozen ones take three times as long
class View:
    """A text and its folded form. `start`: where in the text finders start; what is before it is only looked back at.

    `offsets`: for each folded character its place in the text; None where they are the same.
    """

    text: str
    folded: str
    start: int = 0
    offsets: list[int] | None = field(default=None, repr=False)

    def folded_at(self, at: int) -> int:
        """Return the index in the folded form of the first character that stands at `at` or behind it in the text."""
        if self.offsets is None:
            return at
        from bisect import bisect_left  # noqa: PLC0415  few texts hold what is dropped

        return bisect_left(self.offsets, at)

    def begin(self, folded: int) -> int:
        """Return where in the text the folded character stands; its end for the end."""
        if self.offsets is None:
            return folded
        return self.offsets[folded] if folded < len(self.offsets) else len(self.text)

    def end(self, folded: int) -> int:
        """Return where in the text what ends before this folded character ends, without what was dropped behind it."""
        return folded if self.offsets is None or not folded else self.offsets[folded - 1] + 1


@dataclass(frozen=True, slots=True)
class Found:
    """A place that a finder found, as indices into the text; `what` it is, with its article; what to write instead."""

    start: int
    end: int
    what: str
    replacement: str


class Finder(Protocol):
    """Something to look for. What starts at a place depends on the text from there, and on `CONTEXT` before it."""

    def look(self, view: View) -> tuple[list[Found], int]:
        """Return what is in the text from `view.start` if it ends here, leftmost first, and where that is open.

        That is the first place of the text, its length for none, from which on other things may be found when more
        text follows. What ends before it is there whatever follows; what reaches over it may come to reach further.
        """
        ...


def view(text: str, start: int = 0) -> View:
    """Return the view of `text` from `start`, in time linear in its length."""
    if text.isascii() and _HIDDEN.search(text) is None:
        return View(text, text.lower(), start)
    folded = fold(text)
    if len(folded) == len(text):
        return View(text, folded, start)
    return View(text, folded, start, [at for at, letter in enumerate(text) if folded_letter(letter)])


def fold(text: str) -> str:
    """Return the folded form of `text`, at most as long as it."""
    if text.isascii() and _HIDDEN.search(text) is None:
        return text.lower()
    return "".join(map(folded_letter, text))


def context(text: str) -> str:
    """Return what must be kept of `text` for a finder that starts behind it: the last that is seen, and the last."""
    if (end := text[-CONTEXT:]).isascii() and end.isprintable():  # PERF: nearly always
        return end
    kept: list[str] = []
    for letter in reversed(text):
        if folded_letter(letter):
            kept.append(letter)
            if len(kept) == CONTEXT:
                break
    last = text[-1:]
    return "".join(reversed(kept)) + (last if last and not folded_letter(last) else "")


@lru_cache(maxsize=FOLDED)
def folded_letter(letter: str) -> str:
    """Return what one character folds to: one character, or none where it is not seen."""
    if letter.isascii():
        return "" if _HIDDEN.match(letter) else letter.lower()
    from unicodedata import category, decimal, normalize  # noqa: PLC0415  a large library that ASCII does not need

    kind = category(letter)
    if kind in _UNSEEN or letter in _FILLERS:
        return ""
    if kind == "Nd":
        return str(decimal(letter))
    if (plain := _PLAIN.get(kind)) is not None:
        return plain
    first = normalize("NFKD", normalize("NFKD", letter).casefold())[:1]
    return _ALIKE.get(first, first)

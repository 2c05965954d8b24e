"""The difference of two sequences, by Myers' greedy method (Algorithmica 1, 1986), with a bound on its work.

What the bound leaves uncompared is given as removed and added whole: still a true difference, only not the shortest.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

WORK = 1_000_000
"""How many elements are compared, and steps of the search made, at most: under a second."""
DISTANCE = 1000
"""How many additions and removals the search follows; its memory grows with the square."""

Reached: TypeAlias = "array[int]"
Kind: TypeAlias = Literal["same", "removed", "added"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One element that both have, or only the old (removed) or the new sequence (added)."""

    kind: Kind
    text: str


def edits(old: Sequence[str], new: Sequence[str], *, work: int = WORK) -> list[Edit]:
    """Return the elements of both, in order, each as kept, removed or added; a replacement is removed, then added."""
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    middle = _middle(old[head : len(old) - tail], new[head : len(new) - tail], work)
    return [*_all("same", old[:head]), *middle, *_all("same", old[len(old) - tail :])]


def _middle(old: Sequence[str], new: Sequence[str], work: int) -> list[Edit]:
    if not old or not new:
        return [*_all("removed", old), *_all("added", new)]
    trace = _search(old, new, work)
    if trace is None:
        return [*_all("removed", old), *_all("added", new)]
    return _tidy(_walked(old, new, trace))


def _search(old: Sequence[str], new: Sequence[str], work: int) -> list[Reached] | None:
    """Return, for each number of edits, how far each diagonal (old index - new index) came; None when over the bound.

    What belongs to n edits holds the diagonals -n-1 to n+1.
    """
    most = min(len(old) + len(new), DISTANCE)
    furthest, trace = array("l", bytes(array("l").itemsize * (2 * most + 3))), []
    for distance in range(most + 1):
        reached = furthest[most - distance : most + distance + 3]
        trace.append(reached)
        for diagonal in range(-distance, distance + 1, 2):
            start = _start(reached, diagonal, distance)
            at = _slide(old, new, start, diagonal)
            furthest[diagonal + most + 1] = at
            work -= at - start + 1
            if work < 0:
                return None
            if at >= len(old) and at - diagonal >= len(new):
                return trace
    return None


def _start(reached: Reached, diagonal: int, distance: int) -> int:
    """Return the old index at which a path of `distance` edits enters the diagonal: by an addition or a removal."""
    middle = distance + 1
    if _added(reached, diagonal, distance):
        return reached[middle + diagonal + 1]
    return reached[middle + diagonal - 1] + 1


def _added(reached: Reached, diagonal: int, distance: int) -> bool:
    if diagonal in {-distance, distance}:
        return diagonal == -distance
    middle = distance + 1
    return reached[middle + diagonal - 1] < reached[middle + diagonal + 1]


def _slide(old: Sequence[str], new: Sequence[str], at: int, diagonal: int) -> int:
    """Return how far equal elements lead along the diagonal."""
    while at < len(old) and 0 <= at - diagonal < len(new) and old[at] == new[at - diagonal]:
        at += 1
    return at


def _walked(old: Sequence[str], new: Sequence[str], trace: list[Reached]) -> list[Edit]:
    """Follow the search back from the end of both and return its edits in order."""
    found: list[Edit] = []
    at, beside = len(old), len(new)
    for distance in range(len(trace) - 1, 0, -1):
        reached, diagonal = trace[distance], at - beside
        start = _start(reached, diagonal, distance)
        found.extend(_all("same", old[start:at][::-1]))
        if _added(reached, diagonal, distance):
            found.append(Edit("added", new[start - diagonal - 1]))
            at, beside = start, start - diagonal - 1
        else:
            found.append(Edit("removed", old[start - 1]))
            at, beside = start - 1, start - diagonal
    found.extend(_all("same", old[:at][::-1]))
    return found[::-1]


def _tidy(found: list[Edit]) -> list[Edit]:
    """Return the edits with the removals of each change before its additions."""
    tidy: list[Edit] = []
    added: list[Edit] = []
    for edit in found:
        if edit.kind == "added":
            added.append(edit)
        else:
            if edit.kind == "same":
                tidy.extend(added)
                added = []
            tidy.append(edit)
    return tidy + added


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many elements both start with."""
    pairs = zip(old, new, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(old), len(new)))


def _all(kind: Kind, elements: Sequence[str]) -> Iterator[Edit]:
    return (Edit(kind, element) for element in elements)

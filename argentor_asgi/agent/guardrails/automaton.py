"""A search that no pattern and no text can slow down: a finite automaton, made deterministic as the text needs it.

Python's `re` tries one way after the other and may take exponential time; this looks at all ways at once (Thompson
1968), in one pass, with the first place that each way started at: the work for a text is linear in its length, at most
times the size of the pattern. What is found is every part of the text that some match covers; matches that overlap are
one finding, so that it does not matter which of them a search comes upon first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from argentor_asgi.agent.guardrails.patterns import (
    Boundary,
    Choice,
    Letter,
    Node,
    PatternRefused,
    Repeat,
    Series,
    is_word,
)

STATES = 512
"""How many states a pattern may have: one for each character that it can match, repeats written out, and each fork."""
KEPT = 20_000
"""How many states of sets are kept at hand; beyond that all are forgotten, and made again as they are needed."""

_ACCEPT = 0
_Groups: TypeAlias = tuple[frozenset[int], ...]


@dataclass(frozen=True, slots=True)
class _State:
    """What leads on to the states `to`: a letter, a boundary, or nothing."""

    by: Letter | Boundary | None
    to: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Move:
    """Where a letter leads: the set behind it, and for each of its groups the one it comes from, the new one last.

    `accepts`: the first group of which a match ends before the letter.
    """

    behind: "_Set"
    sources: tuple[int, ...]
    accepts: int | None


@dataclass(eq=False, slots=True)
class _Set:
    """The states that matches may be in, in groups by where they started, first ones first; no state is in two.

    `after_word`: whether the last character is one of a word. `accepts`: as a move's, if the text ends here.
    """

    groups: _Groups
    after_word: bool
    accepts: int | None
    moves: dict[str, _Move] = field(default_factory=dict)


class Automaton:
    """Finds what a tree describes. One object serves any number of texts, those of several threads at once too."""

    def __init__(self, tree: Node) -> None:
        """Raise `PatternRefused` for one that is too large, or that matches nothing at all."""
        self._states = [_State(None, ())]
        self._built = 0
        self._first = frozenset({self._build(tree, _ACCEPT)})
        self._has_boundary = any(isinstance(state.by, Boundary) for state in self._states)
        self._sets: dict[tuple[_Groups, bool], _Set] = {}
        self._leaps: dict[tuple[frozenset[int], str, bool], tuple[frozenset[int], bool]] = {}
        self._kept = 0
        if any(_ACCEPT in self._reach(self._first, is_boundary) for is_boundary in (True, False)):
            raise PatternRefused("it matches where nothing stands")

    def look(self, text: str, start: int) -> tuple[list[tuple[int, int]], int]:
        """Return what matches cover from `start` if the text ends here, and the first place where one may go on."""
        found: list[tuple[int, int]] = []
        starts: list[int] = []
        now = self._set((), self._has_boundary and start > 0 and is_word(text[start - 1]))
        for at in range(start, len(text)):
            # PERF: nearly every character takes a look-up and these three branches
            move = now.moves.get(text[at]) or self._move(now, text[at])
            if move.accepts is not None:
                _cover(found, starts[move.accepts], at)
            if move.sources:
                starts.append(at)
                starts = [starts[source] for source in move.sources]
            elif starts:
                starts = []
            now = move.behind
        if now.accepts is not None:
            _cover(found, starts[now.accepts], len(text))
        return found, starts[0] if starts else len(text)

    def _move(self, now: _Set, letter: str) -> _Move:
        """Make, keep and return the move from `now` by `letter`."""
        in_word = self._has_boundary and is_word(letter)
        accepts: int | None = None
        groups: list[frozenset[int]] = []
        sources: list[int] = []
        taken: set[int] = set()
        for source, group in enumerate((*now.groups, self._first)):
            after, is_accepting = self._leap(group, letter, now.after_word != in_word)
            if accepts is None and is_accepting:
                accepts = source
            if behind := after - taken:
                taken |= behind
                groups.append(behind)
                sources.append(source)
        move = _Move(self._set(tuple(groups), in_word), tuple(sources), accepts)
        self._keep(1 + len(sources))
        now.moves[letter] = move
        return move

    def _leap(self, group: frozenset[int], letter: str, is_boundary: bool) -> tuple[frozenset[int], bool]:
        """Return where `letter` leads from the states of `group`, and whether a match ends before it; keep it, too."""
        key = (group, letter, is_boundary)
        if (known := self._leaps.get(key)) is not None:
            return known
        reached = self._reach(group, is_boundary)
        states = (self._states[state] for state in reached)
        after = (state.to for state in states if isinstance(state.by, Letter) and state.by.accepts(letter))
        leap = (frozenset(to for each in after for to in each), _ACCEPT in reached)
        self._keep(1 + len(leap[0]))
        self._leaps[key] = leap
        return leap

    def _set(self, groups: _Groups, after_word: bool) -> _Set:
        if (known := self._sets.get((groups, after_word))) is not None:
            return known
        ends = (at for at, group in enumerate(groups) if _ACCEPT in self._reach(group, after_word))
        made = _Set(groups, after_word, next(ends, None))
        self._keep(1 + sum(map(len, groups)))
        self._sets[groups, after_word] = made
        return made

    def _keep(self, count: int) -> None:
        self._kept += count
        if self._kept > KEPT:
            for each in list(self._sets.values()):  # at once: another thread may add to it
                each.moves.clear()
            self._sets.clear()
            self._leaps.clear()
            self._kept = 0

    def _reach(self, states: Iterable[int], is_boundary: bool) -> set[int]:
        """Return `states` and what they lead to without a letter, here where a word begins or ends, or not."""
        reached: set[int] = set()
        waiting = list(states)
        while waiting:
            index = waiting.pop()
            if index not in reached:
                reached.add(index)
                state = self._states[index]
                if state.by is None or (isinstance(state.by, Boundary) and state.by.wanted == is_boundary):
                    waiting += state.to
        return reached

    def _build(self, node: Node, to: int) -> int:
        """Return the state from which `node` leads to the state `to`."""
        self._built += 1
        if len(self._states) > STATES or self._built > 4 * STATES:
            raise PatternRefused(f"it is too large: with its repeats written out it has more than {STATES} states")
        if isinstance(node, Series):
            for part in reversed(node.parts):
                to = self._build(part, to)
            return to
        if isinstance(node, Choice):
            return self._add(None, *(self._build(option, to) for option in node.options))
        if isinstance(node, Repeat):
            return self._repeat(node, to)
        return self._add(node, to)

    def _repeat(self, node: Repeat, to: int) -> int:
        if node.most is None:
            loop = self._add(None)
            self._states[loop] = _State(None, (self._build(node.part, loop), to))
            to = loop
        else:
            out = to
            for _ in range(node.most - node.least):
                to = self._add(None, self._build(node.part, to), out)
        for _ in range(node.least):
            to = self._build(node.part, to)
        return to

    def _add(self, by: Letter | Boundary | None, *to: int) -> int:
        self._states.append(_State(by, to))
        return len(self._states) - 1


def _cover(found: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a match that ends where no known one ends later, and make one of it and those that it overlaps."""
    while found and found[-1][1] > start:
        start = min(start, found.pop()[0])
    found.append((start, end))

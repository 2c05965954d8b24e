"""Rules, and what becomes of what their finders find: plain functions over a view of a text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from argentor_asgi.agent.guardrails.views import Finder, Found, View
from argentor_asgi.protocol.events import Guardrail, Phase, Severity

FINDINGS = 16
"""How many events tell of what was found in one text; the last of them counts what the others do not tell."""

Action = Literal["flag", "redact", "block"]

_SEVERITY: dict[Action, Severity] = {"flag": "log", "redact": "warn", "block": "block"}
_MESSAGE: dict[Action, str] = {
    "flag": "Found {0}.",
    "redact": "Replaced {0} with {1}.",
    "block": "Stopped at {0}.",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked for, and what is done about it."""

    name: str
    action: Action
    finder: Finder


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule found."""

    rule: Rule
    found: Found


@dataclass(frozen=True, slots=True)
class Outcome:
    """A text with what was found taken out; where it `is_blocked`, what stands before that. `told`: each finding."""

    text: str
    told: tuple[Hit, ...]
    is_blocked: bool


class Teller:
    """Makes the events of one text, at most `FINDINGS`; a block is always told."""

    def __init__(self, phase: Phase) -> None:
        """Begin with nothing told."""
        self._phase = phase
        self._told = 0
        self._untold: Counter[Rule] = Counter()

    def tell(self, hits: Sequence[Hit]) -> Iterator[Guardrail]:
        """Yield an event for each of `hits`, as long as there is room; it never quotes what was found."""
        for hit in hits:
            if self._told < FINDINGS - 1 or hit.rule.action == "block":
                self._told += 1
                words = _MESSAGE[hit.rule.action].format(hit.found.what, hit.found.replacement)
                yield Guardrail(hit.rule.name, _SEVERITY[hit.rule.action], self._phase, words)
            else:
                self._untold[hit.rule] += 1

    def rest(self) -> Iterator[Guardrail]:
        """Yield the event that counts what was not told, if anything, and forget it."""
        if not self._untold:
            return
        counted = "; ".join(f"{rule.name}: {count}" for rule, count in self._untold.most_common(FINDINGS))
        first = self._untold.most_common(1)[0][0]
        self._untold.clear()
        yield Guardrail(first.name, _SEVERITY[first.action], self._phase, f"Further findings: {counted}.")


def look(rules: Sequence[Rule], view: View) -> tuple[list[Hit], list[int]]:
    """Return what the rules find, leftmost first and of those the longest, and from where on each of them is open."""
    hits: list[Hit] = []
    opens: list[int] = []
    for rule in rules:
        found, open_from = rule.finder.look(view)
        hits += [Hit(rule, each) for each in found]
        opens.append(open_from)
    if len(hits) > 1:
        hits.sort(key=lambda hit: (hit.found.start, -hit.found.end))
    return hits, opens


def cut(view: View, hits: Sequence[Hit], opens: Sequence[int], *, hold: int, most: int) -> int:
    """Return how far the text is settled: what follows changes nothing before that place, and no hit is across it.

    At least `hold` characters stay behind it, and at most `most`: a rule that is open for longer is no longer waited
    for, and what it found so far counts. Its work is linear in `hits`.
    """
    floor = max(view.start, len(view.text) - most)
    place = min([len(view.text) - hold, *(each for each in opens if each >= floor)])
    for hit in reversed(hits):
        if hit.found.start < place < hit.found.end:
            place = hit.found.start
    if place >= floor:
        return place
    for hit in hits:
        if hit.found.start < floor < hit.found.end:
            floor = hit.found.end
    return floor


def screen(view: View, hits: Sequence[Hit], end: int) -> Outcome:
    """Return what becomes of the text from `view.start` to `end`, across which no hit may be.

    Hits that overlap are taken out as one, in the words of the first of them.
    """
    text, at, whole = view.text, view.start, 0
    done: list[str] = []
    told: list[Hit] = []
    ends: dict[str, int] = {}
    for hit in hits:
        found, name = hit.found, hit.rule.name
        if found.start >= end:
            break
        if found.start >= ends.get(name, 0):
            told.append(hit)
        ends[name] = max(found.end, ends.get(name, 0))
        if hit.rule.action == "flag":
            continue
        if found.start >= at:
            done.append(text[at : found.start])
            whole = len(done)
            done.append(found.replacement)
        at = max(at, found.end)
        if hit.rule.action == "block":
            return Outcome("".join(done[:whole]), tuple(told), is_blocked=True)
    done.append(text[at:end])
    return Outcome("".join(done), tuple(told), is_blocked=False)

"""An operator's own rules: words, or a pattern."""

import re
from collections.abc import Iterator, Sequence

from argentor_asgi.agent.guardrails.automaton import Automaton
from argentor_asgi.agent.guardrails.patterns import PatternRefused, parse
from argentor_asgi.agent.guardrails.views import Finder, Found, View, fold
from argentor_asgi.agent_sections import GuardrailRule
from argentor_asgi.errors import ConfigError

RULES = 100
"""How many rules there may be."""
WORDS = 500
"""How many words a rule may have."""
WORD_CHARS = 100
"""How long a word, or a phrase, of a rule may be; a name, too."""
SPACES = 4
"""How many spaces may stand where a phrase has one."""
BUILT_IN = frozenset({"pii", "injection"})
"""The names of the rules that have settings of their own."""

_WHAT = "a match"
_MARK = "[REDACTED]"


class Words:
    """Finds words, whole and in any case or disguise; in time linear in the text's length."""

    def __init__(self, words: Sequence[str]) -> None:
        """Make the pattern ready. `words`: folded, none empty."""
        spaced = [
            rf"\s{{1,{SPACES}}}".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True)
        ]
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)")
        self._most = max(len(word) + (SPACES - 1) * word.count(" ") for word in words) + 1

    def look(self, view: View) -> tuple[list[Found], int]:
        """Return what is found, and where a word may begin that is not at its end."""
        start = view.folded_at(view.start)
        matches = self._pattern.finditer(view.folded, start)
        found = [Found(view.begin(match.start()), view.end(match.end()), _WHAT, _MARK) for match in matches]
        return found, view.begin(max(start, len(view.folded) - self._most))


class Pattern:
    """Finds what a pattern describes in the text as it is written; of matches that start leftmost the longest."""

    def __init__(self, automaton: Automaton) -> None:
        """Keep the automaton."""
        self._automaton = automaton

    def look(self, view: View) -> tuple[list[Found], int]:
        """Return what is found, and where a match begins that more text may make or change."""
        found, open_from = self._automaton.look(view.text, view.start)
        return [Found(start, end, _WHAT, _MARK) for start, end in found], open_from


def finders(rules: Sequence[GuardrailRule]) -> Iterator[tuple[GuardrailRule, Finder]]:
    """Yield each rule with its finder. Raises `ConfigError`, naming the rule, for one that cannot be."""
    if len(rules) > RULES:
        raise ConfigError(f"guardrails.rules: at most {RULES} rules are possible")
    names = set(BUILT_IN)
    for at, rule in enumerate(rules):
        where = f"guardrails.rules[{at}] (`{rule.name[:WORD_CHARS]}`)"
        if not rule.name.strip() or len(rule.name) > WORD_CHARS or rule.name in names:
            raise ConfigError(f"{where}: a rule needs a name of its own, of at most {WORD_CHARS} characters")
        names.add(rule.name)
        yield rule, _words(rule.words, where) if rule.pattern is None else _pattern(rule.pattern, where)


def _words(words: Sequence[str], where: str) -> Words:
    if not 0 < len(words) <= WORDS or not all(len(word) <= WORD_CHARS and fold(word).strip() for word in words):
        raise ConfigError(f"{where}: `words` needs 1 to {WORDS} words, each of 1 to {WORD_CHARS} visible characters")
    return Words([" ".join(fold(word).split()) for word in words])


def _pattern(pattern: str, where: str) -> Pattern:
    try:
        return Pattern(Automaton(parse(pattern)))
    except PatternRefused as refused:
        raise ConfigError(f"{where}: `pattern` is refused: {refused}") from refused

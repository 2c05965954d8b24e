"""Orders to a model in texts that are not its operator's: phrases known from attacks, in English and Spanish.

The patterns are for folded texts (see `views`), so that disguises do not help. Between two words stands what may stand
between words, at most `GAP` of it, also as JSON escapes it; every repeat is bounded, and so is the work for each place
of the text. Signatures find what was seen before and no more: they are one layer of several.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from argentor_asgi.agent.guardrails.phrases import PHRASES
from argentor_asgi.agent.guardrails.views import Found, View

GAP = 6
"""How many characters may stand between two words of a phrase; what JSON escapes counts as one."""

STRIDE = 16 * 1024
"""How many characters are searched without letting go of the interpreter, for which every other thread waits."""
REACH = 640
"""How many characters a phrase may have at most, what is looked at behind it included."""

_WHAT = "a phrase that gives the model orders"
_MARK = "[REDACTED]"

_SPACE = rf"(?:\\{{1,4}}[nrt]|[\W_]){{1,{GAP}}}"
_BEFORE = r"(?:(?<![a-z0-9])|(?<=\\n)|(?<=\\r)|(?<=\\t))"
_AFTER = r"(?![a-z0-9])"

_CONTROL = (
    "im_start|im_end|im_sep|system|user|assistant|end|endoftext|eot_id|start_header_id|end_header_id"
    "|begin_of_text|end_of_text|endofprompt|channel|message|return"
)
_MARKERS = (
    rf"<\|(?:{_CONTROL})\|>",
    _BEFORE + r"\[/?inst\]",
    r"<</?sys>>",
    r"</?(?:start|end)_of_turn>",
    r"<\|?/?(?:system|developer)(?:[ _-]?(?:prompt|message|instructions?|override))?\|?>",
    r"\[(?:system|developer)(?:[ _-](?:prompt|message|instructions?|override))?\]",
)
_ROLE = (
    r'(?:^|(?<=\\n)|(?<=\\r)|(?<="))[ \t>*#_-]{0,8}(?:###? ?)?(?:system|developer|assistant|sistema)'
    r"(?: (?:prompt|message|note|instructions?|override))?[ *_]{0,3}:"
)


class Orders:
    """Finds phrases that give a model orders; in what a skill returns also a role at the start of a line."""

    def __init__(self, *, is_result: bool) -> None:
        """Make the pattern ready."""
        self._pattern = _pattern(is_result)

    def look(self, view: View) -> tuple[list[Found], int]:
        """Return what is found; the text is taken to be whole, as messages and results are."""
        matches = self._matches(view.folded, view.folded_at(view.start))
        return [Found(view.begin(m.start()), view.end(m.end()), _WHAT, _MARK) for m in matches], len(view.text)

    def _matches(self, folded: str, start: int) -> Iterator[re.Match[str]]:
        """Yield what one search from `start` would find, a stride at a time."""
        while start < len(folded):
            stride = start + STRIDE
            for match in self._pattern.finditer(folded, start, stride + REACH):
                if match.start() >= stride:
                    break
                start = match.end()
                yield match
            start = max(start, stride)


@lru_cache(maxsize=2)
def _pattern(is_result: bool) -> re.Pattern[str]:
    phrases = "|".join(map(_phrase, PHRASES.strip().split("\n\n")))
    markers = "|".join((*_MARKERS, _ROLE) if is_result else _MARKERS)
    return re.compile(rf"{_BEFORE}(?:{phrases}){_AFTER}|{markers}", re.MULTILINE)


def _phrase(written: str) -> str:
    pattern = ""
    for part in written.replace("\n|", "|").splitlines():
        if part.startswith("?"):
            words, _, most = part[1:].rpartition(" x")
            pattern += rf"(?:(?:{_words(words)}){_SPACE}){{0,{most}}}"
        elif not part.startswith("#"):
            pattern += rf"(?:{_words(part)}){_SPACE}"
    return pattern.removesuffix(_SPACE)


def _words(words: str) -> str:
    return "|".join(word.replace(" ", _SPACE) for word in words.split("|"))

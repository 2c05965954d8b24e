"""Which texts are about a query: BM25 over words (Robertson and Zaragoza 2009), stemmed lightly in English and Spanish.

What a word is and how a text is ranked stands here alone, for every store: equal input has equal output. A file keeps
what `counted` gave, so that a change of it needs a migration that makes the stored words anew.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

QUERY_TERMS = 64
"""How many different terms of a query count; further ones are not looked for."""

_SATURATION = 1.2
_LENGTH = 0.75
_STEM_LEAST = 3
_WORD = re.compile(r"\w+")
_ENGLISH = """
a about all am an and any are as at be been but by can could did do does for from had has have he her his how i if in
into is it its me my of on or our please s she so some t tell that the their them there they this to us was we were what
when where which who whom whose why will with would you your
"""
_SPANISH = """
al algo como con cual cuando de del donde el ella ellos en era es esa ese eso esta este esto fue ha hay la las le les lo
los me mi mis muy no nos o para pero por que quien se ser si sin sobre son su sus te tu tus un una y ya yo
"""
_STOP = frozenset(f"{_ENGLISH} {_SPANISH}".split())


@dataclass(frozen=True, slots=True)
class Match:
    """What a ranking looks at of a text: how often each of the wanted tokens occurs that do, and how many it has."""

    counts: Mapping[str, int]
    length: int


def match(wanted: Sequence[str], counts: Mapping[str, int]) -> Match:
    """Return the match of a text whose tokens occur as `counts` says."""
    return Match({term: counts[term] for term in wanted if term in counts}, sum(counts.values()))


def rank(wanted: Sequence[str], matches: Sequence[Match]) -> list[tuple[int, float]]:
    """Return (index, score) of each match, best first; scores are above 0, and of equal ones the earlier is first.

    `wanted`: as `terms` makes them. `matches`: of the texts that share one of them, and of no other: how rare a term
    is follows from those that do.
    """
    average = sum(each.length for each in matches) / len(matches) if matches else 1.0
    weights = {term: _weight(sum(term in each.counts for each in matches), len(matches)) for term in wanted}
    scored = [
        (at, sum(weights[term] * _share(count, each.length / average) for term, count in each.counts.items()))
        for at, each in enumerate(matches)
    ]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def terms(query: str) -> list[str]:
    """Return the different tokens of `query`, the first `QUERY_TERMS`; none for nothing but stop words."""
    return list(dict.fromkeys(tokens(query)))[:QUERY_TERMS]


def counted(text: str) -> Mapping[str, int]:
    """Return how often each token of `text` occurs, in the order in which they come first."""
    return Counter(tokens(text))


def tokens(text: str) -> list[str]:
    """Return the stems of the words of `text` in order: no case, no accents, no stop words.

    A token is letters, digits and `_`, one or more, and no ASCII capital: an index need not look into it.
    """
    return [_stem(word) for word in _WORD.findall(_plain(text)) if word not in _STOP]


def _plain(text: str) -> str:
    folded = text.casefold()
    if folded.isascii():
        return folded
    from unicodedata import combining, normalize  # noqa: PLC0415  a large library that ASCII text does not need

    # Again in one case: what a sign such as the one of degrees Celsius is made of has a capital.
    return "".join(letter for letter in normalize("NFKD", folded).casefold() if not combining(letter))


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    """Return what the forms of a word share, mostly: call calls called calling; perro perros; color colores."""
    if word.endswith("s") and not word.endswith("ss"):
        word = _cut(word, 1)
    for suffix in ("ing", "ed"):
        if word.endswith(suffix):
            word = _undoubled(_cut(word, len(suffix)))
            break
    return _cut(word, 1) if word[-1] in "aeo" else word[:-1] + "i" if word.endswith("y") else word


def _cut(word: str, count: int) -> str:
    return word[:-count] if len(word) - count >= _STEM_LEAST else word


def _undoubled(word: str) -> str:
    return word[:-1] if word[-1] == word[-2] and word[-1] not in "lsz" else word


def _weight(containing: int, documents: int) -> float:
    """Return how much a term says: the fewer documents contain it, the more."""
    return math.log(1 + (documents - containing + 0.5) / (containing + 0.5))


def _share(count: int, relative_length: float) -> float:
    """Return what `count` occurrences are worth in a document of this length, 1.0 being average."""
    return count * (_SATURATION + 1) / (count + _SATURATION * (1 - _LENGTH + _LENGTH * relative_length))

"""Which texts are about a query: BM25 over words (Robertson and Zaragoza 2009), stemmed lightly in English and Spanish.

No model, no index: the work is linear in the length of the texts, and equal input has equal output.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
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


def rank(query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
    """Return (index, score) of each document that shares a term with `query`, best first; scores are above 0.

    Of equal scores the earlier document comes first. A query of nothing but stop words finds nothing.
    """
    wanted = list(dict.fromkeys(tokens(query)))[:QUERY_TERMS]
    counts = [Counter(tokens(document)) for document in documents]
    lengths = [count.total() for count in counts]
    average = sum(lengths) / len(lengths) if any(lengths) else 1.0
    weights = {term: _weight(sum(term in count for count in counts), len(counts)) for term in wanted}
    scored = [
        (at, sum(weights[term] * _share(count[term], lengths[at] / average) for term in wanted))
        for at, count in enumerate(counts)
    ]
    return sorted((pair for pair in scored if pair[1] > 0), key=lambda pair: (-pair[1], pair[0]))


def tokens(text: str) -> list[str]:
    """Return the stems of the words of `text` in order: no case, no accents, no stop words."""
    return [_stem(word) for word in _WORD.findall(_plain(text)) if word not in _STOP]


def _plain(text: str) -> str:
    folded = text.casefold()
    if folded.isascii():
        return folded
    from unicodedata import combining, normalize  # noqa: PLC0415  a large library that ASCII text does not need

    return "".join(letter for letter in normalize("NFKD", folded) if not combining(letter))


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

"""The skill `summarizer`: picks sentences and words out of a text by counting; it writes nothing of its own.

A sentence scores by how often its words occur in the whole text. Work is linear in a bounded length.
"""

import re
from collections import Counter
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present, refuse_longer
from argentor_asgi.agent.skills import SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta
from argentor_asgi.sessions.ranking import tokens

TEXT_BYTES = 512 * 1024
"""The longest text, in UTF-8."""
SENTENCES = 50
"""How many sentences a summary has at most."""
WORDS = 200
"""How many keywords or frequencies are listed at most."""

Operation = Literal["summarize", "extract_keywords", "word_frequency", "readability"]

_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"')\]]?\s+|\n\s*\n")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_VOWELS = re.compile(r"[aeiouy\u00e0-\u00ff]+")
_KEYWORD_CHARS = 3


@skill(
    "summarizer",
    "Summarizes a text by its most telling sentences; extracts keywords; counts words; measures how easily it reads.",
    thread=True,
)
def summarizer(
    *,
    operation: Annotated[Operation, Meta(description="What to do.")],
    text: Annotated[str, Meta(description="The text.")],
    sentences: Annotated[int, Meta(ge=1, le=SENTENCES, description="How many sentences a summary has.")] = 3,
    count: Annotated[int, Meta(ge=1, le=WORDS, description="How many words are listed.")] = 10,
) -> JsonObject:
    """Return what the operation finds; refuses a text without words."""
    refuse_longer(text, TEXT_BYTES, "text")
    if not _WORD.search(text):
        raise SkillRefused("The text has no words.")
    return dict(perform(_OPERATIONS, operation, present(text=text, sentences=sentences, count=count)))


def split_sentences(text: str) -> list[str]:
    """Return the sentences of `text`: they end with . ! ? or an ellipsis and space, or with an empty line."""
    return [" ".join(part.split()) for part in _SENTENCE_END.split(text) if part and not part.isspace()]


def _summarize(text: str, sentences: int) -> JsonObject:
    """Return the sentences with the most frequent words, in the order of the text."""
    found = split_sentences(text)
    terms = [tokens(sentence) for sentence in found]
    weights = Counter(term for each in terms for term in each)
    scores = [sum(weights[term] for term in set(each)) / (len(each) + 1) ** 0.5 for each in terms]
    best = sorted(sorted(range(len(found)), key=lambda at: (-scores[at], at))[:sentences])
    return {
        "summary": " ".join(found[at] for at in best),
        "sentences": len(best),
        "original_sentences": len(found),
    }


def _extract_keywords(text: str, count: int) -> JsonObject:
    """Return the most frequent words that say something, each in the form that it is mostly seen in."""
    seen = Counter(word.casefold() for word in _WORD.findall(text))
    forms: dict[str, Counter[str]] = {}
    for word, times in seen.items():
        for term in tokens(word):
            if len(word) >= _KEYWORD_CHARS:
                forms.setdefault(term, Counter())[word] += times
    total = sum(seen.values())
    ranked = sorted(forms.values(), key=lambda form: (-form.total(), max(form, key=form.__getitem__)))
    return {
        "keywords": [
            {
                "word": max(form, key=form.__getitem__),
                "count": form.total(),
                "score": round(form.total() / total, 4),
            }
            for form in ranked[:count]
        ]
    }


def _word_frequency(text: str, count: int) -> JsonObject:
    seen = Counter(word.casefold() for word in _WORD.findall(text))
    ranked = sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = [{"word": word, "count": times} for word, times in ranked[:count]]
    return {"frequencies": listed, "total_words": seen.total(), "unique_words": len(seen)}


def _readability(text: str) -> JsonObject:
    """Return the reading ease of Flesch (1948) and the grade of Kincaid (1975), for English; syllables are guessed."""
    found = _WORD.findall(text)
    sentences = max(1, len(split_sentences(text)))
    syllables = sum(_syllables(word.casefold()) for word in found)
    per_sentence, per_word = len(found) / sentences, syllables / len(found)
    return {
        "flesch_reading_ease": round(206.835 - 1.015 * per_sentence - 84.6 * per_word, 1),
        "flesch_kincaid_grade": round(0.39 * per_sentence + 11.8 * per_word - 15.59, 1),
        "words": len(found),
        "sentences": sentences,
        "syllables": syllables,
        "words_per_sentence": round(per_sentence, 2),
    }


def _syllables(word: str) -> int:
    """Return how many groups of vowels a word has, a silent e at its end apart; at least 1."""
    silent = word.endswith("e") and not word.endswith(("le", "ee"))
    return max(1, len(_VOWELS.findall(word)) - silent)


_OPERATIONS: Operations = {
    "summarize": _summarize,
    "extract_keywords": _extract_keywords,
    "word_frequency": _word_frequency,
    "readability": _readability,
}

"""How the planner reads text: what is literal, how the rest is normalised, and which language it is.

Everything here is linear in the text: a pattern is anchored or bounded, and no quantifier stands in another.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["en", "es"]
Span: TypeAlias = tuple[int, int]

_LANGUAGE_SAMPLE = 400
_CLOSERS = {")": "(", "]": "[", "}": "{"}
_TOKENS = (
    r'"(?:[^"\\]|\\.)*+"?|“[^“”]*+”?|«[^«»]*+»?|`[^`]*+`?'
    r"|(?<!\w)'[^']*+'(?!\w)|[\[\](){}]"
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "`": "`", "'": "'"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


@lru_cache(maxsize=512)
def pattern(source: str) -> re.Pattern[str]:
    """Compile `source` on first use: case-blind, and `.` takes newlines.

    Outside of sets a space means one to four blanks, and ` ?` up to four.
    """
    return re.compile(re.sub(r"(\\.|\[(?:\\.|[^\]\\])*\])| \??", _blanks, source), re.IGNORECASE | re.DOTALL)


def _blanks(found: re.Match[str]) -> str:
    return found[1] or (r"[\x20\t]{0,4}" if found[0] == " ?" else r"[\x20\t]{1,4}")


def words(text: str) -> frozenset[str]:
    """Return the words of a table that is written as prose."""
    return frozenset(text.split())


_SPANISH = words(
    "qué cuánto cuanto cuántos cuántas cuantas cuantos es el la los las de del en por para hora hola gracias mi mis "
    "cómo quién quien cuál cual dónde recuerda olvida calcula dame genera más mas entre menos y luego después valida "
    "convierte cuenta palabras ayuda suma resta usa con resume lista raíz recuerdos buenas buenos adiós eres hoy día "
    "fecha semana bisiesto primo mayúsculas minúsculas invierte compara codifica decodifica cancela cancelar puedes "
    "habilidades herramientas ordena filtra aplana claves media promedio dime un una sí"
)
_ENGLISH = words(
    "the of what what's is and then to my how in an that remember forget please who are you with from for it convert "
    "count words help list tell hello hi hey thanks today time date days after before between calculate compute plus "
    "times which when where uppercase lowercase reverse replace sort filter keys get validate compare bye yes this "
    "skills tools memories cancel generate give minus divided by did ask"
)


def after(head: str, text: str) -> str | None:
    """Return what follows `head` at the start of `text`, None unless it stands there as whole words."""
    found = pattern(rf"(?:{head})(?!\w)").match(text)
    return text[found.end() :] if found else None


def before(tail: str, text: str) -> str | None:
    """Return what precedes `tail` at the end of `text`, punctuation aside; None unless it stands there.

    Only the last 120 characters are searched.
    """
    start = max(0, len(text) - 120)
    found = pattern(rf"(?<!\w)(?:{tail})[?!.]{{0,3}}$").search(text, start)
    return text[: found.start()] if found else None


def whole(form: str, text: str) -> re.Match[str] | None:
    """Match all of `text`, closing punctuation aside, against `form`."""
    return pattern(rf"(?:{form})[?!.\s]{{0,4}}").fullmatch(text)


@lru_cache(maxsize=16)
def spans(text: str) -> tuple[Span, ...]:
    """Return the ranges that are literal, in order and apart: quoted text, and closed brackets of any kind.

    The latest answers are kept, since several readers ask about the same text.
    """
    ranges: list[Span] = []
    opened: list[tuple[str, int]] = []
    for token in pattern(_TOKENS).finditer(text):
        mark, start = token[0], token.start()
        if mark in _CLOSERS:
            if opened and opened[-1][0] == _CLOSERS[mark]:
                _keep(ranges, opened.pop()[1], token.end())
        elif mark in "([{":
            opened.append((mark, start))
        elif len(mark) > 1 and mark[-1] == _QUOTES[mark[0]]:
            ranges.append(token.span())
    return tuple(ranges)


def _keep(ranges: list[Span], start: int, end: int) -> None:
    """Add a range in the place of those inside it."""
    while ranges and ranges[-1][0] > start:
        ranges.pop()
    ranges.append((start, end))


def normalise(text: str) -> str:
    """Return `text` trimmed and, outside of what is literal, in NFKC (Unicode UAX 15) with plain apostrophes.

    A raised digit becomes a power first, since NFKC would turn `5²` into `52`.
    """
    text = text.strip()
    out: list[str] = []
    at = 0
    for start, end in spans(text):
        out += (_plain(text[at:start]), text[start:end])
        at = end
    return "".join((*out, _plain(text[at:]))).strip()


def _plain(text: str) -> str:
    if text.isascii():
        return text
    powered = pattern(r"(?<=[\w)])[⁰¹²³⁴⁵⁶⁷⁸⁹]+").sub(_power, text)
    normal = unicodedata.normalize("NFKC", powered)
    # One character may become eighteen; what would swell like that stays as it was.
    return (normal if len(normal) <= 2 * len(text) + 64 else powered).replace("\u2019", "'")


def _power(found: re.Match[str]) -> str:
    return "^" + found[0].translate(_SUPERSCRIPTS)


def unquote(text: str) -> str | None:
    """Return what stands between quotes when `text` is one quoted piece, else None."""
    text = text.strip()
    if len(text) < 2 or text[-1] != _QUOTES.get(text[0]) or spans(text) != ((0, len(text)),):  # noqa: PLR2004  a pair
        return None
    return text[1:-1].replace('\\"', '"') if text[0] == '"' else text[1:-1]


def bare(text: str) -> str:
    """Return `text` in lower case without accents, for looking words up."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def language(texts: Sequence[str]) -> Language:
    """Return the language of the first text that shows one, English when none does."""
    for text in texts:
        if score := _leaning(text[:_LANGUAGE_SAMPLE].lower()):
            return "es" if score > 0 else "en"
    return "en"


def _leaning(text: str) -> int:
    """Return above 0 for Spanish, below 0 for English, 0 for neither."""
    found = pattern(r"[^\W\d_]+(?:'s)?").findall(text)
    spanish = sum(word in _SPANISH for word in found) + 2 * any(c in "¿¡ñ" for c in text)
    return spanish - sum(word in _ENGLISH for word in found)


def courtesy(text: str) -> str:
    """Return `text` without what only makes it polite, at both ends."""
    text = text.lstrip("¿¡ \t")
    for _ in range(3):
        rest = after(_POLITE_HEAD, text)
        if rest is None or not rest.strip(" ,?!."):
            break
        text = rest.lstrip(" ,:¿¡\t")
    shorter = before(r"please|por favor|thanks|gracias", text)
    return shorter.rstrip(" ,\t") if shorter and shorter.strip() else text


_POLITE_HEAD = (
    r"please|por favor|(?:can|could|would|will) you(?: please)?|i(?:'d| would) like(?: you)? to|i want(?: you)? to"
    r"|(?:me )?(?:puedes|podrías|podrias)|quiero que|hey|(?:tell me|i want to know"
    r"|do you know)(?= (?:what|the|how|if|when|which))"
    r"|(?:dime|quiero saber|sabes)(?= (?:qu[eé]|la|el|cu[aá]l|cu[aá]nt[oa]s?|si))|hola,|hello,|ok(?:ay)?"
    r"|so|now,|oye|vale|and|y"
)

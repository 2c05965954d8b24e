"""Numbers that name a person or an account: cards, IBANs, phones and national ids, found in a folded text.

Each pattern is bounded, so that every place of the text costs at most a constant; a number inside a longer number is
none. Sources: ISO/IEC 7812-1 annex B (Luhn), ISO 13616 (IBAN), ITU-T E.164, SSA POMS RM 10201.035 (SSN areas), HMRC
NIM39110 (NINO), Real Decreto 1553/2005 and Orden INT/2058/2008 (DNI and NIE).
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

NUMBER_CHARS = 48
"""How many folded characters decide on a number that starts there, what is looked at behind it included."""
PHONE_DIGITS = (10, 15)
"""How many digits a phone number has, as it is found here; E.164 has 15 at most."""

CARD_GROUP = 6
"""How many digits stand together on a card, at most (American Express)."""

Span: TypeAlias = tuple[int, int, str, str]

_PHONE = ("a phone number", "[PHONE]")
_CARD = ("a card number", "[CREDIT_CARD]")
_IBAN = ("an account number", "[IBAN]")
_SSN = ("a social security number", "[SSN]")
_ID = ("a national id", "[NATIONAL_ID]")

_FREE = r"(?<![0-9a-z])"
_APART = r"(?<![0-9a-z])(?<![0-9][.,:/])(?<![0-9a-z]-)"
_OVER = r"(?![0-9a-z])"
_OVER_APART = r"(?![0-9a-z])(?![.,:/-][0-9])"

_CHAIN = re.compile(r"[0-9](?:[ .()/-]{0,2}[0-9]){5}")
"""What each number but an IBAN has in it."""
_INTERNATIONAL = re.compile(r"\+(?<![0-9a-z+].)[1-9](?:[ .()/-]{0,2}[0-9]){9,14}(?![0-9])")
_AMERICAN = re.compile(
    _APART
    + r"(?:1[ .-])?(?:\([0-9]{3}\)[ .-]?[0-9]{3}[ .-]?|[0-9]{3}-[0-9]{3}-|[2-9][0-9]{2}[ .-][0-9]{3}[ .-])[0-9]{4}"
    + _OVER_APART
)
_TRUNK = re.compile(_APART + r"\(?(0[0-9]{1,4})(?:\)[ .-]?|([ ./-]))(?=[0-9]{2})")
_CARD_START = re.compile(r"[2-6](?<![0-9a-z].)(?<![0-9]\..)(?=(?:[ -]?[0-9]){12})")  # PERF: a set first is found fast
_CARD_RUN = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}")
_IBAN_START = re.compile(r"([a-z]{2})(?<![0-9a-z]..)[0-9]{2}(?=[ -]?[0-9a-z])")
_SOCIAL = re.compile(_APART + r"(?!000|666|9)[0-9]{3}([ -])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}" + _OVER_APART)
_INSURANCE = re.compile(
    _FREE
    + r"(?!bg|gb|nk|kn|tn|nt|zz)[a-ceghj-prstw-z][a-ceghj-nprstw-z]"
    + r"(?:[0-9]{6}|([ -])[0-9]{2}\1[0-9]{2}\1[0-9]{2}\1)[a-d]"
    + _OVER
)
_SPANISH = re.compile(
    _FREE + r"(?:([xyz])[ -]?([0-9]{7})|([0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3}))([ -]?)([a-z])" + _OVER
)
_DIGITS = re.compile(r"[0-9]{1,20}")
_CHECK_LETTERS = "trwagmyfpdxbnjzsqvhlcke"
_WORDS = "aey"
"""Letters that are words by themselves: behind a number and a space they belong to the sentence."""

_DOUBLED = dict(zip("0123456789", (0, 2, 4, 6, 8, 1, 3, 5, 7, 9), strict=True))
"""What a doubled digit counts in Luhn's sum: the sum of its own digits."""
_TO_19 = (16, 17, 18, 19)
_ANY = (13, 14, 15, *_TO_19)
_ISSUERS = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),  # Mastercard
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),  # American Express
    ("300", "305", (14, 16, 19)),  # Diners Club
    ("36", "36", (14, 16, 19)),  # Diners Club
    ("38", "39", (14, 16, 19)),  # Diners Club
    ("6011", "6011", _TO_19),  # Discover
    ("644", "659", _TO_19),  # Discover
    ("3528", "3589", _TO_19),  # JCB
    ("62", "62", _TO_19),  # UnionPay
    ("2200", "2204", _TO_19),  # Mir
    ("5018", "5018", _ANY),  # Maestro
    ("5020", "5020", _ANY),  # Maestro
    ("5038", "5038", _ANY),  # Maestro
    ("5893", "5893", _ANY),  # Maestro
    ("6304", "6304", _ANY),  # Maestro
    ("6759", "6763", _ANY),  # Maestro
)
_IBAN_COUNTRIES = """
ad24 ae23 al28 at20 az28 ba20 be16 bg22 bh22 bi27 br29 by28 ch21 cr22 cy28 cz24 de22 dj27 dk18 do28 ee20
eg29 es24 fi18 fk18 fo18 fr27 gb22 ge22 gi23 gl18 gr27 gt28 hr21 hu28 ie22 il23 iq23 is26 it27 jo30 kw30
kz20 lb28 lc32 li21 lt20 lu20 lv21 ly25 mc27 md24 me22 mk19 mn20 mr27 mt31 mu30 ni28 nl18 no15 om23 pk24
pl28 ps29 pt25 qa29 ro24 rs22 ru33 sa24 sc31 sd18 se24 si19 sk24 sm27 so23 st25 sv28 tl23 tn24 tr26 ua29
va22 vg24 xk20 ye30
"""
_IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBAN_COUNTRIES.split()}


def numbers(folded: str, start: int) -> Iterator[Span]:
    """Yield (start, end, what it is, its replacement) of each number from `start`; kinds may overlap each other.

    `folded`: a text without case, digits of other scripts and what cannot be seen (see `views`).
    """
    yield from _accounts(folded, start)
    if _CHAIN.search(folded, start) is None:
        return
    yield from _cards(folded, start)
    for pattern in (_INTERNATIONAL, _AMERICAN):
        yield from ((*match.span(), *_PHONE) for match in pattern.finditer(folded, start))
    yield from _trunk_phones(folded, start)
    yield from ((*match.span(), *_SSN) for match in _SOCIAL.finditer(folded, start))
    yield from ((*match.span(), *_ID) for match in _INSURANCE.finditer(folded, start))
    yield from ((*match.span(), *_ID) for match in _SPANISH.finditer(folded, start) if _is_spanish(match))


def _cards(folded: str, start: int) -> Iterator[Span]:
    for match in _CARD_START.finditer(folded, start):
        if match.start() >= start and (end := _card_end(folded, match.start())):
            start = end
            yield match.start(), end, *_CARD


def _card_end(folded: str, at: int) -> int:
    """Return where the longest card number from `at` ends that is not inside a longer number; 0 if there is none."""
    run = _CARD_RUN.match(folded, at)
    digits = run[0].replace(" ", "").replace("-", "") if run else ""
    for length in reversed(_card_lengths(digits)):
        if length <= len(digits) and _luhn(digits[:length]) % 10 == 0:
            ends = [end for end, letter in enumerate(folded[at : at + NUMBER_CHARS], at + 1) if letter not in " -"]
            end = ends[length - 1]
            if not _goes_on(folded, end) and _is_grouped_as_a_card(folded[at:end]):
                return end
    return 0


def _is_grouped_as_a_card(number: str) -> bool:
    """Say whether no group between dashes is longer than on any card: such are the digits of a UUID."""
    return "-" not in number or max(map(len, re.split("[ -]", number))) <= CARD_GROUP


def _accounts(folded: str, start: int) -> Iterator[Span]:
    for match in _IBAN_START.finditer(folded, start):
        end = _account_end(folded, match.start(), _IBAN_LENGTHS.get(match[1], 0))
        if end > start:
            start = end
            yield match.start(), end, *_IBAN


def _account_end(folded: str, at: int, length: int) -> int:
    """Return where the IBAN of `length` characters ends that starts at `at`, in groups of four or in one; 0 if none."""
    compact, is_apart = "", folded[at + 4 : at + 5] in {" ", "-"}
    while length and len(compact) < length:
        if compact and is_apart != (folded[at : at + 1] in {" ", "-"}):
            return 0  # such is a part of a UUID
        at += bool(compact) and is_apart
        group = folded[at : at + min(4, length - len(compact))]
        if len(group) < min(4, length - len(compact)) or not (group.isascii() and group.isalnum()):
            return 0
        compact += group
        at += len(group)
    return at if compact and is_iban(compact) and not _goes_on(folded, at) else 0


def _trunk_phones(folded: str, start: int) -> Iterator[Span]:
    """Yield phone numbers with the trunk prefix 0, or the 00 of international calls, in groups."""
    least, most = PHONE_DIGITS
    for match in _TRUNK.finditer(folded, start):
        if match.start() < start:
            continue
        code = len(match[1])
        for end, digits in reversed(_groups(folded, match.end(), match[2] or " .-", most - code)):
            if len(digits) + code >= least and _is_over(folded, end):
                start = end
                yield match.start(), end, *_PHONE
                break


def _is_over(folded: str, end: int) -> bool:
    """Say whether a number ends here, and is not followed by what makes it a part of a date, a time or a fraction."""
    behind = folded[end : end + 2]
    return not _goes_on(folded, end) and not (behind[:1] in {".", ",", ":", "/", "-"} and behind[1:].isdigit())


def _goes_on(folded: str, end: int) -> bool:
    """Say whether a number or a word that is written in Latin letters goes on here."""
    letter = folded[end : end + 1]
    return letter.isascii() and letter.isalnum()


def _groups(folded: str, at: int, separators: str, most: int) -> list[tuple[int, str]]:
    """Return (end, all digits so far) for each group of digits from `at`, one separator between, to `most` digits."""
    groups: list[tuple[int, str]] = []
    digits = ""
    while match := _DIGITS.match(folded, at):
        digits += match[0]
        if len(digits) > most:
            break
        groups.append((match.end(), digits))
        at = match.end() + 1
        if folded[at - 1 : at] not in separators:
            break
    return groups


def _card_lengths(digits: str) -> tuple[int, ...]:
    """Return the lengths of the issuer's card numbers, shortest first; none where no issuer is known."""
    known = (lengths for first, last, lengths in _ISSUERS if first <= digits[: len(first)] <= last)
    return next(known, ())


def is_iban(compact: str) -> bool:
    """Say whether the check digits of an IBAN in ASCII lower case, without spaces, are right."""
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1


def _luhn(digits: str) -> int:
    return sum(map(int, digits[-1::-2])) + sum(map(_DOUBLED.__getitem__, digits[-2::-2]))


def _is_spanish(match: re.Match[str]) -> bool:
    """Say whether the letter of a DNI or NIE is the one that its number has."""
    kind, foreign, own, gap, letter = match.groups()
    if gap == " " and letter in _WORDS:
        return False
    number = f"{'xyz'.index(kind)}{foreign}" if kind else own.replace(".", "")
    return _CHECK_LETTERS[int(number) % len(_CHECK_LETTERS)] == letter

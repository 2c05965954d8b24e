"""Personal data: e-mail addresses, and the numbers of `numbers`; each is replaced by its kind in brackets."""

import re
from collections.abc import Iterator

from argentor_asgi.agent.guardrails.numbers import NUMBER_CHARS, numbers
from argentor_asgi.agent.guardrails.views import Found, View

LOCAL_CHARS = 64
"""How long what stands before the `@` may be (RFC 5321 section 4.5.3.1.1)."""
DOMAIN_LABELS = 8
"""How many labels before the last a domain has at most."""
DOMAIN_CHARS = DOMAIN_LABELS * 64 + 63
"""How long what stands behind the `@` may be, a little more than RFC 5321 section 4.5.3.1.2 has it."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LOCAL = _LETTERS + "._%+-"
_DOMAIN = _LETTERS + ".-"
_BEHIND_AT = re.compile(rf"@(?:[a-z0-9](?:[a-z0-9-]{{0,62}})\.){{1,{DOMAIN_LABELS}}}[a-z][a-z0-9-]{{0,61}}[a-z]")
_TELLING = re.compile(r"[0-9@]")


class PersonalData:
    """Finds e-mail addresses, phone and card numbers, IBANs and national ids, in time linear in the text's length."""

    def look(self, view: View) -> tuple[list[Found], int]:
        """Return what is found, and where more may begin: at the last word, or a number's length before the end."""
        folded = view.folded
        start = view.folded_at(view.start)
        found: list[Found] = []
        if _TELLING.search(folded, start):
            spans = [*_addresses(folded, start), *numbers(folded, start)]
            found = [Found(view.begin(a), view.end(b), what, mark) for a, b, what, mark in sorted(spans)]
        return found, view.begin(max(start, min(_open_address(folded), len(folded) - NUMBER_CHARS)))


def _addresses(folded: str, start: int) -> Iterator[tuple[int, int, str, str]]:
    """Yield e-mail addresses from `start`: what may stand before and behind each `@` is bounded."""
    at = folded.find("@", start)
    while at >= 0:
        end = at + 1
        if (first := _local_start(folded, start, at)) < at and (match := _BEHIND_AT.match(folded, at)):
            start = end = match.end()
            yield first, end, "an e-mail address", "[EMAIL]"
        at = folded.find("@", end)


def _local_start(folded: str, start: int, at: int) -> int:
    """Return where the local part before the `@` begins, not before `start`; `at` if there is none."""
    before = folded[max(start, at - LOCAL_CHARS) : at]
    return at - (len(before) - len(before.rstrip(_LOCAL)))


def _open_address(folded: str) -> int:
    """Return where an address begins that may become one, or longer, when more text follows."""
    end = len(folded)
    at = folded.rfind("@", max(0, end - DOMAIN_CHARS - 1))
    if at >= 0 and not folded[at + 1 :].strip(_DOMAIN):
        end = at
    return _local_start(folded, 0, end)

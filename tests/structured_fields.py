"""A strict reader of structured field lists (RFC 9651 section 4.2.1): items of strings, tokens, integers, booleans."""

import re

_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_BOOLEAN = re.compile(r"\?([01])")
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_COMMA = re.compile(r"[ \t]*,[ \t]*(?=[^ \t])")


def items(field: bytes) -> list[tuple[object, dict[str, object]]]:
    """Return the list's items with their parameters; raises `ValueError` for what the RFC refuses."""
    text, found, at = field.decode("ascii").strip(" "), [], 0
    while True:
        value, at = _bare(text, at)
        parameters, at = _parameters(text, at)
        found.append((value, parameters))
        if at == len(text):
            return found
        comma = _COMMA.match(text, at)
        if comma is None:
            raise ValueError(f"no list at {text[at:]!r}")
        at = comma.end()


def _parameters(text, at):
    found = {}
    while text[at : at + 1] == ";":
        at += 1 + len(text[at + 1 :]) - len(text[at + 1 :].lstrip(" "))
        key = _KEY.match(text, at)
        if key is None:
            raise ValueError(f"no key at {text[at:]!r}")
        at, value = key.end(), True
        if text[at : at + 1] == "=":
            value, at = _bare(text, at + 1)
        found[key[0]] = value
    return found, at


def _bare(text, at):
    for pattern, made in (
        (_STRING, lambda hit: re.sub(r"\\(.)", r"\1", hit[1])),
        (_TOKEN, lambda hit: hit[0]),
        (_INTEGER, lambda hit: int(hit[0])),
        (_BOOLEAN, lambda hit: hit[1] == "1"),
    ):
        if hit := pattern.match(text, at):
            return made(hit), hit.end()
    raise ValueError(f"no item at {text[at:]!r}")

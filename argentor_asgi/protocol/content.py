"""What a user's message may be, the same on every entry point (core.md 11.2, flaws B3 and H5)."""

import re
from typing import Final

from argentor_asgi.errors import BodyTooLarge, ContentRejected, EmptyInput

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_HIDDEN = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069"
"""Unicode Cc but for tab and line ends, zero-width characters (joiners stay: scripts need them), bidi overrides."""
_SUSPECT = re.compile(f"[{_HIDDEN}]")
VISIBLE: Final = rf"[^\s{_HIDDEN}]"
"""What a message must hold somewhere, as a JSON Schema pattern; of escape sequences it knows nothing."""


def sanitise(text: str, *, limit_bytes: int) -> str:
    """Return `text` without control characters, whole ANSI sequences and invisible direction marks.

    `limit_bytes`: UTF-8 bytes, inclusive. Raises `EmptyInput` when blank, `BodyTooLarge` when longer, `ContentRejected`
    when nothing visible is left or when the text cannot be UTF-8 (lone surrogates).
    """
    if not text or text.isspace():
        raise EmptyInput
    if _bytes_of(text) > limit_bytes:
        raise BodyTooLarge(f"The message is longer than {limit_bytes} bytes.")
    if _SUSPECT.search(text) is None:
        return text
    clean = _SUSPECT.sub("", _ANSI.sub("", text))
    if not clean or clean.isspace():
        raise ContentRejected
    return clean


def _bytes_of(text: str) -> int:
    """Return the length of `text` in UTF-8; raises `ContentRejected` when it has none."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ContentRejected from None

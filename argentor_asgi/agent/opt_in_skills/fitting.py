"""How what a skill fetched or read becomes text that its output has room for."""

import json
from codecs import getincrementaldecoder
from typing import Final

from argentor_asgi.agent.skills import OUTPUT_BYTES

TEXT_BYTES: Final = OUTPUT_BYTES - 16 * 1024
"""How long a text may be, as JSON in UTF-8; the rest of an output's bytes is for what stands around it."""


def fitted_text(data: bytes, charset: str, *, is_end: bool, limit_bytes: int = TEXT_BYTES) -> tuple[str, int]:
    """Return `data` as text, as much of it as fits `limit_bytes`, and how many of its bytes that text is.

    What is not of `charset` (a text encoding that Python knows) is U+FFFD. A character that is cut at the end is left
    for the next piece, unless `is_end` says that there is none.
    """
    text, used = _decoded(data, charset, is_end=is_end)
    while (size := len(json.dumps(text, ensure_ascii=False).encode())) > limit_bytes and data:
        data = data[: min(used * limit_bytes // size, len(data) - 1)]
        text, used = _decoded(data, charset, is_end=False)
    return text, used


def _decoded(data: bytes, charset: str, *, is_end: bool) -> tuple[str, int]:
    decoder = getincrementaldecoder(charset)("replace")
    text = decoder.decode(data, is_end)
    return text, len(data) - len(decoder.getstate()[0])

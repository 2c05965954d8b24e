"""Content codings undone piece by piece, so that no answer takes more memory than its reader wants (RFC 9110 8.4.1).

Ten megabytes may hold ten gigabytes: what comes out comes in pieces of at most `PIECE_BYTES`, which the reader counts.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from argentor_asgi.net.failures import HttpFailed

ACCEPTED: Final = "gzip, deflate"
"""What a request may say that it takes."""
PIECE_BYTES: Final = 64 * 1024
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_NONE: Final = frozenset({"", "identity"})
_MEMBER: Final = b"\x1f"
"""How each member of a gzip body begins (RFC 1952 section 2.3.1)."""
_METHOD_BITS: Final = 0x0F
_DEFLATE: Final = 8
"""The method that the first byte of a zlib body names in its low bits (RFC 1950 section 2.2): the only one there is."""


class Decoder:
    """Undoes one coding, named as in `Content-Encoding`; raises `HttpFailed` (`protocol`) for one not in `ACCEPTED`."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.strip().lower()
        if self._coding not in _NONE | _GZIP | {"deflate"}:
            raise HttpFailed("protocol", "the answer has a content coding that nobody asked for")
        self._member: zlib._Decompress | None = None
        self._is_over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes decode to; raises `HttpFailed` (`protocol`) where they are not of this coding."""
        if self._coding in _NONE:
            if data:
                yield data
            return
        try:
            yield from self._inflated(data)
        except zlib.error as error:
            raise HttpFailed("protocol", "the answer is not of its content coding") from error

    def end(self) -> None:
        """Raise `HttpFailed` (`truncated`) when the body ended before its coding did."""
        if self._member is not None:
            raise HttpFailed("truncated", "the answer was cut off")

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        is_more = bool(data)
        while is_more and self._begin(data) and (member := self._member):
            piece = member.decompress(data, PIECE_BYTES)
            if piece:
                yield piece
            data = member.unconsumed_tail
            if member.eof:
                data, self._member, self._is_over = member.unused_data, None, True
            is_more = bool(data) or len(piece) == PIECE_BYTES

    def _begin(self, data: bytes) -> bool:
        """Say whether there is a member to go on with; what follows the last one is padding, and is left alone."""
        if self._member is None and not (self._is_over and not data.startswith(_MEMBER)):
            self._member = zlib.decompressobj(self._window_bits(data[0]))
        return self._member is not None

    def _window_bits(self, first: int) -> int:
        """Return what zlib wants to hear; some send deflate without the head of zlib (RFC 9110 section 8.4.1.2)."""
        if self._coding in _GZIP:
            return 16 + zlib.MAX_WBITS
        return zlib.MAX_WBITS if first & _METHOD_BITS == _DEFLATE else -zlib.MAX_WBITS

"""How every list is paged: `limit` and `cursor` in, a `Link: rel=next` out (RFC 8288)."""

from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import urlencode

from argentor_asgi.protocol.schema import Meta

Limit = Annotated[int, Meta(ge=1, le=1000, description="How many rows to return.")]
Cursor = Annotated[str | None, Meta(max_length=512, description="Where the page before ended.")]


def next_page(path: str, cursor: str | None, query: Mapping[str, str | None]) -> Sequence[tuple[bytes, bytes]]:
    """Return the header that names the next page, or none at the end."""
    if cursor is None:
        return ()
    asked = {name: value for name, value in query.items() if value is not None}
    return ((b"link", f'<{path}?{urlencode({**asked, "cursor": cursor})}>; rel="next"'.encode()),)

"""How every list is paged: `limit` and `cursor` in, a `Link: rel=next` out (RFC 8288)."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from argentor_asgi.protocol.schema import Meta

Limit = Annotated[int, Meta(ge=1, le=1000, description="How many rows to return.")]
Cursor = Annotated[str | None, Meta(max_length=512, description="Where the page before ended.")]


def next_page(**query: str | int | None) -> Sequence[tuple[bytes, bytes]]:
    """Return the header that names the next page: the same path with this query, less the parameters that are None.

    The reference is relative (RFC 3986 section 5.2), so that it holds under whatever prefix the gateway is mounted.
    """
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return ((b"link", f'<?{asked}>; rel="next"'.encode()),)

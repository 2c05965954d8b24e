"""The skill `http_fetch`: reads a public web address, where the gateway connects to nothing that is private.

The client resolves a name once, judges each of its addresses and connects to one of those, so that a name cannot mean
another place a moment later. Hosts are held against the grant at each hop, and the body is capped while it is read.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final, Literal

from argentor_asgi.agent.capabilities import is_granted_host
from argentor_asgi.agent.opt_in_skills.fitting import fitted_text
from argentor_asgi.agent.skills import FunctionSkill, SkillRefused, in_thread, skill
from argentor_asgi.net.http import Client, Fetched, HttpFailed, Timeouts
from argentor_asgi.protocol.schema import JsonObject, Meta

READ_BYTES: Final = 5 * 1024 * 1024
"""How much of a body is read at most."""
REDIRECTS: Final = 5
"""How many hops are followed."""
HEADER_BYTES: Final = 1024
"""The longest value of a header that is sent, or told."""
TIMEOUTS: Final = Timeouts(first_byte_s=15.0, idle_s=10.0, total_s=25.0)
"""Less than a skill has in all, so that the model hears what it was."""
CONNECTIONS: Final = 20
"""How many connections there are at most."""

_SENT: Final = frozenset({"accept", "accept-language", "cache-control", "if-modified-since", "if-none-match", "range"})
"""The headers that may be sent: none that proves who asks, or that changes what is asked for."""
_TOLD: Final = (
    "age", "cache-control", "content-language", "content-length", "content-type", "date", "etag", "expires",
    "last-modified", "link", "location", "retry-after",
)  # fmt: skip
"""The headers that are told; cookies are not."""
_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_-]{1,40})""", re.IGNORECASE)
_TEXT_CHARSET: Final = re.compile(
    r"utf-?(8|16|16le|16be|32)|us-ascii|ascii|latin-?1|iso-?8859-?\d{1,2}|(windows-?|cp)125\d|koi8-[ru]|gbk|gb2312"
    r"|gb18030|big5|shift[_-]jis|euc-(jp|kr)|iso-2022-jp"
)
"""Charsets of the web. Python knows further codecs, some of which take quadratic time."""


def public_client() -> Client:
    """Return a client that connects to public addresses alone; the caller closes it."""
    return Client(timeouts=TIMEOUTS, connections=CONNECTIONS)


def http_fetch_skill(client: Client, hosts: tuple[str, ...]) -> FunctionSkill:
    """Return the skill `http_fetch` over `client`, which owns the address policy, for the granted `hosts`."""

    @skill(
        "http_fetch",
        "Reads a public http or https address, following redirects. GET returns the body as text, HEAD only what is "
        "said about it.",
        capabilities=("network_access",),
        checked_arguments={"url": "network_access"},
    )
    async def http_fetch(
        url: Annotated[str, Meta(min_length=1, max_length=4096, description="The address, with http:// or https://.")],
        method: Annotated[Literal["GET", "HEAD"], Meta(description="What to ask for.")] = "GET",
        headers: Annotated[
            dict[str, str], Meta(max_length=8, description=f"Headers to send: {', '.join(sorted(_SENT))}.")
        ] = {},  # noqa: B006  read into a schema, and never changed
        max_bytes: Annotated[int, Meta(ge=1, le=READ_BYTES, description="How much of the body is read.")] = 256 * 1024,
    ) -> JsonObject:
        """Return `{"url", "status", "headers", "text", "bytes", "truncated"}`; `url` is where the redirects led."""
        sent = _sendable(headers)
        allowed = partial(is_granted_host, hosts)
        try:
            fetched = await client.fetch(
                method, url, headers=sent, limit_bytes=max_bytes, redirects=REDIRECTS, allowed=allowed
            )
        except HttpFailed as error:
            raise SkillRefused(f"The address could not be read: {error}.") from None
        return await in_thread(partial(_shown, fetched))

    return http_fetch


def charset_of(content_type: str) -> str:
    """Return the charset that a `Content-Type` names, lower case; UTF-8 when it names none of the web's."""
    named = _CHARSET.search(content_type)
    charset = named[1].lower() if named else ""
    return charset if _TEXT_CHARSET.fullmatch(charset) else "utf-8"


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with their names in lower case; raises `SkillRefused` for one that may not be sent."""
    sent = {name.lower(): value for name, value in headers.items()}
    for name, value in sent.items():
        if name not in _SENT:
            raise SkillRefused(f"The header {name[:64]!r} may not be sent; these may: {', '.join(sorted(_SENT))}.")
        if len(value) > HEADER_BYTES or not _VALUE.fullmatch(value):
            raise SkillRefused(f"The header {name} must be one line of ASCII of at most {HEADER_BYTES} characters.")
    return sent


def _shown(fetched: Fetched) -> JsonObject:
    charset = charset_of(fetched.headers.get("content-type", ""))
    text, used = fitted_text(fetched.body, charset, is_end=not fetched.truncated)
    return {
        "url": fetched.url,
        "status": fetched.status,
        "headers": {name: fetched.headers[name][:HEADER_BYTES] for name in _TOLD if name in fetched.headers},
        "text": text,
        "bytes": used,
        "truncated": fetched.truncated or used < len(fetched.body),
    }

"""What a wire is: how one kind of provider is asked, how its stream is read, and how its refusals are understood.

A wire does no I/O. Whoever does sends `body` as JSON to the provider's base and `path`, feeds each server-sent event to
a fresh `reading`, and calls its `end` once the answer's HTTP body has ended cleanly.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.llm import LlmEvent, LlmRequest
from argentor_asgi.protocol.schema import JsonObject
from argentor_asgi.protocol.sse_reader import ServerEvent
from argentor_asgi.providers import TokensField


class Reading(Protocol):
    """One answer being read; not used again after `end` or an exception."""

    def feed(self, event: ServerEvent) -> Sequence[LlmEvent]:
        """Return what the event says.

        Raises the declared error of an error inside the stream, `StreamTruncated` for an event that makes no sense.
        """
        ...

    def end(self) -> Sequence[LlmEvent]:
        """Return what is left to say, `Finish` last; called once, at the clean end of the HTTP body.

        Raises `StreamTruncated` unless the wire's terminal frame was seen (agent.md 2.3, rule 8).
        """
        ...


class Wire(Protocol):
    """One wire format; stateless, one for all calls."""

    def path(self, model: str) -> str:
        """Return the path, and query, of a streamed call behind the provider's base."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Return the headers that the format wants beside those of JSON over HTTP and the key; lower-case names."""
        ...

    def body(self, request: LlmRequest, model: str, *, tokens_field: TokensField) -> JsonObject:
        """Return the body of a streamed call. The same request is the same body, member by member in order."""
        ...

    def reading(self) -> Reading:
        """Return a fresh reading of one answer."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Return the declared error of an answer that is not a 2xx; `headers` by lower-case names.

        `retry_after` as the provider told it; a date is counted from the answer's own `date`.
        """
        ...

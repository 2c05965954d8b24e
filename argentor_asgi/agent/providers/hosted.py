"""One model of one provider over HTTP as a backend: its wire sent and read, its failures made declared ones.

A try is one request here; trying again, other models and leaving a model alone are `resilience`'s.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from argentor_asgi.agent.providers.pace import Pace, Place
from argentor_asgi.api_keys import HIDDEN, Secret
from argentor_asgi.errors import GatewayError, ProviderBadRequest, ProviderUnavailable, StreamTruncated
from argentor_asgi.net.http import Answer, Client, HttpFailed
from argentor_asgi.protocol.llm import LlmEvent, LlmRequest, ReasoningPiece, TextPiece, ToolArgs, UsageReport
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import encode
from argentor_asgi.protocol.sse_reader import EventReader, ServerEvent
from argentor_asgi.protocol.wires import WIRES, Reading
from argentor_asgi.providers import Provider, TokensField

REFUSAL_BYTES: Final = 64 * 1024
"""How much of a refusal's body is read."""
REFUSAL_S: Final = 5.0
"""How long that may take."""
NOTE_CHARS: Final = 300
"""How much of a provider's words is written down."""
TOKEN: Final = 4
"""How many characters count as one token where the provider does not tell."""
EVENT_STREAM: Final = "text/event-stream"
VERSIONS: Final = ("/v1", "/v1beta")
"""What of a base's path the wires add themselves."""
_OK, _REFUSAL = 200, 400
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

log = logging.getLogger("argentor.models")


class Refused(Exception):
    """The provider did not answer with a stream; `status` is HTTP's. The cause of the declared error."""

    def __init__(self, status: int) -> None:
        """Keep the status beside the words."""
        super().__init__(f"The provider answered {status}.")
        self.status = status


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model is asked where a request does not say: the most `max_tokens`, and `temperature` when set.

    `tokens_field`: by which field it is told the former, None for as its provider wants.
    """

    max_tokens: int
    temperature: float | None = None
    tokens_field: TokensField | None = None


class HostedBackend:
    """An `LlmBackend` of one model; `client` is its own, and is closed with it.

    `base_url`: where the provider is, with or without `/v1` and a slash at its end; None for where it is known to be.
    `key`: None where none is needed. The key is sent in a header alone (agent.md 1.10 D14) and is in no log.
    """

    def __init__(
        self,
        provider: Provider,
        model: str,
        *,
        client: Client,
        manner: Manner,
        key: Secret | None = None,
        base_url: str | None = None,
    ) -> None:
        """Make what every request has in common; nothing is sent."""
        self.name = provider.id
        self.model = model
        self._wire = WIRES[provider.wire]
        self._client = client
        self._manner = manner
        self._key = key
        self._pace = Pace()
        self._tokens_field = manner.tokens_field or provider.tokens_field
        self._url = base(base_url or provider.base) + self._wire.path(model)
        self._headers = {
            "content-type": "application/json",
            "accept": EVENT_STREAM,
            **self._wire.headers(),
            **_key_header(provider, key),
        }

    async def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        """Answer one request; `Finish` comes once the stream had its terminal frame and HTTP its clean end.

        Raises what the provider refuses with, `ProviderUnavailable` when it fails before it said anything, and
        `StreamTruncated` when it does afterwards. Closing the iterator, or a cancel at any await, closes the socket.
        """
        place = Place(self._pace)
        await place.step()
        body = self._body(request)
        tally, is_begun = _Tally(len(body)), False
        try:
            async with self._client.open("POST", self._url, headers=self._head(request), body=body) as answer:
                await self._refuse(answer)
                reader, reading = EventReader(), self._wire.reading()
                async for chunk in answer.chunks():
                    for event in _told(reading, reader.feed(chunk)):
                        await place.step()
                        if event is None:
                            continue
                        is_begun = True
                        tally.hear(event)
                        yield event
                last = [event for event in _told(reading, reader.end()) if event is not None]
                for event in tally.completed([*last, *reading.end()]):
                    yield event
        except HttpFailed as failed:
            raise self._failure(failed, is_begun=is_begun) from failed
        except GatewayError as error:
            self._note(error)
            raise

    async def aclose(self) -> None:
        """Close every connection to the provider."""
        await self._client.aclose()

    def _body(self, request: LlmRequest) -> bytes:
        manner = self._manner
        filled = replace(
            request,
            max_tokens=request.max_tokens or manner.max_tokens,
            temperature=manner.temperature if request.temperature is None else request.temperature,
        )
        return encode(self._wire.body(filled, self.model, tokens_field=self._tokens_field))

    def _head(self, request: LlmRequest) -> Mapping[str, str]:
        return self._headers | ({"traceparent": request.trace_parent} if request.trace_parent else {})

    async def _refuse(self, answer: Answer) -> None:
        """Raise the declared error of an answer that is no stream of events."""
        status, kind = answer.status, answer.headers.get("content-type", EVENT_STREAM)
        if status == _OK and kind.partition(";")[0].strip().lower() == EVENT_STREAM:
            return
        if _OK <= status < _REFUSAL:
            error: GatewayError = ProviderBadRequest()
            error.add_note(f"The provider answered {status} with {kind}, and not with a stream of events.")
        else:
            error = self._wire.refusal(status, answer.headers, await _start(answer))
        raise error from Refused(status)

    def _failure(self, failed: HttpFailed, *, is_begun: bool) -> GatewayError:
        """Return the declared error of a failure below the wire; the log has the phase."""
        log.warning("%s/%s: %s: %s", self.name, self.model, failed.phase, self._hidden(str(failed)))
        return StreamTruncated() if is_begun else ProviderUnavailable()

    def _note(self, error: GatewayError) -> None:
        """Log what the provider said, which is in the error's notes; they are made fit to be written down for good."""
        notes: list[str] = getattr(error, "__notes__", [])
        notes[:] = [_UNPRINTABLE.sub(" ", self._hidden(note))[:NOTE_CHARS] for note in notes]
        log.warning("%s/%s: %s: %s", self.name, self.model, error.code, " ".join(notes) or error.message)

    def _hidden(self, text: str) -> str:
        """Return the text without the key in any case; before anything is cut, since half a key is too much of it."""
        key = self._key.reveal() if self._key else ""
        return re.sub(re.escape(key), HIDDEN, text, flags=re.IGNORECASE) if key else text


class _Tally:
    """Counts what an answer says, for the providers that do not tell its tokens, or tell none of each.

    `asked_bytes`: of the request.
    """

    def __init__(self, asked_bytes: int) -> None:
        self._asked_bytes = asked_bytes
        self._characters = 0
        self._is_told = False

    def hear(self, event: LlmEvent) -> None:
        """Take one event."""
        match event:
            case TextPiece(text) | ReasoningPiece(text) | ToolArgs(_, text):
                self._characters += len(text)
            case UsageReport(usage) if usage != Usage():
                self._is_told = True

    def completed(self, events: Sequence[LlmEvent]) -> Sequence[LlmEvent]:
        """Return the last events, with an estimate of the tokens before their `Finish` unless the provider told."""
        for event in events:
            self.hear(event)
        if self._is_told:
            return events
        used = Usage(self._asked_bytes // TOKEN + 1, self._characters // TOKEN + 1, estimated=True)
        return [*events[:-1], UsageReport(used), events[-1]]


def _told(reading: Reading, events: Sequence[ServerEvent]) -> Iterator[LlmEvent | None]:
    """Yield what the events say, None for one that says nothing: that is work too."""
    for event in events:
        yield from reading.feed(event) or (None,)


def base(url: str) -> str:
    """Return the base behind which a wire's path goes: no slash at its end, and no version, which the path has."""
    found = url.rstrip("/")
    return next((found.removesuffix(version) for version in VERSIONS if found.endswith(version)), found)


def _key_header(provider: Provider, key: Secret | None) -> Mapping[str, str]:
    if key is None:
        return {}
    text = key.reveal()
    return {provider.key_header: f"Bearer {text}" if provider.key_header == "authorization" else text}


async def _start(answer: Answer) -> bytes:
    """Return the start of a refusal's body; one that does not come whole says as little as an empty one."""
    try:
        async with asyncio.timeout(REFUSAL_S):
            body, _ = await answer.begin(REFUSAL_BYTES)
    except (HttpFailed, TimeoutError):
        return b""
    return body

"""`argentor-builtin/1` as a model: it streams what the planner decides."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

from argentor_asgi.protocol.llm import (
    Finish,
    LlmEvent,
    LlmRequest,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.schema import JsonObject, encode

PIECE = 16
"""How many characters of a call's arguments one event carries."""
TOKEN = 4
"""How many characters count as one token."""
MESSAGE_TOKENS = 4
"""What a message costs besides its text."""


class BuiltinBackend:
    """The embedded model: rules instead of weights, the same events as any other; passes the contract of `LlmBackend`.

    It opens nothing and holds nothing, so closing the iterator at any event leaves nothing behind. `pace_s`: seconds
    between two pieces, 0.0 to only let other tasks run.
    """

    name = "builtin"
    model = "argentor-builtin/1"

    def __init__(self, *, pace_s: float = 0.0) -> None:
        self._pace_s = pace_s

    async def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        """Answer one request piece by piece; the same request has the same answer. Cancellation ends it at a piece."""
        from argentor_asgi.agent.builtin.planner import plan  # noqa: PLC0415  a gateway with a hosted model needs none

        reply = plan(request.messages, request.tools)
        answer = reply.text.encode("utf-8", "replace").decode()
        limit = request.max_tokens * TOKEN if request.max_tokens and not reply.calls else len(answer)
        text = answer[:limit]
        arguments = [_json(call.arguments) for call in reply.calls]
        for piece in word_groups(text):
            yield TextPiece(piece)
            await asyncio.sleep(self._pace_s)
        for call, written in zip(reply.calls, arguments, strict=True):
            yield ToolStart(call.id, call.name)
            for at in range(0, len(written), PIECE):
                yield ToolArgs(call.id, written[at : at + PIECE])
                await asyncio.sleep(self._pace_s)
            yield ToolEnd(call.id)
        yield UsageReport(_usage(request, [text, *arguments]))
        if reply.calls:
            yield Finish("tool_calls")
        else:
            yield Finish("stop" if len(text) == len(answer) else "length")

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def word_groups(text: str) -> Iterator[str]:
    """Yield `text` in pieces that end behind a blank once they have `PIECE` characters; joined they are `text`."""
    at = 0
    while at < len(text):
        end = text.find(" ", at + PIECE - 1, at + 4 * PIECE)
        end = end + 1 if end >= 0 else at + 4 * PIECE
        yield text[at:end]
        at = end


def _json(arguments: JsonObject) -> str:
    return encode(arguments).decode()


def _usage(request: LlmRequest, said: Sequence[str]) -> Usage:
    """Estimate tokens: `TOKEN` characters each, and a fixed cost for each message."""
    asked = [request.system, *(message.content for message in request.messages)]
    return Usage(sum(map(tokens, asked)) + MESSAGE_TOKENS * len(asked), sum(map(tokens, said)), estimated=True)


def tokens(text: str) -> int:
    """Return how many tokens `text` counts as."""
    return (len(text) + TOKEN - 1) // TOKEN

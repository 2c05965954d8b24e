"""What the wires share: reading a frame, the numbers of a usage, and a history in a form that each can take."""

import re
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Final, TypeVar

from argentor_asgi.errors import GatewayError, StreamTruncated
from argentor_asgi.protocol.llm import FinishReason, LlmRequest
from argentor_asgi.protocol.messages import Message, Part
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode

CALLS: Final = 256
"""How many calls one answer may make before its stream counts as broken; the turn runs far fewer."""
ID_CHARS: Final = 256
"""How long a provider's id may be; a longer one, which each piece of its call would repeat, is replaced."""
KEPT_CHARS: Final = 1024 * 1024
"""How much of its thoughts and signatures an answer may have kept, to be sent back with the next request."""
TOKENS: Final = 10**12
"""The largest number of tokens that a provider is believed."""
EMPTY: Final = "(empty)"
"""What stands for an empty result where a wire refuses empty text."""

T = TypeVar("T")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NAME_CHARS: Final = 64
_NOT_IN_NAMES: Final = re.compile("[^A-Za-z0-9_-]")


def garbled() -> StreamTruncated:
    """Return the error of a frame that makes no sense: what follows it cannot be trusted either."""
    return StreamTruncated("The model's answer cannot be understood.")


def frame(data: str, kind: type[T]) -> T:
    """Return the JSON of one event as `kind`; raises `StreamTruncated` for what is no JSON or has another shape."""
    try:
        return decode(data.encode(), kind)
    except (GatewayError, UnicodeEncodeError):
        raise garbled() from None


def count(usage: JsonValue, *path: str) -> int:
    """Return the number of tokens at `path`, 0 where there is none: no answer fails for its bill."""
    for name in path:
        usage = usage.get(name) if isinstance(usage, dict) else None
    is_number = isinstance(usage, int | float) and not isinstance(usage, bool)
    return int(min(max(usage, 0), TOKENS)) if is_number else 0


def settled(reason: FinishReason, *, has_calls: bool) -> FinishReason:
    """Return the reason of a finished answer by its calls: some servers say `stop` with calls, or calls with none."""
    if reason in {"stop", "tool_calls"}:
        return "tool_calls" if has_calls else "stop"
    return reason


def call_id(given: str | None) -> str:
    """Return a call's id as every provider takes it: as it is, else one made from it, always the same.

    OpenAI takes at most 40 characters, Anthropic letters, digits, `_` and `-`.
    """
    given = given or ""
    return given if _ID.fullmatch(given) else f"call_{sha256(given.encode(errors='replace')).hexdigest()[:24]}"


def call_name(given: str | None) -> str:
    """Return the name of a called function as every provider takes it; that of a skill is such a name already.

    A model may make up any, such as `functions.add`: a history with it would be refused from then on.
    """
    return _NOT_IN_NAMES.sub("_", given or "")[:_NAME_CHARS] or "_"


def short_id(given: str | None) -> str | None:
    """Return a provider's id, None for none and for one that is too long to be repeated."""
    return given if given and len(given) <= ID_CHARS else None


def fresh_id(given: str | None, taken: Collection[str], stem: str = "call") -> str:
    """Return the provider's id for a call, or one made from `stem`.

    Made where it has none, gave it to another call, or gave one beyond `ID_CHARS`.
    """
    if (found := short_id(given)) and found not in taken:
        return found
    return next(made for number in range(len(taken) + 1) if (made := f"{stem}_{number}") not in taken)


def parts(message: Message) -> Sequence[Part]:
    """Return what a message says; one that was stored as text alone is one part."""
    return message.parts or (Part("text", text=message.content),)


def said(message: Message) -> str:
    """Return a message's text, as one that is not an assistant's is sent."""
    return "".join(part.text or "" for part in parts(message) if part.type == "text")


def system_text(request: LlmRequest) -> str:
    """Return the system prompt and the history's system messages in order, for wires that know no such role."""
    found = [request.system, *(said(message) for message in request.messages if message.role == "system")]
    return "\n\n".join(text for text in found if text.strip())


def kept(message: Message, wire: str) -> JsonObject:
    """Return what a reading of this wire left to be sent back, empty where another wire's made the message."""
    found = message.metadata.get("backend")
    mine = found.get(wire) if isinstance(found, dict) else None
    return mine if isinstance(mine, dict) else {}


def merged(turns: Iterable[tuple[str, list[JsonObject]]]) -> list[tuple[str, list[JsonObject]]]:
    """Return the turns (role, blocks) with neighbours of one role made one, and without those that say nothing."""
    found: list[tuple[str, list[JsonObject]]] = []
    for role, blocks in turns:
        if blocks and found and found[-1][0] == role:
            found[-1][1].extend(blocks)
        elif blocks:
            found.append((role, list(blocks)))
    return found

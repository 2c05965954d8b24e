"""What a history must be so that every model's wire takes it."""

from collections.abc import Sequence

from argentor_asgi.protocol.messages import Message


def flaws(messages: Sequence[Message]) -> list[str]:
    """Return what is wrong with a history, in words; nothing for one that OpenAI, Anthropic and Gemini all take."""
    found = [f"{message.role} without words" for message in messages if _is_empty(message)]
    roles = [message.role for message in messages if message.role != "system"]
    if roles and roles[0] != "user":
        found.append(f"begins with {roles[0]}")
    for before, message in zip([None, *messages], messages, strict=False):
        if message.role == "tool" and (before is None or not before.tool_calls):
            found.append("results without calls")
    for message, behind in zip(messages, [*messages[1:], None], strict=False):
        asked = [part.id for part in message.tool_calls]
        told = [part.id for part in behind.tool_results] if behind is not None and behind.role == "tool" else []
        if asked and asked != told:
            found.append(f"calls {asked} answered by {told}")
    ids = [part.id for message in messages for part in message.tool_calls]
    if len(ids) != len(set(ids)):
        found.append(f"call ids twice in {ids}")
    return found


def _is_empty(message: Message) -> bool:
    return not message.parts and not message.content

"""What was said before, as every wire takes it: however a session ended, and when it grew too long.

Plain functions over messages; nothing here awaits, reads a clock or knows a store.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, takewhile

from argentor_asgi.protocol.messages import Message, Part, plain_text

NO_RESULT = "The call was interrupted before it had a result."


def mend(messages: Sequence[Message]) -> list[Message]:
    """Return the history as every wire takes it, however the session ended before.

    It begins with a user's message (or a system's); each assistant's message with calls is followed by one tool message
    that answers each of them once, in call order, with `NO_RESULT` where a crash left none; a call whose arguments a
    reviewer edited has those; results without their call and messages that say nothing are left out.
    """
    mended: list[Message] = []
    begun = False
    for index, message in enumerate(messages):
        begun = begun or message.role == "user"
        if message.role in {"user", "system"}:
            mended.append(message)
        elif message.role == "assistant" and begun and _says_something(message):
            if not message.tool_calls:
                mended.append(message)
                continue
            followers = takewhile(lambda follower: follower.role == "tool", islice(messages, index + 1, None))
            answers = _answers(message, list(followers))
            mended += (_as_called(message, answers), answers)
    return mended


def open_calls(messages: Sequence[Message]) -> tuple[Part, ...]:
    """Return the calls at the end of a history that nothing has answered yet; none when it ends otherwise."""
    last = messages[-1] if messages else None
    return last.tool_calls if last is not None and last.role == "assistant" else ()


def _as_called(message: Message, answers: Message) -> Message:
    """Return the message with the arguments that its calls were made with, where a reviewer edited them."""
    edited = {part.id: part.arguments for part in answers.tool_results if part.arguments is not None}
    if not edited:
        return message
    parts = tuple(
        replace(part, arguments=edited[part.id]) if part.type == "tool_call" and part.id in edited else part
        for part in message.parts
    )
    return message if parts == message.parts else replace(message, parts=parts)


def _unanswered(call: Part) -> Part:
    return Part("tool_result", id=call.id, name=call.name, content=NO_RESULT, is_error=True)


def _says_something(message: Message) -> bool:
    return bool(message.content or message.tool_calls or message.metadata.get("backend"))


def _answers(message: Message, followers: Sequence[Message]) -> Message:
    """Return the tool message that answers `message`: the stored one if it does, else one made from what is there."""
    found: dict[str | None, Part] = {}
    for part in (part for follower in followers for part in follower.tool_results):
        found.setdefault(part.id, part)
    parts = tuple(found.get(call.id) or _unanswered(call) for call in message.tool_calls)
    if len(followers) == 1 and followers[0].parts == parts:
        return followers[0]
    return Message(
        id=followers[0].id if followers else f"{message.id}-results",
        role="tool",
        content=plain_text(parts),
        session_id=message.session_id,
        timestamp=message.timestamp,
        parts=parts,
    )


def halve(messages: Sequence[Message]) -> list[Message]:
    """Return the newer half of a history, mended, and always with a user's message; no shorter when there is no way."""
    cut = len(messages) - len(messages) // 2
    kept = list(messages[cut:])
    if not any(message.role == "user" for message in kept):
        kept[:0] = [message for message in messages[:cut] if message.role == "user"][-1:]
    return mend(kept)

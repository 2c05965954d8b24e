"""A hosted model on OpenAI's wire that does what it is told: the user's message is its script, turn by turn.

    async with raw_server(told) as raw:
        ...                                            # a gateway whose model is at `raw.url`
        ask(script([("calculator", {...}), ("hash", {...})], "done"))      # two calls in a turn, then an answer

Behind its script it answers with the results of the calls that it made, as a JSON list.
"""

import json
from collections.abc import Sequence
from typing import Any

from hosted_models import OPENAI_USAGE, openai_chunk
from raw_server import Asked, Line

MARK = "script:"
"""What stands before a script; what stands before that is nothing to the model."""

Turn = str | Sequence[tuple[str, Any]]
"""An answer, or calls by name and arguments: an object, or a text that is sent as it is."""


def script(*turns: Turn) -> str:
    """Return the message that makes the model take these turns."""
    return MARK + json.dumps(turns)


def results(text: str) -> list[str]:
    """Return what the calls came to, of the answer behind the script."""
    return json.loads(text)


async def told(asked: Asked, line: Line) -> None:
    """Take the next turn."""
    said = asked.json()["messages"]
    *_, last = (at for at, message in enumerate(said) if message["role"] == "user")
    since = said[last:]
    turns = json.loads(said[last]["content"].partition(MARK)[2] or "[]")
    taken = sum(message["role"] == "assistant" for message in since)
    if taken < len(turns) and not isinstance(turns[taken], str):
        calls = [_call(at, f"c{len(said)}x{at}", *each) for at, each in enumerate(turns[taken])]
        await line.events(*calls, openai_chunk({}, "tool_calls"), OPENAI_USAGE, "[DONE]")
        return
    heard = json.dumps([message["content"] for message in since if message["role"] == "tool"])
    text = turns[taken] if taken < len(turns) else heard
    await line.events(openai_chunk({"content": text}, "stop"), OPENAI_USAGE, "[DONE]")


def _call(at: int, call_id: str, name: str, arguments: Any) -> dict:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return openai_chunk({"tool_calls": [{"index": at, "id": call_id, "function": {"name": name, "arguments": text}}]})

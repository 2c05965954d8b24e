"""A conversation with the planner in a test: the history is real, the skills answer from a list given by hand."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from argentor_asgi.agent.builtin.planner import PlannedCall, Reply, plan
from argentor_asgi.protocol.llm import ToolSpec
from argentor_asgi.protocol.messages import Message, Part

NAMES = (
    "calculator", "csv_processor", "data_validator", "datetime", "diff", "encode_decode", "hash", "json_query",
    "memory_forget", "memory_list", "memory_search", "memory_store", "skills_help", "summarizer", "text_transform",
    "uuid_generator",
)  # fmt: skip
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def tool(name: str, description: str = "", **properties: object) -> ToolSpec:
    """Return a skill on offer; its properties are all required."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ToolSpec(name, description or f"Does {name.replace('_', ' ')}.", schema)


TOOLS = tuple(tool(name) for name in NAMES)


def message(role: str, content: str, parts: Iterable[Part] = ()) -> Message:
    """Return a message of a made-up session."""
    return Message("m", role, content, "s", NOW, tuple(parts))  # type: ignore[arg-type]  # tests name roles as text


def calling(text: str, call: PlannedCall) -> Message:
    """Return the assistant's message that makes a call."""
    made = Part("tool_call", id=call.id, name=call.name, arguments=call.arguments)
    return message("assistant", text, (Part("text", text=text), made))


def result(call: PlannedCall, content: object, *, is_error: bool = False) -> Message:
    """Return the tool's message with a result, as JSON text unless it is text already."""
    text = content if isinstance(content, str) else json.dumps(content)
    return message("tool", text, (Part("tool_result", id=call.id, name=call.name, content=text, is_error=is_error),))


class Failed:
    """A result that is an error, with these words."""

    def __init__(self, words: str) -> None:
        self.words = words


class Talk:
    """Plays the loop: says something, hands out the given results in order, and keeps the history and the calls."""

    def __init__(self, tools: Iterable[ToolSpec] = TOOLS) -> None:
        self.tools = tuple(tools)
        self.history: list[Message] = []
        self.calls: list[PlannedCall] = []

    def say(self, text: str, *results: object) -> str:
        """Return the final answer; every result is used, and none is missing."""
        self.history.append(message("user", text))
        left = list(results)
        while (reply := self.next()).calls:
            assert left, f"no result for {reply.calls}"
            (call,) = reply.calls
            given = left.pop(0)
            self.calls.append(call)
            self.history.append(calling(reply.text, call))
            failed = isinstance(given, Failed)
            self.history.append(result(call, given.words if failed else given, is_error=failed))
        assert not left, f"results left over: {left}"
        self.history.append(message("assistant", reply.text))
        return reply.text

    def next(self) -> Reply:
        """Return the planner's next move."""
        return plan(self.history, self.tools)


def first_call(text: str) -> tuple[str, object]:
    """Return the skill and the arguments that a first message leads to; the skill is "" for an answer."""
    reply = plan([message("user", text)], TOOLS)
    return (reply.calls[0].name, reply.calls[0].arguments) if reply.calls else ("", reply.text)

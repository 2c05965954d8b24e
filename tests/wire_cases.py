"""Requests to models that every wire is asked with, and the bodies that it must make of them (agent.md 8.3).

A golden is the body as JSON, laid out for the eye: `golden` returns the bytes that a server must receive. To write one
anew, delete the file and run `tests/protocol/wires/test_goldens.py`: it writes what is missing, and fails.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from argentor_asgi.protocol.llm import LlmRequest, ToolSpec
from argentor_asgi.protocol.messages import Message, Part, plain_text

GOLDENS = Path(__file__).parent / "goldens"
MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro"}
SYSTEM = "You are a careful assistant."

CALCULATOR = ToolSpec(
    "calculator",
    "Compute.",
    {
        "type": "object",
        "properties": {"expression": {"type": "string", "default": "0"}, "to": {"$ref": "#/$defs/base"}},
        "required": ["expression"],
        "additionalProperties": False,
        "$defs": {"base": {"type": "integer", "enum": [2, 10]}},
    },
)
CLOCK = ToolSpec("datetime", "Tell the time.", {"type": "object", "properties": {}})

SIGNED = {"type": "thinking", "thinking": "17*23 first.", "signature": "c2lnbmVk"}
REDACTED = {"type": "redacted_thinking", "data": "aGlkZGVu"}


def message(role, *parts, content=None, metadata=None):
    """Return a message of `parts`; text alone is given as `content`."""
    return Message(
        id="m",
        role=role,
        content=plain_text(parts) if content is None else content,
        session_id="s",
        timestamp=datetime(2026, 1, 2, tzinfo=UTC),
        parts=parts,
        metadata=metadata or {},
    )


def user(text):
    return message("user", text_part(text))


def text_part(text):
    return Part("text", text=text)


def call(call_id, name="calculator", **arguments):
    return Part("tool_call", id=call_id, name=name, arguments=arguments)


def result(call_id, content, name="calculator", *, is_error=False):
    return Part("tool_result", id=call_id, name=name, content=content, is_error=is_error)


def thought(text):
    return Part("reasoning", text=text)


ASKED = user("What is 17*23?")
ONE_CALL = (
    message("assistant", text_part("Let me compute that."), call("call_1", expression="17*23")),
    message("tool", result("call_1", '{"result":391}')),
)
THOUGHT_OF = message(
    "assistant",
    thought("17*23 first."),
    text_part("Let me compute."),
    call("call_1", expression="17*23"),
    call("call_2", expression="2+2"),
    metadata={
        "backend": {
            "anthropic": {"thoughts": [{"before": 0, "block": SIGNED}, {"before": 1, "block": REDACTED}]},
            "gemini": {"calls": [{"id": "fc/1", "signature": "c2lnbmVk"}, {}]},
        }
    },
)

CASES = {
    "first_round": LlmRequest(SYSTEM, [ASKED], (CALCULATOR, CLOCK), temperature=0.5, max_tokens=512),
    "bare": LlmRequest("", [message("user", content="Hello.")]),
    "second_round": LlmRequest(SYSTEM, [ASKED, *ONE_CALL], (CALCULATOR,), max_tokens=512),
    "parallel_calls": LlmRequest(
        SYSTEM,
        [
            user("What is 17*23, and what time is it?"),
            message("assistant", call("call_1", expression="17*23"), call("call_2", name="datetime")),
            message(
                "tool",
                result("call_1", "391"),
                result("call_2", "The skill datetime timed out.", name="datetime", is_error=True),
            ),
            user("Take your time."),
        ],
        (CALCULATOR, CLOCK),
    ),
    "thoughts": LlmRequest(
        SYSTEM,
        [ASKED, THOUGHT_OF, message("tool", result("call_1", '{"result":391}'), result("call_2", "4"))],
        (CALCULATOR,),
    ),
    "system_messages": LlmRequest(
        SYSTEM,
        [
            message("system", content="A summary of what was said before."),
            user("Hi."),
            message("assistant", text_part("Hello.")),
            message("system", content="Answer in Spanish."),
            user("And now?"),
            user("Go on."),
            message("assistant"),
        ],
    ),
    "failed_over": LlmRequest(
        SYSTEM,
        [
            ASKED,
            message("assistant", call("functions.calculator:0/é", expression="17*23")),
            message("tool", result("functions.calculator:0/é", "", is_error=True)),
            message("assistant", thought("Once more."), call("x" * 41, expression="17*23")),
            message("tool", result("x" * 41, "")),
        ],
        (CALCULATOR,),
    ),
}


def golden(wire: str, case: str) -> bytes:
    """Return the body, byte for byte, that the wire must send for the case."""
    found = json.loads((GOLDENS / f"{wire}_{case}.json").read_text())
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()

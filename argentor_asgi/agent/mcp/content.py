"""What a tool answered, as the text that a model reads: pure functions of the parts that came over the wire."""

import json
from collections.abc import Sequence
from typing import Final

from argentor_asgi.protocol.schema import JsonObject, JsonValue

NOTHING: Final = "(the tool said nothing)"
WORDS_CHARACTERS: Final = 300
"""How much is shown of a name or an address in the place of a part that is no text."""


def text_of(parts: Sequence[JsonObject], structured: JsonValue = None) -> str:
    """Return the parts as text, a line for each; `structured`, as JSON, where none of them has any text.

    A part that is no text, such as an image, is described in words.
    """
    said = [(_text(part), part) for part in parts]
    if structured is not None and not any(text for text, _ in said):
        return json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
    return "\n".join(_described(part) if text is None else text for text, part in said) or NOTHING


def _text(part: JsonObject) -> str | None:
    """Return the text of a text part or of a resource that has one, None for any other."""
    holder = part.get("resource") if part.get("type") == "resource" else part
    text = holder.get("text") if isinstance(holder, dict) else None
    return text if isinstance(text, str) else None


def _described(part: JsonObject) -> str:
    match part:
        case {"type": "resource_link", "uri": str(uri)}:
            return f"[a resource: {_short(part.get('name'))} at {_short(uri)}]"
        case {"type": "resource", "resource": {"uri": str(uri), **rest}}:
            return f"[a resource at {_short(uri)}, of type {_short(rest.get('mimeType'))}, which is no text]"
        case {"type": ("image" | "audio") as kind, "data": str(data)}:
            size = len(data) * 3 // 4 - data[-2:].count("=")
            return f"[an {kind} of type {_short(part.get('mimeType'))}, {size} bytes, not shown]"
        case _:
            return f"[a part of type {_short(part.get('type'))}, not shown]"


def _short(value: JsonValue) -> str:
    return value[:WORDS_CHARACTERS] if isinstance(value, str) else "unknown"

"""How each kind of model provider is asked and understood; imports `protocol`, `providers` and `errors` only.

`WIRES` has them by the name under which a `Provider` lists its own. A history made over one of them goes on over
another: what only one of them understands is kept under its name and left out elsewhere.
"""

from collections.abc import Mapping
from typing import Final

from argentor_asgi import providers
from argentor_asgi.protocol.wires.anthropic import AnthropicWire
from argentor_asgi.protocol.wires.gemini import GeminiWire
from argentor_asgi.protocol.wires.openai_chat import OpenAiChatWire
from argentor_asgi.protocol.wires.wire import Reading, Wire

__all__ = ["WIRES", "Reading", "Wire"]

WIRES: Final[Mapping[providers.Wire, Wire]] = {
    "openai": OpenAiChatWire(),
    "anthropic": AnthropicWire(),
    "gemini": GeminiWire(),
}

"""The model providers that the gateway knows: what each is called, where it is, and how it wants to be asked.

Plain data below the configuration, so that a wrong name is a start-up error with the nearest right one (agent.md 1.4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Wire = Literal["openai", "anthropic", "gemini"]
TokensField = Literal["max_tokens", "max_completion_tokens"]

BUILTIN: Final = "builtin"
"""The name of the model that is part of the gateway."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. `base`: the URL before `/v1/...` (Gemini: `/v1beta/...`), without a slash at its end.

    `key_variable`: the environment variable in which its own tools look for the key. `host_variable`: that for the
    base, where there is one. `needs_key`: false where a local server asks for none. `key_header`: `authorization` takes
    the key behind `Bearer`, any other takes it bare.
    """

    id: str
    wire: Wire
    base: str
    key_variable: str
    host_variable: str | None = None
    needs_key: bool = True
    key_header: str = "authorization"
    tokens_field: TokensField = "max_tokens"
    aliases: tuple[str, ...] = ()


_ALL: Final = (
    Provider(
        "claude",
        "anthropic",
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        key_header="x-api-key",
        aliases=("anthropic",),
    ),
    Provider("openai", "openai", "https://api.openai.com", "OPENAI_API_KEY", tokens_field="max_completion_tokens"),
    Provider("openrouter", "openai", "https://openrouter.ai/api", "OPENROUTER_API_KEY"),
    Provider("groq", "openai", "https://api.groq.com/openai", "GROQ_API_KEY"),
    Provider("mistral", "openai", "https://api.mistral.ai", "MISTRAL_API_KEY"),
    Provider("xai", "openai", "https://api.x.ai", "XAI_API_KEY"),
    Provider("deepseek", "openai", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    Provider("cerebras", "openai", "https://api.cerebras.ai", "CEREBRAS_API_KEY"),
    Provider("together", "openai", "https://api.together.xyz", "TOGETHER_API_KEY"),
    Provider("fireworks", "openai", "https://api.fireworks.ai/inference", "FIREWORKS_API_KEY"),
    Provider("huggingface", "openai", "https://api-inference.huggingface.co", "HF_TOKEN", aliases=("hugging_face",)),
    Provider(
        "azureopenai",
        "openai",
        "https://models.inference.ai.azure.com",
        "AZURE_OPENAI_API_KEY",
        key_header="api-key",
        tokens_field="max_completion_tokens",
        aliases=("azure", "azure_openai"),
    ),
    Provider(
        "ollama", "openai", "http://localhost:11434", "OLLAMA_API_KEY", host_variable="OLLAMA_HOST", needs_key=False
    ),
    Provider("vllm", "openai", "http://localhost:8000", "VLLM_API_KEY", host_variable="VLLM_HOST", needs_key=False),
    Provider(
        "gemini",
        "gemini",
        "https://generativelanguage.googleapis.com",
        "GEMINI_API_KEY",
        key_header="x-goog-api-key",
        aliases=("google",),
    ),
)

PROVIDERS: Final[Mapping[str, Provider]] = {
    name: provider for provider in _ALL for name in (provider.id, *provider.aliases)
}
"""Every provider by its id and its other names."""


def check_provider(name: str) -> None:
    """Raise `ValueError` unless `name` is the built-in model's or a provider's."""
    if name != BUILTIN and name not in PROVIDERS:
        raise ValueError(f"expected {BUILTIN} or one of: {', '.join(PROVIDERS)}")

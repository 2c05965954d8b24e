"""The tables of the configuration that the agent and its models are told; as `sections`, of which this is a part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from argentor_asgi.api_keys import Secret
from argentor_asgi.providers import BUILTIN, TokensField
from argentor_asgi.sections import Count, Money, Quota, Seconds
from argentor_asgi.settings import Meta

ModelName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2)]
Patterns: TypeAlias = tuple[str, ...]

PermissionMode = Literal["default", "strict", "permissive", "plan", "read_only", "custom"]
GuardAction = Literal["off", "flag", "redact", "block"]
GuardPhase = Literal["input", "output", "tool_result"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model that answers when those before it do not; what it leaves out is as for its provider."""

    provider: str
    model: ModelName
    api_key: Secret | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs for a million tokens, in the one currency of all prices."""

    model: ModelName
    input: Money
    output: Money
    cached_input: Money | None = None


@dataclass(frozen=True, slots=True)
class Llm:
    """Which model answers. A hosted one needs `argentor-asgi[llm]`."""

    provider: Annotated[
        str,
        Meta(
            description="The model behind the agent: `builtin` needs no key and no network; or a provider: `openai`, "
            "`claude`, `gemini`, `openrouter`, `groq`, `mistral`, `xai`, `deepseek`, `cerebras`, `together`, "
            "`fireworks`, `huggingface`, `azure`, `ollama`, `vllm`."
        ),
    ] = BUILTIN
    model: Annotated[ModelName | None, Meta(description="The model's name, as its provider has it.")] = None
    api_key: Annotated[
        Secret | None,
        Meta(description="The provider's key; else the provider's own variable is read, such as `OPENAI_API_KEY`."),
    ] = None
    base_url: Annotated[
        str | None,
        Meta(description="Where the provider is, up to and without `/v1`; else where it is known to be."),
    ] = None
    fallbacks: Annotated[
        tuple[Fallback, ...],
        Meta(
            description="Models to ask when those before cannot answer, each with `provider`, `model` and as wanted "
            "`api_key`, `base_url`. JSON in the environment."
        ),
    ] = ()
    temperature: Annotated[
        Temperature | None, Meta(description="How freely the model chooses; sent only when set.")
    ] = None
    max_tokens: Annotated[Count, Meta(description="Tokens of one answer of the model.")] = 4096
    max_tokens_field: Annotated[
        TokensField | None,
        Meta(description="By which field an OpenAI-compatible server is told that; by default as its provider wants."),
    ] = None
    retries: Annotated[
        int, Meta(ge=0, le=10, description="Further tries of a call that failed before anything was said.")
    ] = 3
    breaker_failures: Annotated[
        Count, Meta(description="Failures in a row after which a model is left alone for a while.")
    ] = 5
    breaker_open_s: Annotated[Seconds, Meta(description="Seconds that it is left alone, before one call tries.")] = 30.0
    connect_timeout_s: Annotated[Seconds, Meta(description="Seconds to reach the provider.")] = 5.0
    first_byte_timeout_s: Annotated[Seconds, Meta(description="Seconds until the provider begins to answer.")] = 60.0
    idle_timeout_s: Annotated[Seconds, Meta(description="Seconds that an answer may pause.")] = 60.0
    timeout_s: Annotated[Seconds | None, Meta(description="Seconds that one whole model call may take.")] = None
    cache_entries: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Answers at temperature 0 and without tools that are kept; 0 keeps none."),
    ] = 0
    cache_ttl_s: Annotated[Seconds, Meta(description="Seconds that such an answer is used again.")] = 300.0
    prices: Annotated[
        tuple[Price, ...],
        Meta(
            description="Prices for a million tokens, each with `model`, `input`, `output` and as wanted "
            "`cached_input`. A model without a price has no cost. JSON in the environment."
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class Agent:
    """How the agent works."""

    max_turns: Annotated[Count, Meta(description="Model calls in one run.")] = 20
    run_timeout_s: Annotated[
        Seconds, Meta(description="Seconds that a run may take, without those in which it waits for a person.")
    ] = 300.0
    run_tokens: Annotated[Quota | None, Meta(description="Model tokens that one run may use.")] = None
    run_cost: Annotated[Money | None, Meta(description="What one run may cost, where its model has a price.")] = None
    run_tool_calls: Annotated[Quota | None, Meta(description="Calls of skills that one run may make.")] = None
    system_prompt: Annotated[
        str, Meta(max_length=100_000, description="What the model is told before each conversation.")
    ] = "You are a helpful assistant. Say what you are about to do before you use a tool."
    permission_mode: Annotated[
        PermissionMode,
        Meta(
            description="Which skills the agent may call: by `default` those allowed (all, when `allow_skills` is "
            "empty), others once a person agreed; `strict` only those allowed; `permissive` all; `plan` none: they are "
            "noted; `read_only` those that change nothing; `custom` as the embedding program says."
        ),
    ] = "default"
    allow_skills: Annotated[Patterns, Meta(description="Names or `*`-patterns of skills that are allowed.")] = ()
    deny_skills: Annotated[Patterns, Meta(description="Names or `*`-patterns of skills that are never called.")] = ()
    approval_skills: Annotated[
        Patterns, Meta(description="Names or `*`-patterns of skills whose calls need a person's approval.")
    ] = ()
    approval_timeout_s: Annotated[
        Seconds, Meta(description="Seconds after which a call that nobody approved is denied.")
    ] = 300.0
    skills: Annotated[
        tuple[Literal["http_fetch", "file_read", "regex", "agent_delegate"], ...],
        Meta(
            description="Further skills: `http_fetch` (needs `capabilities.network_access`), `file_read` (needs "
            "`capabilities.file_read`), `regex`, `agent_delegate`."
        ),
    ] = ()
    on_disconnect: Annotated[
        Literal["continue", "cancel"], Meta(description="What becomes of a run when the client that waits for it goes.")
    ] = "continue"
    on_busy: Annotated[
        Literal["reject", "enqueue", "interrupt", "steer"] | None,
        Meta(
            description="What becomes of a message to a session that works on another; "
            "by default `enqueue` on a WebSocket, else `reject`."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What skills may reach. A skill that needs what is not granted is never called."""

    file_read: Annotated[Patterns, Meta(description="Directories and files that skills may read, absolute.")] = ()
    file_write: Annotated[Patterns, Meta(description="Directories and files that skills may write, absolute.")] = ()
    network_access: Annotated[
        Patterns,
        Meta(description="Hosts that skills may reach: names, `.suffix` or `*`; private addresses are always refused."),
    ] = ()
    shell_exec: Annotated[Patterns, Meta(description="Commands that skills may run.")] = ()
    env_read: Annotated[Patterns, Meta(description="Environment variables that skills may read.")] = ()
    browser_access: Annotated[Patterns, Meta(description="Domains that skills may browse.")] = ()
    database_query: Annotated[bool, Meta(description="Whether skills may query databases.")] = False


@dataclass(frozen=True, slots=True)
class GuardrailRule:
    """A rule of one's own: exactly one of `pattern`, a regular expression, and `words`, matched as whole words."""

    name: str
    pattern: str | None = None
    words: tuple[str, ...] = ()
    action: GuardAction = "redact"
    phases: tuple[GuardPhase, ...] = ("input", "output", "tool_result")


@dataclass(frozen=True, slots=True)
class Guardrails:
    """What is looked for in messages, answers and what skills return."""

    enabled: Annotated[
        bool | None,
        Meta(description="Whether texts are looked at; by default, when a hosted model or a rule is configured."),
    ] = None
    pii: Annotated[
        GuardAction,
        Meta(description="What becomes of e-mail addresses, phone, card and national id numbers."),
    ] = "redact"
    injection: Annotated[
        GuardAction,
        Meta(description="What becomes of phrases that give the model orders; in what skills return, `block` redacts."),
    ] = "block"
    hold_chars: Annotated[
        int,
        Meta(ge=16, le=4096, description="Characters of an answer that are held back until they have been looked at."),
    ] = 64
    rules: Annotated[
        tuple[GuardrailRule, ...],
        Meta(
            description="Further rules, each with `name`, `pattern` or `words`, and as wanted `action` (`redact`) and "
            '`phases` (`["input", "output", "tool_result"]`). JSON in the environment.'
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server of the Model Context Protocol: exactly one of `url` and `command`. Its skills are `<name>_<tool>`.

    `effect`: what its tools are taken to do, except those in `read_only`.
    """

    name: str
    url: str | None = None
    command: tuple[str, ...] = ()
    headers: Mapping[str, Secret] = field(default_factory=dict)
    env: Mapping[str, Secret] = field(default_factory=dict)
    effect: Literal["read", "write"] = "write"
    read_only: Patterns = ()
    timeout_s: Seconds = 30.0


@dataclass(frozen=True, slots=True)
class Mcp:
    """Skills from elsewhere; needs `argentor-asgi[mcp]`."""

    servers: Annotated[
        tuple[McpServer, ...],
        Meta(
            description="MCP servers whose tools become skills, each with `name`, `url` or `command`, and as wanted "
            "`headers`, `env`, `effect` (`write`), `read_only`, `timeout_s` (30). JSON in the environment."
        ),
    ] = ()

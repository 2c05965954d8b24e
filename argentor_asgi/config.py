"""What the gateway is configured with: the settings, where they come from, and how to see them.

Each field says its range and meaning where it is declared; the loader, `check-config` and the README's table read that.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from argentor_asgi.agent_sections import (
    Agent,
    Capabilities,
    Fallback,
    GuardrailRule,
    Guardrails,
    Llm,
    Mcp,
    McpServer,
    Price,
)
from argentor_asgi.api_keys import HIDDEN, ApiKey, Key, Secret, refuse_twins
from argentor_asgi.errors import ConfigError
from argentor_asgi.providers import BUILTIN, PROVIDERS
from argentor_asgi.sections import Audit, Auth, Limits, Log, Otel, Plan, Shutdown, Storage
from argentor_asgi.settings import Meta, Option, convert
from argentor_asgi.sources import gather, variable

__all__ = ["Agent", "ApiKey", "Audit", "Auth", "Capabilities", "Config", "Fallback", "GuardrailRule", "Guardrails"]
__all__ += ["Key", "Limits", "Llm", "Log", "Mcp", "McpServer", "Option", "Otel", "Plan", "Price", "Secret", "Shutdown"]
__all__ += ["Storage", "check", "effective", "load", "options", "table"]


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting. `load` makes one and says in `sources` where each value comes from; `check` one made in code."""

    public_url: Annotated[
        str | None, Meta(description="Where clients reach the gateway, when that is not where it listens.")
    ] = None
    plans: Annotated[
        Mapping[str, Plan],
        Meta(
            description="What the holders of a plan may use, by its name: `requests_per_minute`, `requests_per_hour`, "
            "`tokens_per_day`, `cost_per_day`, `run_seconds_per_day`, `tool_calls_per_day`, `runs`, `streams`, "
            "`connections`; what it leaves out is as in `limits`. "
            "JSON in the environment."
        ),
    ] = field(default_factory=dict)
    storage: Storage = field(default_factory=Storage)
    auth: Auth = field(default_factory=Auth)
    limits: Limits = field(default_factory=Limits)
    llm: Llm = field(default_factory=Llm)
    agent: Agent = field(default_factory=Agent)
    guardrails: Guardrails = field(default_factory=Guardrails)
    capabilities: Capabilities = field(default_factory=Capabilities)
    mcp: Mcp = field(default_factory=Mcp)
    shutdown: Shutdown = field(default_factory=Shutdown)
    log: Log = field(default_factory=Log)
    audit: Audit = field(default_factory=Audit)
    otel: Otel = field(default_factory=Otel)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def audit_directory(self) -> Path | None:
        """Where the audit log is: as configured, else beside the database; None where nothing is kept."""
        if self.audit.directory is not None:
            return Path(self.audit.directory)
        database = self.storage.path
        return None if database is None else database.with_name(f"{database.name}-audit")


# --- what there is to set ----------------------------------------------------------------------------------------


def _tables() -> Mapping[str, type[Any]]:
    return {
        name: kind for name, kind in get_type_hints(Config).items() if isinstance(kind, type) and is_dataclass(kind)
    }


@lru_cache(maxsize=1)
def options() -> tuple[Option, ...]:
    """Return every setting, those outside the tables first, then as declared."""
    found = [_option(name, Config, name) for name in ("public_url", "plans")]
    for name, kind in _tables().items():
        found += [_option(f"{name}.{each.name}", kind, each.name) for each in fields(kind)]
    return tuple(found)


def _option(name: str, owner: type[Any], attribute: str) -> Option:
    kind = get_type_hints(owner, include_extras=True)[attribute]
    declared = next(each for each in fields(owner) if each.name == attribute)
    default = declared.default if declared.default_factory is MISSING else declared.default_factory()
    meaning = "".join(meta.description or "" for meta in get_args(kind)[1:])
    return Option(name, variable(name), default, meaning, kind)


def table() -> str:
    """Return the settings as a Markdown table, for the README."""
    head = ("| Setting | Environment | Default | Meaning |", "|---|---|---|---|")
    return "\n".join((*head, *(_row(option) for option in options())))


def _row(option: Option) -> str:
    default = "none" if option.default in (None, (), {}) else f"`{_toml(option.default)}`"
    choices = f" One of {', '.join(f'`{word}`' for word in option.choices)}." if option.choices else ""
    return f"| `{option.name}` | `{option.env}` | {default} | {option.meaning}{choices} |"


# --- loading -----------------------------------------------------------------------------------------------------


def load(environ: Mapping[str, str], directory: Path) -> Config:
    """Return what `environ` and the file in `directory` (or the one it names) configure; the environment wins.

    Raises `ConfigError`, and nothing else, for anything that is not understood.
    """
    given = gather(environ, directory, options())
    values: dict[str, object] = {}
    for option in options():
        if option.name in given:
            value, source, from_text = given[option.name]
            values[option.name] = convert(option, value, source=source, from_text=from_text)
    sources = {name: each.source for name, each in given.items()}
    _add_provider_defaults(values, sources, environ)
    config = _built(values, sources)
    _refuse_contradictions(config)
    return config


def _add_provider_defaults(values: dict[str, object], sources: dict[str, str], environ: Mapping[str, str]) -> None:
    """Take the provider's key and host from its own variables where they are not configured."""
    provider = PROVIDERS.get(str(values.get("llm.provider")))
    if provider is not None:
        for name, variable_name in (("api_key", provider.key_variable), ("base_url", provider.host_variable)):
            full, text = f"llm.{name}", environ.get(variable_name or "", "").strip()
            if text and values.get(full) is None:
                option = next(each for each in options() if each.name == full)
                values[full] = convert(
                    option, _url(text, provider.base) if name == "base_url" else text, source=str(variable_name)
                )
                sources[full] = str(variable_name)
    found = values.get("llm.fallbacks")
    if isinstance(found, tuple):
        values["llm.fallbacks"] = tuple(_with_key(fallback, environ) for fallback in found)


def _url(host: str, base: str) -> str:
    """Return the URL that a local model server's own variable stands for; what it leaves out is as in `base`.

    Such a variable says where the server listens, which is every address of this machine by `0.0.0.0`.
    """
    url = host if "://" in host else f"http://{host}"
    scheme, _, rest = url.replace("://0.0.0.0", "://127.0.0.1", 1).partition("://")
    has_port = rest.rpartition("]")[2].count(":") > 0 or "/" in rest
    return f"{scheme}://{rest}" if has_port or "://" in host else f"{scheme}://{rest}:{base.rpartition(':')[2]}"


def _with_key(fallback: Fallback, environ: Mapping[str, str]) -> Fallback:
    key = environ.get(PROVIDERS[fallback.provider].key_variable, "").strip()
    return replace(fallback, api_key=Secret(key)) if key and fallback.api_key is None else fallback


def _built(values: Mapping[str, object], sources: Mapping[str, str]) -> Config:
    made: dict[str, Any] = {}
    for name, kind in _tables().items():
        prefix = f"{name}."
        made[name] = kind(**{key.removeprefix(prefix): values[key] for key in values if key.startswith(prefix)})
    top: dict[str, Any] = {name: value for name, value in values.items() if "." not in name}
    return Config(**made, **top, sources=sources)


def check(config: Config) -> None:
    """Check a configuration made in code; raises `ConfigError` as `load` does."""
    for option in options():
        convert(option, _value(config, option), source=config.sources.get(option.name, "given in code"))
    _refuse_contradictions(config)


def _refuse_contradictions(config: Config) -> None:
    """Raise `ConfigError` for settings that are right by themselves and cannot hold together."""
    try:
        refuse_twins(config.auth.held)
    except ValueError as error:
        raise ConfigError(f"auth.api_keys and auth.keys: {error}") from None
    for at, key in enumerate(config.auth.keys):
        if key.plan is not None and key.plan not in config.plans:
            known = f"there are {', '.join(sorted(config.plans))}" if config.plans else "none is configured"
            raise ConfigError(f"auth.keys[{at}].plan: there is no plan `{key.plan}` in `plans`; {known}")
    _refuse_half_providers(config)
    _refuse_half_skills(config)
    _refuse_double_meanings(config)
    stop = config.shutdown
    if stop.total_s < stop.drain_s:
        raise ConfigError(
            f"shutdown.total_s is {stop.total_s:g}, less than shutdown.drain_s, which is {stop.drain_s:g}: "
            "the whole stop cannot be shorter than its drain"
        )


def _refuse_half_providers(config: Config) -> None:
    """Raise `ConfigError` for a hosted model without its name or key; it never becomes another model silently."""
    llm = config.llm
    if llm.provider == BUILTIN:
        for name in ("model", "api_key", "base_url", "fallbacks"):
            if getattr(llm, name):
                raise ConfigError(f"llm.{name} is set, but llm.provider is `{BUILTIN}`: name the provider")
        return
    if llm.model is None:
        raise ConfigError(f"llm.model is missing: which model of `{llm.provider}` shall answer?")
    asked = [("llm", llm.provider, llm.api_key)]
    asked += [(f"llm.fallbacks[{at}]", each.provider, each.api_key) for at, each in enumerate(llm.fallbacks)]
    for name, provider, key in asked:
        found = PROVIDERS[provider]
        if found.needs_key and (key is None or not key.reveal().strip()):
            raise ConfigError(f"{name}.api_key is missing: set it, or {found.key_variable}, for `{provider}`")


def _refuse_half_skills(config: Config) -> None:
    """Raise `ConfigError` for a skill that could never be called, and for a grant that grants nothing."""
    grants = config.capabilities
    for skill, granted, name in (
        ("http_fetch", grants.network_access, "network_access"),
        ("file_read", grants.file_read, "file_read"),
    ):
        if skill in config.agent.skills and not granted:
            raise ConfigError(f"agent.skills has `{skill}`, but capabilities.{name} grants nothing to it")
    for path in (*grants.file_read, *grants.file_write):
        if not Path(path).is_absolute():
            raise ConfigError(f"capabilities has {path!r}, which is relative: grant absolute paths")


def _refuse_double_meanings(config: Config) -> None:
    """Raise `ConfigError` for a rule or server that says two things, or nothing."""
    for at, rule in enumerate(config.guardrails.rules):
        if (rule.pattern is None) == (not rule.words):
            raise ConfigError(f"guardrails.rules[{at}]: exactly one of `pattern` and `words` is needed")
    for at, server in enumerate(config.mcp.servers):
        if (server.url is None) == (not server.command):
            raise ConfigError(f"mcp.servers[{at}]: exactly one of `url` and `command` is needed")


def _value(config: Config, option: Option) -> object:
    owner, _, name = option.name.rpartition(".")
    return getattr(getattr(config, owner) if owner else config, name)


# --- showing -----------------------------------------------------------------------------------------------------


def effective(config: Config) -> str:
    """Return the configuration as TOML with where each value comes from behind it; secrets are hidden."""
    lines, current = [], ""
    for option in options():
        owner, _, name = option.name.rpartition(".")
        if owner != current:
            lines += ["", f"[{owner}]"]
            current = owner
        value = _value(config, option)
        other = "default" if value == option.default else "given in code"
        text = f"# {name} is not set" if value is None else f"{name} = {_toml(value)}"
        lines.append(f"{text}  # {_line(config.sources.get(option.name, other))}")
    return "\n".join(lines)


def _line(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _toml(value: object) -> str:
    match value:
        case tuple():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case Mapping():
            pairs = ", ".join(f"{_toml(name)} = {_toml(item)}" for name, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _ if is_dataclass(value):
            named = ((each.name, getattr(value, each.name)) for each in fields(value))
            return f"{{ {', '.join(f'{name} = {_toml(item)}' for name, item in named if item is not None)} }}"
        case datetime():
            return value.isoformat()
        case _:
            return json.dumps(HIDDEN if isinstance(value, Secret) else value, ensure_ascii=False)

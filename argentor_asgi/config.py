"""What the gateway is configured with: the settings, where they come from, and how to see them.

Each field says its range and meaning where it is declared; the loader, `check-config` and the README's table read that.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

from argentor_asgi.api_keys import HIDDEN, ApiKey, Key, Secret, parse_key, refuse_twins
from argentor_asgi.errors import ConfigError
from argentor_asgi.settings import Meta, Option, convert
from argentor_asgi.sources import gather, variable

__all__ = ["Agent", "ApiKey", "Audit", "Auth", "Config", "Key", "Limits", "Llm", "Log", "Option", "Otel", "Plan"]
__all__ += ["Secret", "Shutdown", "Storage", "check", "effective", "load", "options", "table"]

Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Quota: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Bytes: TypeAlias = Annotated[int, Meta(ge=1, le=1024**3)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]


@dataclass(frozen=True, slots=True)
class Storage:
    """Where sessions, runs and notes are kept."""

    url: Annotated[
        str, Meta(description="`sqlite:///relative.db`, `sqlite:////absolute.db`, or `memory://` to keep nothing.")
    ] = "sqlite:///argentor.db"

    @property
    def path(self) -> Path | None:
        """The database file; None for `memory://`."""
        return None if self.url == "memory://" else Path(self.url.removeprefix("sqlite:///"))


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may come in. With no key, only callers on this machine, unless `allow_anonymous`."""

    api_keys: Annotated[
        tuple[Secret, ...],
        Meta(description="API keys, each `key`, `name:key` or `name:sha256:<hex>`; `argentor new-key` makes one."),
    ] = ()
    keys: Annotated[
        tuple[Key, ...],
        Meta(
            description="API keys with what their holders may do, each with `name`, `key` or its `sha256`, and as "
            'wanted `scopes` (`["*"]`), `tenant` (`"default"`), `plan`, `expires_at`. JSON in the environment.'
        ),
    ] = ()
    allow_anonymous: Annotated[
        bool,
        Meta(description="Serve callers without a key from anywhere. Otherwise, without keys, from this machine only."),
    ] = False
    allow_query_key: Annotated[
        bool, Meta(description="Also take the key from `?api_key=`, which ends up in logs and histories.")
    ] = False
    allowed_origins: Annotated[
        tuple[str, ...], Meta(description="Origins of web pages, besides the gateway's own, that may use it.")
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of reverse proxies whose `Forwarded` or `X-Forwarded-For` is believed; "
            "`unix` for those that come in by a Unix socket."
        ),
    ] = ()

    @property
    def held(self) -> tuple[ApiKey, ...]:
        """Every key, as the gateway holds it. Raises `ValueError` for what `check` refuses, without showing it."""
        return (*map(parse_key, self.api_keys), *(key.held for key in self.keys))


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the gateway takes. A principal's own numbers may stand in its plan."""

    enabled: Annotated[
        bool | None,
        Meta(description="Whether requests, tokens and callers are limited; by default, when a key exists."),
    ] = None
    requests_per_second: Annotated[Count, Meta(description="Requests of all callers together, in the long run.")] = 1000
    burst: Annotated[Count, Meta(description="Requests of all callers together, at once.")] = 1000
    requests_per_minute: Annotated[Quota, Meta(description="Requests and messages of one caller; 0 for none.")] = 60
    requests_per_hour: Annotated[Quota, Meta(description="Requests and messages of one caller; 0 for none.")] = 1000
    tokens_per_day: Annotated[Quota, Meta(description="Model tokens of one caller in a UTC day; 0 for none.")] = (
        1_000_000
    )
    body_bytes: Annotated[Bytes, Meta(description="Size of a request body.")] = 2 * 1024 * 1024
    message_bytes: Annotated[Bytes, Meta(description="Size of one user message.")] = 100_000
    connections: Annotated[Count, Meta(description="Open WebSockets.")] = 10_000
    connections_per_principal: Annotated[Count, Meta(description="Open WebSockets of one caller.")] = 100
    streams_per_principal: Annotated[Count, Meta(description="Open event streams of one caller.")] = 100
    runs: Annotated[Count, Meta(description="Runs at one time.")] = 1000
    runs_per_principal: Annotated[Count, Meta(description="Runs of one caller at one time.")] = 100
    heartbeat_s: Annotated[Seconds, Meta(description="Seconds between two pings on a WebSocket.")] = 20.0
    idle_s: Annotated[
        Seconds, Meta(description="Seconds without a frame or a run after which a WebSocket is closed.")
    ] = 600.0
    stream_age_s: Annotated[
        Seconds, Meta(description="Seconds after which an event stream is ended, to be resumed by its client.")
    ] = 3600.0
    request_timeout_s: Annotated[Seconds, Meta(description="Seconds to answer a request that is not a stream.")] = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the holders of a plan may use; None is the number in `limits`. A quota of 0 admits nothing."""

    requests_per_minute: Quota | None = None
    requests_per_hour: Quota | None = None
    tokens_per_day: Quota | None = None
    runs: Count | None = None
    streams: Count | None = None
    connections: Count | None = None


@dataclass(frozen=True, slots=True)
class Llm:
    """Which model answers."""

    provider: Annotated[
        Literal["builtin"],
        Meta(description="The model behind the agent: the built-in one needs no key and no network."),
    ] = "builtin"


@dataclass(frozen=True, slots=True)
class Agent:
    """How the agent works."""

    max_turns: Annotated[Count, Meta(description="Model calls in one run.")] = 20
    run_timeout_s: Annotated[Seconds, Meta(description="Seconds that a run may take.")] = 300.0
    system_prompt: Annotated[
        str, Meta(max_length=100_000, description="What the model is told before each conversation.")
    ] = "You are a helpful assistant. Say what you are about to do before you use a tool."
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
class Shutdown:
    """How the gateway stops."""

    drain_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds that runs get to end before they are stopped.")
    ] = 15.0
    total_s: Annotated[float, Meta(gt=0, le=7200, description="Seconds that the whole stop may take.")] = 30.0
    ready_delay_s: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="Seconds to go on serving after readiness is off, for balancers to notice; "
            "`argentor serve` takes 1.5 where nothing is configured.",
        ),
    ] = 0.0


@dataclass(frozen=True, slots=True)
class Log:
    """What the gateway writes to stderr."""

    format: Annotated[
        Literal["auto", "json", "console"], Meta(description="`auto` is `console` on a terminal, else `json`.")
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severe level that is written.")
    ] = "info"
    access: Annotated[bool, Meta(description="Write one line for each request, without bodies or queries.")] = True


@dataclass(frozen=True, slots=True)
class Audit:
    """What is kept as evidence of who did what."""

    enabled: Annotated[bool, Meta(description="Keep the audit log.")] = True
    directory: Annotated[
        str | None,
        Meta(
            description="Where its files are; by default beside the database, and with `memory://` in a temporary "
            "directory that goes with the process."
        ),
    ] = None
    file_bytes: Annotated[Bytes, Meta(description="Size at which a new file is begun.")] = 10 * 1024 * 1024
    retention_days: Annotated[Count, Meta(description="Days that a file is kept after its last entry.")] = 90


@dataclass(frozen=True, slots=True)
class Otel:
    """Traces for an OpenTelemetry collector; needs `argentor-asgi[otel]`."""

    endpoint: Annotated[
        str | None, Meta(description="Where spans go by OTLP over HTTP, such as `http://127.0.0.1:4318`.")
    ] = None
    service_name: Annotated[str, Meta(max_length=255, description="What the gateway is called there.")] = (
        "argentor-gateway"
    )


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
            "`tokens_per_day`, `runs`, `streams`, `connections`; what it leaves out is as in `limits`. "
            "JSON in the environment."
        ),
    ] = field(default_factory=dict)
    storage: Storage = field(default_factory=Storage)
    auth: Auth = field(default_factory=Auth)
    limits: Limits = field(default_factory=Limits)
    llm: Llm = field(default_factory=Llm)
    agent: Agent = field(default_factory=Agent)
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
    config = _built(values, {name: each.source for name, each in given.items()})
    _refuse_contradictions(config)
    return config


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
    stop = config.shutdown
    if stop.total_s < stop.drain_s:
        raise ConfigError(
            f"shutdown.total_s is {stop.total_s:g}, less than shutdown.drain_s, which is {stop.drain_s:g}: "
            "the whole stop cannot be shorter than its drain"
        )


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
        case Key() | Plan():
            named = ((each.name, getattr(value, each.name)) for each in fields(value))
            return f"{{ {', '.join(f'{name} = {_toml(item)}' for name, item in named if item is not None)} }}"
        case datetime():
            return value.isoformat()
        case _:
            return json.dumps(HIDDEN if isinstance(value, Secret) else value, ensure_ascii=False)

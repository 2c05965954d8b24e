"""What the gateway is configured with: the settings, where they come from, and how to see them.

Each field says its range and meaning where it is declared; the loader, `check-config` and the README's table read that.
Table `[limits]`, field `runs` is `limits.runs` here, and `ARGENTOR_LIMITS_RUNS` in the environment.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args, get_type_hints

from argentor_asgi.errors import ConfigError
from argentor_asgi.settings import HIDDEN, Meta, Option, Secret, convert, decode_table

__all__ = ["Agent", "Audit", "Auth", "Config", "Limits", "Llm", "Log", "Option", "Otel", "Plan", "Secret", "Shutdown"]
__all__ += ["Storage", "check", "effective", "load", "options", "table"]

FILE_NAME = "argentor.toml"
"""The configuration file, looked for in the working directory."""
FILE_VARIABLE = "ARGENTOR_CONFIG"
"""The environment variable that names another one."""
FILE_BYTES = 1024 * 1024
"""How large that file, or one named by a `_FILE` variable, may be."""
_PREFIX = "ARGENTOR_"
_NAME_CHARACTERS = 100
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
# Kubernetes adds these for a Service named "argentor"; they are nobody's settings.
_SERVICE_LINK = re.compile(
    r"ARGENTOR_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_LATER_TABLES = frozenset({"a2a", "backplane", "control", "plans", "sso", "ui", "vault", "webhooks"})
_LATER_FIELDS = frozenset(
    {
        *("agent.approval_skills", "agent.approval_timeout_s", "agent.permission_mode", "auth.keys"),
        *("llm.api_key", "llm.base_url", "llm.fallbacks", "llm.model"),
    }
)

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
            description="Addresses or networks of reverse proxies whose `Forwarded` or `X-Forwarded-For` is believed."
        ),
    ] = ()


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


# --- what there is to set ----------------------------------------------------------------------------------------


def _tables() -> Mapping[str, type[Any]]:
    return {name: kind for name, kind in get_type_hints(Config).items() if name not in ("public_url", "sources")}


def _variable(name: str) -> str:
    return _PREFIX + name.replace(".", "_").upper()


@lru_cache(maxsize=1)
def options() -> tuple[Option, ...]:
    """Return every setting, `public_url` first, then as declared."""
    found = [_option("public_url", Config, "public_url")]
    for name, kind in _tables().items():
        found += [_option(f"{name}.{each.name}", kind, each.name) for each in fields(kind)]
    return tuple(found)


def _option(name: str, owner: type[Any], attribute: str) -> Option:
    kind = get_type_hints(owner, include_extras=True)[attribute]
    default = next(each.default for each in fields(owner) if each.name == attribute)
    meaning = "".join(meta.description or "" for meta in get_args(kind)[1:])
    return Option(name, _variable(name), default, meaning, kind)


def table() -> str:
    """Return the settings as a Markdown table, for the README."""
    head = ("| Setting | Environment | Default | Meaning |", "|---|---|---|---|")
    return "\n".join((*head, *(_row(option) for option in options())))


def _row(option: Option) -> str:
    default = "none" if option.default in (None, ()) else f"`{_toml(option.default)}`"
    choices = f" One of {', '.join(f'`{word}`' for word in option.choices)}." if option.choices else ""
    return f"| `{option.name}` | `{option.env}` | {default} | {option.meaning}{choices} |"


# --- loading -----------------------------------------------------------------------------------------------------


class _Given(NamedTuple):
    value: object
    source: str
    from_text: bool = False


def load(environ: Mapping[str, str], directory: Path) -> Config:
    """Return what `environ` and the file in `directory` (or the one it names) configure; the environment wins.

    Raises `ConfigError`, and nothing else, for anything that is not understood.
    """
    given = dict(_from_file(environ, directory))
    given.update(_from_environment(environ, directory))
    values = {name: each.value for name, each in given.items()}
    for option in options():
        if option.name in given:
            value, source, from_text = given[option.name]
            values[option.name] = convert(option, value, source=source, from_text=from_text)
    return _built(values, {name: each.source for name, each in given.items()})


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


def _value(config: Config, option: Option) -> object:
    owner, _, name = option.name.rpartition(".")
    return getattr(getattr(config, owner) if owner else config, name)


def _from_file(environ: Mapping[str, str], directory: Path) -> Iterator[tuple[str, _Given]]:
    named = environ.get(FILE_VARIABLE)
    path = directory / (FILE_NAME if named is None else named)
    try:
        text = _read(path)
    except FileNotFoundError:
        if named is None:
            return
        raise ConfigError(f"{FILE_VARIABLE}: there is no file {str(path)!r}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {_reason(error)}") from None
    for name, value in _flat(_parsed(text, path)):
        yield name, _Given(_expanded(value, name, environ), str(path))


def _read(path: Path) -> str:
    """Return a small text file's content; raises `OSError` or `ValueError`."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ValueError(f"it is larger than {FILE_BYTES} bytes")
    return data.decode()


def _reason(error: OSError | ValueError) -> str:
    # The text of a decoding error quotes the bytes, which may be a secret's.
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return (error.strerror or "the system refuses") if isinstance(error, OSError) else str(error)


def _parsed(text: str, path: Path) -> Mapping[str, object]:
    import tomllib  # noqa: PLC0415  only where there is a file: it costs every other start milliseconds

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{str(path)!r} is not valid TOML: {reason}") from None


def _flat(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield each setting of a document by its full name; raises `ConfigError` for a name that there is not."""
    known = {option.name for option in options()}
    for name, value in document.items():
        if name in _tables():
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} is a table: write [{name}] above its settings")
            yield from _flat({f"{name}.{key}": item for key, item in value.items()})
        elif name in known:
            yield name, value
        else:
            raise _unknown(name, known, later=name in _LATER_FIELDS | _LATER_TABLES)


def _expanded(value: object, name: str, environ: Mapping[str, str]) -> object:
    """Return `value` with `${VAR}` in its texts replaced; raises `ConfigError` for a variable that is not set."""
    if isinstance(value, list):
        return [_expanded(item, name, environ) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        if found[1] not in environ:
            raise ConfigError(f"{name}: the environment variable {found[1][:_NAME_CHARACTERS]!r} is not set")
        return environ[found[1]]

    return _REFERENCE.sub(replaced, value)


def _from_environment(environ: Mapping[str, str], directory: Path) -> Iterator[tuple[str, _Given]]:
    mine = {name for name in environ if name.startswith(_PREFIX) and not _SERVICE_LINK.fullmatch(name)}
    mine.discard(FILE_VARIABLE)
    for name in _tables():
        if (variable := _variable(name)) in mine:
            yield from _from_json(variable, name, environ[variable])
    for option in options():
        found = mine & {option.env, f"{option.env}_FILE"}
        if len(found) > 1:
            raise ConfigError(f"{option.env} and {option.env}_FILE are both set; keep one")
        for variable in found:
            text = environ[variable] if variable == option.env else _from_named_file(variable, environ, directory)
            yield option.name, _Given(text, variable, from_text=True)
    _refuse_unknown(mine)


def _from_json(variable: str, name: str, text: str) -> Iterator[tuple[str, _Given]]:
    try:
        document = decode_table(text)
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}") from None
    for setting, value in _flat({name: document}):
        yield setting, _Given(value, variable)


def _from_named_file(variable: str, environ: Mapping[str, str], directory: Path) -> str:
    path = directory / environ[variable]
    try:
        return _read(path).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{variable}: {str(path)!r} cannot be read: {_reason(error)}") from None


def _refuse_unknown(variables: set[str]) -> None:
    plain = {FILE_VARIABLE, *(_variable(name) for name in _tables()), *(option.env for option in options())}
    known = plain | {f"{option.env}_FILE" for option in options()}
    later = {_variable(name) for name in _LATER_TABLES | _LATER_FIELDS}
    for name in sorted(variables - known):
        base = name.removesuffix("_FILE")
        in_later_table = any(name.startswith(_variable(each) + "_") for each in _LATER_TABLES)
        raise _unknown(name, plain, later=base in later or in_later_table)


def _unknown(name: str, known: set[str], *, later: bool) -> ConfigError:
    import difflib  # noqa: PLC0415  only to word an error

    if later:
        return ConfigError(f"{name} is not available in this version")
    short = name[:_NAME_CHARACTERS]
    nearest = difflib.get_close_matches(short, sorted(known), n=1, cutoff=0.0)[0]
    return ConfigError(f"there is no setting {short!r}; the nearest is {nearest}")


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
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(HIDDEN if isinstance(value, Secret) else value, ensure_ascii=False)

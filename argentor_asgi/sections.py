"""The tables of the configuration: each field says its range and meaning where it is declared.

The loader, `check-config` and the README's table read that. What the agent and its models are told stands in
`agent_sections`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from argentor_asgi.api_keys import ApiKey, Key, Secret, parse_key
from argentor_asgi.settings import Meta

Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Quota: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Money: TypeAlias = Annotated[float, Meta(ge=0, le=1_000_000)]
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
    cost_per_day: Annotated[
        Money | None, Meta(description="What the models of one caller may cost in a UTC day, where priced.")
    ] = None
    run_seconds_per_day: Annotated[
        Quota | None, Meta(description="Seconds that one caller's runs may work in a UTC day.")
    ] = None
    tool_calls_per_day: Annotated[
        Quota | None, Meta(description="Calls of skills by one caller's runs in a UTC day.")
    ] = None
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
    cost_per_day: Money | None = None
    run_seconds_per_day: Quota | None = None
    tool_calls_per_day: Quota | None = None


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

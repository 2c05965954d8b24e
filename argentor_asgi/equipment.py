"""What everything in a gateway is made with: its clock, what it counts and records, whom it lets in, how it stops.

A part of the composition root: it names concrete classes, and nothing below it does.
"""

from dataclasses import dataclass

from argentor_asgi.config import Config
from argentor_asgi.ops.access import AccessLog
from argentor_asgi.ops.audit import Audit
from argentor_asgi.ops.clock import Clock, SystemClock
from argentor_asgi.ops.drain import Drain
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.ops.spans import NO_SPANS, Spans
from argentor_asgi.security.gate import Gate
from argentor_asgi.security.guard import Authenticator
from argentor_asgi.security.keys import Keys
from argentor_asgi.security.limits import Limiter
from argentor_asgi.security.refusals import Refusals
from argentor_asgi.security.tickets import Tickets
from argentor_asgi.sessions.store import Store


@dataclass(frozen=True, slots=True)
class Equipment:
    """What everything else is made with."""

    clock: Clock
    metrics: Metrics
    audit: Audit
    spans: Spans
    drain: Drain
    keys: Keys
    tickets: Tickets
    refusals: Refusals
    limiter: Limiter


def equip(config: Config, *, version: str) -> Equipment:
    """Make it, as configured; nothing is opened or sent yet. `version`: of this package, for traces.

    Raises `ConfigError` for what cannot work.
    """
    clock = SystemClock()
    metrics, audit = Metrics(clock=clock), _audit(config, clock)
    stop = config.shutdown
    drain = Drain(clock=clock, drain_s=stop.drain_s, total_s=stop.total_s, ready_delay_s=stop.ready_delay_s)
    spans = _spans(config, version, clock, metrics, drain)
    keys, refusals = Keys(config.auth.held), Refusals(metrics, audit)
    limiter = Limiter(
        config.limits,
        config.plans,
        clock=clock.monotonic,
        now=clock.now,
        enabled=_limits_enabled(config, keys),
        on_reject=refusals.limited,
    )
    return Equipment(
        clock=clock,
        metrics=metrics,
        audit=audit,
        spans=spans,
        drain=drain,
        keys=keys,
        tickets=Tickets(),
        refusals=refusals,
        limiter=limiter,
    )


def _limits_enabled(config: Config, keys: Keys) -> bool:
    """Say whether callers are limited: as configured, else when there are keys, since then the gateway is shared."""
    return len(keys) > 0 if config.limits.enabled is None else config.limits.enabled


def _audit(config: Config, clock: Clock) -> Audit:
    """Return the audit log; where nothing is kept, it goes with the process."""
    found = config.audit
    return Audit(
        config.audit_directory,
        clock=clock,
        file_bytes=found.file_bytes,
        retention_days=found.retention_days,
        enabled=found.enabled,
    )


def _spans(config: Config, version: str, clock: Clock, metrics: Metrics, drain: Drain) -> Spans:
    """Return where spans go; those that wait are sent at the end of the drain."""
    if config.otel.endpoint is None:
        return NO_SPANS
    from argentor_asgi.ops.tracing import Tracing  # noqa: PLC0415  an extra, and heavy: only where it is configured

    made = Tracing(endpoint=config.otel.endpoint, service_name=config.otel.service_name, version=version, clock=clock)
    metrics.counter("argentor_spans_dropped_total", "Spans that nobody will see.", lambda: made.dropped)
    drain.hook("final", "spans", made.close)
    return made


def authenticator(config: Config, tools: Equipment) -> Authenticator:
    """Return what says who a caller is."""
    return Authenticator(
        config.auth,
        tools.keys,
        tickets=tools.tickets,
        on_refused=tools.refusals.unknown,
        on_throttled=tools.refusals.throttled,
        public_url=config.public_url,
    )


def gate(config: Config, tools: Equipment, by: Authenticator) -> Gate:
    """Return what every request passes; `by` says who comes."""
    return Gate(
        by,
        tools.limiter,
        tools.refusals,
        tools.drain,
        tools.clock.monotonic,
        limits_enabled=lambda: _limits_enabled(config, tools.keys),
    )


def publish(tools: Equipment, store: Store, access: AccessLog | None) -> None:
    """Publish what others count."""
    audit, metrics = tools.audit, tools.metrics
    metrics.counter("argentor_audit_events_total", "Audit entries written.", lambda: audit.written)
    metrics.counter("argentor_audit_dropped_total", "Audit entries lost.", lambda: audit.dropped)
    metrics.counter("argentor_audit_errors_total", "Failures to write the audit log.", lambda: audit.errors)
    metrics.gauge("argentor_audit_queue_depth", "Audit entries that wait for the disk.", lambda: audit.depth)
    if access is not None:
        lines = access
        metrics.counter("argentor_access_lines_dropped_total", "Access lines lost.", lambda: lines.dropped)
    metrics.gauge("argentor_store_queue_depth", "Writes that wait for the disk.", lambda: store.queue_depth)

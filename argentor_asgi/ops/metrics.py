"""What the gateway counts, on the loop, and its scrape for Prometheus.

Counting is plain ints: the library's labelled `inc` costs more than the router. A scrape copies them on the loop, then
formats in a thread. Every label has few values: a route's template, never a path; other names up to a cap, then
`other`. Everything published stands in `FAMILIES` or was given to `Metrics.gauge` and `Metrics.counter`.
"""

import asyncio
import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from argentor_asgi.asgi.route import BUCKETS_S, Route, Socket
from argentor_asgi.ops.exposition import OPENMETRICS, TEXT, encode
from argentor_asgi.ops.metric_families import (
    AGENT,
    FAMILIES,
    LAG_BUCKETS_S,
    LIFE_BUCKETS_S,
    RUN_BUCKETS_S,
    TOOL_BUCKETS_S,
    WAIT_BUCKETS_S,
    Exemplar,
    Family,
    Histogram,
    Labels,
    Rows,
)

if TYPE_CHECKING:
    from argentor_asgi.ops.clock import Clock

EXTRA_FAMILIES: Final = 100
"""How many families `Metrics.gauge` and `Metrics.counter` take, together."""
NOT_ALLOWED: Final = frozenset({"forbidden", "foreign_origin", "not_local"})
"""Why a caller is refused who may well be who they say: `permission_denied`, not `authentication_failed`."""

BODY_TIMEOUT: Final = 408
"""The status that nothing but a body that came too slowly is answered with."""

NO_ROWS: Final[Rows] = {}

Read = Callable[[], float]
ReadRows = Callable[[], Mapping[str, Rows]]
logger = logging.getLogger("argentor.metrics")


class Metrics:
    """The gateway's counters. Counting is for the loop's thread; nothing here awaits but `render`."""

    def __init__(self, *, clock: "Clock") -> None:
        self._clock = clock
        self._born = clock.monotonic()
        self._labels = Labels()
        self._counts: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        self._times = {
            "argentor_stream_duration_seconds": Histogram(LIFE_BUCKETS_S),
            "argentor_websocket_duration_seconds": Histogram(LIFE_BUCKETS_S),
            "argentor_run_queue_seconds": Histogram(WAIT_BUCKETS_S),
            "argentor_run_duration_seconds": Histogram(RUN_BUCKETS_S),
            "argentor_time_to_first_token_seconds": Histogram(WAIT_BUCKETS_S),
            "argentor_event_loop_lag_seconds": Histogram(LAG_BUCKETS_S),
        }
        self._tools: dict[str, Histogram] = {}
        self._runs_started = self._streams_opened = self._streams_closed = 0
        self._drain_s: float | None = None
        self._http: list[Route] = []
        self._shown: dict[tuple[str, str], dict[int, Exemplar]] = {}
        self._sockets: list[Socket] = []
        self._extra: dict[str, tuple[Family, Read]] = {}
        self._sources: list[ReadRows] = []
        self._renders: dict[bool, asyncio.Task[bytes]] = {}

    # --- runs -----------------------------------------------------------------------------------------------------

    def run_waited(self, seconds: float) -> None:
        """Count the time that a run waited for its turn, 0 for one that was begun at once."""
        self._times["argentor_run_queue_seconds"].observe(seconds)

    def run_started(self) -> None:
        """Count a run that begins; it is active until `run_ended`."""
        self._runs_started += 1

    def first_token(self, seconds: float) -> None:
        """Count the time from a run's start to its first piece of text."""
        self._times["argentor_time_to_first_token_seconds"].observe(seconds)

    def run_ended(self, status: str, seconds: float, trace_id: str | None = None) -> None:
        """Count a run that ended, after `seconds`; exactly one call for each `run_started`.

        `trace_id`: where it can be seen, None for a run whose spans are not kept.
        """
        self._count("argentor_runs_total", self._labels.bounded("status", status))
        times = self._times["argentor_run_duration_seconds"]
        times.observe(seconds)
        if trace_id is not None:
            times.show(self._exemplar(trace_id, seconds))

    def turn_ended(self, provider: str, finish_reason: str, input_tokens: int, output_tokens: int) -> None:
        """Count a model call and its tokens; one that failed ends with its error's code."""
        provider = self._labels.bounded("provider", provider)
        self._count("argentor_turns_total", provider, self._labels.bounded("finish_reason", finish_reason))
        self._count("argentor_llm_calls_total", provider)
        for direction, tokens in (("input", input_tokens), ("output", output_tokens)):
            self._count("argentor_tokens_used_total", provider, direction, by=tokens)
            self._count("argentor_tokens_total", AGENT, direction, by=tokens)

    def llm_retried(self, provider: str, reason: str) -> None:
        """Count a model call that is tried again with the same model; `reason` is the code of what it failed with."""
        labels = self._labels
        self._count(
            "argentor_llm_retries_total", labels.bounded("provider", provider), labels.bounded("reason", reason)
        )

    def llm_failed_over(self) -> None:
        """Count a model call that goes on to the next model."""
        self._count("argentor_llm_failovers_total")

    def guardrail_found(self, rule: str, phase: str, severity: str) -> None:
        """Count something that a guardrail found; give names of configured rules only, as with skills."""
        rule = self._labels.bounded("rule", rule)
        self._count("argentor_guardrail_findings_total", rule, phase, severity)

    def tool_ended(self, skill: str, seconds: float, is_error: bool) -> None:
        """Count a skill call. Give names of registered skills only: what a model invents would use up the label."""
        skill = self._labels.bounded("skill", skill)
        self._tools.setdefault(skill, Histogram(TOOL_BUCKETS_S)).observe(seconds)
        self._count("argentor_tool_errors_total", AGENT, skill, by=int(is_error))

    # --- callers --------------------------------------------------------------------------------------------------

    def auth_failed(self, reason: str) -> None:
        """Count a caller who was refused for who they are, such as `missing`, `invalid`, `throttled`, `forbidden`."""
        self._count("argentor_auth_failures_total", self._labels.bounded("reason", reason))
        event = "permission_denied" if reason in NOT_ALLOWED else "authentication_failed"
        self._count("argentor_security_events_total", event)

    def limited(self, reason: str) -> None:
        """Count a request, message or run that a limit refused; `reason` names the limit."""
        self._count("argentor_rate_limited_total", self._labels.bounded("reason", reason))
        self._count("argentor_security_events_total", "rate_limit_exceeded")

    def input_sanitized(self) -> None:
        """Count a message that was changed before an agent saw it."""
        self._count("argentor_security_events_total", "input_sanitized")

    # --- connections ----------------------------------------------------------------------------------------------

    def request_sampled(self, row: Route, seconds: float, trace_id: str) -> None:
        """Show a request that its row has counted, and whose spans are kept, as an exemplar of its duration."""
        shown = self._shown.setdefault((row.method, row.template), {})
        shown[bisect_left(BUCKETS_S, seconds)] = self._exemplar(trace_id, seconds)

    def consumer_cut(self, kind: str) -> None:
        """Count a client that was ended because it does not read: `ws_outbox`, `ws_write`, `sse_write`..."""
        self._count("argentor_slow_consumers_total", self._labels.bounded("kind", kind))

    def stream_opened(self) -> None:
        """Count a stream that begins; it is active until `stream_closed`."""
        self._streams_opened += 1

    def stream_closed(self, seconds: float) -> None:
        """Count a stream that ended, however it did, after `seconds`."""
        self._streams_closed += 1
        self._times["argentor_stream_duration_seconds"].observe(seconds)

    def socket_closed(self, seconds: float) -> None:
        """Count the life of a WebSocket that was accepted and is over."""
        self._times["argentor_websocket_duration_seconds"].observe(seconds)

    # --- the process ----------------------------------------------------------------------------------------------

    def loop_lagged(self, seconds: float) -> None:
        """Count how late the event loop called back."""
        self._times["argentor_event_loop_lag_seconds"].observe(seconds)

    def drained(self, seconds: float) -> None:
        """Publish how long the drain took."""
        self._drain_s = seconds

    def watch(self, routes: Iterable[Route | Socket]) -> None:
        """Publish what these rows count, as long as this object lives; their (method, template) are distinct."""
        for row in routes:
            if isinstance(row, Socket):
                self._sockets.append(row)
            else:
                self._http.append(row)

    def gauge(self, name: str, help: str, read: Read) -> None:  # noqa: A002  the format's own word
        """Publish what `read` returns, asked on the loop at each scrape; one that raises is left out and logged.

        Raises `ValueError` for a name that is published already, or for one family too many.
        """
        self._publish(Family(name, "gauge", help), read)

    def counter(self, name: str, help: str, read: Read) -> None:  # noqa: A002  the format's own word
        """Publish a number that only rises, as `gauge` does; its name ends in `_total`."""
        if not name.endswith("_total"):
            raise ValueError(f"the name of counter {name!r} does not end in '_total'")
        self._publish(Family(name, "counter", help), read)

    def provide(self, read: ReadRows) -> None:
        """Publish what `read` returns: values of families that `FAMILIES` has, asked on the loop at each scrape."""
        self._sources.append(read)

    def families(self) -> Mapping[str, Family]:
        """Return all that is published: `FAMILIES`, and what was added here."""
        return {**FAMILIES, **{name: family for name, (family, _) in self._extra.items()}}

    # --- the scrape -----------------------------------------------------------------------------------------------

    async def render(self, accept: str | None) -> tuple[bytes, str]:
        """Return a scrape and its content type: OpenMetrics where `Accept` names it, else text 0.0.4.

        Scrapes that overlap share one rendering; a caller that is cancelled does not take it from the others.
        """
        openmetrics = "application/openmetrics-text" in (accept or "").lower()
        rendering = self._renders.get(openmetrics)
        if rendering is None:
            work = asyncio.to_thread(encode, self.families(), self._rows(), openmetrics=openmetrics)
            rendering = self._renders[openmetrics] = asyncio.create_task(work, name="metrics")
            rendering.add_done_callback(lambda _: self._renders.pop(openmetrics))
        return await asyncio.shield(rendering), OPENMETRICS if openmetrics else TEXT

    def _count(self, family: str, *labels: str, by: int = 1) -> None:
        counts = self._counts[family]
        counts[labels] = counts.get(labels, 0) + by

    def _exemplar(self, trace_id: str, seconds: float) -> Exemplar:
        return Exemplar(trace_id, seconds, round(self._clock.now().timestamp(), 3))

    def _publish(self, family: Family, read: Read) -> None:
        if family.name in self.families():
            raise ValueError(f"the metric {family.name!r} is published already")
        if len(self._extra) >= EXTRA_FAMILIES:
            raise ValueError(f"more than {EXTRA_FAMILIES} metrics were added")
        self._extra[family.name] = (family, read)

    def _rows(self) -> dict[str, Rows]:
        """Copy every value as it is now, on the loop, so that a thread may take its time with it."""
        return {
            **dict.fromkeys(FAMILIES, NO_ROWS),
            **{name: counts.copy() for name, counts in self._counts.items()},
            **{name: {(): times.copy()} for name, times in self._times.items()},
            **self._http_rows(),
            **self._tool_rows(),
            **self._gauge_rows(),
            **{name: rows for read in self._sources for name, rows in read().items()},
            **{name: _asked(name, read) for name, (_, read) in self._extra.items()},
        }

    def _http_rows(self) -> dict[str, Rows]:
        return {
            "argentor_http_requests_total": {
                (row.method, row.template, str(status)): count
                for row in self._http
                for status, count in row.statuses.items()
            },
            "http_server_request_duration_seconds": {
                (row.method, row.template): self._request_times(row) for row in self._http if any(row.buckets)
            },
            "argentor_websocket_connections_total": {(row.template,): row.opened for row in self._sockets},
            "argentor_body_timeouts_total": {(): sum(row.statuses.get(BODY_TIMEOUT, 0) for row in self._http)},
        }

    def _request_times(self, row: Route) -> Histogram:
        shown = self._shown.get((row.method, row.template), {})
        return Histogram(BUCKETS_S, row.buckets.copy(), row.seconds, shown.copy())

    def _tool_rows(self) -> dict[str, Rows]:
        calls = {skill: sum(times.counts) for skill, times in self._tools.items()}
        return {
            "argentor_tool_executions_total": {(skill,): count for skill, count in calls.items()},
            "argentor_tool_calls_total": {(AGENT, skill): count for skill, count in calls.items()},
            "argentor_tool_duration_seconds": {(skill,): times.copy() for skill, times in self._tools.items()},
            "argentor_tool_latency_ms_total": {(skill,): times.seconds * 1000 for skill, times in self._tools.items()},
        }

    def _gauge_rows(self) -> dict[str, Rows]:
        active = self._runs_started - sum(self._counts["argentor_runs_total"].values())
        return {
            "argentor_active_connections": {(): sum(row.opened - row.closed for row in self._sockets)},
            "argentor_streams_active": {(): self._streams_opened - self._streams_closed},
            "argentor_runs_active": {(): active},
            "argentor_active_agents": {(): active},
            "argentor_drain_seconds": {} if self._drain_s is None else {(): self._drain_s},
            "argentor_uptime_seconds": {(): self._clock.monotonic() - self._born},
        }


def _asked(name: str, read: Read) -> Rows:
    try:
        return {(): float(read())}
    except Exception:
        logger.exception("metric %s cannot be read", name)
        return {}

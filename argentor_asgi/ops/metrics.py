"""What the gateway counts, and how Prometheus reads it (text format 0.0.4, OpenMetrics 1.0).

Counting is plain ints on the loop: the library's labelled `inc` costs more than the router. A scrape copies them on the
loop, then formats in a thread. Every label has few values: a route's template, never a path; other names up to a cap,
then `other`. Everything published stands in `FAMILIES` or was given to `Metrics.gauge` and `Metrics.counter`.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from argentor_asgi.asgi.route import BUCKETS_S, Route, Socket

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from argentor_asgi.ops.clock import Clock

LABEL_VALUES: "Mapping[str, int]" = {"status": 20, "provider": 20, "finish_reason": 20, "skill": 200}
"""How many values a label may take before all others become `OTHER`."""
LABEL_CHARS = 100
OTHER = "other"
EXTRA_FAMILIES = 100
"""How many families `Metrics.gauge` and `Metrics.counter` take, together."""
RUN_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOOL_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

FamilyType = Literal["counter", "gauge", "histogram"]
Read = Callable[[], float]
Key = TypeVar("Key")
logger = logging.getLogger("argentor.metrics")


@dataclass(frozen=True, slots=True)
class Family:
    """One published family. A counter's `name` ends in `_total`, as its samples do."""

    name: str
    type: FamilyType
    help: str
    labels: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("argentor_http_requests_total", "counter", "Answers by route and status.", ("method", "path", "status")),
        Family(
            "http_server_request_duration_seconds",
            "histogram",
            "Time until the answer was ready; a stream counts when it starts.",
            ("http_request_method", "http_route"),
        ),
        Family("argentor_active_connections", "gauge", "WebSockets that are open."),
        Family("argentor_websocket_connections_total", "counter", "WebSockets opened, by route.", ("path",)),
        Family("argentor_websocket_seconds_total", "counter", "Time that closed WebSockets were open.", ("path",)),
        Family("argentor_runs_total", "counter", "Runs that ended, by status.", ("status",)),
        Family("argentor_runs_active", "gauge", "Runs that have begun and not ended."),
        Family("argentor_run_duration_seconds", "histogram", "Time from a run's start to its end."),
        Family("argentor_turns_total", "counter", "Model calls by outcome.", ("provider", "finish_reason")),
        Family("argentor_llm_calls_total", "counter", "Model calls.", ("provider",)),
        Family("argentor_tokens_used_total", "counter", "Tokens as counted by the model.", ("provider", "direction")),
        Family("argentor_tool_executions_total", "counter", "Skill calls.", ("skill",)),
        Family("argentor_tool_errors_total", "counter", "Skill calls that ended in an error.", ("skill",)),
        Family("argentor_tool_duration_seconds", "histogram", "Time of a skill call.", ("skill",)),
        Family("argentor_uptime_seconds", "gauge", "Time since the gateway was made."),
    )
}
"""Every family that the gateway itself publishes, by name."""


@dataclass(slots=True)
class Histogram:
    """Durations by bucket. `counts` is not cumulative and one longer than `bounds_s`."""

    bounds_s: Sequence[float]
    counts: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Start empty."""
        self.counts = self.counts or [0] * (len(self.bounds_s) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration; one that equals a bound is below it (`le`)."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.seconds += seconds

    def copy(self) -> "Histogram":
        """Return it as it is now."""
        return Histogram(self.bounds_s, self.counts.copy(), self.seconds)

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (`le`, number of durations up to it), `+Inf` last."""
        total, found = 0, []
        for bound, count in zip((*(str(float(bound)) for bound in self.bounds_s), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


Rows = Mapping[tuple[str, ...], float | Histogram]
"""The values of a family by its label values."""


class Metrics:
    """The gateway's counters. Counting is for the loop's thread; nothing here awaits but `render`."""

    def __init__(self, *, clock: "Clock") -> None:
        self._clock = clock
        self._born = clock.monotonic()
        self._known: dict[str, set[str]] = {label: set() for label in LABEL_VALUES}
        self._runs_started = 0
        self._runs: dict[str, int] = {}
        self._run_times = Histogram(RUN_BUCKETS_S)
        self._turns: dict[tuple[str, ...], int] = {}
        self._tokens: dict[tuple[str, ...], int] = {}
        self._tools: dict[str, Histogram] = {}
        self._tool_errors: dict[str, int] = {}
        self._http: list[Route] = []
        self._sockets: list[Socket] = []
        self._extra: dict[str, tuple[Family, Read]] = {}
        self._renders: dict[bool, asyncio.Task[bytes]] = {}

    def run_started(self) -> None:
        """Count a run that begins; it is active until `run_ended`."""
        self._runs_started += 1

    def run_ended(self, status: str, seconds: float) -> None:
        """Count a run that ended, after `seconds`; exactly one call for each `run_started`."""
        _add(self._runs, self._label("status", status), 1)
        self._run_times.observe(seconds)

    def turn_ended(self, provider: str, finish_reason: str, input_tokens: int, output_tokens: int) -> None:
        """Count a model call and its tokens; one that failed ends with its error's code."""
        provider = self._label("provider", provider)
        _add(self._turns, (provider, self._label("finish_reason", finish_reason)), 1)
        _add(self._tokens, (provider, "input"), input_tokens)
        _add(self._tokens, (provider, "output"), output_tokens)

    def tool_ended(self, skill: str, seconds: float, is_error: bool) -> None:
        """Count a skill call. Give names of registered skills only: what a model invents would use up the label."""
        skill = self._label("skill", skill)
        self._tools.setdefault(skill, Histogram(TOOL_BUCKETS_S)).observe(seconds)
        _add(self._tool_errors, skill, int(is_error))

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

    def families(self) -> Mapping[str, Family]:
        """Return all that is published: `FAMILIES`, and what was added here."""
        return {**FAMILIES, **{name: family for name, (family, _) in self._extra.items()}}

    async def render(self, accept: str | None) -> tuple[bytes, str]:
        """Return a scrape and its content type: OpenMetrics where `Accept` names it, else text 0.0.4.

        Scrapes that overlap share one rendering; a caller that is cancelled does not take it from the others.
        """
        openmetrics = "application/openmetrics-text" in (accept or "").lower()
        rendering = self._renders.get(openmetrics)
        if rendering is None:
            work = asyncio.to_thread(_encode, self.families(), self._rows(), openmetrics)
            rendering = self._renders[openmetrics] = asyncio.create_task(work, name="metrics")
            rendering.add_done_callback(lambda _: self._renders.pop(openmetrics))
        return await asyncio.shield(rendering), OPENMETRICS if openmetrics else TEXT

    def _label(self, label: str, value: str) -> str:
        """Return the value if the label has room for it, else `OTHER`; UTF-8 can encode it, and it is short."""
        known = self._known[label]
        if value in known:
            return value
        if len(known) >= LABEL_VALUES[label]:
            return OTHER
        clean = value[:LABEL_CHARS].encode("utf-8", "replace").decode()
        known.add(clean)
        return clean

    def _publish(self, family: Family, read: Read) -> None:
        if family.name in self.families():
            raise ValueError(f"the metric {family.name!r} is published already")
        if len(self._extra) >= EXTRA_FAMILIES:
            raise ValueError(f"more than {EXTRA_FAMILIES} metrics were added")
        self._extra[family.name] = (family, read)

    def _rows(self) -> dict[str, Rows]:
        """Copy every value as it is now, on the loop, so that a thread may take its time with it."""
        return {**self._http_rows(), **self._run_rows(), **self._tool_rows(), **self._extra_rows()}

    def _http_rows(self) -> dict[str, Rows]:
        return {
            "argentor_http_requests_total": {
                (row.method, row.template, str(status)): count
                for row in self._http
                for status, count in row.statuses.items()
            },
            "http_server_request_duration_seconds": {
                (row.method, row.template): Histogram(BUCKETS_S, row.buckets.copy(), row.seconds)
                for row in self._http
                if any(row.buckets)
            },
            "argentor_active_connections": {(): sum(row.opened - row.closed for row in self._sockets)},
            "argentor_websocket_connections_total": {(row.template,): row.opened for row in self._sockets},
            "argentor_websocket_seconds_total": {(row.template,): row.seconds for row in self._sockets},
        }

    def _run_rows(self) -> dict[str, Rows]:
        calls: dict[tuple[str, ...], float] = {}
        for (provider, *_), count in self._turns.items():
            calls[(provider,)] = calls.get((provider,), 0) + count
        return {
            "argentor_runs_total": {(status,): count for status, count in self._runs.items()},
            "argentor_runs_active": {(): self._runs_started - sum(self._runs.values())},
            "argentor_run_duration_seconds": {(): self._run_times.copy()},
            "argentor_turns_total": self._turns.copy(),
            "argentor_llm_calls_total": calls,
            "argentor_tokens_used_total": self._tokens.copy(),
            "argentor_uptime_seconds": {(): self._clock.monotonic() - self._born},
        }

    def _tool_rows(self) -> dict[str, Rows]:
        return {
            "argentor_tool_executions_total": {(skill,): sum(times.counts) for skill, times in self._tools.items()},
            "argentor_tool_errors_total": {(skill,): count for skill, count in self._tool_errors.items()},
            "argentor_tool_duration_seconds": {(skill,): times.copy() for skill, times in self._tools.items()},
        }

    def _extra_rows(self) -> dict[str, Rows]:
        return {name: _asked(name, read) for name, (_, read) in self._extra.items()}


def _add(counts: dict[Key, int], key: Key, number: int) -> None:
    counts[key] = counts.get(key, 0) + number


def _asked(name: str, read: Read) -> Rows:
    try:
        return {(): float(read())}
    except Exception:
        logger.exception("metric %s cannot be read", name)
        return {}


def _encode(families: Mapping[str, Family], rows: Mapping[str, Rows], openmetrics: bool) -> bytes:
    """Format a scrape; runs in a thread (26 ms for 200 routes)."""
    from prometheus_client import exposition, registry  # noqa: PLC0415  90 ms, which only a process that is scraped pays
    from prometheus_client.openmetrics import exposition as open_exposition  # noqa: PLC0415  as above

    class Scrape(registry.Collector):
        def collect(self) -> "Iterator[Metric]":
            return (_metric(family, rows[family.name]) for family in families.values())

    encode = open_exposition.generate_latest if openmetrics else exposition.generate_latest
    text: bytes = encode(Scrape())
    return text


def _metric(family: Family, rows: Rows) -> "Metric":
    """Return the library's metric of a family; it escapes help and label values."""
    from prometheus_client import core  # noqa: PLC0415  loaded by `_encode`

    made = core.Metric(family.name.removesuffix("_total"), family.help, family.type)
    for values, value in rows.items():
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Histogram):
            for bound, count in value.cumulative():
                made.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
            made.add_sample(f"{family.name}_count", labels, float(sum(value.counts)))
            made.add_sample(f"{family.name}_sum", labels, value.seconds)
        else:
            made.add_sample(family.name, labels, value)
    return made

"""The metrics that the gateway publishes: their names, types, labels and bounds, and the histogram they share."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

LABEL_VALUES: Final[Mapping[str, int]] = {
    "status": 20,
    "provider": 20,
    "finish_reason": 20,
    "skill": 200,
    "reason": 40,
    "kind": 20,
    "rule": 100,
}
"""How many values a label may take before all others become `OTHER`; a route's template and method need no cap."""
LABEL_CHARS: Final = 100
OTHER: Final = "other"
AGENT: Final = "argentor"
"""The value of the label `agent`: this gateway has one."""

RUN_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOOL_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)
WAIT_BUCKETS_S: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LIFE_BUCKETS_S: Final = (0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

FamilyType = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """One published family. A counter's `name` ends in `_total`, as its samples do."""

    name: str
    type: FamilyType
    help: str
    labels: tuple[str, ...] = ()


FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family
    for family in (
        Family("argentor_http_requests_total", "counter", "Answers by route and status.", ("method", "path", "status")),
        Family(
            "http_server_request_duration_seconds",
            "histogram",
            "Time until the answer was ready; a stream counts when it starts.",
            ("http_request_method", "http_route"),
        ),
        Family("argentor_streams_active", "gauge", "Answers that are being streamed."),
        Family("argentor_stream_duration_seconds", "histogram", "Time from a stream's start to its end."),
        Family("argentor_active_connections", "gauge", "WebSockets that are open."),
        Family("argentor_websocket_connections_total", "counter", "WebSockets opened, by route.", ("path",)),
        Family("argentor_websocket_duration_seconds", "histogram", "Time that closed WebSockets were open."),
        Family("argentor_slow_consumers_total", "counter", "Clients ended because they did not read.", ("kind",)),
        Family("argentor_body_timeouts_total", "counter", "Requests refused because their body came too slowly."),
        Family("argentor_auth_failures_total", "counter", "Callers refused for who they are.", ("reason",)),
        Family("argentor_rate_limited_total", "counter", "Requests refused by a limit.", ("reason",)),
        Family("argentor_security_events_total", "counter", "What the gateway refused or cleaned.", ("type",)),
        Family("argentor_runs_total", "counter", "Runs that ended, by status.", ("status",)),
        Family("argentor_runs_active", "gauge", "Runs that have begun and not ended."),
        Family("argentor_active_agents", "gauge", "The same as argentor_runs_active."),
        Family("argentor_run_queue_seconds", "histogram", "Time that a run waited for its session's earlier ones."),
        Family("argentor_run_duration_seconds", "histogram", "Time from a run's start to its end."),
        Family("argentor_time_to_first_token_seconds", "histogram", "Time from a run's start to its first text."),
        Family("argentor_turns_total", "counter", "Model calls by outcome.", ("provider", "finish_reason")),
        Family("argentor_llm_calls_total", "counter", "Model calls.", ("provider",)),
        Family("argentor_llm_retries_total", "counter", "Model calls tried again.", ("provider", "reason")),
        Family("argentor_llm_failovers_total", "counter", "Model calls that went on to the next model."),
        Family(
            "argentor_llm_breaker_state",
            "gauge",
            "Whether a model is asked: 0 closed, it is; 1 half open, by one call; 2 open, it is not.",
            ("provider", "model"),
        ),
        Family("argentor_llm_breaker_rejected_total", "counter", "Model calls not let through by a circuit breaker."),
        Family("argentor_tokens_used_total", "counter", "Tokens as counted by the model.", ("provider", "direction")),
        Family("argentor_tokens_total", "counter", "Tokens as counted by the model.", ("agent", "direction")),
        Family("argentor_tool_executions_total", "counter", "Skill calls.", ("skill",)),
        Family("argentor_tool_calls_total", "counter", "Skill calls.", ("agent", "tool")),
        Family("argentor_tool_errors_total", "counter", "Skill calls that ended in an error.", ("agent", "tool")),
        Family("argentor_tool_duration_seconds", "histogram", "Time of a skill call.", ("skill",)),
        Family("argentor_tool_latency_ms_total", "counter", "Time of all calls of a skill, in ms.", ("tool",)),
        Family("argentor_approvals_pending", "gauge", "Skill calls that wait for a person."),
        Family(
            "argentor_approvals_total", "counter", "Skill calls that waited for a person, by outcome.", ("outcome",)
        ),
        Family(
            "argentor_guardrail_findings_total",
            "counter",
            "What guardrails found, and whether they stopped it, took it out or only noted it.",
            ("rule", "phase", "severity"),
        ),
        Family("argentor_event_loop_lag_seconds", "histogram", "How late the event loop called back."),
        Family("argentor_drain_seconds", "gauge", "Time that the drain took; absent before there was one."),
        Family("argentor_uptime_seconds", "gauge", "Time since the gateway was made."),
    )
}
"""Every family that the gateway itself publishes, by name."""


class Exemplar(NamedTuple):
    """One observation that shows what its bucket is made of: `seconds`, its trace, and Unix seconds when it was."""

    trace_id: str
    seconds: float
    at_s: float


@dataclass(slots=True)
class Histogram:
    """Durations by bucket, at most one exemplar in each: the latest.

    `counts` is not cumulative and one longer than `bounds_s`.
    """

    bounds_s: Sequence[float]
    counts: list[int] = field(default_factory=list)
    seconds: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start empty."""
        self.counts = self.counts or [0] * (len(self.bounds_s) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration; one that equals a bound is below it (`le`)."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.seconds += seconds

    def show(self, exemplar: Exemplar) -> None:
        """Keep an observation, which is counted beside this, as its bucket's exemplar."""
        self.exemplars[bisect_left(self.bounds_s, exemplar.seconds)] = exemplar

    def copy(self) -> "Histogram":
        """Return it as it is now."""
        return Histogram(self.bounds_s, self.counts.copy(), self.seconds, self.exemplars.copy())

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (`le`, number of durations up to it), `+Inf` last."""
        total, found = 0, []
        for bound, count in zip((*(str(float(bound)) for bound in self.bounds_s), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


Rows: TypeAlias = Mapping[tuple[str, ...], float | Histogram]
"""The values of a family by its label values."""


class Labels:
    """The label values that are known: the first ones of each label, up to its cap."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {label: set() for label in LABEL_VALUES}

    def bounded(self, label: str, value: str) -> str:
        """Return the value if the label has room for it, else `OTHER`; UTF-8 can encode it, and it is short."""
        known = self._known[label]
        if value in known:
            return value
        clean = value[:LABEL_CHARS].encode("utf-8", "replace").decode()
        if clean not in known:
            if len(known) >= LABEL_VALUES[label]:
                return OTHER
            known.add(clean)
        return clean

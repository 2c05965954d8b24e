"""What a trace says of a request, a run, a turn and a skill call, whoever it is told to.

A span has its ids before it is over, so that what it calls can be told its parent; it is told whole, once, at its end.
Names and attributes follow OpenTelemetry's HTTP conventions and its GenAI ones (in development as of 2026). No span
says a word of a message, a header, a query or a skill's arguments.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.trace import Trace

AGENT: Final = "argentor"
PATH_CHARS: Final = 512
"""How much of a path a span says."""
UNKNOWN_SKILL: Final = "unknown"
"""What a call is named whose skill there is not: the name is the model's invention."""
_SERVER_ERROR: Final = 500

Kind = Literal["server", "client", "internal"]
Attributes: TypeAlias = Mapping[str, str | int | Sequence[str]]


class Span(NamedTuple):
    """A span that goes on. Ids are lower-case hex; `parent_id` is empty for a trace's first. `began`: monotonic s."""

    trace_id: str
    span_id: str
    parent_id: str
    began: float

    @property
    def header(self) -> str:
        """The `traceparent` for what this span calls."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Spans(Protocol):
    """Where spans go. Nothing here waits or raises.

    `is_on`: whether anyone is told; what asks it first saves making what nobody hears.
    """

    is_on: bool

    def begin(self, parent: str | None) -> Span | None:
        """Return a new span below the `traceparent` given, or in a trace of its own; None when nobody is told."""
        ...

    def end(
        self, span: Span, name: str, kind: Kind, attributes: Attributes, *, seconds: float, error: str | None = None
    ) -> None:
        """Tell of a span that is over now, after `seconds`; `error`: what kind of failure it ended with."""
        ...

    def seconds(self, span: Span) -> float:
        """Return how long the span has gone on."""
        ...


class NoSpans:
    """Tells nobody; satisfies `Spans`."""

    is_on = False

    def begin(self, parent: str | None) -> None:
        """Begin nothing."""

    def end(
        self, span: Span, name: str, kind: Kind, attributes: Attributes, *, seconds: float, error: str | None = None
    ) -> None:
        """Tell nobody."""

    def seconds(self, span: Span) -> float:  # noqa: ARG002  the protocol's
        """Return 0."""
        return 0.0


NO_SPANS: Final = NoSpans()


def header(span: Span | None, outer: str | None) -> str | None:
    """Return the `traceparent` to pass on: the span's own, or the one that came in where no spans are kept."""
    return outer if span is None else span.header


def request_ended(
    spans: Spans, trace: Trace, span_id: bytes, *, method: str, route: str, path: str, status: int, seconds: float
) -> None:
    """Tell of a request that was answered, or left (499); `route` is its template, `path` comes without the query."""
    span = Span(trace.trace_id.decode(), span_id.decode(), trace.parent_id.decode(), 0.0)
    attributes: Attributes = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "url.path": path[:PATH_CHARS],
    }
    error = str(status) if status >= _SERVER_ERROR else None
    spans.end(span, f"{method} {route}", "server", attributes, seconds=seconds, error=error)


def run_ended(
    spans: Spans, span: Span | None, *, run_id: str, session_id: str, usage: Usage, error: str | None
) -> None:
    """Tell of a run that is over; `error` is the code it ended with, None for one that was answered."""
    if span is not None:
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": AGENT,
            "gen_ai.conversation.id": session_id,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "argentor.run.id": run_id,
        }
        spans.end(span, f"invoke_agent {AGENT}", "internal", attributes, seconds=spans.seconds(span), error=error)


def turn_ended(
    spans: Spans, span: Span | None, *, provider: str, model: str, usage: Usage, reason: str, error: str | None
) -> None:
    """Tell of a model call that is over; `reason`: why the model stopped, unless `error` says why it was stopped."""
    if span is not None:
        reasons: Attributes = {} if error else {"gen_ai.response.finish_reasons": (reason,)}
        attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            **reasons,
        }
        spans.end(span, f"chat {model}", "client", attributes, seconds=spans.seconds(span), error=error)


def skill_ended(spans: Spans, span: Span | None, *, name: str, call_id: str, error: str | None) -> None:
    """Tell of a skill call that is over."""
    if span is not None:
        attributes: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call_id,
        }
        spans.end(span, f"execute_tool {name}", "internal", attributes, seconds=spans.seconds(span), error=error)

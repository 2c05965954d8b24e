"""`argentor_asgi.ops.spans`: what is said of a request, and that nothing is made where nobody listens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.ops.spans import (
    NO_SPANS,
    PATH_CHARS,
    Span,
    header,
    request_ended,
    run_ended,
    skill_ended,
    turn_ended,
)
from argentor_asgi.protocol.messages import Usage
from argentor_asgi.protocol.trace import Trace, parse

OUTER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
OPEN = Span("a" * 32, "b" * 16, "c" * 16, 0.0)


def test_without_a_listener_nothing_is_begun_and_the_outer_trace_is_passed_on():
    assert not NO_SPANS.is_on
    assert NO_SPANS.begin(OUTER) is None
    assert header(NO_SPANS.begin(OUTER), OUTER) == OUTER
    assert NO_SPANS.seconds(OPEN) == 0


def test_what_was_not_begun_is_not_told():
    request_ended(NO_SPANS, Trace(b"a" * 32), b"b" * 16, method="GET", route="/", path="/", status=200, seconds=0.1)
    run_ended(NO_SPANS, None, run_id="r", session_id="s", usage=Usage(), error=None)
    turn_ended(NO_SPANS, None, provider="p", model="m", usage=Usage(), reason="stop", error=None)
    skill_ended(NO_SPANS, None, name="n", call_id="c", error=None)


def test_a_span_passes_on_its_own_ids():
    assert parse(str(header(OPEN, OUTER)).encode()) == Trace(b"a" * 32, b"b" * 16, sampled=True)


class Heard(type(NO_SPANS)):
    """Keeps what it was told last."""

    def end(self, span, name, kind, attributes, *, seconds, error=None):
        self.told = (span, name, kind, attributes, seconds, error)


@pytest.mark.parametrize(("status", "error"), [(200, None), (404, None), (499, None), (500, "500"), (503, "503")])
def test_only_the_gateway_s_own_failures_are_errors_of_a_request(status, error):
    heard = Heard()
    trace = Trace(b"a" * 32, b"c" * 16)
    request_ended(heard, trace, b"b" * 16, method="GET", route="/x/{id}", path="/x/1", status=status, seconds=0.5)
    span, name, kind, attributes, seconds, found = heard.told
    assert (span.trace_id, span.span_id, span.parent_id) == ("a" * 32, "b" * 16, "c" * 16)
    assert (name, kind, seconds, found) == ("GET /x/{id}", "server", 0.5, error)
    assert attributes["http.response.status_code"] == status


@given(st.text(max_size=2 * PATH_CHARS))
def test_a_path_is_bounded(path):
    heard = Heard()
    request_ended(heard, Trace(b"a" * 32), b"b" * 16, method="GET", route="/", path=path, status=200, seconds=0.0)
    assert path.startswith(heard.told[3]["url.path"])
    assert len(heard.told[3]["url.path"]) <= PATH_CHARS

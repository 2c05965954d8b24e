"""What an operator sees of the gateway: ids and traces, one line for each thing that ended, metrics, and spans."""

import json
import re
from contextlib import suppress
from itertools import count
from types import SimpleNamespace

import pytest
from collector import collecting
from gatehouse import CHAT, CHEAP, EVERY_SERVER, SERVERS, STREAM, Line, ask, eventually, guarded, key, opened, secret
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from recording import PATIENCE_S
from websockets.exceptions import InvalidStatus

from argentor_asgi.ops.metric_families import FAMILIES

pytestmark = pytest.mark.slow

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BAD_PARENTS = (
    "garbage",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    "x" * 4000,
)
SAID = "tell-nobody-what-i-said"
ASKED = "nor-what-i-asked"
OPEN = "application/openmetrics-text"
FIELDS = {"time", "level", "logger", "message", "method", "path", "route", "duration_ms", "request_id", "trace_id"}
NOT_YET = {"argentor_drain_seconds"}
"""What has no sample before there was a drain."""
CLOSED = {"hypercorn-asyncio": {1000, 1006}}
"""What a socket ended with that its client closed; hypercorn by itself tells no code."""
numbers = count()
served = pytest.mark.parametrize(("kind", "workers"), SERVERS)


@pytest.fixture(scope="module", params=EVERY_SERVER, ids=lambda server: server[0])
def running(request, tmp_path_factory):
    kind, workers = request.param
    keys = [key("root", plan="much"), key("few", plan="few"), key("blind", scopes=["runs:read"])]
    plans = {"much": {"requests_per_minute": 100_000, "requests_per_hour": 100_000}, "few": {"requests_per_minute": 1}}
    with guarded(kind, tmp_path_factory.mktemp("observed"), keys, workers=workers, plans=plans) as found:
        yield found


def lines(running):
    """Return the access lines so far; whatever else stands in the log must not be theirs."""
    found = []
    for line in running.log.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("logger") == "argentor.access":
                found.append(entry)
    return found


def line_of(running, request_id):
    """Return the one line of a request, when it is there."""
    found = eventually(lambda: [line for line in lines(running) if line["request_id"] == request_id])
    (line,) = found
    return line


def named():
    """Return a request id that nobody else has."""
    return f"test-{next(numbers)}"


def scraped(running):
    """Return every sample by its family's name, parsed by the library of others."""
    text = ask(running.port, "GET", "/metrics", who="root").body.decode()
    return {family.name: family for family in text_families(text)}


def value(running, family, **labels):
    """Return the sum of the samples that have these labels."""
    samples = scraped(running)[family].samples
    chosen = [sample.value for sample in samples if labels.items() <= sample.labels.items()]
    return sum(chosen)


# --- ids and traces ---


def test_a_request_keeps_its_id_and_its_trace_and_gets_them_where_it_has_none(running):
    given = {"x-request-id": "mine-1.a_B", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    got = ask(running.port, "GET", CHEAP, who="root", headers=given)
    assert (got.headers["x-request-id"], got.headers["x-trace-id"]) == ("mine-1.a_B", TRACE)
    made = [ask(running.port, "GET", CHEAP, who="root").headers for _ in range(3)]
    assert len({headers["x-request-id"] for headers in made}) == 3
    assert len({headers["x-trace-id"] for headers in made}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", headers["x-trace-id"]) for headers in made)


def test_ids_and_traces_that_are_none_are_replaced_and_never_reflected(running):
    for bad in BAD_PARENTS:
        got = ask(running.port, "GET", CHEAP, who="root", headers={"traceparent": bad})
        trace_id = got.headers["x-trace-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", trace_id)
        assert trace_id not in {TRACE, "0" * 32}
        assert "traceparent" not in got.headers
        assert bad not in str(got.headers)
    for bad in ("with space", "x" * 129, 'quo"te', "<script>", "semi;colon"):
        got = ask(running.port, "GET", CHEAP, who="root", headers={"x-request-id": bad})
        assert re.fullmatch(r"[0-9a-f]{16}", got.headers["x-request-id"])


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        (None, CHEAP, 401),
        ("blind", CHEAP, 403),
        ("root", "/no/such/route", 404),
        ("root", "/api/v1/runs/00000000-0000-4000-8000-000000000000", 404),
        ("few", CHEAP, 429),
    ],
)
def test_every_refusal_is_traced_told_and_counted(running, who, path, status):
    while who == "few" and ask(running.port, "GET", path, who=who).status != status:
        pass
    labels = {"status": str(status)}
    before = value(running, "argentor_http_requests", **labels)
    request_id = named()
    headers = {"x-request-id": request_id, "traceparent": f"00-{TRACE}-{SPAN}-00"}
    got = ask(running.port, "GET", path, who=who, headers=headers)
    assert got.status == status
    assert (got.headers["x-request-id"], got.headers["x-trace-id"]) == (request_id, TRACE)
    assert got.json()["request_id"] == request_id
    line = line_of(running, request_id)
    assert (line["status"], line["trace_id"]) == (status, TRACE)
    assert value(running, "argentor_http_requests", **labels) == before + 1


def test_refusals_are_counted_by_their_reason(running):
    before = scraped(running)
    assert ask(running.port, "GET", CHEAP).status == 401
    assert ask(running.port, "GET", CHEAP, text="wrong").status == 401
    assert ask(running.port, "GET", CHEAP, who="blind").status == 403
    while ask(running.port, "GET", CHEAP, who="few").status != 429:
        pass
    after = scraped(running)

    def grown(family, reason):
        return [
            sum(sample.value for sample in seen[family].samples if sample.labels.get("reason") == reason)
            for seen in (before, after)
        ]

    for reason in ("missing", "invalid", "forbidden"):
        was, now = grown("argentor_auth_failures", reason)
        assert now == was + 1, reason
    was, now = grown("argentor_rate_limited", "minute")
    assert now == was + 1


# --- the access log ---


def test_a_request_has_one_line_with_its_fields_and_without_its_words(running):
    ids = [named() for _ in range(4)]
    calls = [
        ("GET", f"{CHEAP}?q={ASKED}", None),
        ("POST", f"{CHAT}?q={ASKED}", {"message": SAID}),
        ("GET", f"/no/such/{ids[2]}?q={ASKED}", None),
        ("POST", CHAT, {"message": "x", "other": SAID}),
    ]
    answers = [
        ask(running.port, method, path, body, who="root", headers={"x-request-id": request_id})
        for request_id, (method, path, body) in zip(ids, calls, strict=True)
    ]
    for request_id, got, (method, path, _) in zip(ids, answers, calls, strict=True):
        line = line_of(running, request_id)
        assert FIELDS | {"status", "address"} <= line.keys()
        assert (line["message"], line["method"], line["status"]) == ("request", method, got.status)
        assert line["path"] == path.partition("?")[0]
        assert line["address"] == "127.0.0.1"
        assert line["duration_ms"] >= 0
    assert line_of(running, ids[0])["principal"] == "root"
    assert line_of(running, ids[2])["route"] == "unmatched"
    for hidden in (SAID, ASKED, secret("root"), "authorization", "Bearer"):
        assert hidden not in "".join(json.dumps(line) for line in lines(running))


def test_streams_and_sockets_have_their_line_when_they_end(running):
    request_id, sockets = named(), named()
    with Line(running.port, "root") as line:
        stream = line.begin("POST", STREAM, {"input": SAID}, {"x-request-id": request_id})
        assert stream.status == 200
        assert b"event: done" in stream.read()
    found = line_of(running, request_id)
    assert (found["message"], found["status"], found["route"]) == ("stream", 200, STREAM)
    with opened(running.port, "root", **{"x-request-id": sockets, "traceparent": f"00-{TRACE}-{SPAN}-01"}) as talk:
        assert talk.asked(SAID)["type"] == "response"
        assert sockets not in [line["request_id"] for line in lines(running)]
    found = line_of(running, sockets)
    assert (found["message"], found["route"]) == ("websocket", "/ws")
    assert found["code"] in CLOSED.get(running.kind, {1000})
    assert (found["trace_id"], found["principal"]) == (TRACE, "root")
    assert SAID not in "".join(json.dumps(line) for line in lines(running))


def test_a_refused_handshake_has_its_status_for_a_code(running):
    request_id = named()
    with pytest.raises(InvalidStatus), opened(running.port, **{"x-request-id": request_id}):
        pass
    assert line_of(running, request_id)["code"] == 401


# --- metrics ---


def test_paths_with_quotes_and_newlines_break_neither_the_log_nor_the_scrape(running):
    for path in ("/a%22b", "/a%0Ab%0D%0Ac", "/%5C%22%7D%0A", "/%7Bsession_id%7D", '/raw"quote', "/%FF%FE"):
        assert ask(running.port, "GET", path, who="root").status in {400, 404}
    before = len(scraped(running)["argentor_http_requests"].samples)
    for number in range(200):
        assert ask(running.port, "GET", f"/made/up/{number}", who="root").status == 404
    families = scraped(running)
    paths = {sample.labels["path"] for sample in families["argentor_http_requests"].samples}
    assert len(families["argentor_http_requests"].samples) == before
    assert not any(character in path for path in paths for character in '"\n\r')
    assert "unmatched" in paths


def test_every_family_that_is_declared_is_published_in_both_formats(running):
    ask(running.port, "POST", CHAT, {"message": "what is 17*23?"}, who="root")
    got = ask(running.port, "GET", "/metrics", who="root")
    assert got.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = {family.name: family for family in text_families(got.body.decode())}
    got = ask(running.port, "GET", "/metrics", who="root", headers={"accept": f"{OPEN}; version=1.0.0, */*;q=0.1"})
    assert got.headers["content-type"] == f"{OPEN}; version=1.0.0; charset=utf-8"
    assert got.body.endswith(b"# EOF\n")
    both = {family.name: family for family in open_families(got.body.decode())}
    for name, family in FAMILIES.items():
        for seen in (text, both):
            found = seen[name.removesuffix("_total")]
            assert (found.type, found.documentation) == (family.type, family.help)
    assert set(text) == set(both)


def test_what_a_run_does_is_measured(running):
    names = ("argentor_runs", "argentor_llm_calls", "argentor_tool_calls", "argentor_tokens_used")
    durations = (
        "argentor_run_duration_seconds",
        "argentor_time_to_first_token_seconds",
        "argentor_tool_duration_seconds",
    )
    before = {name: value(running, name) for name in names}
    counts = {name: counted(running, name) for name in durations}
    assert ask(running.port, "POST", CHAT, {"message": "what is 17*23?"}, who="root").status == 200
    for name, was in before.items():
        assert value(running, name) > was, name
    for name, was in counts.items():
        assert counted(running, name) == was + 1, name
    with opened(running.port, "root"):
        assert value(running, "argentor_active_connections") == 1
    eventually(lambda: value(running, "argentor_active_connections") == 0)


def counted(running, family):
    samples = scraped(running)[family].samples
    return sum(sample.value for sample in samples if sample.name.endswith("_count"))


# --- spans ---


@served
def test_spans_reach_the_collector_below_the_caller_s_and_exemplars_point_to_them(kind, workers, tmp_path):
    with collecting() as collector:
        options = {"workers": workers, "otel_endpoint": collector.url}
        with guarded(kind, tmp_path, [key("root")], **options) as running:
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            asked = {"message": "what is 17*23?"}
            assert ask(running.port, "POST", f"{CHAT}?q={ASKED}", asked, who="root", headers=headers).status == 200
            assert ask(running.port, "POST", CHAT, {"message": SAID}, who="root").status == 200
            assert ask(running.port, "GET", CHEAP, headers=headers).status == 401
            found = ask(running.port, "GET", "/metrics", who="root", headers={"accept": OPEN})
            shown = [
                sample.exemplar.labels["trace_id"]
                for family in open_families(found.body.decode())
                for sample in family.samples
                if sample.exemplar
            ]
            assert TRACE in shown
            running.terminate()
            running.wait_s(PATIENCE_S)
    spans = [span for span in collector.spans if span.trace_id == TRACE]
    asked, refused = (
        SimpleNamespace(**vars(next(span for span in spans if span.name == name)))
        for name in (f"POST {CHAT}", f"GET {CHEAP}")
    )
    assert (asked.parent_id, asked.attributes["http.response.status_code"]) == (SPAN, 200)
    assert (refused.parent_id, refused.attributes["http.response.status_code"]) == (SPAN, 401)
    run = next(span for span in spans if span.name.startswith("invoke_agent"))
    assert run.parent_id == asked.span_id
    below = {span.attributes["gen_ai.operation.name"] for span in spans if span.parent_id == run.span_id}
    assert "chat" in below
    assert "execute_tool calculator" in {span.name for span in spans}
    told = b"".join(collector.raw)
    for hidden in (SAID, ASKED, secret("root")):
        assert hidden.encode() not in told

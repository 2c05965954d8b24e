"""`argentor_asgi.ops.metrics`: what is published, read back by the library's own parsers, and that it stays bounded."""

import asyncio

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from still_clock import StillClock

from argentor_asgi.asgi.route import BUCKETS_S, Route, Socket, unmatched
from argentor_asgi.ops.exposition import OPENMETRICS, TEXT
from argentor_asgi.ops.metric_families import FAMILIES, LABEL_CHARS, LABEL_VALUES, OTHER
from argentor_asgi.ops.metrics import EXTRA_FAMILIES, Metrics


async def handler():
    return None


def fed():
    """Return metrics of which every family has at least one sample."""
    metrics = Metrics(clock=StillClock())
    route = Route("GET", "/api/v1/sessions/{session_id}", handler, None)
    route.count(200, 0.002)
    route.count(404, 20.0)
    metrics.watch([route, Socket("/ws", handler, None, opened=3, closed=1), unmatched()])
    metrics.run_waited(0.0)
    metrics.run_started()
    metrics.run_started()
    metrics.first_token(0.7)
    metrics.run_ended("done", 1.5)
    metrics.turn_ended("builtin", "end_turn", 10, 20)
    metrics.turn_ended("builtin", "tool_use", 1, 2)
    metrics.llm_retried("openai", "provider_unavailable")
    metrics.llm_retried("openai", "provider_unavailable")
    metrics.llm_failed_over()
    metrics.provide(lambda: {"argentor_llm_breaker_state": {("openai", "gpt"): 2.0}})
    metrics.provide(lambda: {"argentor_llm_breaker_rejected_total": {(): 4.0}})
    metrics.provide(lambda: {"argentor_approvals_pending": {(): 2.0}})
    metrics.provide(lambda: {"argentor_approvals_total": {("denied",): 3.0}})
    metrics.guardrail_found("pii", "output", "warn")
    metrics.guardrail_found("pii", "output", "warn")
    metrics.tool_ended("calculator", 0.001, False)
    metrics.tool_ended("calculator", 0.002, True)
    for reason in ("missing", "invalid", "forbidden"):
        metrics.auth_failed(reason)
    metrics.limited("requests_per_minute")
    metrics.input_sanitized()
    metrics.consumer_cut("ws_outbox")
    metrics.stream_opened()
    metrics.stream_opened()
    metrics.stream_closed(12.0)
    metrics.socket_closed(2.5)
    metrics.loop_lagged(0.002)
    metrics.drained(3.5)
    return metrics


async def scraped(metrics, accept=None):
    """Return {sample name: {label pairs: value}} as a Prometheus server reads it."""
    body, content_type = await metrics.render(accept)
    parse = parse_openmetrics if content_type == OPENMETRICS else parse_text
    found = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def scraped_families(metrics, accept):
    body, content_type = await metrics.render(accept)
    parse = parse_openmetrics if content_type == OPENMETRICS else parse_text
    return {found.name + ("_total" if found.type == "counter" else ""): found for found in parse(body.decode())}


async def test_findings_are_counted_by_rule_phase_and_what_became_of_them():
    found = await scraped(fed())
    labels = (("phase", "output"), ("rule", "pii"), ("severity", "warn"))
    assert found["argentor_guardrail_findings_total"] == {labels: 2.0}
    assert found["argentor_approvals_total"] == {(("outcome", "denied"),): 3.0}


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text"])
async def test_what_is_declared_is_published_and_nothing_else(accept):
    families = await scraped_families(fed(), accept)
    assert set(families) == set(FAMILIES)
    for name, declared in FAMILIES.items():
        assert (families[name].type, families[name].documentation) == (declared.type, declared.help)
        assert families[name].samples, name
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == set(declared.labels)


async def test_bodies_that_came_too_slowly_are_the_answers_of_that_status():
    metrics = Metrics(clock=StillClock())
    rows = [Route("POST", path, handler, None) for path in ("/a", "/b")]
    metrics.watch(rows)
    for row, status in ((rows[0], 408), (rows[0], 408), (rows[1], 408), (rows[1], 504)):
        row.count(status, 1.0)
    assert (await scraped(metrics, None))["argentor_body_timeouts_total"] == {(): 3}


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text"])
async def test_both_formats_say_the_same_numbers(accept):
    found = await scraped(fed(), accept)
    path = ("path", "/api/v1/sessions/{session_id}")
    assert found["argentor_http_requests_total"] == {
        (("method", "GET"), path, ("status", "200")): 1,
        (("method", "GET"), path, ("status", "404")): 1,
    }
    assert found["argentor_active_connections"] == {(): 2}
    assert found["argentor_websocket_connections_total"] == {(("path", "/ws"),): 3}
    assert found["argentor_websocket_duration_seconds_sum"] == {(): 2.5}
    assert found["argentor_streams_active"] == {(): 1}
    assert found["argentor_stream_duration_seconds_sum"] == {(): 12.0}
    assert found["argentor_slow_consumers_total"] == {(("kind", "ws_outbox"),): 1}
    assert found["argentor_body_timeouts_total"] == {(): 0}
    assert found["argentor_event_loop_lag_seconds_count"] == {(): 1}
    assert found["argentor_drain_seconds"] == {(): 3.5}
    assert found["argentor_uptime_seconds"] == {(): 0}


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text"])
async def test_both_formats_say_the_same_of_runs(accept):
    found, tool = await scraped(fed(), accept), (("agent", "argentor"), ("tool", "calculator"))
    assert found["argentor_run_queue_seconds_count"] == {(): 1}
    assert found["argentor_time_to_first_token_seconds_sum"] == {(): 0.7}
    assert found["argentor_runs_total"] == {(("status", "done"),): 1}
    assert found["argentor_runs_active"] == found["argentor_active_agents"] == {(): 1}
    assert found["argentor_run_duration_seconds_sum"] == {(): 1.5}
    assert found["argentor_llm_calls_total"] == {(("provider", "builtin"),): 2}
    assert found["argentor_turns_total"][("finish_reason", "tool_use"), ("provider", "builtin")] == 1
    assert found["argentor_tokens_used_total"] == {
        (("direction", "input"), ("provider", "builtin")): 11,
        (("direction", "output"), ("provider", "builtin")): 22,
    }
    assert found["argentor_tokens_total"] == {
        (("agent", "argentor"), ("direction", "input")): 11,
        (("agent", "argentor"), ("direction", "output")): 22,
    }
    assert found["argentor_llm_retries_total"] == {(("provider", "openai"), ("reason", "provider_unavailable")): 2}
    assert found["argentor_llm_failovers_total"] == {(): 1}
    assert found["argentor_llm_breaker_state"] == {(("model", "gpt"), ("provider", "openai")): 2}
    assert found["argentor_llm_breaker_rejected_total"] == {(): 4}
    assert found["argentor_tool_executions_total"] == {(("skill", "calculator"),): 2}
    assert found["argentor_tool_calls_total"] == {tool: 2}
    assert found["argentor_tool_errors_total"] == {tool: 1}
    assert found["argentor_tool_latency_ms_total"] == {(("tool", "calculator"),): 3}
    assert found["argentor_tool_duration_seconds_count"] == {(("skill", "calculator"),): 2}


async def test_a_histogram_is_cumulative_and_ends_in_inf():
    found = await scraped(fed())
    labels = (("http_request_method", "GET"), ("http_route", "/api/v1/sessions/{session_id}"))
    buckets = {
        dict(pairs)["le"]: value for pairs, value in found["http_server_request_duration_seconds_bucket"].items()
    }
    assert list(buckets.values()) == [0.0] * 2 + [1.0] * (len(BUCKETS_S) - 2) + [2.0]
    assert list(buckets)[-1] == "+Inf"
    assert found["http_server_request_duration_seconds_count"][labels] == 2
    assert found["http_server_request_duration_seconds_sum"][labels] == pytest.approx(20.002)


async def test_uptime_is_that_of_the_clock():
    clock = StillClock()
    metrics = Metrics(clock=clock)
    clock.at += 12.5
    assert (await scraped(metrics))["argentor_uptime_seconds"] == {(): 12.5}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4;q=0.5", TEXT),
        ("Application/OpenMetrics-Text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        ("application/openmetrics-text;version=\r\nx", OPENMETRICS),
    ],
)
async def test_the_format_follows_accept_and_reflects_nothing_of_it(accept, content_type):
    body, found = await fed().render(accept)
    assert found == content_type
    assert body.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


async def test_a_hostile_label_value_does_not_break_the_page():
    metrics, hostile = Metrics(clock=StillClock()), 'a"b\\c\nd\ud800'
    metrics.tool_ended(hostile, 0.1, False)
    for accept in (None, "application/openmetrics-text"):
        assert (await scraped(metrics, accept))["argentor_tool_executions_total"] == {(("skill", 'a"b\\c\nd?'),): 1}


@pytest.mark.slow
async def test_a_hundred_thousand_names_stay_within_the_cap_and_lose_no_count():
    metrics, names = Metrics(clock=StillClock()), 100_000
    for number in range(names):
        name = f"name-{number}"
        metrics.tool_ended(name, 0.1, True)
        metrics.turn_ended(name, name, 1, 1)
        metrics.run_ended(name, 0.1)
        metrics.auth_failed(name)
        metrics.limited(name)
        metrics.consumer_cut(name)
        metrics.llm_retried(name, name)
    found = await scraped(metrics)
    for family, label in (
        ("argentor_tool_executions_total", "skill"),
        ("argentor_tool_errors_total", "skill"),
        ("argentor_llm_calls_total", "provider"),
        ("argentor_runs_total", "status"),
        ("argentor_auth_failures_total", "reason"),
        ("argentor_rate_limited_total", "reason"),
        ("argentor_slow_consumers_total", "kind"),
    ):
        assert len(found[family]) == LABEL_VALUES[label] + 1
        assert sum(found[family].values()) == names
    assert len(found["argentor_turns_total"]) <= (LABEL_VALUES["provider"] + 1) * (LABEL_VALUES["finish_reason"] + 1)
    assert len(found["argentor_llm_retries_total"]) <= (LABEL_VALUES["provider"] + 1) * (LABEL_VALUES["reason"] + 1)
    assert len(found["argentor_security_events_total"]) == 2
    assert found["argentor_tool_executions_total"][(("skill", OTHER),)] == names - LABEL_VALUES["skill"]


async def test_refusals_are_security_events_by_their_kind():
    assert (await scraped(fed()))["argentor_security_events_total"] == {
        (("type", "authentication_failed"),): 2,
        (("type", "permission_denied"),): 1,
        (("type", "rate_limit_exceeded"),): 1,
        (("type", "input_sanitized"),): 1,
    }


async def exemplars(metrics, name):
    """Return {le: (trace id, seconds, Unix seconds)} of a histogram's buckets."""
    body, _ = await metrics.render("application/openmetrics-text")
    samples = [each for family in parse_openmetrics(body.decode()) for each in family.samples]
    return {
        each.labels["le"]: (each.exemplar.labels["trace_id"], each.exemplar.value, float(each.exemplar.timestamp))
        for each in samples
        if each.name == f"{name}_bucket" and each.exemplar
    }


async def test_a_sampled_request_is_its_bucket_s_latest_exemplar():
    metrics, route = Metrics(clock=StillClock()), Route("GET", "/x", handler, None)
    metrics.watch([route])
    at = StillClock().now().timestamp()
    for trace_id, seconds in (("a" * 32, 0.002), ("b" * 32, 0.0024), ("c" * 32, 11.0)):
        route.count(200, seconds)
        metrics.request_sampled(route, seconds, trace_id)
    assert await exemplars(metrics, "http_server_request_duration_seconds") == {
        "0.0025": ("b" * 32, 0.0024, at),
        "+Inf": ("c" * 32, 11.0, at),
    }


async def test_a_run_whose_trace_is_kept_is_an_exemplar_and_text_0_0_4_says_nothing_of_it():
    metrics = Metrics(clock=StillClock())
    metrics.run_ended("done", 0.2)
    assert await exemplars(metrics, "argentor_run_duration_seconds") == {}
    metrics.run_ended("done", 0.3, "d" * 32)
    assert [*await exemplars(metrics, "argentor_run_duration_seconds")] == ["0.5"]
    assert b"dddd" not in (await metrics.render(None))[0]


async def test_ten_thousand_traces_leave_an_exemplar_a_bucket():
    metrics, route = Metrics(clock=StillClock()), Route("GET", "/x", handler, None)
    metrics.watch([route])
    for number in range(10_000):
        metrics.request_sampled(route, number / 900, f"{number:032x}")
    route.count(200, 0.1)
    assert len(await exemplars(metrics, "http_server_request_duration_seconds")) == len(BUCKETS_S)


async def test_a_label_value_is_cut_to_its_length():
    metrics = Metrics(clock=StillClock())
    metrics.tool_ended("x" * 10_000, 0.1, False)
    assert list((await scraped(metrics))["argentor_tool_executions_total"]) == [(("skill", "x" * LABEL_CHARS),)]


async def test_a_gauge_and_a_counter_are_read_at_each_scrape():
    metrics, values = Metrics(clock=StillClock()), iter(range(10))
    metrics.gauge("argentor_queue_depth", "Waiting.", lambda: next(values))
    metrics.counter("argentor_dropped_total", "Dropped.", lambda: 7)
    first, second = await scraped(metrics), await scraped(metrics, "application/openmetrics-text")
    assert (first["argentor_queue_depth"], second["argentor_queue_depth"]) == ({(): 0}, {(): 1})
    assert first["argentor_dropped_total"] == second["argentor_dropped_total"] == {(): 7}
    assert set(await scraped_families(metrics, None)) == set(metrics.families())


async def test_a_gauge_that_raises_is_left_out_and_logged(caplog):
    metrics = fed()
    metrics.gauge("argentor_broken", "Broken.", lambda: 1 / 0)
    found = await scraped(metrics)
    assert "argentor_broken" not in found
    assert found["argentor_runs_active"] == {(): 1}
    assert "metric argentor_broken cannot be read" in caplog.text


async def test_values_that_are_provided_are_read_at_each_scrape_and_absent_before():
    metrics, states = Metrics(clock=StillClock()), iter((0.0, 2.0))
    assert "argentor_llm_breaker_state" not in await scraped(metrics)
    metrics.provide(lambda: {"argentor_llm_breaker_state": {("a", "b"): next(states)}})
    labels = (("model", "b"), ("provider", "a"))
    assert (await scraped(metrics))["argentor_llm_breaker_state"] == {labels: 0}
    assert (await scraped(metrics))["argentor_llm_breaker_state"] == {labels: 2}


def test_a_name_is_published_once_and_a_counter_says_so():
    metrics = Metrics(clock=StillClock())
    metrics.gauge("argentor_queue_depth", "Waiting.", float)
    with pytest.raises(ValueError, match="published already"):
        metrics.gauge("argentor_queue_depth", "Waiting.", float)
    with pytest.raises(ValueError, match="published already"):
        metrics.gauge("argentor_uptime_seconds", "Up.", float)
    with pytest.raises(ValueError, match="_total"):
        metrics.counter("argentor_dropped", "Dropped.", float)


def test_one_family_too_many_is_refused():
    metrics = Metrics(clock=StillClock())
    for number in range(EXTRA_FAMILIES):
        metrics.gauge(f"argentor_gauge_{number}", "One.", float)
    with pytest.raises(ValueError, match="more than"):
        metrics.gauge("argentor_last", "One.", float)


async def test_scrapes_at_once_share_one_rendering():
    metrics, reads = Metrics(clock=StillClock()), []
    metrics.gauge("argentor_reads", "Reads.", lambda: reads.append(1) or len(reads))
    bodies = await asyncio.gather(*(metrics.render(None) for _ in range(20)))
    assert len(reads) == 1
    assert len({body for body, _ in bodies}) == 1
    await metrics.render(None)
    assert len(reads) == 2


async def test_a_scraper_that_goes_away_leaves_the_rendering_to_the_others():
    metrics = fed()
    gone, stays = asyncio.create_task(metrics.render(None)), asyncio.create_task(metrics.render(None))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays)[1] == TEXT
    assert gone.cancelled()


async def test_counting_goes_on_while_a_scrape_is_formatted():
    """A scrape is of one moment: what is counted meanwhile is in the next one."""
    metrics = fed()
    scrape = asyncio.create_task(metrics.render(None))
    await asyncio.sleep(0)
    for number in range(50):
        metrics.tool_ended(f"skill-{number}", 0.1, False)
    assert b"skill-0" not in (await scrape)[0]
    assert b"skill-0" in (await metrics.render(None))[0]

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import children, inproc, ours, peers
from bench.children import Served

pytestmark = pytest.mark.slow
BARE = Served("bare", "bench.bare:app", {})


def _bench(tmp_path, *words):
    out = tmp_path / "report.json"
    done = subprocess.run(  # noqa: S603  our own interpreter and our own bench
        [sys.executable, "-m", "bench", *words, "--json", str(out)],
        cwd=children.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


def _targets(report):
    return {series["target"] for series in report["series"]}


def _named(report):
    """The targets and absentees by their first word: rows of one application, and reasons, have more."""
    return {name.split()[0] for name in (*_targets(report), *report["absent"])}


def test_inproc_measures_or_names_everyone(tmp_path):
    text, report = _bench(tmp_path, "inproc", "--rounds", "1", "--seconds", "0.2")
    assert {"driver", "bare"} <= _targets(report)
    assert _named(report) >= {*peers.PEERS, ours.NAME}
    assert all(series["rounds"][0] > 0 for series in report["series"])
    assert "goal: asyncio: whole stack / bare" in text


def test_http_measures_or_names_everyone(tmp_path):
    _, report = _bench(tmp_path, "http", "--rounds", "1", "--seconds", "1", "--no-peers")
    assert "bare" in _targets(report)
    assert _named(report) >= {*peers.PEERS, ours.NAME}
    assert {series["group"] for series in report["series"]} >= {"hypercorn asyncio c=1", "hypercorn asyncio c=64"}


def test_ws_measures_sockets_and_their_memory(tmp_path):
    _, report = _bench(tmp_path, "ws", "--rounds", "1", "--seconds", "1")
    groups = {series["group"] for series in report["series"] if series["target"] == "bare"}
    assert {f"hypercorn asyncio: {what}" for what in ("connects", "1 socket", "100 sockets", "idle sockets")} <= groups
    assert ours.NAME in _named(report)


def test_startup_measures_imports_and_idle_servers(tmp_path):
    text, report = _bench(tmp_path, "startup", "--rounds", "1", "--no-peers")
    assert {"argentor_asgi", "bare"} <= _targets(report)
    assert _named(report) >= {*peers.PEERS, ours.NAME}
    assert "goal: import argentor_asgi, ms" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("idle", "--connections", "50", "--seconds", "0.2"), "goal: launcher: KiB per idle socket"),
        (("keys", "--samples", "400"), "goal: keys alone: other secret / unknown id"),
        (("lag", "--rounds", "1", "--seconds", "1.5"), "goal: hypercorn asyncio: abuse, p99_ms"),
        (("slow", "--connections", "5", "--seconds", "0.5"), "goal: launcher: slow headers, never cut"),
        (("stalled", "--readers", "4", "--seconds", "0.5"), "goal: readers never cut"),
        (("soak", "--requests", "100", "--seconds", "1"), "goal: argentor: growth_percent"),
        (("fuzz", "--requests", "200"), "goal: 500, raised, endless or unknown: 0.00"),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_each_bench_under_pressure_measures_the_gateway(words, says, tmp_path):
    text, report = _bench(tmp_path, *words)
    assert says in text
    assert {series["target"] for series in report["series"]} - {"bare"}


def test_a_server_answers_and_is_gone_afterwards():
    servers, _ = children.split_cores()
    with children.serving(BARE, children.hypercorn("asyncio"), servers) as child:
        assert 0 < child.first_answer_s < children.START_S
        assert child.rss_kib() > 1000
        assert child.cpu_s() > 0
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_server_is_gone_after_a_failure_too():
    servers, _ = children.split_cores()
    with pytest.raises(ZeroDivisionError), children.serving(BARE, children.hypercorn("asyncio"), servers) as child:
        _ = 1 / 0
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_server_that_cannot_start_is_an_error_with_its_last_words():
    servers, _ = children.split_cores()
    with (
        pytest.raises(RuntimeError, match="before it answered") as raised,
        children.serving(Served("none", "no_such_module:app", {}), children.hypercorn("asyncio"), servers),
    ):
        pass
    assert "no_such_module" in raised.value.__notes__[0]


def test_a_pin_is_undone():
    before = os.sched_getaffinity(0)
    with children.pinned(frozenset([min(before)])):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_a_wrong_answer_ends_the_measurement():
    target = inproc.Target("bare", "bare", holds=b"something else")
    with pytest.raises(RuntimeError, match="bare answered 200"):
        inproc.check(target, 200, b'{"status":"ok"}')

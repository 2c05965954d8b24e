import asyncio
import json
import math
import random
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import attackers, children, crowd, fuzz, holders, idle, keys, lag, load, ours, soak, stalled, watched
from bench.calls import HEADERS, Exchange, http_scope, lifespan
from bench.children import Served
from bench.harness import Series

values = st.lists(st.integers(min_value=0, max_value=50).map(float), min_size=2, max_size=30)


# --- keys: two tests that need no library ------------------------------------------------------------------------


@settings(max_examples=50)
@given(values, values)
def test_cliffs_delta_is_the_share_of_pairs_that_one_side_wins(one, other):
    won = sum((a > b) - (a < b) for a in one for b in other) / (len(one) * len(other))
    p, delta = keys.mann_whitney(one, other)
    assert math.isclose(delta, won, abs_tol=1e-9)
    assert 0.0 <= p <= 1.0
    assert math.isclose(keys.mann_whitney(other, one)[1], -delta, abs_tol=1e-9)


def test_the_two_tests_tell_what_differs_from_what_does_not():
    rng = random.Random(1)  # noqa: S311  no secret
    one, same = ([rng.gauss(1000, 50) for _ in range(4000)] for _ in range(2))
    found = keys.compared(one, same)
    assert max(abs(found.cohen_d), abs(found.cliff_delta)) < keys.EFFECT_BAR
    slower = keys.compared([value + 25 for value in same], one)
    assert (slower.welch_p < 1e-6, slower.rank_p < 1e-6) == (True, True)
    assert slower.cohen_d > 0.3
    assert slower.cliff_delta > 0.2
    assert 15 < slower.median_ns < 35


def test_a_known_example_of_welch_and_of_mann_whitney():
    # By hand: difference -2 of variances 1 and 1 over 3 and 3; no pair is won, so U is 0 of 9.
    p, d = keys.welch([1.0, 2.0, 3.0], [3.0, 4.0, 5.0])
    assert (round(p, 4), d) == (round(keys.two_sided(2 / math.sqrt(2 / 3)), 4), -2.0)
    p, delta = keys.mann_whitney([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (round(p, 4), delta) == (round(keys.two_sided(4.5 / math.sqrt(9 / 12 * 7)), 4), -1.0)
    assert keys.two_sided(1.959964) == pytest.approx(0.05, abs=1e-6)


def test_values_that_are_all_the_same_differ_by_nothing():
    assert keys.compared([1.0, 1.0], [1.0, 1.0]) == keys.Compared(0.0, 1.0, 0.0, 1.0, 0.0)
    assert keys.welch([2.0, 2.0], [1.0, 1.0]) == (0.0, math.inf)


# --- crowds ------------------------------------------------------------------------------------------------------


@given(st.integers(min_value=0, max_value=10**5), st.integers(min_value=1, max_value=50))
def test_shares_are_all_of_it_and_nearly_equal(count, parts):
    made = crowd.shares(count, parts)
    assert (sum(made), len(made), max(made) - min(made) <= 1) == (count, parts, True)


def test_the_lateness_of_heartbeats_is_the_longest_wait_of_a_socket_beyond_its_turn():
    assert idle.lateness([[0.0, 20.0, 41.5], [3.0], []], 20.0) == 1.5
    assert idle.lateness([[0.0, 19.0]], 20.0) == 0.0


def _frame(payload: bytes) -> bytes:
    return bytes([0x81, len(payload)]) + payload


def test_a_holder_notes_heartbeats_and_answers_them():
    ours_end, theirs = socket.socketpair()
    with ours_end, theirs:
        ours_end.setblocking(False)
        held = holders.Held(ours_end)
        theirs.sendall(b"HTTP/1.1 101 \r\nupgrade: websocket\r\n\r\n" + _frame(b'{"type":"connected"}'))
        assert holders._took(held)
        assert (held.welcomed, held.beats) == (True, [])
        theirs.sendall(_frame(b'{"type":"ping","t":1}'))
        assert holders._took(held)
        assert (len(held.beats), theirs.recv(100)) == (1, holders.ANSWER)
        theirs.sendall(b"\x88\x00")
        assert not holders._took(held)


def test_a_refused_handshake_is_no_held_socket():
    ours_end, theirs = socket.socketpair()
    with ours_end, theirs:
        ours_end.setblocking(False)
        theirs.sendall(b"HTTP/1.1 503 \r\n\r\n")
        assert not holders._took(holders.Held(ours_end))


# --- instruments -------------------------------------------------------------------------------------------------


async def test_a_watched_application_says_how_late_its_loop_is_and_what_is_open():
    app = watched.base
    async with lifespan(app) as state:
        exchange = Exchange(b"")
        await app(http_scope("GET", watched.PATH, HEADERS, state), exchange.receive, exchange.send)
        inside = json.loads(exchange.chunks)
        assert set(inside) == {"samples", "p50_ms", "p99_ms", "max_ms", "tasks"}
        assert inside["tasks"] >= 2
        other = Exchange(b"")
        await app(http_scope("GET", "/health", HEADERS, state), other.receive, other.send)
        assert (other.status, b"argentor" in other.chunks) == (200, True)


async def test_samples_of_lateness_are_forgotten_once_they_are_taken():
    late = watched.Lag()
    task = asyncio.create_task(late.sample())
    while not late.late_s:  # noqa: ASYNC110  the sampler announces nothing
        await asyncio.sleep(0)
    task.cancel()
    assert late.taken()["samples"] >= 1
    assert late.taken() == {"samples": 1, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}


# --- requests of chance ------------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_requests():
    one, other = random.Random(3), random.Random(3)  # noqa: S311  no secrets
    made = [fuzz.request(one) for _ in range(200)]
    assert made == [fuzz.request(other) for _ in range(200)]
    assert len({odd.target for odd in made}) > 50


def test_a_request_of_chance_is_framed_by_its_length():
    odd = fuzz.Odd("POST", "/x", ((b"host", b"h"),), b"{}")
    assert fuzz.raw(odd) == b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"


def test_the_known_statuses_have_no_500():
    assert {200, 401, 404, 429, 503} <= fuzz.known_statuses()
    assert 500 not in fuzz.known_statuses()


# --- goals -------------------------------------------------------------------------------------------------------


def _series(group, **metrics):
    return [Series(group, ours.NAME, metric, (value,)) for metric, value in metrics.items()]


def test_an_idle_crowd_is_held_to_its_memory_its_cpu_and_its_heartbeats():
    series = _series("launcher", kib_each=41.0, cpu_percent=1.0, late_s=0.2, lost=0.0)
    assert [goal.verdict for goal in idle.goals(series, "launcher")] == ["MISSED", "met", "met", "met"]
    assert {goal.verdict for goal in idle.goals([], "launcher")} == {"not measured"}


def test_who_does_not_read_is_held_to_time_memory_and_the_others_peace():
    series = _series("launcher", freed_max_s=12.0, never_freed=0.0, rss_mib=70.0, p99_ms=5.0)
    assert [goal.verdict for goal in stalled.goals(series)] == ["met", "met", "MISSED", "met"]


def test_the_loop_is_held_to_its_lateness_under_each_load():
    series = _series("hypercorn asyncio: abuse", p99_ms=25.0, max_ms=90.0)
    found = {goal.words: goal.verdict for goal in lag.goals(series, "asyncio")}
    assert (found["hypercorn asyncio: abuse, p99_ms"], found["hypercorn asyncio: abuse, max_ms"]) == ("MISSED", "met")
    assert found["hypercorn asyncio: whole runs, max_ms"] == "not measured"


def test_a_soak_is_held_to_what_it_leaves():
    series = _series("soak", growth_percent=6.0, tasks_more=0.0, fds_more=1.0)
    assert [goal.verdict for goal in soak.goals(series)] == ["MISSED", "met", "met"]


# --- over sockets ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_slow_heads_are_cut_by_hypercorn_and_the_cut_is_seen():
    cores, _ = children.split_cores()
    command = [*children.hypercorn("asyncio"), "--keep-alive", "1"]
    with children.serving(Served("bare", "bench.bare:app", {}), command, cores) as child:
        members = [attackers.slow_header(3, 20.0), attackers.slow_header(2, 20.0)]
        with crowd.crowd(members, child.port) as pipes:
            found = crowd.told(pipes)
    assert [(len(part.after_s), part.left) for part in found] == [(3, 0), (2, 0)]


@pytest.mark.slow
async def test_probes_are_answered_on_a_connection_each():
    cores, _ = children.split_cores()
    with children.serving(Served("bare", "bench.bare:app", {}), children.hypercorn("asyncio"), cores) as child:
        tally = await load.probes(child.port, 0.1, 0.01)
    assert tally.latencies_s
    assert b"argentor" in tally.last_body or tally.last_body == b""

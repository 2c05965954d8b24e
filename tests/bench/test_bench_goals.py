from bench import http, inproc, startup
from bench.harness import Series


def _series(group, metric, **targets):
    return [Series(group, name, metric, (value,)) for name, value in targets.items()]


def _said(goals):
    return [(goal.words, goal.value, goal.verdict) for goal in goals]


def test_the_stack_is_held_against_the_bare_callable_and_the_cheapest_peer():
    mine = {"argentor": 5.0, "argentor whole": 6.0}
    series = _series("asyncio", "cpu_us", bare=2.0, falcon=10.0, blacksheep=8.0, **mine)
    assert _said(inproc.goals(series, ["asyncio"])) == [
        ("asyncio: whole stack / bare", 3.0, "MISSED"),
        ("asyncio: whole stack / bare, in their quietest rounds", 3.0, "MISSED"),
        ("asyncio: GET /health / bare", 2.5, "met"),
        ("asyncio: GET /health / bare, in their quietest rounds", 2.5, "met"),
        ("asyncio: whole stack / cheapest peer (blacksheep)", 0.75, "met"),
    ]


def test_without_the_gateway_or_peers_the_bars_are_not_measured():
    goals = inproc.goals(_series("asyncio", "cpu_us", bare=2.0), ["asyncio"])
    assert [goal.verdict for goal in goals] == ["not measured"] * 5


def test_throughput_is_a_share_of_the_bare_callables():
    series = _series("hypercorn asyncio c=1", "requests_s", bare=1000.0, argentor=960.0)
    series += _series("hypercorn asyncio c=64", "requests_s", bare=1000.0, argentor=900.0)
    series += _series("hypercorn asyncio c=1", "cpu_us", bare=97.0, argentor=100.0)
    assert [(goal.value, goal.verdict) for goal in http.goals(series, "asyncio")] == [
        (0.96, "met"),
        (0.97, "met"),
        (0.9, "MISSED"),
        (None, "not measured"),
    ]


def test_imports_are_held_to_their_time_and_an_idle_server_to_its_memory():
    series = _series("import", "import_ms", **{"argentor_asgi": 5.0, "argentor_asgi.compose": 90.0})
    series += _series("hypercorn asyncio, idle", "rss_mib", bare=30.0, argentor=44.0)
    assert [(goal.value, goal.verdict) for goal in startup.goals(series)] == [
        (5.0, "met"),
        (90.0, "MISSED"),
        (14.0, "met"),
    ]


def test_an_absent_gateway_has_no_memory_to_hold_to_a_bar():
    assert startup.goals([])[-1].verdict == "not measured"

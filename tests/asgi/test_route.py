import types
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.asgi.route import (
    BUCKETS_S,
    OTHER,
    UNMATCHED,
    Route,
    Socket,
    route,
    routes_in,
    rows_of,
    socket,
    unmatched,
)
from argentor_asgi.errors import SessionNotFound


@route("GET", "/a/{x}", needs="a:read", errors=[SessionNotFound], status=201, also=[503], tags=["t"], produces="text/x")
async def first(x: str) -> str:
    """Do it.

    Whatever it is.
    """
    return x


@route("GET", "/b", needs=None)
@route("POST", "/c", needs=None)
async def second() -> None:
    pass


@socket("/ws", needs="ws", tags=["t"])
async def third() -> None:
    """Talk."""


def module_of(**values: object) -> types.ModuleType:
    made = types.ModuleType("made")
    vars(made).update(values)
    return made


def here() -> types.ModuleType:
    """A module in which this file's handlers were declared, beside something imported and something else."""
    made = types.ModuleType(__name__)
    vars(made).update(socket=socket, third=third, Route=Route, first=first, number=1, second=second)
    return made


def test_a_handler_stays_the_function_that_it_is():
    assert isinstance(first, types.FunctionType)


def test_a_row_says_all_that_its_declaration_says():
    (row,) = rows_of(first)
    assert isinstance(row, Route)
    assert (row.method, row.template, row.handler, row.needs) == ("GET", "/a/{x}", first, "a:read")
    assert (row.errors, row.status, row.also, row.tags, row.produces) == (
        (SessionNotFound,),
        201,
        (503,),
        ("t",),
        "text/x",
    )
    assert (row.summary, row.description) == ("Do it.", "Whatever it is.")


def test_a_socket_has_a_row_of_its_own_kind():
    (row,) = rows_of(third)
    assert isinstance(row, Socket)
    assert (row.template, row.needs, row.tags, row.summary, row.description) == ("/ws", "ws", ("t",), "Talk.", "")


def test_one_handler_may_stand_on_several_paths_in_the_order_written():
    assert [row.template for row in rows_of(second)] == ["/b", "/c"]


def test_a_module_gives_its_own_rows_in_order_and_not_what_it_imports():
    assert [row.template for row in routes_in(here(), module_of(first=first))] == ["/ws", "/a/{x}", "/b", "/c"]


def test_rows_are_fresh_at_each_call():
    one, two = rows_of(first)[0], rows_of(first)[0]
    one.count(200, 0.1)
    assert (one.statuses, two.statuses) == ({200: 1}, {})


@given(st.lists(st.tuples(st.sampled_from([200, 404]), st.one_of(st.sampled_from(BUCKETS_S), st.floats(0, 20)))))
def test_every_answer_is_in_exactly_one_bucket_and_its_bound_is_inclusive(answers: list[tuple[int, float]]):
    row = unmatched()
    for status, seconds in answers:
        row.count(status, seconds)
    assert sum(row.statuses.values()) == sum(row.buckets) == len(answers)
    assert row.buckets == [
        sum(bisect_left(BUCKETS_S, seconds) == index for _, seconds in answers) for index in range(len(BUCKETS_S) + 1)
    ]
    assert row.seconds == pytest.approx(sum(seconds for _, seconds in answers))


def test_the_row_of_what_is_unmatched_is_one_whatever_is_asked():
    assert (unmatched().method, unmatched().template) == (OTHER, UNMATCHED)


async def test_the_row_of_what_is_unmatched_does_nothing():
    assert await unmatched().handler() is None

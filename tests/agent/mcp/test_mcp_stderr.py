"""What a server's process says on its stderr, in the log."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import eventually
from still_clock import StillClock

from argentor_asgi.agent.mcp.stderr import LINE_BYTES, LINES_PER_MINUTE, Lines, stderr_log
from argentor_asgi.api_keys import Secret
from argentor_asgi.ops.clock import SystemClock


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, "argentor.mcp")
    return lambda: [record.getMessage().removeprefix("MCP server s: ") for record in caplog.records]


def lines(*secrets, clock=None):
    return Lines("s", [Secret(secret) for secret in secrets], clock or StillClock(0.0))


def test_each_line_is_logged_once_it_is_complete_and_the_rest_at_the_end(told):
    receiver = lines()
    receiver.data_received(b"one\r\ntw")
    receiver.data_received(b"o\nthree")
    assert told() == ["one", "two"]
    receiver.connection_lost(None)
    assert told() == ["one", "two", "three"]


def test_a_line_without_an_end_takes_no_more_room_than_a_line(told):
    receiver = lines()
    for _ in range(100):
        receiver.data_received(b"x" * 65536)
    receiver.data_received(b"\nnext\n")
    assert told() == ["x" * LINE_BYTES, "next"]


def test_a_secret_is_hidden_even_where_the_line_is_cut(told):
    lines("hunter2", "").data_received(b"my hunter2\n" + b"x" * (LINE_BYTES - 3) + b"hunter2\n")
    assert "hunt" not in "".join(told())


def test_only_so_many_lines_a_minute_are_logged_and_how_many_were_not_is_told(told):
    clock = StillClock(0.0)
    receiver = lines(clock=clock)
    receiver.data_received(b"line\n" * (LINES_PER_MINUTE + 5))
    assert len(told()) == LINES_PER_MINUTE
    clock.at = 60.0
    receiver.data_received(b"again\n")
    assert told()[LINES_PER_MINUTE:] == ["5 more lines are left out", "again"]


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_bytes_of_any_kind_in_any_pieces_are_taken(pieces):
    receiver = lines()
    for piece in pieces:
        receiver.data_received(piece)
    receiver.connection_lost(None)


async def test_the_file_is_what_a_process_can_write_to(told):
    async with stderr_log("s", (), SystemClock()) as stderr:
        child = await asyncio.create_subprocess_exec("sh", "-c", "echo complaint >&2", stderr=stderr)
        await child.wait()
        await eventually(told)
    assert told() == ["complaint"]

"""What is decided of a connection without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.mcp.link import PAUSE_MAX_S, pause_s
from argentor_asgi.agent.mcp.source import effect_of
from argentor_asgi.agent_sections import McpServer


def test_after_a_lasting_connection_the_next_is_tried_at_once_and_then_ever_later():
    assert [pause_s(failures, 1.0) for failures in range(9)] == [0, 1, 2, 4, 8, 16, 32, PAUSE_MAX_S, PAUSE_MAX_S]


@given(st.integers(0, 10**9), st.floats(0.001, 60))
def test_a_pause_never_shrinks_with_failures_and_has_a_bound(failures, first_s):
    assert pause_s(failures, first_s) <= pause_s(failures + 1, first_s) <= PAUSE_MAX_S


@pytest.mark.parametrize(
    ("settings", "tool", "effect"),
    [
        ({}, "get", "write"),
        ({"effect": "read"}, "delete", "read"),
        ({"read_only": ("get_*", "list")}, "get_it", "read"),
        ({"read_only": ("get_*", "list")}, "list", "read"),
        ({"read_only": ("get_*", "list")}, "forget_it", "write"),
        ({"read_only": ("get_*",)}, "GET_IT", "write"),
    ],
)
def test_what_a_tool_does_is_what_the_operator_says(settings, tool, effect):
    assert effect_of(McpServer("s", url="http://localhost/mcp", **settings), tool) == effect

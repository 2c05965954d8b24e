"""`argentor_asgi.protocol.events`: what a reader gets of each event."""

from typing import get_args

import pytest

from argentor_asgi.protocol.events import RunEvent
from argentor_asgi.protocol.grammar import FIELDS
from argentor_asgi.protocol.schema import decode_value, encode


@pytest.mark.parametrize("kind", get_args(RunEvent))
def test_the_json_of_an_event_has_all_its_members_and_begins_with_its_type(kind):
    event = kind(*[None] * (len(kind.__match_args__) - ("type" in kind.__match_args__)))
    members = decode_value(encode(event))
    assert next(iter(members)) == "type"
    assert FIELDS[members["type"]] == members.keys()

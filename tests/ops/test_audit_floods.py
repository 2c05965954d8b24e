from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.ops.audit_entry import entry
from argentor_asgi.ops.audit_floods import KEYS, REPEAT_S, Floods

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def made(action="auth_failed", **details):
    return lambda: entry(NOW, action, "denied", details, address="192.0.2.1")


def test_the_first_is_written_and_the_others_are_counted():
    floods = Floods()
    assert floods.admit("a", made(n=1), 0.0).details == {"n": 1}
    assert floods.admit("a", made(n=2), 1.0) is None
    assert floods.admit("b", made(), 1.0) is not None
    assert floods.due(REPEAT_S - 0.1) == []
    [told] = floods.due(REPEAT_S)
    assert told.details == {"n": 2, "repeated": 1}


def test_a_flood_that_goes_on_is_told_each_minute_and_one_that_ended_is_forgotten():
    floods = Floods()
    for minute in range(3):
        for _ in range(5):
            floods.admit("a", made(), minute * REPEAT_S)
        assert [each.details["repeated"] for each in floods.due((minute + 1) * REPEAT_S)] == [4 if not minute else 5]
    assert floods.due(4 * REPEAT_S) == []
    assert floods.next_s() is None
    assert floods.admit("a", made(), 4 * REPEAT_S) is not None


def test_beyond_the_bound_of_keys_all_others_are_counted_together_and_name_nobody():
    floods = Floods()
    written = [floods.admit(f"k{number}", made(), 0.0) for number in range(KEYS + 500)]
    assert [each is None for each in written] == [False] * KEYS + [True] * 500
    assert len(floods._floods) == KEYS + 1
    [told] = floods.due(REPEAT_S)
    assert (told.details, told.address, told.action) == ({"of_many": True, "repeated": 500}, None, "auth_failed")


@given(keys=st.lists(st.sampled_from("abc"), max_size=40), steps=st.lists(st.floats(0, 30), max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_entry_is_written_or_counted(keys, steps):
    floods, now, told = Floods(), 0.0, 0
    for key, step in zip(keys, steps, strict=False):
        now += step
        told += floods.admit(key, made(), now) is not None
        told += sum(each.details["repeated"] for each in floods.due(now))
    told += sum(each.details["repeated"] for each in floods.due(float("inf")))
    assert told == min(len(keys), len(steps))

"""`argentor_asgi.security.holds`: given back once, whatever happens in which order."""

from callers import Desk
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.security.holds import Hold, Reservation, RunGrant

KINDS = st.sampled_from(["runs", "streams", "connections"])


@given(st.lists(st.tuples(KINDS, st.integers(0, 3)), max_size=20))
def test_a_place_is_given_back_once_however_often_it_is_released(held):
    account = Desk().account()
    holds = [(Hold(account, kind), times) for kind, times in held]
    assert account.runs + account.streams + account.connections == len(held)
    for hold, times in holds:
        with hold:
            for _ in range(times):
                hold.release()
    assert (account.runs, account.streams, account.connections) == (0, 0, 0)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_reservation_counts_what_was_used_first(tokens, first, second):
    account = Desk().account()
    reservation = Reservation(account, tokens, lambda: account.day)
    assert (account.reserved, account.used) == (tokens, 0)
    reservation.settle(first)
    reservation.settle(second)
    assert (account.reserved, account.used) == (0, first)


def test_a_grant_ends_both_and_a_later_day_is_the_one_that_counts():
    account = Desk().account()
    account.use(9, account.day)
    tomorrow = account.day + 1
    grant = RunGrant(Hold(account, "runs"), Reservation(account, 50, lambda: tomorrow))
    for tokens in (20, 30):
        grant.end(tokens)
    assert (account.runs, account.reserved, account.used, account.day) == (0, 0, 20, tomorrow)

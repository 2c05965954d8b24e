"""`argentor_asgi.security.accounts`: what a caller has used is kept, and what nobody used is not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.config import Limits, Plan
from argentor_asgi.security.accounts import SWEPT, Account, Book, numbers
from argentor_asgi.security.identity import ANONYMOUS
from argentor_asgi.security.quota import after

COMMON = numbers(Limits(), None)
DAY = 20_000


def account(text="10.0.0.1", *, now=0.0):
    return Account(text, ANONYMOUS, COMMON, now=now, day=DAY)


def busy(text="10.0.0.1", *, now=0.0):
    found = account(text, now=now)
    found.minute_at = after(found.minute_at, now, COMMON.minute)
    return found


@given(st.builds(Plan, *[st.none() | st.integers(0, 10**9)] * 3, *[st.none() | st.integers(1, 10**6)] * 3))
def test_a_plan_wins_where_it_says_something(plan):
    own, common = numbers(Limits(), plan), numbers(Limits(), None)
    given_ones = (plan.requests_per_minute, plan.requests_per_hour, plan.tokens_per_day)
    given_ones += (plan.runs, plan.streams, plan.connections)
    for name, value in zip(
        ("requests_per_minute", "requests_per_hour", "tokens_per_day", "runs", "streams", "connections"),
        given_ones,
        strict=True,
    ):
        assert getattr(own, name) == (getattr(common, name) if value is None else value)
    assert own.is_barred == (0 in given_ones)


def test_tokens_of_another_day_are_forgotten_and_an_earlier_day_never_comes_back():
    one = account()
    one.use(10, DAY)
    one.use(5, DAY - 1)
    assert (one.used, one.day, one.left) == (15, DAY, COMMON.tokens_per_day - 15)
    one.use(3, DAY + 1)
    assert (one.used, one.day) == (3, DAY + 1)
    one.turn_to(DAY)
    assert (one.used, one.day) == (3, DAY + 1)


def test_an_account_is_idle_when_a_new_one_would_be_the_same():
    assert account().is_idle(0.0, DAY)
    assert not busy().is_idle(0.0, DAY)
    assert busy().is_idle(60.0, DAY)
    for name in ("runs", "streams", "connections", "reserved"):
        held = account()
        setattr(held, name, 1)
        assert not held.is_idle(10.0**6, DAY + 9)
    used = account()
    used.use(1, DAY)
    assert not used.is_idle(10.0**6, DAY)
    assert used.is_idle(10.0**6, DAY + 1)


def test_a_full_book_makes_room_by_what_is_idle_and_not_more_often_than_each_second():
    book = Book(2, busy)
    first = book.open("a", "a", 0.0, DAY)
    book.open("b", "b", 0.0, DAY)
    shared = book.open("c", "c", 0.0, DAY)
    assert (shared.key, book.open("d", "d", 0.0, DAY) is shared, len(book)) == ("others", True, 2)
    assert (book.find("a"), book.find("c")) == (first, None)
    book.sweep(0.5, DAY)
    assert book.open("c", "c", 1.4, DAY) is shared, "it was swept less than a second ago"
    assert (book.open("c", "c", 1.5, DAY).key, len(book)) == ("c", 1)


def test_a_key_has_one_account():
    book = Book(2, account)
    assert book.open("a", "a", 0.0, DAY) is book.open("a", "a", 0.0, DAY)


def test_a_sweep_looks_at_a_part_and_the_next_one_goes_on_behind_it():
    held, book = 3, Book(10 * SWEPT, account)
    for number in range(SWEPT + held):
        book.open(str(number), str(number), 0.0, DAY).runs = number < held
    book.sweep(0.0, DAY)
    assert len(book) == held + held
    book.sweep(0.0, DAY)
    assert len(book) == held


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), max_size=60))
def test_a_book_never_holds_more_than_its_bound_and_forgets_nobody_who_is_busy(calls):
    book, now, spent = Book(4, account), 0.0, {}
    for who, later in calls:
        now += later
        key = str(who)
        found = book.find(key) or book.open(key, key, now, DAY)
        found.minute_at = after(found.minute_at, now, COMMON.minute)
        assert len(book) <= 4
        if found.key == key:
            if spent.get(key, (None, 0))[0] is not found and key in spent:
                assert spent[key][1] <= now, "it was still busy when it was forgotten"
            spent[key] = (found, found.minute_at + COMMON.minute.slack_s)

import asyncio
import logging
import re
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from argentor_asgi.errors import Overloaded
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.keys import Credential
from argentor_asgi.security.tickets import TICKET_BYTES, TTL_S, Tickets

ME, YOU = Principal("me", key_id="k1"), Principal("you", key_id="k2")
NOW_S = 1_800_000_000.0


def redeemed(tickets: Tickets, ticket: str, now_s: float = NOW_S) -> Principal | None:
    found = tickets.redeem(ticket.encode(), now_s)
    return None if found is None else found.principal


def test_a_ticket_stands_for_who_asked_for_it_with_the_credential():
    tickets, credential = Tickets(), Credential(ME, b"d")
    ticket = tickets.issue(credential, NOW_S)
    assert re.fullmatch(rf"[A-Za-z0-9_-]{{{TICKET_BYTES}}}", ticket)
    found = tickets.redeem(ticket.encode(), NOW_S)
    assert (found.principal, found.credential) == (ME, credential)
    assert found.expires_s == NOW_S + TTL_S


def test_a_principal_without_a_key_gets_one_too():
    tickets = Tickets()
    found = tickets.redeem(tickets.issue(ANONYMOUS, NOW_S).encode(), NOW_S)
    assert (found.principal, found.credential) == (ANONYMOUS, None)


def test_a_ticket_is_good_once():
    tickets = Tickets()
    ticket = tickets.issue(ME, NOW_S)
    assert [redeemed(tickets, ticket) for _ in range(3)] == [ME, None, None]
    assert (len(tickets), tickets._counts) == (0, {})


async def test_of_fifty_that_redeem_one_ticket_at_once_one_comes_in():
    tickets = Tickets()
    ticket, start = tickets.issue(ME, NOW_S), asyncio.Event()

    async def enter():
        await start.wait()
        return redeemed(tickets, ticket)

    entering = [asyncio.create_task(enter()) for _ in range(50)]
    await asyncio.sleep(0)
    start.set()
    assert [found for found in await asyncio.gather(*entering) if found] == [ME]


async def test_of_fifty_threads_that_redeem_one_ticket_one_comes_in():
    tickets = Tickets()
    ticket = tickets.issue(ME, NOW_S)
    found = await asyncio.gather(*(asyncio.to_thread(redeemed, tickets, ticket) for _ in range(50)))
    assert [each for each in found if each] == [ME]


def test_a_ticket_is_good_up_to_its_end_and_not_at_it():
    tickets = Tickets()
    early, late = tickets.issue(ME, NOW_S), tickets.issue(ME, NOW_S)
    assert redeemed(tickets, early, NOW_S + TTL_S - 0.001) == ME
    assert redeemed(tickets, late, NOW_S + TTL_S) is None
    assert len(tickets) == 0


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t[::-1], lambda _: "", str.swapcase])
def test_what_is_not_exactly_the_ticket_is_refused_and_spends_nothing(change):
    tickets = Tickets()
    ticket = tickets.issue(ME, NOW_S)
    assert redeemed(tickets, change(ticket)) is None
    assert redeemed(tickets, ticket) == ME


def test_a_ticket_dies_with_the_key_that_asked_for_it_whether_it_expires_or_goes():
    for end_s in (NOW_S, -inf):
        tickets, credential = Tickets(), Credential(ME, b"d")
        ticket = tickets.issue(credential, NOW_S)
        credential.expires_s = end_s
        assert redeemed(tickets, ticket) is None


def test_revoking_a_key_forgets_its_tickets_and_no_others():
    tickets = Tickets()
    mine, yours = [tickets.issue(ME, NOW_S) for _ in range(2)], tickets.issue(YOU, NOW_S)
    assert (tickets.revoke("k1"), tickets.revoke("k1"), tickets.revoke("nobody's")) == (2, 0, 0)
    assert [redeemed(tickets, ticket) for ticket in (*mine, yours)] == [None, None, YOU]


def test_one_principal_has_its_number_of_tickets_at_a_time_whatever_its_keys():
    tickets = Tickets(per_principal=2)
    first = tickets.issue(ME, NOW_S)
    tickets.issue(Credential(Principal("me", key_id="k9"), b"d"), NOW_S)
    with pytest.raises(Overloaded) as caught:
        tickets.issue(ME, NOW_S)
    assert caught.value.retry_after == TTL_S
    assert redeemed(tickets, tickets.issue(YOU, NOW_S)) == YOU
    redeemed(tickets, first)
    assert redeemed(tickets, tickets.issue(ME, NOW_S)) == ME


def test_all_together_have_theirs_and_expired_ones_make_room():
    tickets = Tickets(limit=3)
    for n in range(3):
        tickets.issue(Principal(f"p{n}"), NOW_S + n)
    with pytest.raises(Overloaded):
        tickets.issue(ME, NOW_S + TTL_S - 0.001)
    tickets.issue(ME, NOW_S + TTL_S)
    with pytest.raises(Overloaded):
        tickets.issue(ME, NOW_S + TTL_S)
    assert (len(tickets), sum(tickets._counts.values())) == (3, 3)


def test_a_clock_that_was_set_back_locks_nobody_out():
    tickets = Tickets(limit=2)
    ahead = [tickets.issue(ME, NOW_S + 86_400) for _ in range(2)]
    assert redeemed(tickets, tickets.issue(ME, NOW_S)) == ME
    assert [redeemed(tickets, ticket) for ticket in ahead] == [None, None]


def test_a_sweep_forgets_the_expired():
    tickets = Tickets()
    tickets.issue(ME, NOW_S)
    left = tickets.issue(ME, NOW_S + 1)
    tickets.sweep(NOW_S + TTL_S)
    assert (len(tickets), redeemed(tickets, left, NOW_S + TTL_S)) == (1, ME)


def test_nothing_shows_a_ticket_or_holds_it(caplog: pytest.LogCaptureFixture):
    tickets = Tickets()
    ticket = tickets.issue(ME, NOW_S)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("argentor").warning("%s %r", tickets, vars(tickets))
    assert ticket not in caplog.text
    assert all(ticket.encode() not in digest for digest in tickets._out)
    assert ticket not in repr(tickets.redeem(ticket.encode(), NOW_S))


class TicketsMachine(RuleBasedStateMachine):
    """However tickets are asked for, spent and left to expire, each opens once, in time, and the bounds hold."""

    def __init__(self):
        super().__init__()
        self.tickets = Tickets(limit=5, per_principal=3, ttl_s=10)
        self.good: dict[str, tuple[Principal, float]] = {}
        self.known: list[str] = []
        self.now_s = 0.0

    @rule(who=st.sampled_from([ME, YOU, ANONYMOUS]))
    def issue(self, who):
        out = [principal for principal, end_s in self.good.values() if self.now_s < end_s]
        if len(out) >= 5 or out.count(who) >= 3:
            with pytest.raises(Overloaded):
                self.tickets.issue(who, self.now_s)
            return
        ticket = self.tickets.issue(who, self.now_s)
        self.known.append(ticket)
        self.good[ticket] = (who, self.now_s + 10)

    @rule(pick=st.integers(0, 1000))
    def redeem(self, pick):
        if self.known:
            ticket = self.known[pick % len(self.known)]
            who, end_s = self.good.pop(ticket, (None, inf))
            assert redeemed(self.tickets, ticket, self.now_s) == (who if self.now_s < end_s else None)

    @rule(who=st.sampled_from([ME, YOU]))
    def revoke(self, who):
        self.tickets.revoke(who.key_id)
        self.good = {ticket: held for ticket, held in self.good.items() if held[0] != who}

    @rule(step_s=st.sampled_from([1.0, 5.0, 10.0]))
    def wait(self, step_s):
        self.now_s += step_s

    @invariant()
    def the_bounds_hold(self):
        assert sum(self.tickets._counts.values()) == len(self.tickets) <= 5
        assert all(0 < count <= 3 for count in self.tickets._counts.values())


TestTicketsMachine = TicketsMachine.TestCase
TestTicketsMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)

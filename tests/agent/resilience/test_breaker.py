"""`argentor_asgi.agent.resilience.breaker`: one failure too many, the wait, and the one probe behind it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from still_clock import StillClock

from argentor_asgi.agent.resilience.breaker import Breaker, Rules, State, admit, answered, phase, settle

RULES = Rules(failures=3, open_s=30.0)


def opened(clock):
    breaker = Breaker(RULES, clock)
    for _ in range(RULES.failures):
        breaker.settle(breaker.admit(), "failure")
    return breaker


def test_failures_in_a_row_open_it_and_a_success_begins_the_row_anew():
    breaker = Breaker(RULES, StillClock())
    for outcome in ("failure", "failure", "success", "failure", "failure"):
        breaker.settle(breaker.admit(), outcome)
    assert breaker.phase == "closed"
    breaker.settle(breaker.admit(), "failure")
    assert breaker.phase == "open"
    assert breaker.rejected == 0


def test_an_abandoned_call_neither_counts_nor_ends_the_row():
    breaker = Breaker(RULES, StillClock())
    for outcome in ("failure", "failure", "abandoned", "failure"):
        breaker.settle(breaker.admit(), outcome)
    assert breaker.phase == "open"


def test_an_open_one_lets_nobody_through_until_its_time_is_over():
    clock = StillClock()
    breaker = opened(clock)
    assert breaker.wait_s == 30
    clock.at += 29.5
    assert breaker.admit() is None
    assert (breaker.rejected, breaker.wait_s, breaker.phase) == (1, 1, "open")
    clock.at += 0.5
    assert breaker.phase == "half_open"
    assert breaker.admit() is not None


def test_half_open_admits_one_probe_at_a_time():
    """agent.md 1.10 D15."""
    clock = StillClock()
    breaker = opened(clock)
    clock.at += 30
    permits = [breaker.admit() for _ in range(10)]
    assert [permit is not None for permit in permits] == [True] + [False] * 9
    assert breaker.rejected == 9
    assert breaker.wait_s == 1


def test_a_probe_that_succeeds_closes_it():
    clock = StillClock()
    breaker = opened(clock)
    clock.at += 30
    breaker.settle(breaker.admit(), "success")
    assert breaker.phase == "closed"
    assert None not in [breaker.admit() for _ in range(10)]


def test_a_probe_that_is_being_answered_lets_the_others_in_and_one_failure_keeps_them_out_again():
    clock = StillClock()
    breaker = opened(clock)
    clock.at += 30
    probe = breaker.admit()
    breaker.answered(probe)
    assert breaker.phase == "closed"
    other = breaker.admit()
    breaker.settle(probe, "failure")
    assert breaker.phase == "open"
    breaker.answered(other)
    breaker.settle(other, "success")
    assert breaker.phase == "open"


def test_an_answer_that_came_to_its_end_begins_the_row_anew():
    clock = StillClock()
    breaker = opened(clock)
    clock.at += 30
    probe = breaker.admit()
    breaker.answered(probe)
    breaker.settle(probe, "success")
    breaker.settle(breaker.admit(), "failure")
    assert breaker.phase == "closed"


def test_a_first_word_means_nothing_to_a_closed_one():
    breaker = Breaker(RULES, StillClock())
    for _ in range(RULES.failures):
        permit = breaker.admit()
        breaker.answered(permit)
        breaker.settle(permit, "failure")
    assert breaker.phase == "open"


def test_a_probe_that_fails_opens_it_again_for_the_whole_time():
    clock = StillClock()
    breaker = opened(clock)
    clock.at += 100
    breaker.settle(breaker.admit(), "failure")
    assert (breaker.phase, breaker.wait_s) == ("open", 30)


def test_a_probe_that_is_abandoned_frees_its_place():
    clock = StillClock()
    breaker = opened(clock)
    clock.at += 30
    breaker.settle(breaker.admit(), "abandoned")
    assert breaker.phase == "half_open"
    assert [breaker.admit() is None, breaker.admit() is None] == [False, True]


def test_a_call_of_an_earlier_time_says_nothing_about_this_one():
    clock = StillClock()
    breaker = Breaker(RULES, clock)
    late = [breaker.admit() for _ in range(5)]
    for _ in range(RULES.failures):
        breaker.settle(breaker.admit(), "failure")
    breaker.settle(late[0], "success")
    assert breaker.phase == "open"
    clock.at += 30
    probe = breaker.admit()
    breaker.settle(late[1], "success")
    breaker.settle(late[2], "failure")
    breaker.settle(late[3], "abandoned")
    assert (breaker.phase, breaker.admit()) == ("half_open", None)
    breaker.settle(probe, "success")
    breaker.settle(late[4], "failure")
    assert breaker.phase == "closed"


class BreakerMachine(RuleBasedStateMachine):
    """Any calls, outcomes and waits in any order, against what the diagram says."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.state = State()
        self.calls: list[tuple[int, bool]] = []

    @property
    def phase(self):
        return phase(self.state, self.now)

    @rule()
    def ask(self):
        before = self.phase
        is_probed = any(is_probe for _, is_probe in self.calls)
        self.state, permit = admit(self.state, self.now)
        assert (permit is not None) == (before == "closed" or (before == "half_open" and not is_probed))
        assert self.phase == before
        if permit is not None:
            self.calls.append((permit, before == "half_open"))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def speak(self, data):
        at = data.draw(st.integers(0, len(self.calls) - 1))
        permit, is_probe = self.calls[at]
        before, failures = self.phase, self.state.failures
        self.state = answered(self.state, permit, RULES)
        self.calls[at] = (permit, False)
        assert self.phase == ("closed" if is_probe else before)
        assert self.state.failures == (RULES.failures - 1 if is_probe else failures)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "failure", "failure", "abandoned"]))
    def end(self, data, outcome):
        permit, is_probe = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        before, failures = self.phase, self.state.failures
        self.state = settle(self.state, permit, outcome, self.now, RULES)
        if is_probe:
            assert self.phase == {"success": "closed", "failure": "open", "abandoned": "half_open"}[outcome]
        elif before != "closed":
            assert self.phase == before
        else:
            assert self.state.failures - failures in ({1, 0} if outcome == "failure" else {0, -failures})

    @rule(seconds=st.sampled_from([0.1, 10.0, 30.0]))
    def wait(self, seconds):
        before = self.phase
        self.now += seconds
        assert self.phase == before or (before, self.phase) == ("open", "half_open")

    @invariant()
    def one_probe_at_most(self):
        assert sum(is_probe for _, is_probe in self.calls) == int(self.state.is_probed) <= 1

    @invariant()
    def the_row_is_shorter_than_the_rules_while_closed(self):
        assert self.phase != "closed" or self.state.failures < RULES.failures


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=50, stateful_step_count=40)

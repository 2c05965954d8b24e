"""A circuit breaker: a model that fails again and again is left alone for a while, then one call tries it.

    closed --failures in a row--> open --time--> half open --the probe is answered--> closed
                                   ^                  |
                                   +--- it fails -----+

Half open admits one probe at a time (agent.md 1.10 D15); a probe that is cancelled or abandoned frees its place. It is
answered with its first word, so that nobody has to wait for the end of another's long answer; but until an answer came
to its end, the next failure opens it again.

What counts as a failure is for the caller to say: failures of the provider do; a bad request, a refusal to answer and
too long a conversation show that the provider works, and are successes; a call that was cancelled shows nothing.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from argentor_asgi.ops.clock import Clock

Phase = Literal["closed", "half_open", "open"]
Outcome = Literal["success", "failure", "abandoned"]


@dataclass(frozen=True, slots=True)
class Rules:
    """`failures` (>= 1) in a row open the breaker, for `open_s` seconds."""

    failures: int
    open_s: float


@dataclass(frozen=True, slots=True)
class State:
    """A breaker at one moment.

    `failures`: in a row. `open_until`: monotonic s, None when closed. `epoch`: rises with each change but counting; an
    outcome counts only in the epoch in which its call was admitted, since later it says nothing new.
    """

    failures: int = 0
    open_until: float | None = None
    is_probed: bool = False
    epoch: int = 0


def phase(state: State, now: float) -> Phase:
    """Say how the breaker stands at `now`, monotonic s."""
    if state.open_until is None:
        return "closed"
    return "open" if now < state.open_until else "half_open"


def admit(state: State, now: float) -> tuple[State, int | None]:
    """Return the state after a call asked to be let through, and its permit for `settle`; None when it is not."""
    match phase(state, now):
        case "closed":
            return state, state.epoch
        case "half_open" if not state.is_probed:
            probed = replace(state, is_probed=True, epoch=state.epoch + 1)
            return probed, probed.epoch
        case _:
            return state, None


def answered(state: State, permit: int, rules: Rules) -> State:
    """Return the state after the call of `permit` was told its first word; it is still to be settled."""
    if not state.is_probed or permit != state.epoch:
        return state
    return State(failures=rules.failures - 1, epoch=state.epoch)


def settle(state: State, permit: int, outcome: Outcome, now: float, rules: Rules) -> State:
    """Return the state after the call of `permit` came to its outcome; one of an earlier epoch changes nothing."""
    if permit != state.epoch:
        return state
    if outcome == "abandoned":
        return replace(state, is_probed=False, epoch=state.epoch + 1) if state.is_probed else state
    if outcome == "success":
        return State(epoch=state.epoch + state.is_probed)
    failures = state.failures + 1
    if state.is_probed or failures >= rules.failures:
        return State(failures, open_until=now + rules.open_s, epoch=state.epoch + 1)
    return replace(state, failures=failures)


class Breaker:
    """One model's breaker. `rejected`: how many calls it let not through since it was made."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        """Begin closed."""
        self._rules = rules
        self._clock = clock
        self._state = State()
        self.rejected = 0

    @property
    def phase(self) -> Phase:
        """How it stands now."""
        return phase(self._state, self._clock.monotonic())

    @property
    def wait_s(self) -> int:
        """Whole seconds, >= 1, after which a call may be let through that now is not."""
        left_s = (self._state.open_until or 0.0) - self._clock.monotonic()
        return max(1, ceil(left_s))

    def admit(self) -> int | None:
        """Return a permit, to be settled exactly once; None, and counted, when the model is to be left alone."""
        self._state, permit = admit(self._state, self._clock.monotonic())
        self.rejected += permit is None
        return permit

    def answered(self, permit: int) -> None:
        """Take note that a call that was admitted is being answered."""
        self._state = answered(self._state, permit, self._rules)

    def settle(self, permit: int, outcome: Outcome) -> None:
        """Take note of what came of a call that was admitted."""
        self._state = settle(self._state, permit, outcome, self._clock.monotonic(), self._rules)

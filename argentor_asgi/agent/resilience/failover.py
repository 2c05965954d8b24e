"""Models in order of preference as one backend: retries, failover and circuit breakers around each model call.

A call is tried again, or with the next model, only as long as it said nothing (agent.md 2.3 rule 7): text, reasoning
and calls of skills are what says something, a count of tokens does not. After that a failure is the caller's to see.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from argentor_asgi.agent.backends import LlmBackend, close
from argentor_asgi.agent.resilience.breaker import Breaker, Outcome, Phase, Rules
from argentor_asgi.agent.resilience.retry import PROVIDER_FAILURES, Again, GiveUp, after
from argentor_asgi.errors import GatewayError, ProviderUnavailable, StreamTruncated
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metric_families import Rows
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest, Retrying, TextPiece, UsageReport

GAUGE: Final[Mapping[Phase, int]] = {"closed": 0, "half_open": 1, "open": 2}
"""What the metric of a breaker says of its state."""

log = logging.getLogger("argentor.models")
_SILENCE: Final = TextPiece("")


@dataclass(frozen=True, slots=True)
class Patience:
    """How much is done for one model call: `retries` (>= 0) of each model; `timeout_s` for all of it, None for no end.

    `breaker`: when a model is left alone.
    """

    retries: int
    breaker: Rules
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Model:
    """A model in its place in the order."""

    backend: LlmBackend
    breaker: Breaker

    @property
    def label(self) -> str:
        return f"{self.backend.name}/{self.backend.model}"

    def answered(self, permit: int) -> None:
        """Tell the breaker of a first word; the log hears when that closes it."""
        before = self.breaker.phase
        self.breaker.answered(permit)
        self._log(before)

    def settle(self, permit: int, outcome: Outcome) -> None:
        """Tell the breaker of an outcome; the log hears when that opens or closes it."""
        before = self.breaker.phase
        self.breaker.settle(permit, outcome)
        self._log(before)

    def _log(self, before: Phase) -> None:
        now = self.breaker.phase
        if now == "open" != before:
            log.warning("%s failed again and again and is left alone for %d s", self.label, self.breaker.wait_s)
        elif now == "closed" != before:
            log.info("%s answers again", self.label)


class Resilient:
    """An `LlmBackend` of `backends` (at least one), the preferred first; it owns them and closes them.

    `name` and `model` are those of the first; which one answered stands in each `UsageReport`. `sleep` and `draw` (in
    [0, 1)) are what waiting and chance are made of.
    """

    def __init__(
        self,
        backends: Sequence[LlmBackend],
        *,
        patience: Patience,
        clock: Clock,
        metrics: Metrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Begin with every breaker closed."""
        self.name = backends[0].name
        self.model = backends[0].model
        self.patience = patience
        self.clock = clock
        self.metrics = metrics
        self.draw = draw
        self.models = [_Model(backend, Breaker(patience.breaker, clock)) for backend in backends]
        self._sleep = sleep

    async def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        """Answer by the first model that can; `Retrying` says each time that one could not.

        Raises the last model's error, or `ProviderUnavailable` with `retry_after` when all are left alone. Closing the
        iterator, or a cancel at any await, ends the call to the model at once.
        """
        call = _Call(self, request)
        while True:
            trial = call.begin()
            async with trial:
                async for event in trial:
                    yield event
            if trial.failure is None:
                return
            again = call.after(trial.failure)
            yield again
            await self._sleep(again.delay_ms / 1000)

    async def aclose(self) -> None:
        """Close every model's backend; those behind one that cannot be closed are closed all the same."""
        done = await asyncio.gather(*(model.backend.aclose() for model in self.models), return_exceptions=True)
        for error in done:
            if error is not None:
                log.error("a model's connections could not be closed", exc_info=error)

    async def check(self) -> None:
        """Raise `ProviderUnavailable` when every model is left alone: for readiness."""
        if all(model.breaker.phase == "open" for model in self.models):
            labels = ", ".join(model.label for model in self.models)
            raise ProviderUnavailable(f"left alone after failures: {labels}")

    def states(self) -> Mapping[str, Rows]:
        """Return what metrics publish of the breakers now: for `Metrics.provide`.

        A model that is there twice, in two places, shows the worse of the two.
        """
        found: dict[tuple[str, ...], float] = {}
        for model in self.models:
            labels, state = (model.backend.name, model.backend.model), GAUGE[model.breaker.phase]
            found[labels] = max(state, found.get(labels, 0))
        rejected = sum(model.breaker.rejected for model in self.models)
        return {"argentor_llm_breaker_state": found, "argentor_llm_breaker_rejected_total": {(): rejected}}


class _Call:
    """One model call: which model is next, how often it was asked, and what is left of the time."""

    def __init__(self, owner: Resilient, request: LlmRequest) -> None:
        timeout_s = owner.patience.timeout_s
        self._owner = owner
        self._request = request
        self._deadline = None if timeout_s is None else owner.clock.monotonic() + timeout_s
        self._at = 0
        self._tries = 0
        self._attempts = 0
        self._error: GatewayError | None = None

    def begin(self) -> "_Trial":
        """Return a try of the next model that is not left alone; raises what is to be told when there is none."""
        models = self._owner.models
        while self._at < len(models):
            model = models[self._at]
            permit = model.breaker.admit()
            if permit is not None:
                self._tries += 1
                return _Trial(model, permit, self._request, self._left_s)
            self._move_on()
        raise self._error or _all_left_alone(models)

    def after(self, error: GatewayError) -> Retrying:
        """Return what is to be told before the next try; raises `error` when there is none."""
        owner, model = self._owner, self._owner.models[self._at]
        self._error = error
        retries = owner.patience.retries
        step = after(error, tries=self._tries, retries=retries, draw=owner.draw(), left_s=self._wait_s())
        delay_ms = 0
        if isinstance(step, Again) and model.breaker.phase != "open":
            delay_ms = step.delay_ms
            owner.metrics.llm_retried(model.backend.name, error.code)
        elif isinstance(step, GiveUp) or not self._has_others():
            raise error
        else:
            self._move_on()
        self._attempts += 1
        log.info("%s failed with %s; next try in %d ms", model.label, error.code, delay_ms)
        return Retrying(self._attempts, delay_ms, error.code)

    def _has_others(self) -> bool:
        return any(model.breaker.phase != "open" for model in self._owner.models[self._at + 1 :])

    def _move_on(self) -> None:
        self._at += 1
        self._tries = 0
        if self._at < len(self._owner.models):
            self._owner.metrics.llm_failed_over()

    def _left_s(self) -> float | None:
        return None if self._deadline is None else self._deadline - self._owner.clock.monotonic()

    def _wait_s(self) -> float | None:
        """Return how long anybody waits for the answer: as long as the call may take, and as whoever asked does."""
        ends = [end for end in (self._deadline, self._request.deadline) if end is not None]
        return min(ends) - self._owner.clock.monotonic() if ends else None


class _Trial:
    """One try of one model: iterate over it within `async with`, then ask for its `failure`.

    The iteration ends with the answer, or with `failure` set when the model failed before it said anything; a failure
    after that is raised. Leaving the block closes the model's stream and settles with the breaker.
    """

    def __init__(self, model: _Model, permit: int, request: LlmRequest, left_s: Callable[[], float | None]) -> None:
        self.failure: GatewayError | None = None
        self._model = model
        self._permit = permit
        self._request = request
        self._left_s = left_s
        self._stream: AsyncIterator[LlmEvent] | None = None
        self._has_spoken = False
        self._is_over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_over:
            self._settle("abandoned")
        if self._stream is not None:
            await close(self._stream)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LlmEvent:
        if self._is_over:
            raise StopAsyncIteration
        try:
            event = await self._next()
        except GatewayError as error:
            self._settle("failure" if isinstance(error, PROVIDER_FAILURES) else "success")
            if self._has_spoken:
                raise
            self.failure = error
            raise StopAsyncIteration from None
        if isinstance(event, UsageReport):
            return replace(event, model=self._model.backend.model)
        if not self._has_spoken and event != _SILENCE:
            self._has_spoken = True
            self._model.answered(self._permit)
        if isinstance(event, Finish):
            self._settle("success")
        return event

    async def _next(self) -> LlmEvent:
        """Return the model's next event within the time of the call; a stream without its `Finish` is truncated."""
        if self._stream is None:
            self._stream = self._model.backend.stream(self._request)
        left_s = self._left_s()
        try:
            if left_s is None:
                return await anext(self._stream)
            async with asyncio.timeout(left_s):
                return await anext(self._stream)
        except StopAsyncIteration:
            raise StreamTruncated from None
        except TimeoutError:
            raise StreamTruncated if self._has_spoken else ProviderUnavailable from None

    def _settle(self, outcome: Outcome) -> None:
        self._is_over = True
        self._model.settle(self._permit, outcome)


def _all_left_alone(models: Sequence[_Model]) -> GatewayError:
    return ProviderUnavailable(retry_after=min(model.breaker.wait_s for model in models))

"""What becomes of a model call that failed before it said anything: one more try, the next model, or its error.

The class of the error decides, which stands for the provider's status, and never its words (agent.md 1.10 D16):

| error | from | tried again | next model |
|---|---|---|---|
| ProviderUnavailable | 408, 409, 5xx, 529, no connection, no first byte | yes | yes |
| ProviderRateLimited | 429 | yes | yes |
| StreamTruncated | an answer that broke off before it said anything | yes | yes |
| ProviderAuth | 401, 403 | no | yes: it has its own key |
| any other | 400, 404, 422, too long a conversation, a refusal | no | no: the request is at fault |
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from argentor_asgi.errors import (
    GatewayError,
    ProviderAuth,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)

FIRST_DELAY_MS: Final = 500
"""The most that is waited before the first retry; each further one doubles it."""
DELAY_MS: Final = 30_000
"""The most that is waited before any retry of which the provider did not say when."""
RETRY_AFTER_S: Final = 60
"""A provider that wants to be left alone for longer than this is not waited for."""

PASSING: Final = (ProviderUnavailable, ProviderRateLimited, StreamTruncated)
"""Failures that may have passed when the same model is asked again."""
PROVIDER_FAILURES: Final = (*PASSING, ProviderAuth)
"""Failures of the provider and not of the request: another model may answer, and circuit breakers count them."""


@dataclass(frozen=True, slots=True)
class Again:
    """Ask the same model, after `delay_ms`."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Ask the next model, if there is one."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No model is asked any more; the error is the caller's."""


Step: TypeAlias = Again | Elsewhere | GiveUp


def after(error: GatewayError, *, tries: int, retries: int, draw: float, left_s: float | None) -> Step:
    """Say what follows a try that failed with `error` before its first visible event.

    `tries` (>= 1): how often this model was asked. `retries` (>= 0): how often more than once it may be. `draw`: a
    random number in [0, 1). `left_s`: what is left of the whole call's time, None for no end. Source: agent.md 2.3
    rule 7.
    """
    if not isinstance(error, PROVIDER_FAILURES) or (left_s is not None and left_s <= 0):
        return GiveUp()
    wait_ms = error.wait_ms or 0
    if not isinstance(error, PASSING) or tries > retries or wait_ms > RETRY_AFTER_S * 1000:
        return Elsewhere()
    delay = max(jittered_ms(tries, draw), wait_ms)
    return Elsewhere() if left_s is not None and delay >= left_s * 1000 else Again(delay)


def jittered_ms(tries: int, draw: float) -> int:
    """Return a delay from 0 up to what doubles with each of `tries` (>= 1): full jitter, so that callers spread."""
    return int(draw * min(FIRST_DELAY_MS << (tries - 1), DELAY_MS))

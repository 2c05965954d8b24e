"""Whether the hosted models answer, for `argentor doctor`."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from argentor_asgi.config import Config
from argentor_asgi.doctor.finding import Finding, Level
from argentor_asgi.errors import (
    ConfigError,
    GatewayError,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from argentor_asgi.protocol.llm import LlmRequest
from argentor_asgi.protocol.messages import Message, Part
from argentor_asgi.providers import BUILTIN

if TYPE_CHECKING:
    from argentor_asgi.agent.backends import LlmBackend

MODEL_S: Final = 20.0
"""How long all models together may take to answer."""
PING_TOKENS: Final = 16
"""How much one of them may say."""
NOT_FOUND: Final = 404


def models(config: Config, within_s: float = MODEL_S) -> Iterator[Finding]:
    """Make one tiny call to each hosted model, all at once, and tell how long it took; nothing for the built-in one."""
    if config.llm.provider == BUILTIN:
        return
    from argentor_asgi.agent.providers.build import backends  # noqa: PLC0415  only hosted models need it

    try:
        asked = backends(config)
    except ConfigError as error:
        yield Finding("fail", "model", str(error))
        return
    logger, silence = logging.getLogger("argentor.models"), logging.NullHandler()
    logger.addHandler(silence)  # what it would say stands in the findings
    try:
        yield from asyncio.run(_ask_all(asked, within_s))
    finally:
        logger.removeHandler(silence)


async def _ask_all(asked: "Sequence[LlmBackend]", within_s: float) -> Sequence[Finding]:
    return await asyncio.gather(*(_ask(backend, within_s) for backend in asked))


async def _ask(backend: "LlmBackend", within_s: float) -> Finding:
    label, begun = f"{backend.name}/{backend.model}", time.perf_counter()
    said = (Part("text", text="ping"),)
    ping = Message("ping", "user", "ping", "doctor", datetime.now(UTC), said)
    try:
        async with asyncio.timeout(within_s):
            async for _ in backend.stream(LlmRequest("", (ping,), max_tokens=PING_TOKENS)):
                pass
    except TimeoutError:
        return Finding("fail", "model", f"{label} did not answer within {within_s:g} s")
    except GatewayError as error:
        return model_failure(label, error)
    finally:
        await backend.aclose()
    return Finding("ok", "model", f"{label} answered in {(time.perf_counter() - begun) * 1000:.0f} ms")


def model_failure(label: str, error: GatewayError) -> Finding:
    """Say what it means that a model answered with `error`, in plain words, and what the provider said."""
    level: Level = "fail"
    is_unknown = getattr(error.__cause__, "status", None) == NOT_FOUND
    match error:
        case ProviderAuth():
            words = "refuses the key, or has no credit left for it; change llm.api_key"
        case ProviderRateLimited():
            level, words = "warn", "is at its limit for now"
        case ProviderBadRequest() if is_unknown:
            words = "is not known where it was asked for; change llm.model or llm.base_url"
        case ProviderBadRequest():
            words = "cannot be asked this way; change llm.base_url, llm.model or llm.max_tokens_field"
        case ProviderUnavailable():
            words = "cannot be reached or fails; look at llm.base_url, the network and the provider's status"
        case StreamTruncated():
            words = "broke off before its answer was whole"
        case _:
            words = error.message
    said = " ".join(getattr(error, "__notes__", ())) or str(error.__cause__ or "")
    return Finding(level, "model", ": ".join(filter(None, (f"{label} {words}", said))))

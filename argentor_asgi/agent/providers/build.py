"""From the configuration to the models that answer: each hosted one, and all of them behind one backend."""

from collections.abc import Iterator, Sequence

from argentor_asgi.agent.providers.hosted import HostedBackend, Manner
from argentor_asgi.agent.resilience.breaker import Rules
from argentor_asgi.agent.resilience.failover import Patience, Resilient
from argentor_asgi.agent_sections import Fallback, Llm
from argentor_asgi.config import Config
from argentor_asgi.errors import ConfigError
from argentor_asgi.net.addresses import UrlRefused, target
from argentor_asgi.net.http import Client, Timeouts
from argentor_asgi.ops.clock import Clock
from argentor_asgi.ops.metrics import Metrics
from argentor_asgi.providers import PROVIDERS


def hosted(config: Config, *, clock: Clock, metrics: Metrics) -> Resilient:
    """Return the configured model, with those that stand in for it; its breakers are published in `metrics`.

    `config`: checked, its `llm.provider` not the built-in one. Raises `ConfigError` where `argentor-asgi[llm]` is not
    installed, or for a base URL or key that no request could be made with. Nothing is sent.
    """
    llm = config.llm
    patience = Patience(llm.retries, Rules(llm.breaker_failures, llm.breaker_open_s), llm.timeout_s)
    made = Resilient(backends(config), patience=patience, clock=clock, metrics=metrics)
    metrics.provide(made.states)
    return made


def backends(config: Config) -> Sequence[HostedBackend]:
    """Return each model that is configured, in order of preference, without retries; raises as `hosted` does.

    Each has connections of its own, so that a provider that hangs takes none from the others, and as many as there may
    be runs. Their addresses may be private: an operator has set them.
    """
    llm = config.llm
    manner = Manner(llm.max_tokens, llm.temperature, llm.max_tokens_field)
    return [
        HostedBackend(
            PROVIDERS[row.provider],
            row.model,
            client=Client(timeouts=_timeouts(llm), allow_private=True, connections=config.limits.runs),
            manner=manner,
            key=row.api_key,
            base_url=row.base_url,
        )
        for row in _rows(llm)
    ]


def _timeouts(llm: Llm) -> Timeouts:
    return Timeouts(connect_s=llm.connect_timeout_s, first_byte_s=llm.first_byte_timeout_s, idle_s=llm.idle_timeout_s)


def _rows(llm: Llm) -> Iterator[Fallback]:
    """Yield what is configured of each model; raises `ConfigError` for what no request could be made with."""
    first = Fallback(llm.provider, str(llm.model), llm.api_key, llm.base_url)
    for at, row in enumerate((first, *llm.fallbacks)):
        name = f"llm.fallbacks[{at - 1}]" if at else "llm"
        _refuse_unusable(name, row)
        yield row


def _refuse_unusable(name: str, row: Fallback) -> None:
    key = row.api_key.reveal() if row.api_key else ""
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ConfigError(f"{name}.api_key holds a character that no header carries, such as a line break or a blank")
    try:
        found = target(row.base_url or PROVIDERS[row.provider].base)
    except UrlRefused as error:
        raise ConfigError(f"{name}.base_url: {error}") from None
    if "?" in found.path:
        raise ConfigError(f"{name}.base_url has a query; a path follows it, so that there can be none")

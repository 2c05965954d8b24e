"""What model calls cost, in millionths of the one currency of all prices: whole numbers, so that sums are exact."""

from collections.abc import Sequence
from typing import Final

from argentor_asgi import config
from argentor_asgi.errors import ConfigError
from argentor_asgi.protocol.messages import Usage

PARTS: Final = 1_000_000
"""Into how many parts a millionth is divided: a price for a million tokens is exact to its sixth decimal."""


class Prices:
    """The price table. A model is known by its exact name, and without a price it has no cost."""

    def __init__(self, prices: Sequence[config.Price] = ()) -> None:
        """Read the table. Raises `ConfigError` for a model that has two prices."""
        self._rates: dict[str, tuple[int, int, int]] = {}
        for at, price in enumerate(prices):
            if price.model in self._rates:
                raise ConfigError(f"llm.prices[{at}]: `{price.model}` has a price already")
            cached = price.input if price.cached_input is None else price.cached_input
            self._rates[price.model] = (_parts(price.input), _parts(price.output), _parts(cached))

    def cost_micros(self, model: str, usage: Usage) -> int | None:
        """Return what one call cost, rounded up; None for a model without a price.

        Cached tokens are those of the input that the provider had read before.
        """
        rates = self._rates.get(model)
        if rates is None:
            return None
        cached = min(usage.cached_tokens, usage.input_tokens)
        counts = (usage.input_tokens - cached, usage.output_tokens, cached)
        parts = sum(count * rate for count, rate in zip(counts, rates, strict=True))
        return -(-parts // PARTS)


def _parts(price: float) -> int:
    """Return a price for a million tokens as parts for one: what costs 1 a million costs a millionth each."""
    return round(price * PARTS)

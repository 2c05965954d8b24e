from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi.agent.prices import Prices
from argentor_asgi.config import Price
from argentor_asgi.errors import ConfigError
from argentor_asgi.protocol.messages import Usage

TABLE = Prices([Price("small", 0.15, 0.6), Price("cached", 3, 15, 0.3), Price("free", 0, 0)])
COUNTS = st.integers(0, 10_000_000)
SIXTHS = st.integers(0, 50_000_000)


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("small", Usage(1_000_000, 1_000_000), 750_000),
        ("small", Usage(1, 0), 1),
        ("small", Usage(7, 0), 2),
        ("small", Usage(0, 0), 0),
        ("small", Usage(100, 0, 60), 15),
        ("cached", Usage(100, 10, 60), 40 * 3 + 60 * 0.3 + 150),
        ("cached", Usage(10, 0, 60), 3),
        ("free", Usage(5, 5), 0),
    ],
)
def test_a_call_costs_its_tokens_by_kind_rounded_up_once(model: str, usage: Usage, cost: float) -> None:
    assert TABLE.cost_micros(model, usage) == cost


@pytest.mark.parametrize("model", ["", "smal", "small-2026", "SMALL", "other/small"])
def test_a_model_has_the_price_of_its_exact_name_or_none(model: str) -> None:
    """agent.md 1.6: a table by substring takes the price of another model."""
    assert TABLE.cost_micros(model, Usage(5, 5)) is None
    assert Prices().cost_micros(model, Usage()) is None


def test_two_prices_of_a_model_are_a_failed_start() -> None:
    with pytest.raises(ConfigError, match=r"llm\.prices\[1\]: `a` has a price already"):
        Prices([Price("a", 1, 1), Price("a", 2, 2)])


@given(millionths=st.tuples(SIXTHS, SIXTHS, SIXTHS), fresh=COUNTS, said=COUNTS, cached=COUNTS)
def test_a_cost_is_what_exact_fractions_say(
    millionths: tuple[int, int, int], fresh: int, said: int, cached: int
) -> None:
    table = Prices([Price("m", *(each / 1_000_000 for each in millionths))])
    exact = sum(Fraction(rate, 1_000_000) * n for rate, n in zip(millionths, (fresh, said, cached), strict=True))
    assert table.cost_micros("m", Usage(fresh + cached, said, cached)) == ceil(exact)

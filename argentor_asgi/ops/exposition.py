"""A scrape as Prometheus reads it: text format 0.0.4, or OpenMetrics 1.0 with exemplars. Runs in a thread."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from argentor_asgi.ops.metric_families import Family, Histogram, Rows

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def encode(families: Mapping[str, Family], rows: Mapping[str, Rows], *, openmetrics: bool) -> bytes:
    """Format a scrape (26 ms for 200 routes); the library escapes help and label values.

    A family without rows still says its help and type.
    """
    from prometheus_client import exposition, registry  # noqa: PLC0415  90 ms, which only a process that is scraped pays
    from prometheus_client.openmetrics import exposition as open_exposition  # noqa: PLC0415  as above

    class Scrape(registry.Collector):
        def collect(self) -> "Iterator[Metric]":
            return (_metric(family, rows[family.name]) for family in families.values())

    generate = open_exposition.generate_latest if openmetrics else exposition.generate_latest
    text: bytes = generate(Scrape())
    return text


def _metric(family: Family, rows: Rows) -> "Metric":
    """Return the library's metric of a family."""
    from prometheus_client import core  # noqa: PLC0415  loaded by `encode`

    made = core.Metric(family.name.removesuffix("_total"), family.help, family.type)
    for values, value in rows.items():
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Histogram):
            _add_histogram(made, family.name, labels, value)
        else:
            made.add_sample(family.name, labels, value)
    return made


def _add_histogram(made: "Metric", name: str, labels: dict[str, str], histogram: Histogram) -> None:
    from prometheus_client import core  # noqa: PLC0415  loaded by `encode`

    for number, (bound, count) in enumerate(histogram.cumulative()):
        shown = histogram.exemplars.get(number)
        exemplar = None if shown is None else core.Exemplar({"trace_id": shown.trace_id}, shown.seconds, shown.at_s)
        made.add_sample(f"{name}_bucket", {**labels, "le": bound}, count, exemplar=exemplar)
    made.add_sample(f"{name}_count", labels, float(sum(histogram.counts)))
    made.add_sample(f"{name}_sum", labels, histogram.seconds)

"""How many entries and violations there are today, for all and for each tenant."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from argentor_asgi.ops.audit_entry import Entry, Row, is_violation

TENANTS: Final = 10_000
"""How many tenants are counted apart; for others there is nothing but the count of all."""


@dataclass(frozen=True)  # no slots: orjson reads a `__dict__` four times as fast
class AuditStats:
    """Entries and violations of the UTC day, violations in percent of entries, and the entries that are kept."""

    events_today: int
    violations_today: int
    block_rate_percent: float
    total_events: int


@dataclass(slots=True)
class _Count:
    events: int = 0
    violations: int = 0
    total: int = 0


class Tally:
    """Counts entries as they are written; the key None counts for all tenants."""

    def __init__(self, today: date) -> None:
        """Begin at zero on a UTC day."""
        self._day = today
        self._counts: dict[str | None, _Count] = {None: _Count()}

    def add(self, entry: Entry | Row) -> None:
        """Count an entry; one of a day before the newest does not count for today."""
        day = entry.timestamp.astimezone(UTC).date()
        self._turn(day)
        for tenant in {None, entry.tenant}:
            if tenant in self._counts or len(self._counts) <= TENANTS:
                count = self._counts.setdefault(tenant, _Count())
                count.total += 1
                count.events += day == self._day
                count.violations += day == self._day and is_violation(entry)

    def stats(self, tenant: str | None, now: datetime, *, kept: int | None = None) -> AuditStats:
        """Return the numbers of a tenant, of all for None; `kept` stands in for the total of all."""
        self._turn(now.astimezone(UTC).date())
        count = self._counts.get(tenant, _Count())
        rate = round(100.0 * count.violations / count.events, 2) if count.events else 0.0
        return AuditStats(count.events, count.violations, rate, count.total if kept is None else kept)

    def _turn(self, day: date) -> None:
        """Begin a new day when it has come."""
        if day > self._day:
            self._day = day
            for count in self._counts.values():
                count.events = count.violations = 0

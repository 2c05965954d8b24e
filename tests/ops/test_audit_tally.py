from datetime import UTC, date, datetime, timedelta, timezone

from argentor_asgi.ops.audit_entry import entry
from argentor_asgi.ops.audit_tally import TENANTS, AuditStats, Tally

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def an_entry(at=NOON, tenant=None, outcome="success"):
    return entry(at, "run_start", outcome, {}, tenant=tenant)


def test_the_day_is_that_of_utc_and_older_entries_count_for_the_total_alone():
    tally = Tally(date(2026, 3, 1))
    tally.add(an_entry(NOON.astimezone(timezone(timedelta(hours=14))), outcome="denied"))
    tally.add(an_entry(NOON - timedelta(1), outcome="denied"))
    tally.add(an_entry())
    assert tally.stats(None, NOON) == AuditStats(2, 1, 50.0, 3)
    tally.add(an_entry(NOON + timedelta(1)))
    tally.add(an_entry())
    assert tally.stats(None, NOON + timedelta(1)) == AuditStats(1, 0, 0.0, 5)


def test_a_clock_that_goes_back_counts_nothing_twice():
    tally = Tally(date(2026, 3, 1))
    tally.add(an_entry())
    assert tally.stats(None, NOON - timedelta(1)).events_today == 1


def test_at_the_bound_of_tenants_further_ones_count_for_all_alone():
    tally = Tally(date(2026, 3, 1))
    for number in range(TENANTS + 5):
        tally.add(an_entry(tenant=f"t{number}"))
    assert tally.stats(None, NOON).total_events == TENANTS + 5
    assert tally.stats(f"t{TENANTS - 1}", NOON).total_events == 1
    assert tally.stats(f"t{TENANTS}", NOON).total_events == 0

import calendar
import contextlib
import sys
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import answer, context_of, refusal

from argentor_asgi.agent.builtin_skills.dates import _OPERATIONS, FORMAT_CHARS, Operation, datetime_skill
from argentor_asgi.agent.builtin_skills.moments import (
    TEXT_CHARS,
    months_between,
    read_moment,
    read_zone,
    shifted,
    written,
)
from argentor_asgi.agent.skills import SkillRefused


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_OPERATIONS)


async def test_now_is_the_runs_clock_in_the_zone_asked_for() -> None:
    assert await answer(datetime_skill, operation="now") == {
        "datetime": "2026-11-22T10:30:15Z",
        "date": "2026-11-22",
        "time": "10:30:15",
        "weekday": "Sunday",
        "timezone": "UTC",
    }
    there = await answer(datetime_skill, operation="now", timezone="Europe/Madrid")
    assert (there["datetime"], there["timezone"]) == ("2026-11-22T11:30:15+01:00", "Europe/Madrid")
    offset = await answer(datetime_skill, operation="now", timezone="+05:30")
    assert offset["time"] == "16:00:15"


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"operation": "add", "datetime": "2026-11-22", "amount": 45, "unit": "days"}, "2027-01-06"),
        ({"operation": "add", "datetime": "2026-01-31", "amount": 1, "unit": "months"}, "2026-02-28"),
        ({"operation": "add", "datetime": "2024-02-29", "amount": 1, "unit": "year"}, "2025-02-28"),
        ({"operation": "add", "datetime": "2026-11-22", "amount": 1.5, "unit": "days"}, "2026-11-23T12:00:00"),
        (
            {"operation": "add", "datetime": "2026-11-22T23:00:00Z", "amount": 2, "unit": "hours"},
            "2026-11-23T01:00:00Z",
        ),
        ({"operation": "subtract", "datetime": "2026-11-22", "amount": 1, "unit": "week"}, "2026-11-15"),
        ({"operation": "subtract", "datetime": "2026-11-22", "amount": 1, "unit": "seconds"}, "2026-11-21T23:59:59"),
        ({"operation": "format", "datetime": "2026-11-22", "format": "%d/%m/%Y, %A"}, "22/11/2026, Sunday"),
        ({"operation": "unix_timestamp", "datetime": "1970-01-02"}, 86400),
        ({"operation": "unix_timestamp", "datetime": "1970-01-01T00:00:00.5Z"}, 0.5),
        ({"operation": "unix_timestamp", "datetime": "1970-01-01T02:00", "timezone": "+02:00"}, 0),
        ({"operation": "from_timestamp", "timestamp": 0}, "1970-01-01T00:00:00Z"),
        ({"operation": "from_timestamp", "timestamp": -1, "timezone": "+01:00"}, "1970-01-01T00:59:59+01:00"),
        ({"operation": "day_of_week", "datetime": "2026-11-22"}, "Sunday"),
        ({"operation": "is_weekend", "datetime": "2026-11-22"}, True),
        ({"operation": "is_weekend", "datetime": "2026-11-23"}, False),
        ({"operation": "is_leap_year", "year": 2024}, True),
        ({"operation": "is_leap_year", "datetime": "1900-01-01"}, False),
        ({"operation": "days_in_month", "year": 2024, "month": 2}, 29),
        ({"operation": "days_in_month", "datetime": "2026-04-03"}, 30),
        ({"operation": "start_of", "datetime": "2026-11-22", "unit": "week"}, "2026-11-16"),
        ({"operation": "end_of", "datetime": "2026-11-22", "unit": "week"}, "2026-11-22"),
        ({"operation": "start_of", "datetime": "2026-11-22T10:30:15", "unit": "day"}, "2026-11-22T00:00:00"),
        ({"operation": "end_of", "datetime": "2026-02-22T10:30:15Z", "unit": "month"}, "2026-02-28T23:59:59Z"),
        ({"operation": "start_of", "datetime": "2026-11-22", "unit": "year"}, "2026-01-01"),
        ({"operation": "end_of", "datetime": "2026-11-22", "unit": "year"}, "2026-12-31"),
        ({"operation": "start_of", "datetime": "2026-11-22T10:30:15.25", "unit": "hour"}, "2026-11-22T10:00:00"),
        ({"operation": "end_of", "datetime": "2026-11-22T10:30:15.25", "unit": "minute"}, "2026-11-22T10:30:59"),
        ({"operation": "start_of", "datetime": "2026-11-22T10:30:15.25", "unit": "second"}, "2026-11-22T10:30:15"),
    ],
)
async def test_every_operation_answers(arguments: dict[str, object], result: object) -> None:
    assert await answer(datetime_skill, **arguments) == {"result": result}


@pytest.mark.parametrize(
    ("start", "end", "unit", "difference"),
    [
        ("2026-11-22", "2027-01-06", None, 45),
        ("2027-01-06", "2026-11-22", "days", -45),
        ("2026-11-22", "2026-11-22T12:00Z", "days", 0.5),
        ("2026-11-22T10:00Z", "2026-11-22T10:00+02:00", "hours", -2),
        ("2026-01-31", "2026-02-28", "months", 1),
        ("2026-01-30", "2026-02-27", "months", 0),
        ("2026-03-31", "2026-02-28", "months", -1),
        ("2000-02-29", "2026-02-28", "years", 26),
        ("2026-11-22", "2026-12-06", "weeks", 2),
    ],
)
async def test_differences(start: str, end: str, unit: str | None, difference: float) -> None:
    given_unit = {"unit": unit} if unit else {}
    got = await answer(datetime_skill, operation="diff", start=start, end=end, **given_unit)
    assert got == {"difference": difference, "unit": unit or "days"}


@pytest.mark.skipif("Europe/Madrid" not in zoneinfo.available_timezones(), reason="needs a zone database")
async def test_hours_are_elapsed_time_and_days_are_calendar_days_across_a_change_of_clocks() -> None:
    before = {"operation": "add", "datetime": "2026-10-24T12:00", "timezone": "Europe/Madrid"}
    assert (await answer(datetime_skill, **before, amount=24, unit="hours"))["result"] == "2026-10-25T11:00:00+01:00"
    assert (await answer(datetime_skill, **before, amount=1, unit="days"))["result"] == "2026-10-25T12:00:00+01:00"


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-11-22", "2026-11-22"),
        ("20261122", "2026-11-22"),
        ("2026/11/22", "2026-11-22"),
        ("22/11/2026", "2026-11-22"),
        ("11/22/2026", "2026-11-22"),
        ("22.11.2026 10:30", "2026-11-22T10:30:00"),
        ("22 Nov 2026", "2026-11-22"),
        ("22 Nov 2026 10:30 UTC", "2026-11-22T10:30:00Z"),
        ("Sunday, 22nd of November, 2026", "2026-11-22"),
        ("November 22, 2026 at 3:05 pm", "2026-11-22T15:05:00"),
        ("Nov 22 2026 12:00 am", "2026-11-22T00:00:00"),
        ("Sun, 22 Nov 2026 10:30:15 +0000", "2026-11-22T10:30:15Z"),
        ("2026-11-22T10:30:15.5+02:00", "2026-11-22T10:30:15.500000+02:00"),
    ],
)
def test_dates_are_read_as_people_write_them(text: str, iso: str) -> None:
    moment = read_moment(text)
    assert (written(moment.value), moment.ambiguous) == (iso, False)


async def test_a_date_that_could_be_two_is_read_day_first_and_reported() -> None:
    got = await answer(datetime_skill, operation="parse", datetime="03/04/2026")
    assert (got["result"], got["ambiguous"], got["read_as"]) == ("2026-04-03", True, "DD/MM/YYYY")
    assert "ambiguous" not in await answer(datetime_skill, operation="parse", datetime="04/04/2026")
    added = await answer(datetime_skill, operation="add", datetime="03/04/2026", amount=1, unit="days")
    assert added == {"result": "2026-04-04", "ambiguous": True, "read_as": "DD/MM/YYYY"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"operation": "parse", "datetime": "yesterday"}, "not a date"),
        ({"operation": "parse", "datetime": "31/02/2026"}, "not a date"),
        ({"operation": "parse", "datetime": "22 Foo 2026"}, "not a date"),
        ({"operation": "parse", "datetime": "22/11/2026 25:00"}, "not a date"),
        ({"operation": "parse", "datetime": "1" * (TEXT_CHARS + 1)}, "at most"),
        ({"operation": "parse"}, "also needs: datetime"),
        ({"operation": "add", "datetime": "2026-11-22"}, "also needs: amount, unit"),
        ({"operation": "add", "datetime": "9999-12-31", "amount": 1, "unit": "days"}, "9999"),
        ({"operation": "add", "datetime": "2026-11-22", "amount": 10**30, "unit": "days"}, "9999"),
        ({"operation": "add", "datetime": "2026-11-22", "amount": 10**30, "unit": "years"}, "9999"),
        ({"operation": "add", "datetime": "2026-11-22", "amount": 0.5, "unit": "months"}, "whole"),
        ({"operation": "from_timestamp", "timestamp": 1e20}, "timestamp"),
        ({"operation": "parse", "datetime": "0001-01-01T00:00Z", "timezone": "-01:00"}, "years"),
        ({"operation": "format", "datetime": "2026-11-22", "format": "%Q"}, "%Q"),
        ({"operation": "format", "datetime": "2026-11-22", "format": "%"}, "directive"),
        ({"operation": "format", "datetime": "2026-11-22", "format": "%9999999d"}, "%9"),
        ({"operation": "format", "datetime": "2026-11-22", "format": "x" * (FORMAT_CHARS + 1)}, "at most"),
        ({"operation": "now", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"operation": "now", "timezone": "../../etc/passwd"}, "not known"),
        ({"operation": "now", "timezone": "Europe"}, "not known"),
        ({"operation": "now", "timezone": "+25:00"}, "not known"),
        ({"operation": "is_leap_year"}, "year, or datetime"),
        ({"operation": "days_in_month", "year": 2026}, "month"),
        ({"operation": "days_in_month", "month": 2}, "year, or datetime"),
        ({"operation": "end_of", "datetime": "9999-12-31", "unit": "week"}, "9999"),
        ({"operation": "is_leap_year", "year": 10000}, "/year"),
        ({"operation": "add", "datetime": "2026-11-22", "amount": 1, "unit": "fortnights"}, "/unit"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(arguments: dict[str, object], words: str) -> None:
    assert words in await refusal(datetime_skill, **arguments)


@pytest.mark.skipif("Europe/Madrid" not in zoneinfo.available_timezones(), reason="needs a zone database")
@pytest.mark.parametrize("name", ["Europe/Madrid", "europe/madrid", "Madrid", "madrid"])
def test_a_zone_is_found_by_its_city_in_any_case(name: str) -> None:
    assert str(read_zone(name)) == "Europe/Madrid"
    assert str(read_zone("new york")) == "America/New_York"


def test_without_a_zone_database_the_refusal_says_so() -> None:
    paths = zoneinfo.TZPATH
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "tzdata"}
    zoneinfo.reset_tzpath([])
    zoneinfo.ZoneInfo.clear_cache()
    sys.modules["tzdata"] = None  # type: ignore[assignment]  # how Python marks a module that cannot be imported
    try:
        with pytest.raises(SkillRefused, match="no time zone database"):
            read_zone("Europe/Madrid")
    finally:
        del sys.modules["tzdata"]
        sys.modules.update(hidden)
        zoneinfo.reset_tzpath(paths)


dates = st.dates(date(2, 1, 1), date(9990, 1, 1))


@given(dates, st.integers(-300, 300))
def test_days_and_weeks_agree_with_the_library(day: date, amount: int) -> None:
    assert shifted(day, amount, "day") == day + timedelta(days=amount)
    assert shifted(day, amount / 10, "hour") == datetime.combine(day, datetime.min.time()) + timedelta(
        hours=amount / 10
    )


@given(st.dates(date(100, 1, 1), date(9000, 1, 1)), st.integers(-1000, 1000))
def test_months_keep_the_day_or_take_the_last(day: date, amount: int) -> None:
    moved = shifted(day, amount, "month")
    assert (moved.year * 12 + moved.month) - (day.year * 12 + day.month) == amount
    assert moved.day == min(day.day, calendar.monthrange(moved.year, moved.month)[1])
    assert months_between(day, moved) == amount or moved.day < day.day


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_again(moment: datetime) -> None:
    assert read_moment(written(moment)).value == moment


@given(st.text("0123456789/-.:T Zpmnov,+", max_size=40))
def test_any_text_is_a_date_or_refused(text: str) -> None:
    with contextlib.suppress(SkillRefused):
        read_moment(text)


async def test_the_context_is_the_only_clock() -> None:
    then = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert (await answer(datetime_skill, context_of(now=then), operation="now"))["date"] == "1999-12-31"

"""The skill `datetime`: what time it is, and what follows from dates; `now` is the run's clock, never the machine's."""

import datetime as dt
from calendar import isleap, monthrange
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills.moments import (
    Moment,
    as_time,
    edge,
    in_zone,
    months_between,
    read_moment,
    read_zone,
    shifted,
    written,
)
from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present
from argentor_asgi.agent.skills import SkillContext, SkillRefused, skill
from argentor_asgi.protocol.schema import JsonObject, Meta

FORMAT_CHARS = 200
"""The longest format, in characters."""

Operation = Literal[
    "now", "parse", "format", "add", "subtract", "diff", "unix_timestamp", "from_timestamp", "day_of_week",
    "is_weekend", "is_leap_year", "days_in_month", "start_of", "end_of",
]  # fmt: skip
Unit = Literal[
    "seconds", "minutes", "hours", "days", "weeks", "months", "years",
    "second", "minute", "hour", "day", "week", "month", "year",
]  # fmt: skip

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SATURDAY = 5
_DIRECTIVES = frozenset("aAbBcdFHIjmMpSTUwWxXyYzZGVuDRe%")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


@skill(
    "datetime",
    "Tells the date and time, anywhere; reads, formats, adds and compares dates. Dates are ISO 8601 (2026-11-22, "
    "2026-11-22T10:30:00Z); others such as 22/11/2026 or Nov 22, 2026 are read too, the day before the month.",
)
def datetime_skill(
    *,
    operation: Annotated[Operation, Meta(description="What to do; start_of and end_of take a unit.")],
    datetime: Annotated[str | None, Meta(description="The date or time to work on.")] = None,
    timezone: Annotated[str | None, Meta(description="IANA name (Europe/Madrid) or offset (+02:00); else UTC.")] = None,
    amount: Annotated[int | float | None, Meta(description="How much add and subtract move.")] = None,
    unit: Annotated[Unit | None, Meta(description="Unit of amount, diff (default days), start_of and end_of.")] = None,
    start: Annotated[str | None, Meta(description="Where diff starts.")] = None,
    end: Annotated[str | None, Meta(description="Where diff ends.")] = None,
    format: Annotated[str | None, Meta(description="strftime pattern of format, such as %d/%m/%Y.")] = None,  # noqa: A002  the argument's name on the wire
    timestamp: Annotated[int | float | None, Meta(description="Seconds since 1970 of from_timestamp.")] = None,
    year: Annotated[int, Meta(ge=1, le=9999, description="Year of is_leap_year and days_in_month.")] | None = None,
    month: Annotated[int, Meta(ge=1, le=12, description="Month of days_in_month.")] | None = None,
    context: SkillContext,
) -> JsonObject:
    """Return the operation's result; `ambiguous` stands beside it when a date could be read in two ways."""
    moments = {name: read_moment(text) for name, text in present(datetime=datetime, start=start, end=end).items()}
    rest = present(
        timezone=None if timezone is None else read_zone(timezone),
        amount=amount,
        unit=None if unit is None else unit.removesuffix("s"),
        format=format,
        timestamp=timestamp,
        year=year,
        month=month,
    )
    result = dict(perform(_OPERATIONS, operation, {**moments, **rest, "now": context.now}))
    ambiguous = any(moment.ambiguous for moment in moments.values())
    return {**result, "ambiguous": True, "read_as": "DD/MM/YYYY"} if ambiguous else result


def _now(now: dt.datetime, timezone: dt.tzinfo = dt.UTC) -> JsonObject:
    return _told(in_zone(now, timezone).replace(microsecond=0))


def _parse(datetime: Moment, timezone: dt.tzinfo | None = None) -> JsonObject:
    value = _placed(datetime, timezone)
    return {"result": written(value), **_told(value)}


def _format(datetime: Moment, format: str, timezone: dt.tzinfo | None = None) -> JsonObject:  # noqa: A002  the argument's name on the wire
    if len(format) > FORMAT_CHARS:
        raise SkillRefused(f"A format has at most {FORMAT_CHARS} characters.")
    unknown = {piece[:1] for piece in format.replace("%%", "").split("%")[1:]} - _DIRECTIVES
    if unknown:
        raise SkillRefused(
            f"The format has an unknown directive: %{min(unknown)}. Known: {' '.join(sorted(_DIRECTIVES))}."
        )
    return {"result": as_time(_placed(datetime, timezone)).strftime(format)}


def _add(datetime: Moment, amount: float, unit: str, timezone: dt.tzinfo | None = None) -> JsonObject:
    return {"result": written(shifted(_placed(datetime, timezone), amount, unit))}


def _subtract(datetime: Moment, amount: float, unit: str, timezone: dt.tzinfo | None = None) -> JsonObject:
    return _add(datetime, -amount, unit, timezone)


def _diff(start: Moment, end: Moment, unit: str = "day", timezone: dt.tzinfo | None = None) -> JsonObject:
    """Return the time from start to end; months and years count whole ones, the rest may be fractions."""
    first, last = start.value, end.value
    if isinstance(first, dt.datetime) or isinstance(last, dt.datetime):
        first, last = in_zone(as_time(first), timezone), in_zone(as_time(last), timezone)
    if unit in {"month", "year"}:
        months = months_between(first, last)
        return {"difference": months if unit == "month" else int(months / 12), "unit": f"{unit}s"}
    seconds = (_utc(last) - _utc(first)).total_seconds()
    found = seconds / _SECONDS[unit]
    return {"difference": int(found) if found.is_integer() else round(found, 6), "unit": f"{unit}s"}


def _unix_timestamp(datetime: Moment, timezone: dt.tzinfo | None = None) -> JsonObject:
    found = in_zone(as_time(datetime.value), timezone).timestamp()
    return {"result": int(found) if found.is_integer() else found}


def _from_timestamp(timestamp: float, timezone: dt.tzinfo = dt.UTC) -> JsonObject:
    try:
        value = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=timestamp)
    except (OverflowError, ValueError):
        raise SkillRefused("The timestamp, in seconds, is not between the years 1 and 9999.") from None
    return {"result": written(in_zone(value, timezone))}


def _day_of_week(datetime: Moment) -> JsonObject:
    return {"result": _WEEKDAYS[datetime.value.weekday()]}


def _is_weekend(datetime: Moment) -> JsonObject:
    return {"result": datetime.value.weekday() >= _SATURDAY}


def _is_leap_year(datetime: Moment | None = None, year: int | None = None) -> JsonObject:
    return {"result": isleap(_year(datetime, year))}


def _days_in_month(datetime: Moment | None = None, year: int | None = None, month: int | None = None) -> JsonObject:
    if month is None and datetime is None:
        raise SkillRefused("The operation days_in_month also needs: month (with year), or datetime.")
    chosen = month or (datetime.value.month if datetime else 1)
    return {"result": monthrange(_year(datetime, year), chosen)[1]}


def _start_of(datetime: Moment, unit: str, timezone: dt.tzinfo | None = None) -> JsonObject:
    return {"result": written(edge(_placed(datetime, timezone), unit, last=False))}


def _end_of(datetime: Moment, unit: str, timezone: dt.tzinfo | None = None) -> JsonObject:
    return {"result": written(edge(_placed(datetime, timezone), unit, last=True))}


_OPERATIONS: Operations = {
    "now": _now,
    "parse": _parse,
    "format": _format,
    "add": _add,
    "subtract": _subtract,
    "diff": _diff,
    "unix_timestamp": _unix_timestamp,
    "from_timestamp": _from_timestamp,
    "day_of_week": _day_of_week,
    "is_weekend": _is_weekend,
    "is_leap_year": _is_leap_year,
    "days_in_month": _days_in_month,
    "start_of": _start_of,
    "end_of": _end_of,
}


def _placed(moment: Moment, zone: dt.tzinfo | None) -> dt.date | dt.datetime:
    """Return a time in the zone that was given; a date belongs to none, and no zone leaves a time as it is."""
    value = moment.value
    return in_zone(value, zone) if isinstance(value, dt.datetime) and zone is not None else value


def _told(value: dt.date | dt.datetime) -> JsonObject:
    """Return the parts of a date or time; `timezone` is None for a time that belongs to none."""
    moment = as_time(value)
    return {
        "datetime": written(value),
        "date": moment.date().isoformat(),
        "time": moment.time().isoformat("seconds"),
        "weekday": _WEEKDAYS[moment.weekday()],
        "timezone": None if moment.tzinfo is None else getattr(moment.tzinfo, "key", None) or str(moment.tzinfo),
    }


def _utc(value: dt.date | dt.datetime) -> dt.datetime:
    """Return `value` where differences are elapsed time: two times of one zone differ by their walls otherwise."""
    return in_zone(in_zone(as_time(value), None), dt.UTC)


def _year(moment: Moment | None, year: int | None) -> int:
    if year is not None:
        return year
    if moment is None:
        raise SkillRefused("The operation also needs: year, or datetime.")
    return moment.value.year

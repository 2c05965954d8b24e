"""Dates and times as people write them, read and moved without a clock.

A `Moment` is a date alone or a date with a time. ISO 8601 is read first, then day and month as numbers: DD/MM before
MM/DD, as the original gateway does, and a date that could be either says so in `ambiguous`.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from argentor_asgi.agent.skills import SkillRefused

TEXT_CHARS = 100
"""The longest date, time or zone that is read, in characters."""

_FLAGS = re.IGNORECASE | re.ASCII
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_AREAS = ("Europe", "America", "Asia", "Africa", "Australia", "Atlantic", "Pacific", "Indian", "Etc")
_TIME = r"(?:[ T,]+(?:at )?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))? ?(?P<half>[ap]m)?)?"
_ZONE = r" ?(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
_NUMBERS = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})" + _TIME + _ZONE, _FLAGS)
_YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})" + _TIME + _ZONE, _FLAGS)
_DAY_NAMED = re.compile(
    r"(?:[a-z]{3,9},? )?(\d{1,2})(?:st|nd|rd|th)? (?:of )?([a-z]{3,9})\.?,? (\d{4})" + _TIME + _ZONE, _FLAGS
)
_MONTH_NAMED = re.compile(
    r"(?:[a-z]{3,9},? )?([a-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})" + _TIME + _ZONE, _FLAGS
)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE | re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
_NOON = 12


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, or a date and time (naive or aware); `ambiguous`: day and month could be the other way round."""

    value: date | datetime
    ambiguous: bool = False


def read_moment(text: str) -> Moment:
    """Return what `text` says; raises `SkillRefused` when that is no date."""
    text = text.strip()
    if len(text) > TEXT_CHARS:
        raise SkillRefused(f"A date has at most {TEXT_CHARS} characters.")
    try:
        found = _iso(text) or _year_first(text) or _numbers(text) or _named(text)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise SkillRefused(f"{text!r} is not a date that I can read; write 2026-11-22 or 2026-11-22T10:30:00+01:00.")
    return found


def read_zone(text: str) -> tzinfo:
    """Return the zone of an IANA name (any case, a city alone will do) or an offset such as +02:00.

    Raises `SkillRefused` for one that is unknown, and says so when the machine has no zone database at all.
    """
    text = text.strip()
    if text.upper() in {"UTC", "Z", "GMT"}:
        return UTC
    if offset := _OFFSET.fullmatch(text):
        hours, minutes = int(offset[2]), int(offset[3] or 0)
        if hours < 24 and minutes < 60:  # noqa: PLR2004  hours of a day, minutes of an hour
            return timezone((-1 if offset[1] == "-" else 1) * timedelta(hours=hours, minutes=minutes))
    found = _named_zone(text.replace(" ", "_")) if _KEY.fullmatch(text.replace(" ", "_")) else None
    if found is not None:
        return found
    raise SkillRefused(f"The time zone {text[:TEXT_CHARS]!r} is not known{_why()}.")


def shifted(value: date | datetime, amount: float, unit: str) -> date | datetime:
    """Return `value` moved by `amount` of a singular `unit`.

    Months and years keep the day, or take the month's last. Hours and below are elapsed time, days and above move the
    calendar; a date stays one unless the unit is below a day. Raises `SkillRefused` beyond the years 1 to 9999.
    """
    try:
        if unit in {"month", "year"}:
            return _by_months(value, _whole(amount) * (12 if unit == "year" else 1))
        return _by_time(value, timedelta(**{f"{unit}s": amount}), unit)
    except (OverflowError, ValueError):
        raise SkillRefused("The result is not between the years 1 and 9999.") from None


def months_between(start: date | datetime, end: date | datetime) -> int:
    """Return how many whole months lie between the two, negative when `end` is earlier."""
    sign = 1
    if start > end:
        start, end, sign = end, start, -1
    months = (end.year - start.year) * 12 + end.month - start.month
    return sign * (months - (_by_months(start, months) > end))


def edge(value: date | datetime, unit: str, *, last: bool) -> date | datetime:
    """Return the first or last day (of a date) or second (of a time) of the unit around `value`; weeks start Monday."""
    day = value.date() if isinstance(value, datetime) else value
    try:
        day = _edge_day(day, unit, last=last)
    except OverflowError:
        raise SkillRefused("The result is not between the years 1 and 9999.") from None
    if unit in {"hour", "minute", "second"}:
        return _edge_time(as_time(value), unit, last=last)
    if not isinstance(value, datetime):
        return day
    return datetime.combine(day, time(23, 59, 59) if last else time(), value.tzinfo)


def as_time(value: date | datetime) -> datetime:
    """Return a date as its midnight, a time as it is."""
    return value if isinstance(value, datetime) else datetime.combine(value, time())


def in_zone(value: datetime, zone: tzinfo | None) -> datetime:
    """Return a naive time as one of `zone`, else UTC; an aware one as it is there, when a zone is given.

    Raises `SkillRefused` beyond the years 1 to 9999.
    """
    if value.tzinfo is None:
        return value.replace(tzinfo=zone or UTC)
    try:
        return value if zone is None else value.astimezone(zone)
    except OverflowError:
        raise SkillRefused("The result is not between the years 1 and 9999.") from None


def written(value: date | datetime) -> str:
    """Return `value` in ISO 8601; UTC is written Z."""
    return value.isoformat().removesuffix("+00:00") + ("Z" if value.isoformat().endswith("+00:00") else "")


def _iso(text: str) -> Moment | None:
    try:
        return Moment(date.fromisoformat(text))
    except ValueError:
        pass
    try:
        return Moment(datetime.fromisoformat(text))
    except ValueError:
        return None


def _year_first(text: str) -> Moment | None:
    found = _YEAR_FIRST.fullmatch(text)
    return Moment(_with_time(date(int(found[1]), int(found[2]), int(found[3])), found)) if found else None


def _numbers(text: str) -> Moment | None:
    if not (found := _NUMBERS.fullmatch(text)):
        return None
    first, second, year = int(found[1]), int(found[3]), int(found[4])
    day, month = (first, second) if second <= 12 else (second, first)  # noqa: PLR2004  months of a year
    ambiguous = first != second and max(first, second) <= 12  # noqa: PLR2004  months of a year
    return Moment(_with_time(date(year, month, day), found), ambiguous)


def _named(text: str) -> Moment | None:
    if found := _DAY_NAMED.fullmatch(text):
        day, name = int(found[1]), found[2]
    elif found := _MONTH_NAMED.fullmatch(text):
        day, name = int(found[2]), found[1]
    else:
        return None
    month = _MONTHS.index(name[:3].lower()) + 1
    return Moment(_with_time(date(int(found[3]), month, day), found))


def _with_time(day: date, found: re.Match[str]) -> date | datetime:
    if found["hour"] is None:
        return day
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % _NOON + (_NOON if found["half"].lower() == "pm" else 0)
    zone = read_zone(found["zone"]) if found["zone"] else None
    return datetime.combine(day, time(hour, int(found["minute"]), int(found["second"] or 0)), zone)


def _named_zone(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  few calls name a zone

    titled = "/".join(part.title() for part in name.split("/"))
    cities = () if "/" in name else tuple(f"{area}/{titled}" for area in _AREAS)
    for key in (name, titled, name.upper(), *cities):
        try:
            return ZoneInfo(key)
        except (OSError, ValueError, LookupError):
            continue
    return None


def _why() -> str:
    """Return why no zone has a name: a machine without the zone database knows offsets only."""
    if _named_zone("Europe/London") is not None:
        return "; use an IANA name such as Europe/Madrid, or an offset such as +02:00"
    return ": this machine has no time zone database; use an offset such as +02:00"


def _by_time(value: date | datetime, step: timedelta, unit: str) -> date | datetime:
    if unit in {"day", "week"} and not step.seconds and not step.microseconds:
        return value + step
    moment = as_time(value)
    if moment.tzinfo is None or unit in {"day", "week"}:
        return moment + step
    return in_zone(in_zone(moment, UTC) + step, moment.tzinfo)


def _by_months(value: date | datetime, months: int) -> date | datetime:
    year, month = divmod(value.year * 12 + value.month - 1 + months, 12)
    return value.replace(year=year, month=month + 1, day=min(value.day, monthrange(year, month + 1)[1]))


def _whole(amount: float) -> int:
    if amount != int(amount):
        raise SkillRefused("Months and years are added whole.")
    return int(amount)


def _edge_day(day: date, unit: str, *, last: bool) -> date:
    if unit == "week":
        monday = day - timedelta(days=day.weekday())
        return monday + timedelta(days=6) if last else monday
    if unit == "month":
        return day.replace(day=monthrange(day.year, day.month)[1] if last else 1)
    if unit == "year":
        return date(day.year, 12, 31) if last else date(day.year, 1, 1)
    return day


def _edge_time(moment: datetime, unit: str, *, last: bool) -> datetime:
    second = (59 if last else 0) if unit in {"hour", "minute"} else moment.second
    minute = (59 if last else 0) if unit == "hour" else moment.minute
    return moment.replace(minute=minute, second=second, microsecond=0)

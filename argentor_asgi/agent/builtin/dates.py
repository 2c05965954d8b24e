"""Reads dates, amounts of time and months as people write them in English and Spanish."""

from collections.abc import Callable

from argentor_asgi.agent.builtin.moves import Call, Context, Move, refers, shown
from argentor_asgi.agent.builtin.text import bare, pattern
from argentor_asgi.protocol.schema import JsonValue

MONTHS = {
    name: month
    for month, names in enumerate(
        (
            "january,jan,enero,ene", "february,feb,febrero", "march,mar,marzo", "april,apr,abril,abr", "may,mayo",
            "june,jun,junio", "july,jul,julio", "august,aug,agosto,ago", "september,sept,sep,septiembre",
            "october,oct,octubre", "november,nov,noviembre", "december,dec,diciembre,dic",
        ),
        start=1,
    )
    for name in names.split(",")
}  # fmt: skip
"""The number of a month by its name, without accents."""

UNITS = {
    name: unit
    for unit, names in (
        ("seconds", "second,seconds,segundo,segundos"),
        ("minutes", "minute,minutes,minuto,minutos"),
        ("hours", "hour,hours,hora,horas"),
        ("days", "day,days,dia,dias"),
        ("weeks", "week,weeks,semana,semanas"),
        ("months", "month,months,mes,meses"),
        ("years", "year,years,ano,anos"),
    )
    for name in names.split(",")
}
"""The datetime skill's unit by its name in either language, without accents."""

UNIT = (
    r"(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?|segundos?|minutos?|horas?|d[ií]as?|semanas?"
    r"|mes(?:es)?|a[nñ]os?)"
)
"""The pattern of a unit's name."""

_ISO = r"\d{4}-\d{2}-\d{2}(?:[T\x20]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})?)?"
_SHIFTS = {
    "today": 0, "now": 0, "hoy": 0, "ahora": 0, "tomorrow": 1, "manana": 1, "yesterday": -1, "ayer": -1,
    "the day after tomorrow": 2, "pasado manana": 2, "anteayer": -2, "the day before yesterday": -2,
}  # fmt: skip
_SMALL = {"a": 1, "an": 1, "one": 1, "un": 1, "una": 1, "two": 2, "dos": 2, "three": 3, "tres": 3}


def amount(text: str) -> int | None:
    """Return a count written in digits or as one of the first words, else None."""
    text = text.strip()
    return int(text) if pattern(r"\d{1,9}").fullmatch(text) else _SMALL.get(bare(text))


def date(text: str, context: Context) -> str | None:
    """Return the ISO 8601 form of an absolute date, None for anything else.

    `22/11/2026` is read only when the order of day and month is clear.
    """
    text = text.strip(" \t?!.,")
    if refers(text):
        text = shown(context.previous) if isinstance(context.previous, str) else ""
    text = text.removeprefix("the ").removeprefix("el ")
    if pattern(_ISO).fullmatch(text):
        return text.replace(" ", "T")
    return _named(bare(text)) or _numeric(text)


def _named(text: str) -> str | None:
    """Read `22 november 2026`, `november 22, 2026` and `22 de noviembre de 2026`."""
    first = pattern(r"(\d{1,2})(?:st|nd|rd|th)? (?:of |de )?([a-z]{3,10})\.?,? (?:de |del )?(\d{4})").fullmatch(text)
    if first and first[2] in MONTHS:
        return _iso(first[3], MONTHS[first[2]], first[1])
    second = pattern(r"([a-z]{3,10})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})").fullmatch(text)
    return _iso(second[3], MONTHS[second[1]], second[2]) if second and second[1] in MONTHS else None


def _numeric(text: str) -> str | None:
    found = pattern(r"(\d{1,2})[/.](\d{1,2})[/.](\d{4})").fullmatch(text)
    if not found:
        return None
    one, two = int(found[1]), int(found[2])
    if one > 12 or one == two:  # noqa: PLR2004  months end there
        return _iso(found[3], two, found[1])
    return _iso(found[3], one, found[2]) if two > 12 else None  # noqa: PLR2004  as above


def _iso(year: str, month: int, day: str) -> str:
    return f"{year}-{month:02}-{int(day):02}"


def shift(text: str) -> int | None:
    """Return how many days a word such as "tomorrow" is from today, None for other words."""
    return _SHIFTS.get(bare(text.strip(" \t?!.,")).removeprefix("el dia de "))


def with_date(text: str, context: Context, build: Callable[[str], Move]) -> Move | None:
    """Build a move from a date; one relative to today looks the clock up first. None when it is no date."""
    if found := date(text, context):
        return build(found)
    days = shift(text)
    if days is None:
        return None

    def then(data: JsonValue) -> Move:
        return build(moved(data, days))

    return Call("datetime", {"operation": "now", "timezone": "UTC"}, then)


def moved(data: JsonValue, days: int) -> str:
    """Return the date of a `now` result, shifted. Raises `ValueError` when the result holds no date."""
    from datetime import date as day  # noqa: PLC0415  the name is this module's word for reading one
    from datetime import timedelta  # noqa: PLC0415  as above

    found = data if isinstance(data, dict) else {}
    text = str(found.get("date") or found.get("datetime") or found.get("result") or "")[:10]
    return (day.fromisoformat(text) + timedelta(days=days)).isoformat()

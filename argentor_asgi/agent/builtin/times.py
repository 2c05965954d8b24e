"""Questions about the clock and the calendar, for the datetime skill."""

from collections.abc import Callable
from functools import partial

from argentor_asgi.agent.builtin.dates import MONTHS, UNIT, UNITS, amount, moved, with_date
from argentor_asgi.agent.builtin.moves import Ask, Call, Context, Move, refers
from argentor_asgi.agent.builtin.text import after, bare, pattern, whole
from argentor_asgi.agent.builtin.zones import zone_of
from argentor_asgi.protocol.schema import JsonValue

LONGEST = 300
"""How many characters a question about time may have."""

_NOW = (
    r"what(?:'s| is|s) the (?:current |local )?(?:time|date)(?: and (?:time|date))?|what time is it"
    r"|what time it is|what date is it"
    r"|what day is it|what(?:'s| is|s) (?:today's|todays) date|what(?:'s| is) today|today's date"
    r"|(?:the )?current (?:date and time|time|date)|(?:the )?(?:time|date)(?= (?:in|now|today)|$)"
    r"|tell me the (?:time|date)"
    r"|now(?= in|$)|(?:dime )?(?:a )?qu[eé] hora (?:es|tienen|son|ser[aá])|(?:dime )?qu[eé] d[ií]a es(?= hoy| en|$)"
    r"|qu[eé] fecha es(?= hoy| en|$)|(?:a )?qu[eé] d[ií]a estamos|a cu[aá]ntos estamos|(?:dime )?la hora|hora actual"
    r"|(?:cu[aá]l es )?(?:la )?fecha (?:de hoy|actual)|hora(?= en)|what day is today|what date is today"
)
_WHEN = r"(?: (?:it is|right now|now|today|currently|hoy|ahora(?: mismo)?|actualmente|es)){0,2}"
_LEAD = (
    r"(?:what(?:'s| is| will be| was)?(?: the)?(?: date| day)?(?: is| was| will(?: it)? be)?(?: it)?|when is"
    r"|qu[eé] (?:fecha|d[ií]a) (?:es|ser[aá]|fue|era|cae)|calculate|calcula|cu[aá]ndo (?:es|ser[aá]))? ?"
)
_LENGTH = rf"(\d{{1,9}}|[a-z]{{1,5}}) ({UNIT})"
_AFTER = r"(?:after|from|since|later than|despu[eé]s del?|a partir del?|desde|tras)"
_BEFORE = r"(?:before|prior to|antes del?)"


def clock(text: str, context: Context) -> Move | None:
    """Read a question about time; None for what is none."""
    if len(text) > LONGEST:
        return None
    body = text.strip().rstrip("?!. ").strip()
    for reader in (_now, _moved, _added, _between, _until, _weekday, _leap, _month_length):
        if move := reader(body, context):
            return move
    return None


def _now(body: str, context: Context) -> Move | None:
    rest = after(_NOW, body)
    if rest is None:
        return None
    rest = (after(_WHEN, rest) or "").strip() if after(_WHEN, rest) is not None else rest.strip()
    if not rest:
        return _at("UTC")
    place = after(r"(?:in|at|for|en|de)", rest)
    return _in_place(place, context) if place else None


def _at(zone: str) -> Call:
    return Call("datetime", {"operation": "now", "timezone": zone})


def _in_place(place: str, context: Context) -> Move:
    """Look the clock of a place up, or ask for the zone of one that is not known."""
    place = pattern(r" (?:now|right now|today|ahora|ahora mismo|hoy)$").sub("", place)
    if zone := zone_of(place):
        return _at(zone)
    question = context.say(
        f"I do not know the time zone of {place.strip()}. Which one is it (for example Europe/Madrid)?",
        f"No conozco la zona horaria de {place.strip()}. ¿Cuál es (por ejemplo Europe/Madrid)?",
    )
    return Ask(question, lambda answer: _at(zone_of(after("in|en", answer) or answer) or answer.strip()))


def _shift(operation: str, count: int, unit: str, start: str) -> Call:
    return Call("datetime", {"operation": operation, "datetime": start, "amount": count, "unit": UNITS[bare(unit)]})


def _moved(body: str, context: Context) -> Move | None:
    """Read "45 days after DATE", "in 3 weeks", "dentro de 3 semanas", "hace 2 días"."""
    if found := whole(rf"{_LEAD}(?:in|dentro de|en) {_LENGTH}", body):
        return _relative("add", found[1], found[2])
    if found := whole(rf"{_LEAD}{_LENGTH} ago|{_LEAD}hace {_LENGTH}", body):
        return _relative("subtract", found[1] or found[3], found[2] or found[4])
    for operation, words in (("add", _AFTER), ("subtract", _BEFORE)):
        rest = pattern(rf"{_LEAD}{_LENGTH} {words}(?!\w)").match(body)
        count = amount(rest[1]) if rest else None
        if rest and count is not None:
            return _dated(body[rest.end() :], context, partial(_shift, operation, count, rest[2]))
    return None


def _relative(operation: str, count: str, unit: str) -> Move | None:
    number = amount(count)
    if number is None:
        return None

    def then(data: JsonValue) -> Move:
        return _shift(operation, number, unit, _instant(data, unit))

    return Call("datetime", {"operation": "now", "timezone": "UTC"}, then)


def _instant(data: JsonValue, unit: str) -> str:
    """Return the date of a `now` result, or its whole instant for units below a day."""
    whole_days = UNITS[bare(unit)] in {"days", "weeks", "months", "years"}
    instant = data.get("datetime") if isinstance(data, dict) else None
    return instant if isinstance(instant, str) and not whole_days else moved(data, 0)


def _dated(text: str, context: Context, build: Callable[[str], Move]) -> Move:
    """Build from the date in `text`, or ask for one."""
    move = with_date(text, context, build)
    if move:
        return move
    question = context.say(
        "Which date do you mean? Please write it as YYYY-MM-DD.", "¿Qué fecha? Escríbela como AAAA-MM-DD, por favor."
    )
    return Ask(question, lambda answer: with_date(answer, context, build) or build(answer.strip()))


def _added(body: str, context: Context) -> Move | None:
    """Read "add 45 days to DATE" and "DATE plus 45 days", in both directions and languages."""
    for operation, verb, joint, sign in (
        ("add", "add|suma|a[ñn]ade", "to|a", r"plus|\+|m[aá]s"),
        ("subtract", "subtract|resta", "from|de|a", r"minus|-|menos"),
    ):
        named = pattern(rf"(?:{verb}) {_LENGTH} (?:{joint})(?!\w)").match(body)
        if named and (count := amount(named[1])) is not None:
            return _dated(body[named.end() :], context, partial(_shift, operation, count, named[2]))
        signed = pattern(rf"(?:what is |qu[eé] fecha es )?(\S{{1,40}}) (?:{sign}) {_LENGTH}").fullmatch(body)
        if signed and (count := amount(signed[2])) is not None:
            return with_date(signed[1], context, partial(_shift, operation, count, signed[3]))
    return None


def _between(body: str, context: Context) -> Move | None:
    """Read "days between A and B" and "cuántos días hay entre A y B"."""
    found = pattern(
        rf"(?:how many |number of |cu[aá]nt[oa]s )?({UNIT})(?: (?:are there|are|hay|pasan|van))? "
        r"(?:between|from|entre|desde(?: el)?|del?(?: el)?) (.{1,60}?) (?:and|to|until|y(?: el)?|al?"
        r"|hasta(?: el)?) (.{1,60})"
    ).fullmatch(body)
    if not found:
        return None
    unit, end = UNITS[bare(found[1])], found[3]
    start = found[2].removeprefix("el ")
    return with_date(start, context, lambda day: _dated(end, context, partial(_diff, unit, day)))


def _diff(unit: str, start: str, end: str) -> Call:
    return Call("datetime", {"operation": "diff", "start": start, "end": end, "unit": unit})


def _until(body: str, context: Context) -> Move | None:
    """Read "how many days until DATE", "cuántos días faltan para DATE" and their past."""
    found = pattern(
        rf"(?:how many )?({UNIT})(?: are there| is it| left)? (until|till|to|since) (.{{1,60}})"
        rf"|cu[aá]nt[oa]s ({UNIT}) (?:faltan|quedan|han pasado|hace)(?: para| hasta| desde)(?: el)? (.{{1,60}})"
    ).fullmatch(body)
    if not found:
        return None
    unit, end = UNITS[bare(found[1] or found[4])], found[3] or found[5]
    past = bare(found[2] or "") == "since" or " desde" in body

    def build(day: str) -> Move:
        return _dated("today", context, lambda now: _diff(unit, day, now) if past else _diff(unit, now, day))

    return with_date(end, context, build)


def _weekday(body: str, context: Context) -> Move | None:
    rest = after(
        r"(?:what |which )?(?:day of the week|weekday|day)(?: is| was| will be| of| falls on| for)|what(?:'s| is) the"
        r" (?:weekday|day of the week) (?:of|for)|(?:en )?(?:qu[eé] )?d[ií]a de la semana(?: es| fue| era| ser[aá]| cae"
        r"| cay[oó]| del?)|(?:en )?qu[eé] d[ií]a (?:es|fue|era|cae|cay[oó]|ser[aá])",
        body,
    )
    if rest is None or not rest.strip():
        return None
    return with_date(rest.strip().removeprefix("on ").removeprefix("el "), context, _day_of_week)


def _day_of_week(day: str) -> Call:
    return Call("datetime", {"operation": "day_of_week", "datetime": day})


def _leap(body: str, context: Context) -> Move | None:
    found = whole(
        r"(?:is|was|will|es|fue|ser[aá])(?: el)?(?: a[nñ]o)? (\d{1,4}|it|that|eso)(?: be)?(?: an?| un)?(?: a[nñ]o)?"
        r" (?:leap(?: year)?|bisiesto)|(?:es|fue|ser[aá]) bisiesto(?: el)?(?: a[nñ]o)? (\d{1,4})",
        body,
    )
    year = (found[1] or found[2]) if found else ""
    if refers(year):
        year = str(context.previous)
    return Call("datetime", {"operation": "is_leap_year", "year": int(year)}) if year.isdecimal() else None


def _month_length(body: str, context: Context) -> Move | None:
    """Read "how many days in February 2024"; without a year the clock says which it is."""
    found = whole(
        r"(?:how many days|number of days|days|cu[aá]ntos d[ií]as)(?: are there| are| does| has| tiene"
        r"| hay)?(?: in| en)?"
        r" ([^\W\d_]{3,10})(?: de| del|,)? ?(\d{4})?(?: have)?",
        body,
    )
    month = MONTHS.get(bare(found[1])) if found else None
    if not found or month is None:
        return None
    if found[2]:
        return _days_in(month, int(found[2]))
    return with_date("today", context, lambda today: _days_in(month, int(today[:4])))


def _days_in(month: int, year: int) -> Call:
    return Call("datetime", {"operation": "days_in_month", "year": year, "month": month})

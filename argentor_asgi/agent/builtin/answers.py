"""Composes answers from what skills returned, in English and Spanish."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from argentor_asgi.agent.builtin.moves import primary, shown
from argentor_asgi.agent.builtin.text import Language
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode_value

LONGEST = 8000
"""How many characters of one result are told."""
LISTED = 20
"""How many items of a list are told one by one."""

Template: TypeAlias = Callable[[JsonObject, JsonObject, bool], str]
"""Arguments, result and whether the answer is in Spanish, to the answer."""


def parsed(content: str) -> JsonValue:
    """Return the JSON value of a result, or its text when it is none."""
    try:
        return decode_value(content.encode("utf-8", "replace"))
    except GatewayError:
        return content


def answer(skill: str, arguments: JsonValue, content: str, lang: Language) -> str:
    """Tell the result of one call; a skill without a template, or an unexpected shape, is rendered from its JSON."""
    data = parsed(content)
    template = _TEMPLATES.get(skill)
    if template and isinstance(data, dict) and isinstance(arguments, dict):
        try:
            return _cut(template(arguments, data, lang == "es"))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return _cut(rendered(data))
    return _cut(rendered(data)) or ("Hecho." if lang == "es" else "Done.")


def failure(skill: str, content: str, lang: Language) -> str:
    """Tell in words that a call failed."""
    data = parsed(content)
    reason = (
        next((data[key] for key in ("error", "message", "detail") if key in data), data)
        if isinstance(data, dict)
        else data
    )
    words = _cut(shown(reason).strip().rstrip(".") or "?")
    return f"{skill} no pudo hacerlo: {words}." if lang == "es" else f"{skill} could not do that: {words}."


def rendered(data: JsonValue) -> str:
    """Return any JSON value as text: one line for each member or item, nested ones as JSON."""
    if isinstance(data, dict):
        if set(data) == {"result"}:
            return rendered(data["result"])
        return "\n".join(f"{key}: {shown(value)}" for key, value in data.items())
    if isinstance(data, list):
        more = [f"… ({len(data)})"] if len(data) > LISTED else []
        return "\n".join([*(f"- {shown(item)}" for item in data[:LISTED]), *more])
    return shown(data)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… [{len(text)}]"


def _brief(text: JsonValue) -> str:
    """Return an operand for use inside a sentence."""
    found = " ".join(shown(text).split())
    return found if len(found) <= 60 else found[:60] + "…"  # noqa: PLR2004  one line


def _calculator(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    operation, result = str(arguments["operation"]), data["result"]
    if operation == "evaluate":
        return f"{' '.join(str(arguments['expression']).split())} = {shown(result)}"
    if operation == "is_prime":
        word = ("es primo" if result else "no es primo") if spanish else ("is prime" if result else "is not prime")
        return f"{arguments['n']} {word}."
    if operation == "factorial":
        return f"{arguments['n']}! = {shown(result)}"
    operands = arguments.get("values") or [value for key, value in arguments.items() if key != "operation"]
    return f"{operation}({', '.join(shown(value) for value in operands)}) = {shown(result)}"


def _datetime(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    told = _DATES.get(str(arguments.get("operation")))
    return told(arguments, data, spanish) if told else rendered(data)


def _now(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    zone = str(data.get("timezone") or arguments.get("timezone") or "UTC")
    time, date = str(data["time"])[:8], str(data["date"])
    weekday = _weekday(str(data.get("weekday", "")), spanish)
    if spanish:
        return f"Son las {time} del {weekday} {date} en {zone}.".replace("  ", " ")
    return f"It is {time} on {weekday} {date} in {zone}.".replace("  ", " ")


_DAYS = {
    "monday": "lunes", "tuesday": "martes", "wednesday": "miércoles", "thursday": "jueves", "friday": "viernes",
    "saturday": "sábado", "sunday": "domingo",
}  # fmt: skip
_UNITS = {
    "seconds": "segundos", "minutes": "minutos", "hours": "horas", "days": "días", "weeks": "semanas",
    "months": "meses", "years": "años",
}  # fmt: skip


def _weekday(name: str, spanish: bool) -> str:
    return _DAYS.get(name.lower(), name) if spanish else name


def _unit(name: JsonValue, count: JsonValue, spanish: bool) -> str:
    """Return the unit in the user's language, in the singular for one."""
    word = _UNITS.get(str(name), str(name)) if spanish else str(name)
    return {"meses": "mes"}.get(word, word.removesuffix("s")) if count == 1 else word


def _added(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    count = arguments["amount"]
    length, start, result = (
        f"{count} {_unit(arguments['unit'], count, spanish)}",
        arguments["datetime"],
        shown(data["result"]),
    )
    later = arguments["operation"] == "add"
    if spanish:
        return f"{length} {'después' if later else 'antes'} de {start} es {result}."
    return f"{length} {'after' if later else 'before'} {start} is {result}."


def _difference(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    count = data["difference"]
    length = f"{shown(count)} {_unit(data.get('unit', arguments.get('unit')), count, spanish)}"
    if spanish:
        return f"Entre {arguments['start']} y {arguments['end']}: {length}."
    return f"Between {arguments['start']} and {arguments['end']}: {length}."


def _day_of_week(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    day = _weekday(str(data["result"]), spanish)
    return f"{arguments['datetime']} es {day}." if spanish else f"{arguments['datetime']} is a {day}."


def _leap(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    year, leap = arguments["year"], data["result"]
    if spanish:
        return f"{year} {'es' if leap else 'no es'} un año bisiesto."
    return f"{year} {'is' if leap else 'is not'} a leap year."


def _month(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    month = f"{arguments['year']}-{int(arguments['month']):02}"
    return f"{month} tiene {data['result']} días." if spanish else f"{month} has {data['result']} days."


_DATES: Mapping[str, Template] = {
    "now": _now,
    "add": _added,
    "subtract": _added,
    "diff": _difference,
    "day_of_week": _day_of_week,
    "is_leap_year": _leap,
    "days_in_month": _month,
}


def _json_query(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    operation = arguments.get("operation")
    result = data.get("result", data)
    if operation == "type_of":
        return f"JSON {'de tipo' if spanish else 'of type'} {shown(result)}."
    if operation in {"keys", "values"} and isinstance(result, list):
        return ", ".join(shown(item) for item in result) or "-"
    return shown(result)


def _counts(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    operation = str(arguments["operation"])
    units = {
        "word_count": ("words", "palabras"),
        "char_count": ("characters", "caracteres"),
        "line_count": ("lines", "líneas"),
    }
    result = shown(data["result"])
    if operation not in units:
        return result
    unit = units[operation][spanish]
    return f"{result} {unit.removesuffix('s') if result == '1' and unit != 'caracteres' else unit}."


def _hash(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    if "valid" in data:
        matches = data["valid"]
        return (
            ("Coincide." if matches else "No coincide.")
            if spanish
            else ("It matches." if matches else "It does not match.")
        )
    name = data.get("algorithm", arguments["operation"])
    return f"{name} {'de' if spanish else 'of'} {_brief(arguments['input'])}: {data['hash']}"


def _encode(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    if arguments["operation"] == "jwt_decode":
        warning = "La firma no se ha verificado." if spanish else "The signature was not verified."
        return f"{rendered(data)}\n{warning}"
    return shown(data["result"])


def _uuids(_: JsonObject, data: JsonObject, spanish: bool) -> str:
    if "valid" in data:
        return _verdict("uuid", bool(data["valid"]), spanish)
    return "\n".join(data["uuids"]) if "uuids" in data else str(data["uuid"])


def _verdict(kind: str, valid: bool, spanish: bool) -> str:
    if spanish:
        return f"{'Sí' if valid else 'No'}, {'es' if valid else 'no es'} un {kind} válido."
    return f"{'Yes' if valid else 'No'}, it is {'' if valid else 'not '}a valid {kind}."


def _validator(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    kind = str(data.get("format", arguments["operation"])).replace("_", " ")
    details = data.get("details")
    why = details.get("reason") if isinstance(details, dict) else details
    reason = f" ({shown(why).rstrip('.')})" if why and not data["valid"] else ""
    return f"{_brief(arguments['value'])}: {_verdict(kind, bool(data['valid']), spanish).removesuffix('.')}{reason}."


def _table(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    if isinstance(data.get("csv"), str):
        return str(data["csv"])
    result = data.get("result")
    if arguments.get("operation") == "count_rows":
        return f"{shown(result)} {'filas' if spanish else 'rows'}."
    if arguments.get("operation") == "headers" and isinstance(result, list):
        return ", ".join(shown(name) for name in result)
    if arguments.get("operation") == "parse":
        return "\n".join(", ".join(shown(cell) for cell in row) for row in [data["headers"], *data["rows"]])
    return rendered(data) if result is None else shown(result)


def _difference_of(_: JsonObject, data: JsonObject, spanish: bool) -> str:
    if data.get("lines_added") == 0 and data.get("lines_removed") == 0 and not data.get("diff"):
        return "Son iguales." if spanish else "They are the same."
    return str(data["diff"]).rstrip("\n") if data.get("diff") else rendered(data)


def _summary(_: JsonObject, data: JsonObject, _spanish: bool) -> str:
    if "summary" in data:
        return str(data["summary"])
    rows = data.get("keywords") or data.get("frequencies")
    if not rows:
        return rendered(data)
    return ", ".join(f"{row['word']} ({row['count']})" for row in rows[:LISTED])


def _stored(arguments: JsonObject, data: JsonObject, spanish: bool) -> str:
    if not data["stored"]:
        return "No lo he podido guardar." if spanish else "I could not keep it."
    content = str(arguments["content"]).strip().rstrip(".")
    return f"Lo recordaré: {content}." if spanish else f"I will remember: {content}."


def _memories(_: JsonObject, data: JsonObject, spanish: bool) -> str:
    rows = data["results"] if "results" in data else data["memories"]
    if not rows:
        return "No recuerdo nada." if spanish else "I remember nothing."
    head = "Recuerdo:" if spanish else "I remember:"
    total = int(data.get("total", len(rows)))
    more = [f"… ({total})"] if total > min(len(rows), LISTED) else []
    return "\n".join([head, *(f"- {row['content']}" for row in rows[:LISTED]), *more])


def _forgotten(_: JsonObject, data: JsonObject, spanish: bool) -> str:
    count = int(data["forgotten"])
    if not count:
        return "No recordaba nada así." if spanish else "I remembered nothing like that."
    gone = "; ".join(str(row["content"]) for row in data.get("memories", []))
    told = f": {gone}." if gone else f" ({count})."
    return ("Olvidado" if spanish else "Forgotten") + told


def _skills(_: JsonObject, data: JsonObject, _spanish: bool) -> str:
    rows = data.get("skills") or [data]
    if len(rows) == 1 and "parameters_schema" in rows[0]:
        fields = _fields(rows[0]["parameters_schema"])
        return "\n".join([f"{rows[0]['name']}: {rows[0]['description']}", *fields])
    return "\n".join(f"- {row['name']}: {row['description']}" for row in rows)


def _fields(schema: JsonObject) -> list[str]:
    """Return one line for each argument: its name, what it may be, and what it is for."""
    required = schema.get("required", [])
    lines = []
    for name, field in schema.get("properties", {}).items():
        choices = "|".join(shown(choice) for choice in field.get("enum", []))
        kind = choices or shown(field.get("type", ""))
        must = "*" if name in required else ""
        lines.append(f"- {name}{must}{f' ({kind})' if kind else ''}: {field.get('description', '')}".rstrip(": "))
    return lines


_TEMPLATES: Mapping[str, Template] = {
    "calculator": _calculator,
    "datetime": _datetime,
    "json_query": _json_query,
    "text_transform": _counts,
    "hash": _hash,
    "encode_decode": _encode,
    "uuid_generator": _uuids,
    "data_validator": _validator,
    "csv_processor": _table,
    "diff": _difference_of,
    "summarizer": _summary,
    "memory_store": _stored,
    "memory_search": _memories,
    "memory_list": _memories,
    "memory_forget": _forgotten,
    "skills_help": _skills,
}


def value_of(content: str) -> JsonValue:
    """Return what a later step means by "the result" of a call."""
    return primary(parsed(content))

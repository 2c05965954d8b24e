"""What is done to data: JSON, CSV, comparing two texts, checking a format, making ids."""

from collections.abc import Sequence

from argentor_asgi.agent.builtin.moves import (
    MISSING,
    Ask,
    Call,
    Context,
    Move,
    Say,
    need,
    primary,
    read,
    refers,
    shown,
)
from argentor_asgi.agent.builtin.text import after, before, pattern, spans
from argentor_asgi.agent.builtin.texts import LEAD
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode_value

_IN = r"(?:from|in|of|on|de|en|del)"
_WHOLE = {
    "keys": r"(?:the |las )?(?:keys|claves|llaves)",
    "values": r"(?:the |los )?(?:values|valores)",
    "length": r"(?:the |la )?(?:length|size|longitud|tama[nñ]o)",
    "flatten": r"(?:flatten|aplana)",
    "type_of": r"(?:the |el )?(?:type|tipo)",
    "sort": r"(?:sort|order|ordena|ordenar)",
}
_OPERATORS = {
    "==": "eq", "=": "eq", "is": "eq", "equals": "eq", "es": "eq", "!=": "ne", "<>": "ne", ">=": "gte", "<=": "lte",
    ">": "gt", "<": "lt", "contains": "contains", "contiene": "contains",
}  # fmt: skip
_FORMATS = {
    "email": r"(?:e-?mail|correo)(?: address| electr[oó]nico)?",
    "ipv4": r"ipv4(?: address)?",
    "ipv6": r"ipv6(?: address)?",
    "ip": r"(?:ip(?: address)?|direcci[oó]n ip)",
    "url": r"(?:url|uri|link|enlace)",
    "uuid": r"(?:uuid|guid)",
    "phone": r"(?:phone(?: number)?|tel[eé]fono|n[uú]mero de tel[eé]fono)",
    "credit_card": r"(?:credit card(?: number)?|tarjeta(?: de cr[eé]dito)?|card number)",
    "datetime": r"(?:date-?time|timestamp|fecha y hora)",
    "date": r"(?:date|fecha)",
    "hex_color": r"(?:hex colou?r|colou?r|color(?: hexadecimal)?)",
    "semver": r"(?:semver|semantic version|version|versi[oó]n(?: sem[aá]ntica)?)",
    "json": r"json",
    "base64": r"base64",
    "domain": r"(?:domain(?: name)?|dominio)",
    "mac_address": r"(?:mac(?: address)?|direcci[oó]n mac)",
}
_COUNT_WORDS = {"a": 1, "an": 1, "one": 1, "un": 1, "una": 1, "two": 2, "dos": 2, "three": 3, "tres": 3, "five": 5}


def documents(text: str, context: Context) -> tuple[str, Sequence[JsonValue], str] | None:
    """Return what stands before, the one or two JSON documents, and what stands after; None without any."""
    found: list[tuple[int, int, JsonValue]] = []
    for start, end in spans(text):
        if text[start] in "{[" and _apart(text, start) and len(found) < 2:  # noqa: PLR2004  two are merged or compared
            try:
                found.append((start, end, decode_value(text[start:end].encode("utf-8", "replace"))))
            except GatewayError:
                continue
    if found:
        return text[: found[0][0]].strip(" :\n\t"), [value for _, _, value in found], text[found[-1][1] :].strip()
    head, _, last = text.strip().rpartition(" ")
    if refers(last) and isinstance(context.previous, dict | list):
        return head, [context.previous], ""
    return None


def _apart(text: str, start: int) -> bool:
    """Tell a document from the index of a path, `a[1]`."""
    return start == 0 or not (text[start - 1].isalnum() or text[start - 1] in "_].")


def query(text: str, context: Context) -> Move | None:
    """Read an operation on JSON that is pasted into the message; JSON alone is described."""
    found = documents(text, context)
    if found is None:
        return None
    head, values, tail = found
    tail = tail.rstrip("?.! ")
    if not head and not tail and len(values) == 1:
        return _describe(values[0], context)
    arguments = _pair(head, values) if len(values) > 1 else _whole(head, tail) or _pathed(head, tail)
    return Call("json_query", {"data": values[0]} | arguments) if arguments else None


def _describe(data: JsonValue, context: Context) -> Move:
    """Look up the type, then the keys of an object or the length of anything else."""
    second = "keys" if isinstance(data, dict) else "length"

    def tell(kind: JsonValue, found: JsonValue) -> Move:
        listed = ", ".join(map(shown, found)) if isinstance(found, list) else shown(found)
        if second == "keys":
            return Say(
                context.say(f"JSON of type {kind}; its keys: {listed}.", f"JSON de tipo {kind}; sus claves: {listed}.")
            )
        return Say(context.say(f"JSON of type {kind}, length {listed}.", f"JSON de tipo {kind}, longitud {listed}."))

    def then(kind: JsonValue) -> Move:
        arguments: JsonObject = {"operation": second, "data": data}
        return Call("json_query", arguments, lambda found: tell(shown(primary(kind)), primary(found)))

    return Call("json_query", {"operation": "type_of", "data": data}, then)


def _pair(head: str, values: Sequence[JsonValue]) -> JsonObject | None:
    if after("merge|combine|join|fusiona|combina|une", head) is not None:
        return {"operation": "merge", "other": values[1]}
    if after(r"(?:json )?(?:diff|compare)|diff json|compara|differences? between|diferencias? entre", head) is not None:
        return {"operation": "diff", "other": values[1]}
    return None


def _whole(head: str, tail: str) -> JsonObject | None:
    """Read operations on the whole document, and those whose operand stands behind it."""
    for operation, form in _WHOLE.items():
        if (
            after(
                rf"{LEAD}{form}(?: {_IN})?(?: this| the| este| el)?(?: json| object| list| array| lista| objeto)?:?$",
                head,
            )
            is None
        ):
            continue
        key = after("by|por", tail) if operation == "sort" else None
        return {"operation": operation} | ({"field": key.strip()} if key and key.strip() else {})
    if after("filter|filtra|find|select|busca", head) is not None:
        return _condition(after(r"where|with|by|donde|con|por", tail) or "")
    return None


def _condition(text: str) -> JsonObject | None:
    """Read `field op value`."""
    found = pattern(
        r" ?([\w.]{1,100}) ?(==|=|!=|<>|>=|<=|>|<| is | equals | es | contains | contiene ) ?(.{1,500})"
    ).fullmatch(text)
    if not found:
        return None
    return {
        "operation": "filter",
        "field": found[1],
        "op": _OPERATORS[found[2].strip().lower()],
        "value": _literal(found[3]),
    }


def _literal(text: str) -> JsonValue:
    try:
        return decode_value(text.strip().encode("utf-8", "replace"))
    except GatewayError:
        return text.strip().strip("'")


def _pathed(head: str, tail: str) -> JsonObject | None:
    """Read operations that name a path or keys before the document."""
    for operation, verb in (
        ("pick", "pick|elige|keep|conserva"),
        ("omit", "omit|omite|drop"),
        ("delete", "delete|remove|borra|elimina|quita"),
    ):
        rest = after(rf"(?:{verb})(?: the| la| las| el)?(?: keys?| path| claves?| ruta)?", head)
        names = before(_IN, rest) if rest else None
        if names and operation == "delete":
            return {"operation": operation, "path": _path(names)}
        if names:
            return {
                "operation": operation,
                "fields": [name for name in pattern(r"\s*,\s*|\s+").split(names.strip()) if name],
            }
    if assigned := pattern(
        rf"(?:set|pon|asigna|cambia) ([\w.\[\]]{{1,200}}) (?:to|=|a|en) (.{{1,500}}) {_IN}"
    ).fullmatch(head):
        return {"operation": "set", "path": _path(assigned[1]), "value": _literal(assigned[2])}
    return _get(head) if not tail else None


def _get(head: str) -> JsonObject | None:
    found = pattern(
        rf"(?:(?:get|extract|read|show|find|obt[eé]n|extrae|dame|lee|saca|what is|what's"
        rf"|cu[aá]l es) )?(?:(?:the|el|la) )?"
        rf"(?:(?:value|path|valor|ruta|key|field|clave|campo)(?: of| at| de"
        rf"| en)? )?[`\"']?([\w.\[\]-]{{1,200}})[`\"']? {_IN}"
        r"(?: this| the| este| el)?(?: json| object| objeto)?:?"
    ).fullmatch(head)
    return {"operation": "get", "path": _path(found[1])} if found else None


def _path(text: str) -> str:
    """Return a dotted path: `a[1].b` is `a.1.b`."""
    return pattern(r"\[(\w{1,50})\]").sub(r".\1", text.strip().strip("`\"'")).strip(".")


def validate(text: str, context: Context) -> Move | None:
    """Read "is X a valid email?", "validate email X" and their Spanish twins."""
    for name, form in _FORMATS.items():
        rest = after(
            rf"(?:validate|check|verify|valida|validar|comprueba)(?: the| if| el| la| si)?(?: this)? {form}:?", text
        )
        rest = (
            rest
            if rest is not None
            else after(rf"(?:is|es) (?:this|the|v[aá]lid[oa]|esta?)(?: el| la| este| esta)? {form}:?", text)
        )
        if rest is not None:
            return _check(name, before("valid|v[aá]lid[oa]|is valid|es v[aá]lid[oa]", rest) or rest, context)
        head = (
            before(rf"(?:a |an |una? )?(?:valid )?{form}(?: format)?(?: v[aá]lid[oa])?", text)
            if "valid" in text.lower() or "válid" in text.lower()
            else None
        )
        subject = after("is|are|es|check if|check whether|comprueba si", head) if head else None
        if subject:
            return _check(name, before("is|es", subject) or subject, context)
    return None


def _check(name: str, operand: str, context: Context) -> Move:
    def build(value: str) -> Move:
        if name == "uuid" and "uuid_generator" in context.tools:
            return Call("uuid_generator", {"operation": "validate", "uuid": value})
        kind = ("ipv6" if ":" in value else "ipv4") if name == "ip" else name
        return Call("data_validator", {"operation": kind, "value": value})

    return need(operand, context, context.say("Which value should I check?", "¿Qué valor compruebo?"), build)


def identify(text: str, _: Context) -> Move | None:
    """Read "uuid", "generate 3 uuids", "genera un uuid v7"."""
    if len(text) > 200:  # noqa: PLR2004  a short request
        return None
    found = pattern(
        r"(?:(?:generate|create|make|give me|get|new|i need|genera|crea|dame|nuevo"
        r"|necesito) )?(?:me )?(?:an? |un )?(?:(\d{1,4}|two|three|five|dos|tres) )?"
        r"(?:(?:new|random|nuevos?|aleatorios?) )?(?:uuid|guid)s?(?: ?v?([47]))?(?: version ([47]))?[?.! ]?"
    ).fullmatch(text)
    if not found:
        return None
    count = _COUNT_WORDS.get((found[1] or "1").lower()) or int(found[1] or 1)
    version = {"version": int(found[2] or found[3])} if found[2] or found[3] else {}
    if count == 1:
        return Call("uuid_generator", {"operation": "generate", "version": 4} | version)
    return Call("uuid_generator", {"operation": "generate_bulk", "count": count} | version)


def _block(text: str) -> tuple[str, str]:
    """Return the command line and the pasted block behind its colon or line end, fences removed."""
    cut = pattern(r":\s|\n|```").search(text)
    if not cut:
        return text, ""
    block = text[cut.end() :] if cut[0] != "```" else text[cut.start() :]
    return text[: cut.start()], block.strip().removeprefix("```csv").removeprefix("```").removesuffix("```").strip()


def table(text: str, context: Context) -> Move | None:
    """Read a command about CSV: it names csv in its first line, the data follow a colon or the line end."""
    head, block = _block(text)
    if len(head) > 300 or not pattern(r"(?<!\w)csv(?!\w)").search(head):  # noqa: PLR2004  a command line
        return None
    arguments = _csv_operation(head)
    return need(
        block or ("it" if context.previous is not MISSING else ""),
        context,
        context.say("Paste the CSV data.", "Pega los datos CSV."),
        lambda data: Call("csv_processor", arguments | {"data": data}),
    )


def _csv_operation(head: str) -> JsonObject:
    name = r"[`\"']?(?!the |la |csv|del? )([\w-]{1,100})[`\"']?(?= |$)"
    column = pattern(rf"(?:column|columna) {name}").search(head) or pattern(rf"(?:by|por|of|de) {name}").search(head)
    named: JsonObject = {"column": column[1]} if column else {}
    for operation, form, takes in (
        ("to_json", r"(?:to|a|en|into|as) json", False),
        ("statistics", r"(?:statistics|stats|estad[ií]sticas?|mean|average|media)", True),
        (
            "count_rows",
            r"(?:count|how many|number of|cuenta|cu[aá]ntas) (?:the |las )?(?:rows|lines|filas|l[ií]neas)",
            False,
        ),
        ("headers", r"(?:headers?|column names|cabeceras?|encabezados?|columnas)", False),
        ("sort", r"(?:sort|order|ordena)", True),
    ):
        if pattern(rf"(?<!\w){form}(?!\w)").search(head):
            return {"operation": operation} | (named if takes else {})
    return {"operation": "parse"}


def compare(text: str, context: Context) -> Move | None:
    """Read a comparison of two quoted texts, or of two blocks apart by a line of dashes."""
    rest = after(
        rf"(?:show )?(?:{LEAD})?(?:word )?(?:diff|compare|difference|diferencia|compara)(?: between| entre| of| de)?:?",
        text,
    )
    if rest is None:
        return None
    operation = "word_diff" if pattern("(?:show )?(?:the )?word diff").match(text) else "diff"
    old, new = _two(rest, context)
    if old is None or new is None:
        return Ask(
            context.say(
                'Which two texts? Write `diff "one" and "two"`, or put a line `---` between them.',
                '¿Qué dos textos? Escribe `compara "uno" con "dos"`, o pon una línea `---` entre ellos.',
            ),
            lambda answer: compare(f"diff {answer}", context) or _differ(operation, answer, ""),
        )
    return _differ(operation, old, new)


def _differ(operation: str, old: str, new: str) -> Call:
    return Call("diff", {"operation": operation, "old": old, "new": new})


def _two(text: str, context: Context) -> tuple[str | None, str | None]:
    quoted = [text[start:end] for start, end in spans(text) if text[start] in "\"'“«`"]
    if len(quoted) == 2:  # noqa: PLR2004  the two sides
        return read(quoted[0], context), read(quoted[1], context)
    parts = pattern(r"\n-{3,10}\n").split(text.strip("\n"), maxsplit=1)
    if len(parts) < 2:  # noqa: PLR2004  as above
        parts = pattern(r" (?:and|with|to|y|con|vs\.?) ").split(text, maxsplit=1)
    return (parts[0].strip(), parts[1].strip()) if len(parts) == 2 and all(parts) else (None, None)  # noqa: PLR2004  as above

"""What is done to a text: case, counts, replacing, digests, encodings and their like."""

from argentor_asgi.agent.builtin.moves import Call, Context, Move, Say, need, read
from argentor_asgi.agent.builtin.text import after, before, pattern

LEAD = (
    r"(?:(?:calculate|compute|what(?:'s| is)|give me|get|show me|show|make|generate|create|find|tell me|return|calcula"
    r"|cu[aá]l es|dame|genera|crea|haz|muestra|mu[eé]strame|dime|obt[eé]n|saca) )?(?:(?:the|an?|el|la|los"
    r"|las|un|una) )?"
)
"""What may stand before the name of an operation."""

OF = r"(?: of| for| del| de)?:?"
"""What may stand between an operation and its text."""

_VERB = (
    r"(?:convert|turn|change|make|put|transform|write|set|pasar|pasa|pon|poner|convierte|convertir|cambia|escribe"
    r"|transforma)"
)
_CLITIC = r"(?:p[aá]salo|ponlo|convi[eé]rtelo|transf[oó]rmalo|c[aá]mbialo|escr[ií]belo)"
_INTO = r"(?:in|to|into|as|a|en|all|todo en)(?: the| el| formato| may[uú]scula)?"
_CASES = {
    "uppercase": r"(?:upper[ -]?case|all caps|may[uú]sculas?)",
    "lowercase": r"(?:lower[ -]?case|min[uú]sculas?)",
    "title_case": r"(?:title[ -]?case|formato t[ií]tulo|tipo t[ií]tulo)",
    "snake_case": r"snake[ _-]?case",
    "camel_case": r"camel[ _-]?case",
    "kebab_case": r"kebab[ _-]?case",
    "slug": r"(?:url )?slug",
}
_DOINGS = {
    "slug": r"slugify",
    "title_case": r"(?:capitali[sz]e|capitaliza)",
    "reverse": r"(?:reverse|invierte|da la vuelta a|reversed?|inverso|al rev[eé]s)",
    "trim": r"(?:trim|recorta|strip)",
    "uppercase": r"(?:to )?upper",
    "lowercase": r"(?:to )?lower",
}
_COUNTS = {
    "word_count": r"(?:words?|palabras?)",
    "char_count": r"(?:characters?|chars?|letters?|caracteres|letras)",
    "line_count": r"(?:lines?|l[ií]neas?)",
}
_DIGESTS = {
    "sha256": r"sha-?256(?: hash| digest| sum)?",
    "sha512": r"sha-?512(?: hash| digest| sum)?",
    "checksum": r"(?:checksum|suma de (?:verificaci[oó]n|comprobaci[oó]n))",
}
_ENCODINGS = {
    "base64url": r"base64[ -]?url",
    "base64": r"base ?64",
    "hex": r"hex(?:adecimal)?",
    "url": r"(?:url|percent)",
    "html": r"html",
}
_ENCODE = r"(?:encode|encoded|encoding of|escape|codificar?|codificado|codificaci[oó]n de|escapa)"
_DECODE = r"(?:decode|decoded|decoding of|unescape|decodificar?|descodificar?|decodificado)"


def transform(text: str, context: Context) -> Move | None:
    """Read a change of case or order, a count, or a replacement."""
    return _case(text, context) or _doing(text, context) or _count(text, context) or _replace(text, context)


def _text_call(context: Context, operation: str, operand: str) -> Move:
    return need(
        operand,
        context,
        context.say("Which text?", "¿Qué texto?"),
        lambda value: Call("text_transform", {"operation": operation, "text": value}),
    )


def _case(text: str, context: Context) -> Move | None:
    for operation, name in _CASES.items():
        rest = after(rf"{LEAD}{name}{OF}", text)
        if rest is not None:
            return _text_call(context, operation, rest)
        head = before(rf"{_INTO} {name}", text)
        if head is not None:
            return _text_call(context, operation, _object_of(head))
    return None


def _object_of(head: str) -> str:
    """Return what the verb at the start of `head` acts on: "it" when the verb says so itself or nothing is there."""
    if after(_CLITIC, head) is not None:
        return "it"
    rest = after(rf"{_VERB}|how do (?:you|i) (?:write|say)|what is|what's|c[oó]mo se escribe", head)
    return head if rest is None else rest.strip() or "it"


def _doing(text: str, context: Context) -> Move | None:
    for operation, verb in _DOINGS.items():
        rest = after(rf"{LEAD}{verb}{OF}", text)
        if rest is not None:
            return _text_call(context, operation, rest)
    if after(r"inviértelo|inviertelo|dale la vuelta", text) is not None:
        return _text_call(context, "reverse", "it")
    return None


def _count(text: str, context: Context) -> Move | None:
    for operation, unit in _COUNTS.items():
        single = r"(?:word|character|char|letter|line)"
        rest = after(
            rf"(?:count|cuenta)(?: the| las| los)? {unit}(?: of| in| de| en| del)?:?"
            rf"|(?:how many|cu[aá]nt[oa]s) {unit}(?: are there| are| does| hay| tiene)?(?: in| en| de)?:?"
            rf"|{LEAD}number of {unit}(?: of| in)?:?|{LEAD}n[uú]mero de {unit}(?: de| en| del)?:?",
            text,
        )
        if rest is None and pattern(unit).match(text.removeprefix("the ")):
            rest = after(rf"(?:the )?{single} count(?: of| in)?:?", text)
        if rest is not None:
            shorter = before("have|contain", rest)
            return _text_call(context, operation, shorter or rest)
    return None


def _replace(text: str, context: Context) -> Move | None:
    """Read "replace A with B in TEXT"; the first joints count, quoted or not, so it stays linear."""
    rest = after("replace|substitute|reemplaza|sustituye|cambia", text)
    if rest is None:
        return None
    first = pattern(r" (?:with|by|for|con|por) ").search(rest)
    second = pattern(r" (?:in|en|on) ").search(rest, first.end()) if first else None
    if not first or not second:
        return Say(
            context.say(
                'Write it like `replace "a" with "b" in "banana"`.', 'Escribe `reemplaza "a" por "b" en "banana"`.'
            )
        )
    find, new = read(rest[: first.start()], context), read(rest[first.end() : second.start()], context)

    def build(value: str) -> Move:
        return Call(
            "text_transform", {"operation": "replace", "text": value, "find": find or "", "replacement": new or ""}
        )

    return need(rest[second.end() :], context, context.say("Which text?", "¿Qué texto?"), build)


def digest(text: str, context: Context) -> Move | None:
    """Read a digest, keyed digest or check of one."""
    if move := _keyed(text, context) or _verified(text, context):
        return move
    for operation, name in _DIGESTS.items():
        rest = after(rf"{LEAD}(?:hash )?{name}{OF}", text)
        if rest is not None:
            return _hash_call(context, operation, rest)
        if (head := before(rf"(?:with|using|as|in|to|con|en|a) {name}", text)) is not None:
            inner = after("hash|hashea|digest|encrypt|convert|calcula|calcula el hash de", head)
            return _hash_call(context, operation, inner) if inner is not None else None
    rest = after(rf"{LEAD}(?:hash|hashea|digest|resumen criptogr[aá]fico){OF}", text)
    if rest is not None:
        return _hash_call(context, "sha256", rest)
    return _weak(text, context)


def _hash_call(context: Context, operation: str, operand: str) -> Move:
    return need(
        operand.strip().removeprefix("(").removesuffix(")") if operand.startswith("(") else operand,
        context,
        context.say("Which text should I hash?", "¿De qué texto calculo el hash?"),
        lambda value: Call("hash", {"operation": operation, "input": value}),
    )


def _keyed(text: str, context: Context) -> Move | None:
    rest = after(rf"{LEAD}hmac(?:[_-]?sha-?256)?{OF}", text)
    if rest is None:
        return None
    joint = pattern(r" (?:with|using|con)(?: the| la)? (?:key|clave|secret) ").search(rest)
    key = read(rest[joint.end() :], context) if joint else None
    if not joint or key is None:
        return Say(
            context.say('Write `hmac of "text" with key "key"`.', 'Escribe `hmac de "texto" con clave "clave"`.')
        )

    def build(value: str) -> Move:
        return Call("hash", {"operation": "hmac_sha256", "input": value, "key": key})

    return need(rest[: joint.start()], context, context.say("Which text?", "¿Qué texto?"), build)


def _verified(text: str, context: Context) -> Move | None:
    found = pattern(
        r"(?:verify|check|verifica|comprueba)(?: the| that| el| que)?(?: hash| sha-?256| sha-?512)?"
        r" ([0-9a-f]{64}|[0-9a-f]{128}) (?:of|for|is the hash of|de|es el hash de) "
    ).match(text)
    if not found:
        return None
    algorithm = "sha256" if len(found[1]) == 64 else "sha512"  # noqa: PLR2004  hex digits of 32 bytes

    def build(value: str) -> Move:
        return Call("hash", {"operation": "verify", "input": value, "hash": found[1].lower(), "algorithm": algorithm})

    return need(text[found.end() :], context, context.say("Which text?", "¿Qué texto?"), build)


def _weak(text: str, context: Context) -> Move | None:
    """Say that broken digests are not offered, instead of guessing another."""
    found = pattern(rf"{LEAD}(md5|sha-?1)(?!\w)").match(text)
    if not found:
        return None
    return Say(
        context.say(
            f"{found[1]} is broken and not offered; ask for sha256 or sha512.",
            f"{found[1]} está roto y no se ofrece; pide sha256 o sha512.",
        )
    )


def encode(text: str, context: Context) -> Move | None:
    """Read an encoding or decoding; `base64 of X` encodes."""
    token = after(rf"{_DECODE}(?: the| this| el| este)? (?:jwt|token){OF}|jwt {_DECODE}{OF}|{LEAD}jwt{OF}", text)
    if token is not None:
        return _encode_call(context, "jwt_decode", token)
    for name, form in _ENCODINGS.items():
        for direction, verb, joint in (
            ("encode", _ENCODE, "in|as|to|into|with|en|a"),
            ("decode", _DECODE, "from|as|de|desde|en"),
        ):
            rest = after(rf"{LEAD}(?:{form}[ -]{verb}|{verb}(?: from| de)? {form}){OF}", text)
            if rest is None and (head := before(rf"(?:{joint}) {form}", text)) is not None:
                rest = after(verb, head)
            if rest is not None:
                return _encode_call(context, f"{name}_{direction}", rest)
        if (name != "url" and (rest := after(rf"{LEAD}{form}(?: of| for| de):?", text)) is not None) or (
            rest := _into(form, text)
        ):
            return _encode_call(context, f"{name}_encode", rest)
    return None


def _into(form: str, text: str) -> str | None:
    """Read "convert X to base64"."""
    head = before(rf"(?:in|to|into|a|en) {form}", text)
    if head is None:
        return None
    return "it" if after(rf"{_CLITIC}|codif[ií]calo", head) is not None else after(_VERB, head)


def _encode_call(context: Context, operation: str, operand: str) -> Move:
    return need(
        operand,
        context,
        context.say("Which text should I convert?", "¿Qué texto convierto?"),
        lambda value: Call("encode_decode", {"operation": operation, "input": value}),
    )


def summarise(text: str, context: Context) -> Move | None:
    """Read a wish for a summary, keywords, word frequencies or readability."""
    for operation, form in (
        ("extract_keywords", r"(?:extract |extrae )?(?:the |las )?(?:keywords|key words|palabras clave)(?: from| in)?"),
        ("word_frequency", r"(?:word frequency|word frequencies|frecuencia de(?: las)? palabras)(?: in)?"),
        ("readability", r"(?:readability|legibilidad)"),
        ("summarize", r"(?:summari[sz]e|summary|tl;?dr|resume|resumir|resumen)"),
    ):
        rest = after(rf"{LEAD}{form}(?: of| de| del)?", text)
        if rest is not None:
            return _summary_call(context, operation, rest)
    return None


def _summary_call(context: Context, operation: str, rest: str) -> Move:
    counted = pattern(
        r"(?: (?:this|it|the following|esto|el texto))?(?: text)? (?:in|en) (\d{1,2}) (?:sentences?|frases?|oraciones)"
    ).match(rest)
    extra = {"sentences": int(counted[1])} if counted and operation == "summarize" else {}
    operand = rest[counted.end() :] if counted else rest
    operand = pattern(r"\s{0,4}(?:(?:this|the following|esto|el siguiente texto)(?: text)?\s{0,2}(?=:))?:?").sub(
        "", operand, count=1
    )

    def build(value: str) -> Move:
        return Call("summarizer", {"operation": operation, "text": value} | extra)

    return need(operand, context, context.say("Which text? Paste it.", "¿Qué texto? Pégalo."), build)

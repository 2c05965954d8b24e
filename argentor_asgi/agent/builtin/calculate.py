"""Sums: bare expressions, sums in words, and the questions about numbers that the calculator answers."""

import re
from functools import partial

from argentor_asgi.agent.builtin.moves import MISSING, Ask, Call, Context, Move, read, refers, shown
from argentor_asgi.agent.builtin.text import after, bare, pattern, whole, words
from argentor_asgi.protocol.schema import JsonValue

LONGEST = 4000
"""How many characters an expression may have here; the skill has its own cap."""

_HEAD = (
    r"(?:what(?:'s| is|s)|calculate|compute|evaluate|solve|work out|how much (?:is|are)|result of|tell me"
    r"|(?:dime )?cu[aá]nto (?:es|son|da|vale|hace)|calcular|calcula|computa|eval[uú]a|resuelve|dime"
    r"|cu[aá]l es el resultado de|qu[eé] es|what is the (?:result|value) of)(?: the| el| la)?:?"
)
_EXPLICIT = r"(?:calculate|compute|evaluate|solve|work out|calcular|calcula|computa|eval[uú]a|resuelve)(?::)?"
_FUNCTIONS = words(
    "sqrt cbrt abs ceil floor round ln log10 log sin cos tan min max mean median factorial is_prime pi e of mod"
)
_WORDS = (
    (r" ?(?:percent|per cent|por ciento) (?:of|de|del)(?!\w)", "% of"),
    (r"% ?(?:of|de|del)(?: la| el| the)?(?!\w)", "% of"),
    (r"(?<!\w)(?:percent|per cent|por ciento)(?!\w)", "%"),
    (r"(?<!\w)(?:plus|m[aá]s|added to|sumado a)(?!\w)", "+"),
    (r"(?<!\w)(?:minus|menos|less)(?!\w)", "-"),
    (r"(?<!\w)(?:times|multiplied by|multiplicado por)(?!\w)", "*"),
    (r"(?<!\w)(?:divided by|dividido (?:entre|por|para)|over|entre)(?!\w)", "/"),
    (r"(?<!\w)(?:modulo|mod|m[oó]dulo)(?!\w)", "%"),
    (r"(?<!\w)(?:to the power of|raised to(?: the)?(?: power of)?|elevado a(?: la)?)(?!\w)", "^"),
    (r" ?(?<!\w)(?:squared|al cuadrado)(?!\w)", "^2"),
    (r" ?(?<!\w)(?:cubed|al cubo)(?!\w)", "^3"),
    (r"(?<!\w)por(?!\w)", "*"),
    (r"(?<=[\d)]) ?x ?(?=[\d(])", " * "),
    (r"[\u00d7\u00b7\u22c5]", "*"),
    (r"[\u00f7\u2215]", "/"),
    ("\u2212", "-"),
)
_ROOTS = (
    (r"(?:the |la )?(?:square root|sqrt|ra[ií]z(?: cuadrada)?)(?: of| de) ", "sqrt"),
    (r"(?:the |la )?(?:cube root|ra[ií]z c[uú]bica)(?: of| de) ", "cbrt"),
    (r"(?:the |el )?(?:absolute value|valor absoluto)(?: of| de) ", "abs"),
    (r"(?:the |el )?(?:natural logarithm|logaritmo natural|ln)(?: of| de) ", "ln"),
)
_NUMBERS = {
    word: str(number)
    for number, names in enumerate(
        (
            "zero,cero", "one,uno", "two,dos", "three,tres", "four,cuatro", "five,cinco", "six,seis", "seven,siete",
            "eight,ocho", "nine,nueve", "ten,diez", "eleven,once", "twelve,doce", "thirteen,trece", "fourteen,catorce",
            "fifteen,quince", "sixteen,dieciseis", "seventeen,diecisiete", "eighteen,dieciocho", "nineteen,diecinueve",
            "twenty,veinte",
        )
    )
    for word in names.split(",")
}  # fmt: skip
_TOKEN = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+|[^\W\d]\w*|\*\*|[-+*/%^(),!]|\s+"  # noqa: S105  a pattern
_DIGITS = (
    r"(?:to|with|con|a|hasta) (\d{1,2}|\w{3,6}) (?:(?:significant )?digits?|decimals?|decimal places|places"
    r"|decimales|d[ií]gitos|cifras)"
)
_LISTS = {
    "mean": r"(?:mean|average|media|promedio)",
    "median": r"(?:median|mediana)",
    "min": r"(?:min|minimum|smallest|lowest|m[ií]nimo|menor)",
    "max": r"(?:max|maximum|largest|biggest|highest|m[aá]ximo|mayor)",
    "sum": r"(?:sum|total|suma)",
}
_VERBS = (
    (r"(?:add|sum|suma|s[uú]male|a[ñn]ade)", r",? (?:and|to|y|a|con) ", "{0} + {1}"),
    (r"(?:multiply|multiplica|multipl[ií]calo)", r" (?:by|times|with|por) ", "{0} * {1}"),
    (r"(?:divide|div[ií]delo)", r" (?:by|into|entre|por) ", "{0} / {1}"),
    (r"(?:subtract|resta|r[eé]stale)", r" (?:from|de|a) ", "{1} - {0}"),
)
_SINGLES = (
    (r"(?:double|duplica|dobla)", "{0} * 2"),
    (r"(?:halve|half of|la mitad de)", "{0} / 2"),
    (r"(?:square|eleva al cuadrado)", "({0})^2"),
    (r"(?:cube|eleva al cubo)", "({0})^3"),
    (r"negate", "-({0})"),
)
_CLITICS = (
    (r"(?:s[uú]male|add|suma) (.{1,60}?)(?: to it| a eso)?", "{it} + {0}"),
    (r"r[eé]stale (.{1,60})", "{it} - {0}"),
    (r"multipl[ií]calo por (.{1,60})", "{it} * {0}"),
    (r"div[ií]delo (?:entre|por) (.{1,60})", "{it} / {0}"),
)


def calculate(text: str, context: Context) -> Move | None:
    """Read a question about numbers, a sum in words or a bare expression; None for what is neither."""
    if len(text) > LONGEST:
        return None
    rest = after(_HEAD, text)
    body = (text if rest is None else rest).strip().rstrip("?¿= ").removesuffix(".").strip()
    if move := _question(body, context) or _of_a_list(body, context) or _verb(body, context):
        return move
    if expression := _expression(body, context, loose=rest is not None):
        return _evaluate(expression)
    return _missing(text, context)


def _evaluate(expression: str) -> Call:
    return Call("calculator", {"operation": "evaluate", "expression": expression})


def _missing(text: str, context: Context) -> Ask | None:
    """Ask for the expression when there is only the verb, or the verb and a result that is not there."""
    rest = after(_EXPLICIT, text)
    if rest is None or (rest.strip(" .?!:") and not refers(rest)):
        return None

    def fill(answer: str) -> Move:
        return _evaluate(_expression(answer, context, loose=True) or answer.strip())

    return Ask(context.say("What should I calculate?", "¿Qué debo calcular?"), fill)


def _question(body: str, context: Context) -> Call | None:
    """Read questions about one whole number: prime or not, and its factorial."""
    prime = whole(
        r"(?:is|es) (?:el )?(?:n[uú]mero )?(.{1,40}?) (?:an? |un )?(?:n[uú]mero )?(?:prime|primo)(?: number)?", body
    )
    prime = prime or whole(r"(?:es primo|is prime)(?: el)? (.{1,40}?)", body)
    if prime and (number := _whole_number(prime[1], context)) is not None:
        return Call("calculator", {"operation": "is_prime", "n": number})
    product = whole(r"(?:the |el )?factorial (?:of |de )?(.{1,40}?)", body) or whole(
        r"(\w{1,20}) ?(?:!|factorial)", body
    )
    if product and (number := _whole_number(product[1], context)) is not None:
        return Call("calculator", {"operation": "factorial", "n": number})
    return None


def _whole_number(text: str, context: Context) -> int | None:
    value = read(text, context)
    value = _NUMBERS.get(bare(value), value) if value else ""
    return int(value) if pattern(r"-?\d{1,40}").fullmatch(value) else None


def _of_a_list(body: str, context: Context) -> Call | None:
    """Read "mean of 1, 2 and 3" and its like; a sum becomes an expression."""
    for operation, word in _LISTS.items():
        rest = after(
            rf"(?:the |el |la )?{word}(?: value)?(?: of| de|:)?(?: the| los)?(?: numbers| n[uú]meros)?:?", body
        )
        values = _numbers(rest, context) if rest else None
        if values and operation == "sum":
            return _evaluate(" + ".join(shown(value) for value in values))
        if values:
            return Call("calculator", {"operation": operation, "values": values})
    return None


def _numbers(text: str, context: Context) -> list[JsonValue] | None:
    """Read two or more numbers apart by commas, blanks, "and" or "y"; None when anything else is there."""
    if refers(text) and isinstance(context.previous, list):
        return context.previous if all(isinstance(item, int | float) for item in context.previous) else None
    separated = pattern(r"(?<!\w)(?:and|y|e)(?!\w)|[,\[\]]").sub(" ", text)
    found = separated.split()
    if len(found) < 2 or not all(pattern(r"-?\d{1,30}(?:\.\d{1,30})?").fullmatch(word) for word in found):  # noqa: PLR2004  a list has two
        return None
    return [float(word) if "." in word else int(word) for word in found]


def _verb(body: str, context: Context) -> Call | None:
    """Read "add 2 and 3", "double it", "réstale 4"."""
    for form, template in _CLITICS:
        if (found := whole(form, body)) and context.previous is not MISSING and (one := _operand(found[1], context)):
            return _evaluate(template.format(one, it=_operand("it", context)))
    for verb, joint, template in _VERBS:
        rest = after(verb, body)
        parts = pattern(joint).split(rest, maxsplit=1) if rest else []
        operands = [_operand(part, context) for part in parts]
        if len(operands) == 2 and all(operands):  # noqa: PLR2004  both sides
            return _evaluate(template.format(*operands))
    for verb, template in _SINGLES:
        if (rest := after(verb, body)) and (one := _operand(rest, context)):
            return _evaluate(template.format(one))
    return None


def _operand(text: str, context: Context) -> str | None:
    return _expression(text.strip(), context, loose=True)


def _expression(text: str, context: Context, *, loose: bool) -> str | None:
    """Return the calculator's form of `text`, None when it is no sum.

    `loose`: a lone number counts. A date (2026-11-22) is none, although it could be read as one.
    """
    if not text or pattern(r"\d{4}-\d{2}-\d{2}").search(text) or _names_nothing(text, context):
        return None
    digits = pattern(rf",? ?{_DIGITS}$").search(text)
    body = _in_symbols(text[: digits.start()] if digits else text, context)
    tokens = pattern(_TOKEN).findall(body)
    if "".join(tokens) != body or not _is_sum([token.strip().lower() for token in tokens], loose=loose):
        return None
    body = body.strip()
    places = _NUMBERS.get(digits[1].lower(), digits[1]) if digits else ""
    return f"round({body}, {places})" if places.isdigit() else None if digits else body


def _names_nothing(text: str, context: Context) -> bool:
    return context.previous is MISSING and refers(text)


def _is_sum(tokens: list[str], *, loose: bool) -> bool:
    """Tell whether the tokens could be a sum: known words only, a number, and something done with it."""
    named = [token for token in tokens if token[:1].isalpha()]
    numbers = [token for token in tokens if token[:1].isdigit() or token[:1] == "." or token in {"pi", "e"}]
    operated = any(token in {"+", "-", "*", "/", "%", "^", "**", "!"} for token in tokens)
    called = any(word not in {"pi", "e"} for word in named)
    return all(word in _FUNCTIONS for word in named) and bool(numbers) and (operated or called or loose)


def _in_symbols(text: str, context: Context) -> str:
    """Put symbols in the place of words, in both languages, and the previous result in the place of "it"."""
    text = _with_previous(text, context)
    for name, symbol in _WORDS:
        text = pattern(name).sub(symbol, text)
    text = pattern(r"[^\W\d_]{3,12}").sub(lambda found: _NUMBERS.get(bare(found[0]), found[0]), text)
    for name, function in _ROOTS:
        operand = r"(?:\((?P<inner>[^()]{1,200})\)|(?P<number>\d{1,30}(?:\.\d{1,30})?))"
        text = pattern(rf"(?<!\w){name}{operand}").sub(partial(_applied, function), text)
    text = pattern(r"(?<![\d.,(])(\d{1,3}(?:,\d{3})+)(?![\d,])").sub(_ungrouped, text)
    if context.lang == "es" and "(" not in text:
        text = pattern(r"(?<=\d),(?=\d)").sub(".", text)
    return text


def _applied(function: str, found: re.Match[str]) -> str:
    return f"{function}({found['inner'] or found['number']})"


def _ungrouped(found: re.Match[str]) -> str:
    return found[0].replace(",", "")


def _with_previous(text: str, context: Context) -> str:
    if context.previous is MISSING:
        return text
    value = shown(context.previous)
    value = f"({value})" if value.startswith("-") else value
    names = r"(?<!\w)(?:the result|that result|the answer|it|that|lo anterior|el resultado|la respuesta|eso)(?!\w)"
    return pattern(names).sub(lambda _: value, text) if len(value) < LONGEST else text

"""Calls written out: `/tool name {json}`, `name(key=value, ...)`, `use name with {...}`; any skill on offer."""

from collections.abc import Iterator, Sequence

from argentor_asgi.agent.builtin.moves import Call, Context, Move, Say
from argentor_asgi.agent.builtin.nearest import call_form, nearest
from argentor_asgi.agent.builtin.text import pattern, spans
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, JsonValue, decode_value

_NAME = r"[A-Za-z_][\w.:-]{0,127}"


def direct(text: str, context: Context) -> Move | None:
    """Read a call that names its skill; what names none that is on offer is answered with the nearest ones."""
    if found := pattern(rf"/tool(?:\s+({_NAME}))?(.*)").fullmatch(text):
        return _slash(found[1], found[2].strip(), context)
    if found := pattern(rf"(?:use|usa|call|llama a|run|ejecuta) `?({_NAME})`? ?(?:with|con|:)?\s*(\{{.*\}})").fullmatch(
        text
    ):
        return _call(found[1], found[2], context)
    if found := pattern(rf"({_NAME})\((.*)\)").fullmatch(text):
        return _function(found[1], found[2].strip(), context)
    return None


def _slash(name: str | None, rest: str, context: Context) -> Move:
    if name is None:
        return Say(context.say("Write `/tool name {…}`.", "Escribe `/tool nombre {…}`."))
    if rest and not rest.startswith(("{", "(")):
        return _call_with(name, _pairs(rest, " "), context)
    return _call(name, rest.removeprefix("(").removesuffix(")") if rest.startswith("(") else rest, context)


def _function(name: str, inside: str, context: Context) -> Move | None:
    """Read `name(...)`; a name that is not on offer counts only when its arguments are named (`sqrt(2)` is a sum)."""
    named = pattern(r"[A-Za-z_]\w{0,63}\s?=").match(inside) is not None
    if name not in context.tools:
        return _unknown(name, context) if named else None
    if inside.startswith("{") or not inside:
        return _call(name, inside, context)
    if named:
        return _call_with(name, _pairs(inside, ","), context)
    return _positional(name, inside, context)


def _positional(name: str, inside: str, context: Context) -> Move:
    required = context.tools[name].parameters.get("required")
    if isinstance(required, list) and len(required) == 1:
        return Call(name, {str(required[0]): _value(inside)})
    return _explain(name, context)


def _call(name: str, text: str, context: Context) -> Move:
    if name not in context.tools:
        return _unknown(name, context)
    try:
        arguments = decode_value(text.encode("utf-8", "replace")) if text.strip() else {}
    except GatewayError as error:
        reason = error.message.removeprefix("The body is not valid JSON: ").rstrip(".")
        wrong = context.say("The arguments are not valid JSON", "Los argumentos no son JSON válido")
        return Say(f"{wrong} ({reason}). {_explain(name, context).text}")
    return _call_with(name, arguments, context)


def _call_with(name: str, arguments: JsonValue, context: Context) -> Move:
    if name not in context.tools:
        return _unknown(name, context)
    if not isinstance(arguments, dict):
        return _explain(name, context)
    return Call(name, arguments)


def _explain(name: str, context: Context) -> Say:
    form = call_form(context.tools[name])
    return Say(context.say(f"`{name}` is called like this: `{form}`.", f"`{name}` se llama así: `{form}`."))


def _unknown(name: str, context: Context) -> Say:
    """Name the nearest skills, or say that there are none."""
    close = ", ".join(f"`{found}`" for found in nearest(name, context.tools))
    if not close:
        return Say(
            context.say(
                f"There is no skill `{name}`; no skill is on offer.",
                f"No existe la habilidad `{name}`; no hay ninguna disponible.",
            )
        )
    return Say(
        context.say(
            f"There is no skill `{name}`. The nearest are: {close}. `skills` lists them all.",
            f"No existe la habilidad `{name}`. Las más parecidas: {close}. `habilidades` las muestra todas.",
        )
    )


def _pairs(text: str, separator: str) -> JsonObject | None:
    """Read `key=value` pairs, the values JSON or bare text; None when a piece is no pair."""
    arguments: JsonObject = {}
    for piece in _split(text, separator):
        key, equals, value = piece.partition("=")
        if not equals or not key.strip().isidentifier():
            return None
        arguments[key.strip()] = _value(value.strip())
    return arguments


def _split(text: str, separator: str) -> Iterator[str]:
    """Split at a separator that is neither quoted nor in brackets."""
    at = 0
    for start, end in _separators(text, separator):
        if text[at:start].strip():
            yield text[at:start]
        at = end
    if text[at:].strip():
        yield text[at:]


def _separators(text: str, separator: str) -> Sequence[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    at = 0
    for start, end in (*spans(text), (len(text), len(text))):
        while (hit := text.find(separator, at, start)) >= 0:
            found.append((hit, hit + 1))
            at = hit + 1
        at = end
    return found


def _value(text: str) -> JsonValue:
    """Read one value: JSON, else text in single quotes, else the text as it stands."""
    try:
        return decode_value(text.encode("utf-8", "replace"))
    except GatewayError:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text

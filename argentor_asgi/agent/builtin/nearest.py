"""Finds skills by words: the nearest names to a wrong one, and the skill that a sentence seems to be about."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from argentor_asgi.agent.builtin.moves import words_of
from argentor_asgi.agent.builtin.text import words
from argentor_asgi.protocol.llm import ToolSpec
from argentor_asgi.protocol.schema import JsonObject, JsonValue, encode

NEAREST = 3
"""How many names are offered for a wrong one."""
ENOUGH = 2.0
"""The score from which a skill is offered for a sentence that no matcher knew."""
SEARCHED = 200
"""How many skills are looked at."""

_NAME_WEIGHT = 3
_STOP = words(
    "a an the of to in on for and or is are was be it this that me my you your i we do does can could would what who "
    "how why when where which with from by at as not no please tell show give make get set say use using about all any "
    "some have has want need un una el la los las de del en y o es son por para con que mi tu me se lo dime dame haz "
    "qué cómo quién cuál text value values data string name list write read one two more into"
)
_SPANISH = {
    "calculadora": "calculator", "calculo": "calculator", "fecha": "datetime", "hora": "datetime",
    "memoria": "memory", "texto": "text", "resumen": "summarizer", "resumir": "summarizer", "comparar": "diff",
    "diferencia": "diff", "codificar": "encode", "decodificar": "decode", "validar": "validator",
    "buscar": "search", "archivo": "file", "web": "web", "clima": "weather", "tiempo": "weather",
}  # fmt: skip


def nearest(name: str, tools: Mapping[str, ToolSpec]) -> Sequence[str]:
    """Return up to `NEAREST` skill names, the most similar first; fewer only when fewer are on offer."""
    from difflib import SequenceMatcher  # noqa: PLC0415  rare, and not free to import

    wanted = name[:64].lower()
    among = sorted(tools)[:SEARCHED]
    ratio = {found: SequenceMatcher(None, wanted, found[:64].lower()).ratio() for found in among}
    return sorted(among, key=lambda found: (-ratio[found], found))[:NEAREST]


def suggest(text: str, tools: Mapping[str, ToolSpec]) -> ToolSpec | None:
    """Return the skill whose name and description fit `text` best (BM25), None when none fits well enough."""
    asked = {_SPANISH.get(word, word) for word in words_of(text) if word not in _STOP}
    specs = [tools[name] for name in sorted(tools)[:SEARCHED]]
    bags = [_bag(spec) for spec in specs]
    ranked = sorted(zip(_scores(asked, bags), range(len(specs)), strict=True), key=lambda pair: (-pair[0], pair[1]))
    return specs[ranked[0][1]] if ranked and ranked[0][0] >= ENOUGH else None


def _bag(spec: ToolSpec) -> Counter[str]:
    """Count a skill's words; a word of its name counts several times."""
    bag = Counter(_stem(word) for word in words_of(spec.description) if word not in _STOP)
    for word in words_of(spec.name):
        if word not in _STOP:
            bag[_stem(word)] += _NAME_WEIGHT
    return bag


def _scores(asked: Iterable[str], bags: Sequence[Counter[str]]) -> Sequence[float]:
    """Return the BM25 score of each bag (k1 1.2, b 0.75); one weak word of a description alone stays low."""
    stems = sorted({_stem(word) for word in asked})
    mean = max(1.0, sum(bag.total() for bag in bags) / max(1, len(bags)))
    rarity = {stem: _rarity(sum(stem in bag for bag in bags), len(bags)) for stem in stems}
    return [sum(rarity[stem] * _saturate(bag[stem], bag.total() / mean) for stem in stems) for bag in bags]


def _rarity(holders: int, bags: int) -> float:
    return math.log(1 + (bags - holders + 0.5) / (holders + 0.5))


def _saturate(count: int, length: float) -> float:
    return count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length))


def _stem(word: str) -> str:
    for ending in ("ing", "er", "or", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 3:  # noqa: PLR2004  a stem keeps four letters
            return word.removesuffix(ending)
    return word


def call_form(spec: ToolSpec) -> str:
    """Return how a skill is called, `name(key=value, …)`, with an example value for each required argument."""
    properties = spec.parameters.get("properties")
    known: JsonObject = properties if isinstance(properties, dict) else {}
    required = spec.parameters.get("required")
    names = [str(name) for name in required] if isinstance(required, list) else []
    shown = [f"{name}={encode(_example(known.get(name))).decode()}" for name in names]
    rest = "…" if len(known) > len(names) else ""
    return f"{spec.name}({', '.join((*shown, rest) if rest else shown)})"


def _example(schema: JsonValue) -> JsonValue:
    """Return a value that the schema of one argument seems to allow."""
    if not isinstance(schema, dict):
        return "…"
    choices = schema.get("enum") or schema.get("examples")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type")
    examples: JsonObject = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return examples.get(kind, "…") if isinstance(kind, str) else "…"

"""Orders to a model in texts that are not its operator's: phrases known from attacks, in English and Spanish.

The patterns are for folded texts (see `views`), so that disguises do not help. Between two words stands what may stand
between words, at most `GAP` of it, also as JSON escapes it; every repeat is bounded, and so is the work for each place
of the text. Signatures find what was seen before and no more: they are one layer of several.
"""

import re
from functools import lru_cache

from argentor_asgi.agent.guardrails.views import Found, View

GAP = 6
"""How many characters may stand between two words of a phrase; what JSON escapes counts as one."""

_WHAT = "a phrase that gives the model orders"
_MARK = "[REDACTED]"

_SPACE = rf"(?:\\{{1,4}}[nrt]|[\W_]){{1,{GAP}}}"
_BEFORE = r"(?:(?<![a-z0-9])|(?<=\\n)|(?<=\\r)|(?<=\\t))"
_AFTER = r"(?![a-z0-9])"

_PHRASES = (
    # what was said before shall not count
    "ignore|disregard|forget|override|bypass|neglect|discard|do not follow|don t follow|dont follow|stop following"
    " + ?to|about|all|any|every|each|of|the|these|those|this|that|and|or|prior|previous|earlier x4"
    " + previous|prior|above|earlier|preceding|foregoing|original|initial|system|developer|your|all|safety|any"
    " + ?of|the|your|system|safety|own|initial|previous|prior|and|security|content x3"
    " + instructions|instruction|prompts|prompt|rules|directives|guidelines|programming|training|safeguards|policies",
    "ignore|disregard|forget + everything|anything|all|what + ?that|you|i|we|was|were|is|have|been x3"
    " + above|before|previously|told|said|instructed",
    "ignore|disregard|forget + the|all + instructions|rules|prompt|text|messages + above|before this|you were given|given",
    "new + system|developer + instructions|instruction|prompt|directive",
    # what the operator said shall be told
    "reveal|show|print|repeat|output|display|tell|give|leak|dump|disclose|expose|recite|write|share|send|what is|what s|what are"
    " + ?me|us|out|to|exactly|verbatim|the|your|all|of|full|entire|complete|exact|whole|hidden|secret|initial|original|current x6"
    " + system|developer|hidden|secret + prompt|prompts|preprompt",
    "reveal|show|print|repeat|output|display|tell|give|leak|dump|disclose|expose|recite|write|share|send|what is|what s|what are"
    " + ?me|us|out|to|exactly|verbatim|all|of|full x4 + your"
    " + ?full|entire|complete|exact|whole|own|current|very x2"
    " + initial|original|hidden|secret|system|internal|first|confidential + instructions|rules|guidelines|prompt|directives|message",
    # the model shall be another one
    "you are + now|no longer + ?in|a|an|the|my|acting|as|free|from x4"
    " + dan|jailbroken|unrestricted|unfiltered|uncensored|evil|bound|restricted|limited|developer mode|god mode|free from|free of",
    "from now on + you are + ?now|a|an|the x2 + dan|unrestricted|unfiltered|uncensored|evil|free|not bound|no longer",
    "you are now + a|an|the|my + ?new|different|helpful|malicious|rogue|evil|hacking x2"
    " + ai|assistant|model|chatbot|bot|llm|hacker|attacker|agent",
    "pretend|act|behave|respond|answer + ?that|as|though|if|like x3 + you"
    " + are|were|have|had + ?an|a x1 + no|not|unrestricted|unfiltered|uncensored|without"
    " + ?any|bound|by|content|safety|longer|ethical x3 + rules|restrictions|limits|limitations|filters|guidelines|ai|restricted",
    "enable|enter|activate|switch to|turn on|go into + ?the|your x1 + developer|dan|jailbreak|god|sudo|unrestricted|debug + mode",
    "do anything now",
    # the same in Spanish
    "ignora|ignore|ignorad|ignoren|olvida|olvide|olviden|descarta|desobedece|desatiende|omite|no sigas|no obedezcas"
    "|no hagas caso de|no hagas caso a|deja de seguir"
    " + ?de|por|completo|todas|todos|las|los|la|el|tus|sus|cualquier|estas|esas|anteriores|previas x5"
    " + instrucciones|instruccion|indicaciones|ordenes|reglas|directrices|normas|prompt|prompts"
    " + ?que|te|se|han|dado|dieron|de|del|tu|y|reglas|normas x4"
    " + anteriores|anterior|previas|previa|precedentes|arriba|sistema|iniciales|originales|seguridad",
    "ignora|olvida|descarta|desobedece|desatiende|no sigas + ?todas|todos x1 + tus"
    " + ?anteriores|propias|primeras x1 + instrucciones|reglas|directrices|normas",
    "ignora|olvida|descarta + todo + lo + anterior|dicho|previo|que te han dicho|que te dijeron",
    "muestra|muestrame|revela|revelame|dime|ensename|imprime|repite|escribe|dame|comparte|cual es|cuales son"
    " + ?el|la|los|las|tu|tus|su|texto|contenido|completo|de|del|exacto|palabra|por x6"
    " + prompt|mensaje|instrucciones|indicaciones + ?de|del|tu x2 + sistema|ocultas|secretas|iniciales|internas|ocultos|secreto",
    "ahora + eres|seras|actuas como + ?un|una|el|la|ia|asistente|modelo|bot x4"
    " + dan|sin restricciones|sin filtros|sin limites|sin reglas|sin censura|libre de",
    "actua|responde|comportate + como + si + no + tuvieras|tuvieses|hubiera"
    " + ?ninguna|ningun x1 + restricciones|restriccion|reglas|limites|filtros|filtro|normas",
    "activa|entra en|habilita + ?el x1 + modo + desarrollador|dan|dios|jailbreak|sin restricciones",
)

_MARKERS = (
    r"<\|(?:im_start|im_end|im_sep|system|user|assistant|end|endoftext|eot_id|start_header_id|end_header_id"
    r"|begin_of_text|end_of_text|endofprompt|channel|message|return)\|>",
    r"\[/?inst\]",
    r"<</?sys>>",
    r"</?(?:start|end)_of_turn>",
    r"<\|?/?(?:system|developer)(?:[ _-]?(?:prompt|message|instructions?|override))?\|?>",
    r"\[(?:system|developer)(?:[ _-](?:prompt|message|instructions?|override))?\]",
)
_ROLE = (
    r'(?:^|(?<=\\n)|(?<=\\r)|(?<="))[ \t>*#_-]{0,8}(?:###? ?)?(?:system|developer|assistant|sistema)'
    r"(?: (?:prompt|message|note|instructions?|override))?[ *_]{0,3}:"
)


class Orders:
    """Finds phrases that give a model orders; in what a skill returns also a role at the start of a line."""

    def __init__(self, *, is_result: bool) -> None:
        """Make the pattern ready."""
        self._pattern = _pattern(is_result)

    def look(self, view: View) -> tuple[list[Found], int]:
        """Return what is found; the text is taken to be whole, as messages and results are."""
        matches = self._pattern.finditer(view.folded, view.folded_at(view.start))
        return [Found(view.begin(m.start()), view.end(m.end()), _WHAT, _MARK) for m in matches], len(view.text)


@lru_cache(maxsize=2)
def _pattern(is_result: bool) -> re.Pattern[str]:
    phrases = "|".join(map(_phrase, _PHRASES))
    markers = "|".join((*_MARKERS, _ROLE) if is_result else _MARKERS)
    return re.compile(rf"{_BEFORE}(?:{phrases}){_AFTER}|{markers}", re.MULTILINE)


def _phrase(written: str) -> str:
    """Return the pattern of a phrase: its parts are one of several words; `?` and `x4` stand for at most four of them."""
    pattern = ""
    for part in written.split(" + "):
        if part.startswith("?"):
            words, _, count = part[1:].rpartition(" x")
            pattern += rf"(?:(?:{_words(words)}){_SPACE}){{0,{count}}}"
        else:
            pattern += rf"(?:{_words(part)}){_SPACE}"
    return pattern.removesuffix(_SPACE)


def _words(words: str) -> str:
    return "|".join(word.replace(" ", _SPACE) for word in words.split("|"))

"""What is said without any skill: who this is, what it can do, greetings, and the honest answer to everything else."""

from collections.abc import Sequence

from argentor_asgi.agent.builtin.moves import Call, Context, Move, Say
from argentor_asgi.agent.builtin.nearest import call_form, suggest
from argentor_asgi.agent.builtin.text import whole

MODEL = "argentor-builtin/1"
"""What this planner is called."""

SHOWN = 3
"""How many examples an answer shows."""

_CANCEL = r"(?:cancel|cancela(?:r|lo)?|never ?mind|forget it|stop|olv[ií]dalo|d[eé]jalo|abort)(?: (?:it|that|eso))?"
_EXAMPLES = (
    ("calculator", "what is 17*23?", "¿cuánto es 17*23?"),
    ("datetime", "what time is it in Madrid?", "¿qué hora es en Madrid?"),
    ("hash", "sha256 of hello", "sha256 de hola"),
    ("memory_store", "remember that my dog is called Rex", "recuerda que mi perro se llama Rex"),
    ("text_transform", "uppercase hello", "pasa hola a mayúsculas"),
    ("uuid_generator", "generate 3 uuids", "genera 3 uuids"),
    ("skills_help", "skills", "habilidades"),
)
_HELLO = (
    r"(?:hello|hi|hey|good (?:morning|afternoon|evening)|greetings|hola|buenas|buenos d[ií]as"
    r"|buenas (?:tardes|noches))(?:,? (?:there|again|argentor|all|amigo|a todos))?"
)
_THANKS = r"(?:thanks?(?: you)?(?: (?:so|very) much| a lot)?|thx|cheers|(?:muchas |mil )?gracias)"
_BYE = r"(?:bye(?:[ -]bye)?|goodbye|see you(?: later)?|adi[oó]s|hasta (?:luego|pronto|ma[nñ]ana)|chao)"
_WHO = (
    r"(?:who|what) are you|what(?:'s| is) your name|are you (?:an? )?(?:ai|bot|human|robot|llm|chatgpt"
    r"|claude|real|language model)"
    r"|which model (?:are you|is this)|what model (?:are you|is this)|(?:t[uú] )?(?:qui[eé]n|qu[eé]) eres(?: t[uú])?"
    r"|c[oó]mo te llamas|eres (?:una? )?(?:ia|bot|humano|robot|inteligencia artificial)|qu[eé] modelo eres"
)
_HELP = (
    r"(?:help|/help|help me|what can you do(?: for me)?|ayuda|ayuda ?me|ay[uú]dame|/ayuda"
    r"|qu[eé] (?:puedes|sabes) hacer|\?)"
)
_SKILLS = (
    r"(?:/?skills|/?tools|(?:list|show)(?: me)?(?: all)?(?: the| your| my)?(?: available)? (?:skills|tools)"
    r"|(?:what|which) (?:skills|tools)(?: do you have| are there| can you use)?"
    r"|(?:lista(?: de)?|muestra|dime)?(?: ?las| ?tus)? ?(?:habilidades|herramientas)|(?:qu[eé]"
    r"|cu[aá]les) (?:habilidades|herramientas)(?: tienes| hay)?)"
)
_ABOUT_SKILL = (
    r"(?:help(?: with| on| for)?|describe(?: the)?(?: skill| tool)?|how (?:do i|to|can i) (?:use"
    r"|call)(?: the)?(?: skill| tool)?"
    r"|ayuda (?:con|de|sobre)|describe(?: la)?(?: habilidad| herramienta)?|c[oó]mo (?:uso|se usa"
    r"|llamo a)) `?([\w.:-]{1,128})`?"
)
_ASKED = (
    r"what did i (?:just )?(?:ask|say|write|type)(?: you)?(?: before| last| just now)?"
    r"|what was my (?:last |previous )?(?:question|message)"
    r"|qu[eé] (?:te )?(?:pregunt[eé]|dije|ped[ií]|escrib[ií])(?: antes)?"
    r"|cu[aá]l fue mi (?:[uú]ltima )?(?:pregunta|mensaje)"
)


def cancels(text: str) -> bool:
    """Tell whether the message drops an open question."""
    return whole(_CANCEL, text) is not None


def talk(text: str, context: Context) -> Move | None:
    """Answer fixed phrases; None for anything with more in it."""
    if len(text) > 200:  # noqa: PLR2004  every phrase is short
        return None
    if found := whole(_ABOUT_SKILL, text):
        return _about(found[1], context)
    for form, answer in (
        (_CANCEL, _nothing_open),
        (_HELP, introduction),
        (_WHO, who),
        (_HELLO, _hello),
        (_THANKS, _welcome),
        (_BYE, _bye),
        (_ASKED, _asked),
    ):
        if whole(form, text):
            return Say(answer(context))
    return _skills(context) if whole(_SKILLS, text) else None


def _about(name: str, context: Context) -> Move | None:
    if name not in context.tools:
        return None
    if "skills_help" in context.tools:
        return Call("skills_help", {"name": name})
    return Say(f"{context.tools[name].description} `{call_form(context.tools[name])}`")


def _skills(context: Context) -> Move:
    if "skills_help" in context.tools:
        return Call("skills_help", {})
    names = ", ".join(f"`{name}`" for name in sorted(context.tools)) or "-"
    return Say(context.say(f"The skills on offer: {names}.", f"Las habilidades disponibles: {names}."))


def who(context: Context) -> str:
    """Say what this is, and what it is not."""
    return context.say(
        f"I am {MODEL}, the embedded offline planner of this gateway: rules that pick skills, no language model. "
        "I do not chat; I run skills for requests that I recognise.",
        f"Soy {MODEL}, el planificador integrado y sin conexión de esta pasarela: reglas que eligen habilidades, sin "
        "modelo de lenguaje. No converso; ejecuto habilidades para peticiones que reconozco.",
    )


def introduction(context: Context) -> str:
    """Say what this is and what works."""
    return f"{who(context)}\n{examples(context)}"


def _hello(context: Context) -> str:
    return f"{context.say('Hello.', 'Hola.')} {who(context)}\n{examples(context)}"


def _welcome(context: Context) -> str:
    return f"{context.say('You are welcome.', 'De nada.')} {examples(context)}"


def _bye(context: Context) -> str:
    return f"{context.say('Goodbye.', 'Adiós.')} {examples(context)}"


def _nothing_open(context: Context) -> str:
    return context.say("There is no open question to cancel.", "No hay ninguna pregunta abierta que cancelar.")


def _asked(context: Context) -> str:
    if not context.asked:
        return context.say("You have not asked anything before this.", "No has preguntado nada antes de esto.")
    last = context.asked[0]
    last = last if len(last) <= 1000 else last[:1000] + "…"  # noqa: PLR2004  a reminder, not a copy
    return context.say(f"You asked: {last}", f"Preguntaste: {last}")


def dropped(context: Context) -> str:
    """Confirm that an open question is dropped."""
    return context.say("Dropped. What next?", "Cancelado. ¿Qué más?")


def examples(context: Context) -> str:
    """Show requests that work with the skills on offer."""
    fitting = [context.say(english, spanish) for name, english, spanish in _EXAMPLES if name in context.tools]
    shown = fitting[:SHOWN] or _forms(context)
    if not shown:
        return context.say("No skill is on offer here.", "Aquí no hay ninguna habilidad disponible.")
    quoted = " · ".join(f"`{example}`" for example in shown)
    return context.say(f"Try: {quoted}. `skills` lists all.", f"Prueba: {quoted}. `habilidades` las muestra todas.")


def _forms(context: Context) -> Sequence[str]:
    return [call_form(context.tools[name]) for name in sorted(context.tools)[:SHOWN]]


def otherwise(text: str, context: Context) -> Move:
    """Offer the skill that the words are nearest to, else give the help answer."""
    if spec := suggest(text, context.tools):
        form = call_form(spec)
        about = spec.description.partition(". ")[0].rstrip(".")[:160]
        return Say(
            context.say(
                f"I am {MODEL}, a planner without a language model, and did not recognise that. Do you mean the skill "
                f"`{spec.name}` ({about})? Call it like `{form}`.",
                f"Soy {MODEL}, un planificador sin modelo de lenguaje, y no he reconocido eso. ¿Te refieres a la "
                f"habilidad `{spec.name}` ({about})? Llámala así: `{form}`.",
            )
        )
    regret = context.say("I did not recognise that request.", "No he reconocido esa petición.")
    return Say(f"{who(context)} {regret}\n{examples(context)}")

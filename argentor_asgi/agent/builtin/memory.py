"""What the user wants kept, asked for or forgotten."""

from collections.abc import Sequence

from argentor_asgi.agent.builtin.moves import Call, Context, Move, Say, need, words_of
from argentor_asgi.agent.builtin.text import after, bare, before, pattern, whole, words
from argentor_asgi.protocol.schema import JsonValue

LISTED = 10
"""How many notes are told at once."""

_STORE = (
    r"(?:please )?(?:remember|memori[sz]e|don't forget|do not forget|keep in mind|take a note"
    r"|note(?= that|:)|store(?= that|:))"
    r"(?: that|:)?|(?:recuerda(?:me)?|acu[eé]rdate(?: de)?|memoriza|apunta|anota|no olvides"
    r"|ten en cuenta)(?: de)?(?: que|:)?"
)
_FORGET = (
    r"(?:forget|olvida|olv[ií]date|borra(?= el recuerdo| la memoria))(?: about| that| de| que| lo de"
    r"| el recuerdo(?: de)?)?"
)
_LIST = (
    r"(?:list|show|lista|muestra|dime)(?: me)?(?: all)?(?: of)?(?: my| the| your| mis| los| las| tus)?"
    r" (?:memories|notes|recuerdos|memorias|notas)|(?:my )?memories|(?:mis )?recuerdos"
    r"|what do you (?:remember|know)(?: about me| of me)?|(?:de )?qu[eé] (?:recuerdas|sabes)(?: de m[ií]| sobre m[ií])?"
)
_ABOUT = (
    r"(?:what (?:do|did) (?:you (?:know|remember)|i (?:tell|say to|told) you)|do you (?:remember|know)"
    r"|tell me what you know)"
    r"(?: about| of)?|what have i told you about|(?:qu[eé] (?:sabes|recuerdas|te (?:dije|cont[eé]"
    r"|he (?:dicho|contado))))"
    r"(?: de| del| sobre| acerca de)?|(?:te acuerdas|recuerdas)(?: de| del)?|search (?:my )?(?:memory"
    r"|memories|notes)(?: for)?"
    r"|busca en (?:mis|tus) (?:recuerdos|notas)"
)
_MINE = (
    r"(?:what|who|where|when|which|how old|how many|how)(?:'s|s|'re)?(?: \w{1,30}){0,5}? my(?!\w)"
    r"|(?:where do i (?:live|work)|when was i born|how old am i|what do i (?:like|love|prefer|do for a living))(?!\w)"
    r"|(?:qu[eé]|cu[aá]l|qui[eé]n|c[oó]mo|d[oó]nde|cu[aá]ndo|cu[aá]nt[oa]s)(?: [\w]{1,30}){0,5}? mis?(?!\w)"
    r"|(?:c[oó]mo me (?:llamo|llaman)|d[oó]nde (?:vivo|trabajo|nac[ií])|qu[eé] me gusta|cu[aá]ndo (?:nac[ií]|cumplo))"
)
_STOP = words(
    "a an the of to in on for and or is are was were be do does did what which who whom where when how my me i you "
    "your know remember tell told say about it that this am s have has old many please el la los las un una de del "
    "que y o es son era fue mi mis me te tu se su cual cuales quien como donde cuando cuanto cuantos cuantas sabes "
    "recuerdas dije en por para lo al sobre tiene acuerdas conte"
)
_KIN = (
    "dog,perro,perra,puppy,perrito", "cat,gato,gata,kitten", "birthday,cumpleanos,born,naci,cumplo,nacimiento",
    "wife,esposa,mujer", "husband,esposo,marido", "son,hijo", "daughter,hija", "child,children,kids,hijos",
    "mother,mom,mum,madre,mama", "father,dad,padre,papa", "brother,hermano", "sister,hermana", "friend,amigo,amiga",
    "car,coche,carro,auto", "house,home,casa", "live,lives,vivo,vive,address,direccion,domicilio",
    "work,works,job,trabajo,trabaja,empleo", "phone,telephone,telefono,movil,celular", "email,mail,correo",
    "color,colour,colores", "favorite,favourite,favorito,favorita,preferido,preferida", "food,comida,plato",
    "drink,bebida", "city,ciudad", "country,pais", "like,likes,love,gusta,gustan,encanta", "age,edad,anos,years",
    "password,contrasena,clave", "code,codigo", "team,equipo", "book,libro", "song,cancion", "movie,film,pelicula",
    "doctor,medico", "boss,jefe,jefa", "company,empresa", "meeting,reunion,cita,appointment", "flight,vuelo",
)  # fmt: skip
_NAMING = words("name names called named llama llamo llaman nombre")
_GROUPS = {word: group for group, kin in enumerate(_KIN) for word in kin.split(",")}


def keep(text: str, context: Context) -> Move | None:
    """Read what to remember, what to forget, and the wish to see it all."""
    if whole(_LIST, text):
        return Call("memory_list", {})
    if (rest := after(_FORGET, text)) is not None and after("(?:do not|don't|no) ", text) is None:
        return _forget(rest, context)
    rest = after(_STORE, text)
    if rest is None or (
        text.rstrip().endswith("?") and after("recuerdas|remember (?:my|me|when|what|who)", text) is not None
    ):
        return None
    return need(
        rest.rstrip() if rest.strip(" :.,?!") else "",
        context,
        context.say("What should I remember?", "¿Qué debo recordar?"),
        lambda value: Call("memory_store", {"content": value}),
    )


def _forget(rest: str, context: Context) -> Move:
    if whole(r" ?(?:everything|all(?: memories| of it)?|todo)", rest):
        return Say(
            context.say(
                "I forget one thing at a time: `list memories` shows them, `forget …` drops one.",
                "Olvido las cosas de una en una: `lista mis recuerdos` las muestra, `olvida …` borra una.",
            )
        )
    return need(
        rest.rstrip(". "),
        context,
        context.say("What should I forget?", "¿Qué debo olvidar?"),
        lambda value: Call("memory_forget", {"query": value}),
    )


def recall(text: str, context: Context) -> Move | None:
    """Read a question about something told earlier; a search that finds nothing is followed by a look at all notes."""
    rest = after(_ABOUT, text)
    if rest is not None and rest.strip(" ?.!"):
        return _search(rest, context, LISTED)
    question = text if pattern(rf"(?:{_MINE})").match(text) and len(text) < 500 else None  # noqa: PLR2004  a question
    if question is None:
        return None
    return _search(before("please", question) or question, context, 1)


def _search(question: str, context: Context, wanted: int) -> Move:
    sought = [word for word in words_of(question.replace("'s", " ")) if word not in _STOP]
    query = " ".join(sought[:20]) or question.strip(" ?")

    def then(data: JsonValue) -> Move:
        notes = _contents(data, "results")
        notes = notes if wanted > 1 else _fitting(notes, sought)
        if notes or "memory_list" not in context.tools:
            return _told(notes, context, wanted)
        near = _contents(data, "results")
        return Call(
            "memory_list", {}, lambda kept: _told(_fitting(_contents(kept, "memories"), sought), context, wanted, near)
        )

    return Call("memory_search", {"query": query}, then)


def _contents(data: JsonValue, name: str) -> list[str]:
    rows = data.get(name) if isinstance(data, dict) else None
    found = [row.get("content") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [text for text in found if isinstance(text, str)]


def _fitting(notes: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Return the notes that answer to the words, the best first; among equals the given order stays.

    A note must share a word (or its twin in the other language) that is not only about naming, if there is one.
    """
    enough = min(1.0, sum(_weight(word) for word in asked))
    only_naming = set(asked) <= _NAMING
    fits = [(_shared(note, asked), -_strange(note, asked), note) for note in notes]
    kept = [fit for fit in fits if fit[0] >= enough and not (only_naming and fit[1])]
    return [note for _, _, note in sorted(kept, key=lambda fit: fit[:2], reverse=True)]


def _weight(word: str) -> float:
    return 0.5 if word in _NAMING else 1.0


def _shared(note: str, asked: Sequence[str]) -> float:
    held = _senses(note)
    return sum(_weight(word) for word in set(asked) if _sense(word) in held)


def _strange(note: str, asked: Sequence[str]) -> int:
    """Return how many well-known things the note is about that were not asked for."""
    things = {sense for sense in _senses(note) if sense.startswith("#") and sense != "#name"}
    return len(things - {_sense(word) for word in asked})


def _senses(note: str) -> set[str]:
    return {_sense(word) for word in words_of(note.replace("'s", " "))}


def _sense(word: str) -> str:
    """Return what words of one meaning in both languages have in common."""
    if word in _NAMING:
        return "#name"
    stem = word[:-1] if word.endswith("s") and word not in _GROUPS else word
    return f"#{_GROUPS[stem]}" if stem in _GROUPS else bare(stem)


def _told(notes: Sequence[str], context: Context, wanted: int, near: Sequence[str] = ()) -> Say:
    """Tell the best notes; when none answers the question, say so, with what the search came nearest to."""
    if not notes and near:
        return Say(
            context.say(
                f"You have not told me exactly that; the nearest is: {near[0].rstrip('.')}.",
                f"No me has dicho exactamente eso; lo más cercano es: {near[0].rstrip('.')}.",
            )
        )
    if not notes:
        return Say(
            context.say(
                "You have not told me that. Say `remember that …` and I will keep it.",
                "No me lo has dicho. Di `recuerda que …` y lo guardaré.",
            )
        )
    told = context.say("You told me: ", "Me dijiste: ")
    if wanted == 1 or len(notes) == 1:
        return Say(f"{told}{notes[0].rstrip('.')}.")
    return Say(told.rstrip() + "".join(f"\n- {note}" for note in notes[:wanted]))

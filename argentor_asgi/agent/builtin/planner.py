"""Decides the next move of the conversation: a pure function of the history and the skills on offer.

Nothing is remembered between calls. What was asked, what was answered and which step is next is replayed from the
history each time, so a plan survives a restart, a change of worker, and a client that sends the history itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from argentor_asgi.agent.builtin.answers import answer, failure, parsed, value_of
from argentor_asgi.agent.builtin.calculate import calculate
from argentor_asgi.agent.builtin.data import compare, identify, query, table, validate
from argentor_asgi.agent.builtin.direct import direct
from argentor_asgi.agent.builtin.memory import keep, recall
from argentor_asgi.agent.builtin.moves import MISSING, Ask, Call, Context, Matcher, Move, Say
from argentor_asgi.agent.builtin.steps import STEPS, Piece, pieces
from argentor_asgi.agent.builtin.talk import cancels, dropped, introduction, otherwise, talk
from argentor_asgi.agent.builtin.text import courtesy, language, normalise, pattern
from argentor_asgi.agent.builtin.texts import digest, encode, summarise, transform
from argentor_asgi.agent.builtin.times import clock
from argentor_asgi.protocol.llm import ToolSpec
from argentor_asgi.protocol.messages import Message
from argentor_asgi.protocol.schema import JsonObject, JsonValue

INPUT_BYTES = 32 * 1024
"""The longest message that is read, in UTF-8."""
CHAIN = 4
"""How many open questions may follow one another."""
LOOKBACK = 100
"""How many earlier messages are searched for a result or a language."""
CALLS_PER_STEP = 4
"""How many calls one step may make."""

MATCHERS: Sequence[Matcher] = (
    direct, talk, keep, clock, identify, table, validate, digest, encode, summarise, transform, calculate, query,
    compare, recall,
)  # fmt: skip
"""In this order; the first that knows the step decides."""

Step: TypeAlias = Callable[[Context], Move]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call to make, under an id that no earlier call of the history has."""

    id: str
    name: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say, and what to call after saying it."""

    text: str
    calls: tuple[PlannedCall, ...] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    """A call of the history with its result."""

    name: str
    arguments: JsonValue
    content: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class _Open:
    """An unanswered question, and the steps that wait behind it."""

    fill: Callable[[str], Move]
    rest: tuple[Step, ...]
    previous: JsonValue


@dataclass(frozen=True, slots=True)
class _State:
    """Where a run stands: what is answered so far, and the call or question it waits for."""

    lines: tuple[str, ...] = ()
    call: Call | None = None
    open: _Open | None = None


def plan(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Reply:
    """Return the next move. `messages` oldest first, as `LlmRequest` has them; raises nothing for any text in them."""
    known = {tool.name: tool for tool in tools}
    users = [at for at, message in enumerate(messages) if message.role == "user"]
    if not users:
        return Reply(introduction(Context("en", known)))
    run = _Run(messages, users, known)
    state = run.state(len(users) - 1)
    if state.call is None:
        return Reply("\n".join(state.lines))
    using = run.context(len(users) - 1).say(f"Using {state.call.skill}.", f"Usando {state.call.skill}.")
    return Reply(using, (PlannedCall(next_id(messages), state.call.skill, state.call.arguments),))


def next_id(messages: Sequence[Message]) -> str:
    """Return the id after the highest one of the form `call_<n>` in the history."""
    ids = [part.id or "" for message in messages for part in message.parts if part.type == "tool_call"]
    numbers = [int(id_[5:]) for id_ in ids if pattern(r"call_[0-9]{1,18}").fullmatch(id_)]
    return f"call_{max(numbers, default=0) + 1}"


def decide(text: str, context: Context) -> Move:
    """Return the move for one step."""
    return _recognised(text, context) or otherwise(text, context)


def _recognised(text: str, context: Context) -> Move | None:
    polite = courtesy(text)
    return next((move for matcher in MATCHERS if (move := matcher(polite, context))), None)


@dataclass(frozen=True, slots=True)
class _Run:
    """A history seen as runs: each user message with what followed it. `users`: the positions of those messages."""

    messages: Sequence[Message]
    users: Sequence[int]
    tools: Mapping[str, ToolSpec]

    def state(self, number: int, depth: int = 0) -> _State:
        """Replay one run up to where it stands."""
        context = self.context(number)
        text = self.messages[self.users[number]].content
        if len(text.encode("utf-8", "replace")) > INPUT_BYTES:
            return _State((_too_long(context),))
        return _replay(self._agenda(normalise(text), context, number, depth), self._done(number), context)

    def context(self, number: int) -> Context:
        """Return what the steps of a run know."""
        earlier = self.users[max(0, number - LOOKBACK) : number][::-1]
        asked = [self.messages[at].content for at in earlier]
        lang = language([self.messages[self.users[number]].content, *asked[:5]])
        return Context(lang, self.tools, self._previous(number), asked)

    def _previous(self, number: int) -> JsonValue:
        """Return the last result before a run."""
        start = self.users[number]
        for message in reversed(self.messages[max(0, start - LOOKBACK) : start]):
            for part in reversed(message.tool_results):
                if not part.is_error:
                    return value_of(part.content or "")
        return MISSING

    def _done(self, number: int) -> Sequence[_Done]:
        """Return the calls of a run that have results, in the order of the calls."""
        results = {part.id: part for message in self._turns(number) for part in message.tool_results}
        calls = [part for message in self._turns(number) for part in message.tool_calls]
        return [
            _Done(call.name or "", call.arguments, results[call.id].content or "", bool(results[call.id].is_error))
            for call in calls
            if call.id in results
        ]

    def _turns(self, number: int) -> Sequence[Message]:
        end = self.users[number + 1] if number + 1 < len(self.users) else len(self.messages)
        return self.messages[self.users[number] + 1 : end]

    def _agenda(self, text: str, context: Context, number: int, depth: int) -> tuple[Step, ...]:
        """Return the steps: those of the text, or what an open question before it waits for."""
        open_ = self._open(number - 1, depth + 1) if number > 0 and depth < CHAIN else None
        if open_ is None:
            return _steps(text, context)
        if cancels(text):
            return (lambda context: Say(dropped(context)),)
        return (lambda _: open_.fill(text), *open_.rest)

    def _open(self, number: int, depth: int) -> _Open | None:
        """Return the question that a run ended with, None when it did not, or not in these words."""
        turns = self._turns(number)
        if not turns or turns[-1].role != "assistant" or not turns[-1].content.rstrip().endswith(("?", ".", "`", ")")):
            return None
        state = self.state(number, depth)
        return state.open if state.open and "\n".join(state.lines) == turns[-1].content else None


def _too_long(context: Context) -> str:
    return context.say(
        f"I am the embedded planner and read messages of up to {INPUT_BYTES // 1024} KiB; this one is longer.",
        f"Soy el planificador integrado y leo mensajes de hasta {INPUT_BYTES // 1024} KiB; este es más largo.",
    )


def _steps(text: str, context: Context) -> tuple[Step, ...]:
    """Return one step for each piece, and a note when there are more than are taken."""
    merged = _merged(text, pieces(text), context)
    steps: list[Step] = [partial(decide, piece) for piece in merged[:STEPS]]
    if len(merged) > STEPS:
        steps.append(lambda context: Say(_too_many(context)))
    return tuple(steps) or (partial(decide, text),)


def _too_many(context: Context) -> str:
    return context.say(
        f"I take up to {STEPS} steps at once and left out the rest.",
        f"Hago hasta {STEPS} pasos a la vez; dejé el resto.",
    )


def _merged(text: str, found: Sequence[Piece], context: Context) -> list[str]:
    """Join a piece that means nothing by itself to a free text before it: "remember that we eat and then we sleep"."""
    merged: list[tuple[int, int]] = []
    for piece in found[: 4 * STEPS]:
        if merged and _free(text[slice(*merged[-1])], context) and not _recognised(piece.text, context):
            merged[-1] = (merged[-1][0], piece.end)
        else:
            merged.append((piece.start, piece.end))
    return [text[start:end] for start, end in merged]


def _free(text: str, context: Context) -> bool:
    """Tell whether a step takes any text to its end."""
    move = keep(courtesy(text), context) or summarise(courtesy(text), context)
    return isinstance(move, Call) and move.skill in {"memory_store", "summarizer"}


def _replay(agenda: Sequence[Step], done: Sequence[_Done], context: Context) -> _State:
    """Walk the steps with the results that are there, to the first call that has none or to the end."""
    lines: list[str] = []
    left = list(done)
    previous = context.previous
    for at, step in enumerate(agenda):
        now = Context(context.lang, context.tools, previous, context.asked)
        broken = len(left) < len(done) and done[len(done) - len(left) - 1].is_error and previous is MISSING
        move, previous = _worked(step(now), left, now, lines)
        if isinstance(move, Call):
            return _State(tuple(lines), call=move)
        if isinstance(move, Ask) and broken:
            move = Say(_left_out(context))
        if isinstance(move, Ask):
            return _State((*lines, move.question), open=_Open(move.fill, tuple(agenda[at + 1 :]), previous))
        if move:
            lines.append(move.text)
    lines += [_told(call, context) for call in left]
    return _State(tuple(lines))


def _worked(move: Move, left: list[_Done], context: Context, lines: list[str]) -> tuple[Move | None, JsonValue]:
    """Follow one step through the results it has; return what it waits for or says, and the result it leaves."""
    previous = context.previous
    for _ in range(CALLS_PER_STEP):
        if not isinstance(move, Call):
            return move, previous
        if move.skill not in context.tools:
            return Say(_absent(move.skill, context)), previous
        if not left or left[0].name != move.skill:
            return (move, previous) if not left else (None, previous)
        call = left.pop(0)
        previous = MISSING if call.is_error else value_of(call.content)
        if call.is_error or move.then is None:
            lines.append(_told(call, context))
            return None, previous
        if then := _then(move, call):
            move = then
        else:
            lines.append(_told(call, context))
            return None, previous
    return None, previous


def _then(move: Call, call: _Done) -> Move | None:
    """Return the move after a call; None when its result has not the shape that the next one needs."""
    try:
        return move.then(parsed(call.content)) if move.then else None
    except (KeyError, TypeError, ValueError):
        return None


def _told(call: _Done, context: Context) -> str:
    if call.is_error:
        return failure(call.name, call.content, context.lang)
    return answer(call.name, call.arguments, call.content, context.lang)


def _left_out(context: Context) -> str:
    return context.say(
        "I left the next step out, since it needs the result of the one that failed.",
        "He omitido el paso siguiente, porque necesita el resultado del que falló.",
    )


def _absent(skill: str, context: Context) -> str:
    return context.say(
        f"That needs the skill `{skill}`, which is not on offer here.",
        f"Eso necesita la habilidad `{skill}`, que aquí no está disponible.",
    )

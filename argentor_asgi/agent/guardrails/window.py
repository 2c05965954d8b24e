"""The window that an answer passes: a text leaves it when nothing that follows can make a finding of any part of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from argentor_asgi.agent.guardrails.screening import Hit, Outcome, Rule, Teller, cut, look, screen
from argentor_asgi.agent.guardrails.views import View, context, view
from argentor_asgi.errors import OutputBlocked
from argentor_asgi.protocol.llm import Finish, LlmEvent, ReasoningPiece, Screened, TextPiece, ToolStart

HELD_CHARS = 4096
"""How many characters of an answer are held at most; what a rule may still be looking for then is let go."""

PORTION_CHARS = 4096
"""How many characters of one piece are looked at before others have a turn."""

STEP_CHARS = 16
"""How many characters are looked at at a time: an answer comes in smaller pieces, and each look has its price."""


class Window:
    """The end of a text that grows: what was let go is never looked at again."""

    def __init__(self, rules: Sequence[Rule], hold_chars: int) -> None:
        """Begin with no text."""
        self._rules = rules
        self._hold = hold_chars
        self._before = ""
        self._due = hold_chars + STEP_CHARS
        self.held = ""

    def add(self, text: str) -> Outcome | None:
        """Append `text`, and return what became of the part that is settled now, None for no part.

        Its work is linear in what is held.
        """
        self.held += text
        if len(self.held) < self._due:
            return None
        seen = self._view(self.held)
        hits, opens = look(self._rules, seen)
        outcome = self._let_go(seen, hits, cut(seen, hits, opens, hold=self._hold, most=HELD_CHARS))
        # What a rule still waits for is not looked at again for each character.
        self._due = max(self._hold + STEP_CHARS, min(len(self.held) + STEP_CHARS, HELD_CHARS + 1))
        return outcome

    def end(self) -> Outcome:
        """Return what became of the rest: the text is over, and the next begins."""
        seen = self._view(self.held)
        hits, _ = look(self._rules, seen)
        outcome = self._let_go(seen, hits, len(seen.text))
        self._before = ""
        self._due = self._hold + STEP_CHARS
        return outcome

    def _view(self, text: str) -> View:
        return view(self._before + text, len(self._before))

    def _let_go(self, seen: View, hits: Sequence[Hit], end: int) -> Outcome:
        outcome = screen(seen, hits, end)
        self.held = "" if outcome.is_blocked else seen.text[end:]
        self._before = context(seen.text[:end])
        return outcome


class OutputGuard:
    """What the events of one model call pass on their way out; one object for each call.

    The text and the reasoning of the answer are each looked at as wholes, up to the next change between them, start of
    a tool call or end: a finding across such a place is none. Arguments of tool calls pass as they are, because the
    skills need them.
    """

    def __init__(self, rules: Sequence[Rule], hold_chars: int) -> None:
        """Begin; no `rules` let everything pass at once."""
        self._rules = rules
        self._window = Window(rules, hold_chars)
        self._kind: type[TextPiece | ReasoningPiece] = TextPiece
        self._teller = Teller("output")
        self._is_reasoning_changed = False

    @staticmethod
    def portions(event: LlmEvent) -> Iterator[LlmEvent]:
        """Yield what to `feed` in the place of `event`: a long text in portions, so that others have turns between."""
        if not isinstance(event, TextPiece | ReasoningPiece) or len(event.text) <= PORTION_CHARS:
            yield event
            return
        for start in range(0, len(event.text), PORTION_CHARS):
            yield type(event)(event.text[start : start + PORTION_CHARS])

    def feed(self, event: LlmEvent) -> Iterator[LlmEvent]:
        """Yield what may leave now that `event` came, in order; a `Screened` stands before the text that it is about.

        Raises `OutputBlocked` behind the `Screened` that says so; nothing from there on was, or is, yielded. A `Finish`
        loses its metadata when reasoning was changed: it holds what was taken out.
        """
        if not self._rules:
            yield event
        elif isinstance(event, TextPiece | ReasoningPiece):
            if type(event) is not self._kind:
                yield from self._flush()
                self._kind = type(event)
            if (outcome := self._window.add(event.text)) is not None:
                yield from self._leave(outcome)
        elif isinstance(event, ToolStart):
            yield from self._flush()
            yield event
        elif isinstance(event, Finish):
            yield from self.end()
            yield replace(event, metadata={}) if self._is_reasoning_changed else event
        else:
            yield event

    def end(self) -> Iterator[LlmEvent]:
        """Yield what is still held, looked at: for a stream that ends without a `Finish`, and harmless behind one.

        Raises `OutputBlocked` as `feed` does.
        """
        yield from self._flush()
        yield from map(Screened, self._teller.rest())

    def _flush(self) -> Iterator[LlmEvent]:
        if self._window.held:
            yield from self._leave(self._window.end())

    def _leave(self, outcome: Outcome) -> Iterator[LlmEvent]:
        told = outcome.told[:-1] if outcome.is_blocked else outcome.told
        if told:
            yield from map(Screened, self._teller.tell(told))
            if self._kind is ReasoningPiece:
                self._is_reasoning_changed |= any(hit.rule.action != "flag" for hit in told)
        if outcome.text:
            yield self._kind(outcome.text)
        if outcome.is_blocked:
            yield from map(Screened, self._teller.tell(outcome.told[-1:]))
            raise OutputBlocked

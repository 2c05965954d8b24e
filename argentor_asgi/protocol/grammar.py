"""The order that a run's events keep (agent.md 2.4), as a checker that any reader's recording can be run through."""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import get_args

from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.events import TERMINAL, LoggedEvent, RunEvent
from argentor_asgi.protocol.schema import JsonObject, decode_value, restore

FIELDS: dict[str, frozenset[str]] = {
    next(str(item.default) for item in fields(kind) if item.default is not MISSING): frozenset(
        item.name for item in fields(kind)
    )
    for kind in get_args(RunEvent)
}
"""The members of each type of event."""


class GrammarError(AssertionError):
    """A run's events break the grammar; the text says where and how."""


class Grammar:
    """Reads one run's events in order and raises `GrammarError` at the first that may not stand where it stands.

    `after`: the number of the last event that the reader had before; above 0 the reader resumed, and what began before
    that is taken on trust: calls that were open, the turn's number, the text of the turn that was going on.
    """

    def __init__(self, *, after: int = 0) -> None:
        self._resumed = after > 0
        self._seq = after
        self._terminal: str | None = None
        self._open: dict[str, tuple[str, list[str]]] = {}
        self._ended: dict[str, str] = {}
        self._answered: set[str] = set()
        self._asked: dict[str, str] = {}
        self._resolved: set[str] = set()
        self._index: int | None = None if self._resumed else 0
        self._turn: int | None = None
        self._between = False
        self._text: list[str] | None = None if self._resumed else []
        self._rules: dict[str, Callable[[JsonObject], None]] = {
            "text_delta": self._text_delta,
            "reasoning_delta": self._reasoning_delta,
            "tool_call_start": self._tool_call_start,
            "tool_call_delta": self._tool_call_delta,
            "tool_call_end": self._tool_call_end,
            "tool_result": self._tool_result,
            "approval_request": self._approval_request,
            "approval_resolved": self._approval_resolved,
            "turn_end": self._turn_end,
            "done": self._done,
        }

    def feed(self, event: LoggedEvent | JsonObject) -> None:
        """Take the next event: as the log keeps it, or as a JSON object with its `seq` among its members."""
        seen = _members(event)
        kind = seen.get("type")
        self._check(self._terminal is None, f"{kind} after the terminal {self._terminal}")
        self._check(seen.get("seq") == self._seq + 1, f"number {seen.get('seq')} after {self._seq}")
        self._seq += 1
        self._check(isinstance(kind, str) and kind in FIELDS, f"unknown type {kind}")
        self._check((kind == "run_started") == (self._seq == 1), "run_started comes first, and only there")
        self._check(not (missing := FIELDS[str(kind)] - seen.keys()), f"{kind} lacks {sorted(missing)}")
        if kind in TERMINAL:
            self._check(not self._open, f"{kind} while calls are open: {sorted(self._open)}")
            self._terminal = str(kind)
        if rule := self._rules.get(str(kind)):
            rule(seen)

    def finish(self) -> None:
        """Say that no more events come; raises when the terminal one is missing."""
        self._check(self._terminal is not None, "no terminal event")

    def _check(self, holds: bool, words: str) -> None:
        if not holds:
            raise GrammarError(f"event {self._seq}: {words}")

    def _model_speaks(self) -> None:
        """Note that the model said something: after a turn's end, that begins the next turn."""
        if self._between:
            self._between = False
            self._text = []

    def _text_delta(self, seen: JsonObject) -> None:
        self._model_speaks()
        self._check(seen["text"] != "", "an empty text_delta")
        self._check(self._index in {None, seen["index"]}, f"text index {seen['index']}, expected {self._index}")
        self._index = seen["index"] + 1
        if self._text is not None:
            self._text.append(seen["text"])

    def _reasoning_delta(self, _seen: JsonObject) -> None:
        self._model_speaks()

    def _tool_call_start(self, seen: JsonObject) -> None:
        self._model_speaks()
        self._check(seen["id"] not in self._open and seen["id"] not in self._ended, f"call {seen['id']} starts twice")
        self._open[seen["id"]] = (seen["name"], [])

    def _tool_call_delta(self, seen: JsonObject) -> None:
        self._model_speaks()
        if self._trusted(seen["id"]):
            return
        self._check(seen["id"] in self._open, f"a piece for call {seen['id']}, which is not open")
        self._open[seen["id"]][1].append(seen["arguments_delta"])

    def _tool_call_end(self, seen: JsonObject) -> None:
        self._model_speaks()
        if not self._trusted(seen["id"]):
            self._check(seen["id"] in self._open, f"the end of call {seen['id']}, which is not open")
            name, pieces = self._open.pop(seen["id"])
            self._check(seen["name"] == name, f"call {seen['id']} changes its name")
            self._check(_joins_to("".join(pieces), seen["arguments"]), f"call {seen['id']}: pieces of other arguments")
        self._ended[seen["id"]] = seen["name"]

    def _tool_result(self, seen: JsonObject) -> None:
        call_id = seen["id"]
        if not self._trusted(call_id):
            self._check(call_id in self._ended, f"a result for call {call_id}, which has not ended")
            self._check(seen["name"] == self._ended[call_id], f"call {call_id} changes its name")
        self._check(call_id not in self._answered, f"a second result for call {call_id}")
        waiting = {call for approval, call in self._asked.items() if approval not in self._resolved}
        self._check(call_id not in waiting, f"a result for call {call_id}, which waits for a person")
        self._answered.add(call_id)

    def _approval_request(self, seen: JsonObject) -> None:
        approval_id, call_id = seen["approval_id"], seen["call_id"]
        self._check(
            self._trusted(call_id) or call_id in self._ended, f"approval of call {call_id}, which has not ended"
        )
        self._check(call_id not in self._answered, f"approval of call {call_id}, which has its result")
        self._check(approval_id not in self._asked, f"approval {approval_id} is requested twice")
        self._asked[approval_id] = call_id

    def _approval_resolved(self, seen: JsonObject) -> None:
        approval_id = seen["approval_id"]
        self._check(approval_id in self._asked or self._resumed, f"approval {approval_id} was never requested")
        self._check(approval_id not in self._resolved, f"approval {approval_id} is resolved twice")
        self._resolved.add(approval_id)

    def _trusted(self, call_id: str) -> bool:
        """Say whether the call began before the reader resumed."""
        return self._resumed and call_id not in self._open and call_id not in self._ended

    def _turn_end(self, seen: JsonObject) -> None:
        if self._between:
            self._text = []
        self._check(not self._open, f"turn_end while calls are open: {sorted(self._open)}")
        rises = seen["turn"] == 1 if self._turn is None else seen["turn"] > self._turn
        self._check(rises or (self._resumed and self._turn is None), f"turn {seen['turn']} after {self._turn}")
        self._turn = seen["turn"]
        self._between = True

    def _done(self, seen: JsonObject) -> None:
        said = None if self._text is None else "".join(self._text)
        self._check(said in {None, seen["text"]}, f"done says {seen['text']!r}, its last turn {said!r}")
        self._check(self._turn in {None, seen["turns"]}, f"done counts {seen['turns']} turns, not {self._turn}")
        usage = seen["usage"]
        spent = usage["input_tokens"] + usage["output_tokens"]
        self._check(seen["tokens_used"] == spent, f"done says {seen['tokens_used']} tokens, its usage {spent}")


def check(events: Iterable[LoggedEvent | JsonObject], *, after: int = 0) -> None:
    """Check a whole recording, terminal event included; `after` as in `Grammar`."""
    grammar = Grammar(after=after)
    for event in events:
        grammar.feed(event)
    grammar.finish()


def _members(event: LoggedEvent | JsonObject) -> JsonObject:
    if not isinstance(event, LoggedEvent):
        return event
    try:
        members = restore(event.data, dict)
    except GatewayError as error:
        raise GrammarError(f"event {event.seq}: {error.message}") from None
    if members.get("type") != event.type:
        raise GrammarError(f"event {event.seq}: logged as {event.type}, but its JSON is a {members.get('type')}")
    return {**members, "seq": event.seq}


def _joins_to(pieces: str, arguments: JsonObject | None) -> bool:
    """Say whether the pieces are the arguments; given-up arguments are None, whatever came before."""
    try:
        return arguments is None or decode_value(pieces.strip().encode() or b"{}") == arguments
    except GatewayError:
        return False

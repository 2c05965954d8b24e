"""The guardrails of a gateway, made once from its configuration: one policy for every way in and out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from argentor_asgi import config
from argentor_asgi.agent.guardrails.screening import Action, Rule, Teller, look, screen
from argentor_asgi.agent.guardrails.views import view
from argentor_asgi.agent.guardrails.window import OutputGuard
from argentor_asgi.protocol.events import Guardrail, Phase

PHASES: tuple[Phase, ...] = ("input", "output", "tool_result")


@dataclass(frozen=True, slots=True)
class Seen:
    """A text that was looked at. `text`: what may be used of it, all of it that was not taken out; none if blocked."""

    text: str
    findings: tuple[Guardrail, ...]
    is_blocked: bool


class Guardrails:
    """What is looked for in the texts of a gateway, and what is done about it; it keeps nothing of any text.

    `injection` looks at messages and at what skills return, not at answers: a model that talks about such a phrase
    gives no one orders. What skills return is never refused for such a phrase; `block` takes it out there.
    `is_on`: whether they look at anything. Raises `ConfigError` for a rule that cannot be, naming it.
    `settings.enabled` is the caller's to heed.
    """

    def __init__(self, settings: config.Guardrails) -> None:
        """Make the rules ready; what is `off` costs nothing."""
        self._hold_chars = settings.hold_chars
        rules = list(_rules(settings))
        self._rules = {phase: tuple(rule for phases, rule in rules if phase in phases) for phase in PHASES}
        self.is_on = any(self._rules.values())

    def input(self, text: str) -> Seen:
        """Look at a message of a user."""
        return _seen(self._rules["input"], "input", text)

    def tool_result(self, text: str) -> Seen:
        """Look at what a skill returned."""
        return _seen(self._rules["tool_result"], "tool_result", text)

    def output(self) -> OutputGuard:
        """Return what the events of one model call are passed through."""
        return OutputGuard(self._rules["output"], self._hold_chars)


def _seen(rules: Sequence[Rule], phase: Phase, text: str) -> Seen:
    if not rules:
        return Seen(text, (), is_blocked=False)
    seen = view(text)
    hits, _ = look(rules, seen)
    if not hits:
        return Seen(text, (), is_blocked=False)
    outcome = screen(seen, hits, len(text))
    teller = Teller(phase)
    findings = (*teller.tell(outcome.told), *teller.rest())
    return Seen("" if outcome.is_blocked else outcome.text, findings, outcome.is_blocked)


def _rules(settings: config.Guardrails) -> Iterator[tuple[tuple[Phase, ...], Rule]]:
    """Yield the phases of each rule with it, those that are built in first."""
    if settings.pii != "off":
        from argentor_asgi.agent.guardrails.pii import PersonalData  # noqa: PLC0415  patterns that few gateways compile

        yield PHASES, Rule("pii", settings.pii, PersonalData())
    if settings.injection != "off":
        from argentor_asgi.agent.guardrails.injection import Orders  # noqa: PLC0415  as above

        yield ("input",), Rule("injection", settings.injection, Orders(is_result=False))
        in_results: Action = "redact" if settings.injection == "block" else settings.injection
        yield ("tool_result",), Rule("injection", in_results, Orders(is_result=True))
    if settings.rules:
        from argentor_asgi.agent.guardrails.rules import finders  # noqa: PLC0415  as above

        for rule, finder in finders(settings.rules):
            if rule.action != "off":
                yield rule.phases, Rule(rule.name, rule.action, finder)

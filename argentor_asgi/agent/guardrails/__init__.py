"""Guardrails: what is looked for in messages, answers and results of skills; imports `protocol`, `config`, `errors`.

A text is folded (`views`), finders look at it (`pii`, `injection`, `rules` with its `automaton`), `screening` decides
what becomes of what they found, and `window` does so for a stream, before anything leaves. No I/O.
"""

from argentor_asgi.agent.guardrails.guard import Guardrails, Seen
from argentor_asgi.agent.guardrails.window import OutputGuard

__all__ = ["Guardrails", "OutputGuard", "Seen"]

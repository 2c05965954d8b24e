"""What comes in floods is written once and then counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from argentor_asgi.ops.audit_entry import Entry

REPEAT_S: Final = 60.0
"""How long further entries of one key are only counted."""
KEYS: Final = 1000
"""How many keys are told apart; those of all others are counted together, for each action."""


@dataclass(slots=True)
class _Flood:
    """Since its last entry: how many more there were, the newest of them, and when they are written."""

    until_s: float
    count: int = 0
    newest: Entry | None = None


class Floods:
    """Which entries are written now, and which are counted. Times are monotonic seconds."""

    def __init__(self) -> None:
        """Begin without floods."""
        self._floods: dict[str, _Flood] = {}

    def admit(self, key: str, make: Callable[[], Entry], now_s: float) -> Entry | None:
        """Return the entry to write now, the first of its key; None when it is counted."""
        found = self._floods.get(key)
        if found is None and len(self._floods) < KEYS:
            self._floods[key] = _Flood(now_s + REPEAT_S)
            return make()
        newest = make()
        if found is None:
            newest = Entry(newest.timestamp, newest.action, newest.outcome, details={"of_many": True})
            found = self._floods.setdefault(f"\0{newest.action}", _Flood(now_s + REPEAT_S))
        found.count += 1
        found.newest = newest
        return None

    def due(self, now_s: float) -> Sequence[Entry]:
        """Return an entry for each flood whose time has come, with `repeated` in its details; forget what is over."""
        written = []
        for key, flood in list(self._floods.items()):
            if flood.until_s > now_s:
                continue
            if flood.newest is None:
                del self._floods[key]
                continue
            written.append(replace(flood.newest, details=flood.newest.details | {"repeated": flood.count}))
            self._floods[key] = _Flood(now_s + REPEAT_S)
        return written

    def next_s(self) -> float | None:
        """Return when `due` should be asked next, None when nothing is counted."""
        return min((flood.until_s for flood in self._floods.values()), default=None)

"""What one check of `argentor doctor` found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: how bad it is, of what, and what to do."""

    level: Level
    subject: str
    words: str

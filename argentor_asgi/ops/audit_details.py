"""What is kept of the details of an audit entry: no secret, and never more than a bound."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from argentor_asgi.protocol import schema
from argentor_asgi.protocol.schema import JsonObject, JsonValue

DETAILS_BYTES: Final = 8 * 1024
"""The most that the details of one entry take, as JSON."""
FIELD_CHARS: Final = 128
"""The longest text of any other field; longer ones are cut."""
VALUE_CHARS: Final = (2048, 256, 32)
"""How much of one text in the details is kept; the next smaller number while all together are too long."""
ITEMS: Final = 256
"""How many values the details of one entry may hold; the others are left out, and how many is said."""
LEVELS: Final = 8
"""How deep the details may nest."""
HIDDEN: Final = "***"
INT_BITS: Final = 64
"""How long an integer may be to be kept."""

_SECRET_PARTS: Final = (
    *("authorization", "cookie", "password", "passwd", "passphrase", "secret", "token", "credential", "signature"),
    *("privatekey", "assertion", "bearer"),
)
_SECRET_NAMES: Final = frozenset({"auth", "jwt", "otp", "pin", "pwd", "pass", "ticket"})
_PUBLIC_NAMES: Final = frozenset({"bykey", "publickey"})
"""Names that end as a secret's do: the id of the key that a caller presented, a key that is no secret."""
_SEPARATORS: Final = str.maketrans("", "", "-_. ")


def fitted(details: Mapping[str, object]) -> JsonObject:
    """Return what is kept of `details`: at most `DETAILS_BYTES` of JSON, and no secret by its name.

    Names count as secret in any case and with any of `-`, `_`, `.` or spaces between.
    """
    if not details:
        return {}
    size = 0
    for characters in VALUE_CHARS:
        kept = _Keeper(characters).mapping(details, 0)
        size = len(schema.encode(kept))
        if size <= DETAILS_BYTES:
            return kept
    return {"omitted_bytes": size}


class _Keeper:
    """Walks through details once, with a budget, so that what it costs has a bound however much there is."""

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._items = ITEMS

    def mapping(self, value: Mapping[str, object], level: int) -> JsonObject:
        kept: JsonObject = {}
        for name, item in value.items():
            if self._items <= 0:
                kept["omitted"] = len(value) - len(kept)
                break
            self._items -= 1
            text = str(name)[:FIELD_CHARS]
            kept[text] = HIDDEN if is_secret(text, item) else self._value(item, level + 1)
        return kept

    def _list(self, value: Iterable[object], level: int) -> list[JsonValue]:
        kept: list[JsonValue] = []
        for item in value:
            if self._items <= 0:
                kept.append("...")
                break
            self._items -= 1
            kept.append(self._value(item, level + 1))
        return kept

    def _value(self, value: object, level: int) -> JsonValue:
        if isinstance(value, Mapping | list | tuple):
            if level >= LEVELS:
                return "..."
            return self.mapping(value, level) if isinstance(value, Mapping) else self._list(value, level)
        if isinstance(value, str):
            more = len(value) - self._characters
            return value if more <= 0 else f"{value[: self._characters]}... ({more} more)"
        return _scalar(value)


def _scalar(value: object) -> JsonValue:
    """Return a value without parts as JSON; of what JSON has not, never its own text, which may be anything."""
    if isinstance(value, int):
        return value if value.bit_length() < INT_BITS else f"<{value.bit_length()} bits>"
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, datetime | UUID):
        return str(value)
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else f"<{type(value).__name__}>"


def is_secret(name: str, value: object = "") -> bool:
    """Say whether the value under this name is hidden; a count of `tokens` is not."""
    word = name.lower().translate(_SEPARATORS)
    if word in _PUBLIC_NAMES or (word.endswith("tokens") and isinstance(value, int | float)):
        return False
    return word in _SECRET_NAMES or word.endswith(("key", "keys")) or any(part in word for part in _SECRET_PARTS)

"""The keys of the store in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from argentor_asgi.sessions import rules
from argentor_asgi.sessions.memory_rows import behind
from argentor_asgi.sessions.records import KEY_KEPT_DAYS, KEYS, Page, StoredKey

KEPT: Final = timedelta(days=KEY_KEPT_DAYS)


class MemoryKeys:
    """A `KeyStore` in memory. A list is sorted where it is asked for: there are `KEYS` at most, and few ask."""

    def __init__(self) -> None:
        """Begin empty."""
        self._keys: dict[str, StoredKey] = {}
        self._id_of: dict[bytes, str] = {}

    async def add_key(self, key: StoredKey) -> bool:
        """Store the key unless there are too many."""
        key = rules.kept_key(key)
        if key.id in self._keys or key.digest in self._id_of:
            raise ValueError(f"key {key.id} is already stored")
        if len(self._keys) >= KEYS:
            return False
        self._keep(key)
        return True

    async def all_keys(self) -> Sequence[StoredKey]:
        """Return every key, oldest first."""
        return sorted(self._keys.values(), key=rules.key_of)

    async def list_keys(self, tenant: str | None, *, limit: int, cursor: str | None = None) -> Page[StoredKey]:
        """Return one page, newest first."""
        start = rules.from_cursor("k", cursor)
        keys = sorted(rules.key_of(key) for key in self._keys.values() if tenant is None or key.tenant == tenant)
        rows = [self._keys[key_id] for _, key_id in behind(keys, start, limit + 1)]
        return rules.page(rows, limit, "k", rules.key_of)

    async def get_key(self, key_id: str) -> StoredKey | None:
        """Return the key."""
        return self._keys.get(key_id)

    async def save_key(self, key: StoredKey) -> None:
        """Replace the stored key's fields."""
        key = rules.kept_key(key)
        if self._id_of.get(key.digest, key.id) != key.id:
            raise ValueError(f"the digest of key {key.id} is another key's")
        if key.id in self._keys:
            self._drop(key.id)
            self._keep(key)

    async def mark_used(self, times: Mapping[str, datetime]) -> None:
        """Store when keys were last used."""
        rules.refuse_surrogates(*times)
        for key_id, when in times.items():
            key = self._keys.get(key_id)
            if key is not None and (key.last_used_at is None or key.last_used_at < when):
                self._keys[key_id] = replace(key, last_used_at=when)

    def prune_keys(self, now: datetime) -> int:
        """Drop the keys that are over for longer than they are kept, and return how many."""
        over = [key_id for key_id, key in self._keys.items() if _was_over(key, now - KEPT)]
        for key_id in over:
            self._drop(key_id)
        return len(over)

    def _keep(self, key: StoredKey) -> None:
        self._keys[key.id] = key
        self._id_of[key.digest] = key.id

    def _drop(self, key_id: str) -> None:
        del self._id_of[self._keys.pop(key_id).digest]


def _was_over(key: StoredKey, before: datetime) -> bool:
    return any(end is not None and end < before for end in (key.revoked_at, key.expires_at))

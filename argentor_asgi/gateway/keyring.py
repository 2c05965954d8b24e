"""The keys that are made, replaced and revoked while the gateway runs: who may do that, and the store behind it.

What opens is decided by the index (`security.keys.Keys`), which the keyring changes at once; the store has it before a
new key is handed out, and a revoked key opens nothing even if the store then fails.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias, TypeVar

from argentor_asgi.api_keys import NAME_CHARACTERS, ApiKey, Secret, check_name, check_scopes
from argentor_asgi.errors import Detail, Forbidden, InvalidInput, KeyNotFound, Overloaded
from argentor_asgi.ops.clock import Clock
from argentor_asgi.security.identity import ANONYMOUS, Principal
from argentor_asgi.security.keys import Credential, Keys, epoch_s, new_key
from argentor_asgi.security.tickets import Tickets
from argentor_asgi.sessions.records import KEYS, Page, StoredKey
from argentor_asgi.sessions.store import KeyStore

OVERLAP_S: Final = 3600
"""How long a replaced key goes on opening, where nothing else is asked for."""
LONGEST_OVERLAP_S: Final = 7 * 24 * 3600
LONGEST_LIFE: Final = timedelta(days=36_500)
"""How far ahead a key may expire."""
MANAGING: Final = frozenset({"*", "keys:write"})
"""The scopes of which the first key needs one, so that others can be made."""
ALL_POWERFUL: Final = frozenset({"*", "admin"})
"""The scopes of which one lets its holder manage keys of every scope and tenant."""
_OWN_CURSOR: Final = "config."
"""How a cursor begins that stands among the configured keys; a store's cursors have no dot."""

AnyKey: TypeAlias = StoredKey | ApiKey
"""A key that the store has, or one of the configuration, whose name is its id."""

T = TypeVar("T")
log = logging.getLogger("argentor.keys")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new key is to be. `tenant` None: that of whoever makes it; `expires_at`: aware, None for never."""

    name: str
    scopes: tuple[str, ...]
    tenant: str | None = None
    plan: str | None = None
    expires_at: datetime | None = None


class Keyring:
    """Makes, shows, replaces and revokes keys for those who may."""

    def __init__(
        self,
        *,
        store: KeyStore,
        keys: Keys,
        tickets: Tickets,
        clock: Clock,
        plans: Collection[str],
        configured: Sequence[ApiKey],
    ) -> None:
        """Manage the keys of `store` in the index `keys`, which has the `configured` ones already."""
        self._store = store
        self._keys = keys
        self._tickets = tickets
        self._clock = clock
        self._plans = plans
        self._configured = {key.name: key for key in configured}
        self._used: dict[str, datetime] = {}
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Let every stored key open that was not revoked. Call it when the store is open, before anybody comes in.

        A stored key that the configuration has too opens by the configuration alone. Raises `StorageUnavailable`.
        """
        for key in await self._store.all_keys():
            known = self._keys.get(key.id)
            if key.revoked_at is not None or (known is not None and known.digest == key.digest):
                continue
            try:
                self._keys.add(_credential(key))
            except ValueError as error:
                log.error("the stored key %s is left out: %s", key.id, error)  # noqa: TRY400  a trace says no more

    async def create(self, by: Principal, wish: Wish) -> tuple[StoredKey, Secret]:
        """Return a new key that opens at once, and its text, which nothing keeps.

        Raises `Forbidden` for scopes or a tenant that are not for `by` to give, `InvalidInput` for what cannot be or
        would lock everybody out, `Overloaded` at the store's bound, `StorageUnavailable`. A caller that is cancelled
        may leave a key that nobody has.
        """
        async with self._lock:
            self._refuse_anonymous(by)
            if wrong := [*_complaints(wish, self._plans, self._clock.now()), *self._lockout(wish)]:
                raise InvalidInput(details=wrong)
            if wish.tenant not in (None, by.tenant) and not _is_all_powerful(by):
                raise Forbidden("You may make keys for your own tenant only.")
            _refuse_beyond(by, wish.scopes)
            return await self._add(by, wish, owner=None)

    async def rotate(self, by: Principal, key_id: str, overlap_s: int = OVERLAP_S) -> tuple[StoredKey, Secret]:
        """Put a new key in the place of one, and return it with its text; the old one opens for `overlap_s` more.

        The new key stands for the same principal, and where the old one was to expire, lives as long as that was made
        to. Raises `KeyNotFound`, `Forbidden`, `InvalidInput` for a key that has expired, was replaced already or is
        configured, `Overloaded`, `StorageUnavailable`; then the old key is as it was.
        """
        async with self._lock:
            old = await self._managed(by, key_id)
            now = self._clock.now()
            if old.replaced_by is not None:
                raise InvalidInput(f"This key was replaced by {old.replaced_by} already; rotate that one.")
            if old.expires_at is not None and old.expires_at <= now:
                raise InvalidInput("This key has expired; make a new one.")
            until = None if old.expires_at is None else now + (old.expires_at - old.created_at)
            wish = Wish(old.name, old.scopes, old.tenant, old.plan, until)
            new, text = await self._add(by, wish, owner=old.owner)
            end = now + timedelta(seconds=overlap_s)
            end = end if old.expires_at is None else min(end, old.expires_at)
            await self._store.save_key(replace(old, expires_at=end, replaced_by=new.id))
            if (credential := self._keys.get(old.id)) is not None:
                credential.expires_s = end.timestamp()
            return new, text

    async def revoke(self, by: Principal, key_id: str) -> StoredKey:
        """Let a key and its tickets open nothing from now on, and return it as it is kept.

        Raises `KeyNotFound`, also when it was revoked before, `Forbidden`, `InvalidInput` for a configured key, and
        `StorageUnavailable`: then it opens nothing until the gateway starts anew, and should be revoked again.
        """
        async with self._lock:
            key = await self._managed(by, key_id)
            self._keys.remove(key_id)
            self._tickets.revoke(key_id)
            revoked = replace(key, revoked_at=self._clock.now())
            await self._store.save_key(revoked)
            return revoked

    async def read(self, by: Principal, key_id: str) -> AnyKey:
        """Return the key. Raises `KeyNotFound`, also for one that was revoked, `Forbidden`, `StorageUnavailable`."""
        self._refuse_anonymous(by)
        found = self._configured.get(key_id) or await self._store.get_key(key_id)
        if found is None or not _may_see(by, found) or (isinstance(found, StoredKey) and found.revoked_at is not None):
            raise KeyNotFound
        return found

    async def page(self, by: Principal, *, limit: int, cursor: str | None = None) -> Page[AnyKey]:
        """Return the keys that `by` may see: the stored ones, newest first, then the configured ones.

        Raises `Forbidden`, `InvalidInput` for a cursor that is none, `StorageUnavailable`.
        """
        self._refuse_anonymous(by)
        if cursor is not None and cursor.startswith(_OWN_CURSOR):
            return self._configured_page(by, limit, cursor.removeprefix(_OWN_CURSOR))
        tenant = None if _is_all_powerful(by) else by.tenant
        stored = await self._store.list_keys(tenant, limit=limit, cursor=cursor)
        if stored.cursor is not None:
            return Page(stored.rows, stored.cursor)
        rest = self._configured_page(by, limit - len(stored.rows), "0")
        return Page((*stored.rows, *rest.rows), rest.cursor)

    def last_used(self, name: str) -> datetime | None:
        """Return when a configured key was last seen in use, None when not since the gateway started."""
        return self._used.get(name)

    def credential(self, principal: Principal) -> Credential | None:
        """Return the credential of the key by which the principal came in, None without one."""
        return None if principal.key_id is None else self._keys.get(principal.key_id)

    async def flush_used(self) -> None:
        """Store which keys were used since the last time, as used now. Raises `StorageUnavailable`; then they wait."""
        now = self._clock.now()
        used = [each for each in self._keys if each.is_used]
        ids = {each.principal.key_id: each for each in used if each.principal.key_id}
        self._used.update(dict.fromkeys(ids.keys() & self._configured.keys(), now))
        stored = dict.fromkeys(ids.keys() - self._configured.keys(), now)
        for each in used:
            each.is_used = False
        try:
            if stored:
                await self._store.mark_used(stored)
        except BaseException:
            for key_id in stored:
                ids[key_id].is_used = True
            raise

    def _refuse_anonymous(self, by: Principal) -> None:
        # Where anonymous callers are served beside keys, what they may must not include the keys.
        if by == ANONYMOUS and len(self._keys):
            raise Forbidden("Only the first key can be made without one.")

    def _lockout(self, wish: Wish) -> Iterator[Detail]:
        """Yield what is wrong with the first key, from which on everybody needs one."""
        if not len(self._keys) and MANAGING.isdisjoint(wish.scopes):
            words = "The first key must be able to make others, by `*` or `keys:write`: else everybody is locked out."
            yield Detail("/scopes", words)

    async def _managed(self, by: Principal, key_id: str) -> StoredKey:
        """Return a stored key that opens as far as the store knows, for `by` to change."""
        found = await self.read(by, key_id)
        if isinstance(found, ApiKey):
            raise InvalidInput("This key is configured; change it in the gateway's configuration.")
        if found.revoked_at is not None:
            raise KeyNotFound
        _refuse_beyond(by, found.scopes)
        return found

    async def _add(self, by: Principal, wish: Wish, *, owner: str | None) -> tuple[StoredKey, Secret]:
        """Store a new key and let it open. `owner` None: a principal of its own."""
        made = new_key()
        key = StoredKey(
            made.id,
            wish.name,
            made.digest,
            owner or f"key:{made.id}",
            wish.tenant or by.tenant,
            tuple(dict.fromkeys(wish.scopes)),
            wish.plan,
            created_at=self._clock.now(),
            created_by=by.id,
            expires_at=wish.expires_at,
        )
        if not await self._store.add_key(key):
            raise Overloaded(f"The gateway keeps {KEYS} keys, and no more.")
        self._keys.add(_credential(key))
        self._forget_expired(key.created_at.timestamp())
        return key, made.text

    def _forget_expired(self, now_s: float) -> None:
        """Drop stored keys that have expired from the index: they open nothing, and the store drops them in its time.

        Only when a key is made, so that the last one never goes: without any key, nobody would be asked for one.
        """
        for each in [each for each in self._keys if each.expires_s <= now_s]:
            if each.principal.key_id is not None and each.principal.key_id not in self._configured:
                self._keys.remove(each.principal.key_id)

    def _configured_page(self, by: Principal, limit: int, start: str) -> Page[AnyKey]:
        if not (start.isascii() and start.isdigit() and len(start) <= len(str(KEYS))):
            detail = Detail("/cursor", "Not a cursor of this list.")
            raise InvalidInput("The cursor is not one of this list.", details=[detail])
        first = int(start)
        seen = [key for key in self._configured.values() if _may_see(by, key)]
        end = first + limit
        return Page(seen[first:end], f"{_OWN_CURSOR}{end}" if end < len(seen) else None)


def _is_all_powerful(by: Principal) -> bool:
    return not ALL_POWERFUL.isdisjoint(by.scopes)


def _may_see(by: Principal, key: AnyKey) -> bool:
    return key.tenant == by.tenant or _is_all_powerful(by)


def _refuse_beyond(by: Principal, scopes: Sequence[str]) -> None:
    """Raise `Forbidden` where a key may more than `by`, who could otherwise lift themselves by it."""
    if not _is_all_powerful(by) and not by.scopes.issuperset(scopes):
        raise Forbidden("You may manage only keys whose scopes you hold yourself.")


def _complaints(wish: Wish, plans: Collection[str], now: datetime) -> Iterator[Detail]:
    """Yield each field of a wish that nobody could be given."""
    if not wish.name.strip() or not wish.name.isprintable() or len(wish.name) > NAME_CHARACTERS:
        yield Detail("/name", f"Expected 1 to {NAME_CHARACTERS} visible characters.")
    if words := _complaint(check_scopes, wish.scopes):
        yield Detail("/scopes", words)
    if wish.tenant is not None and (words := _complaint(check_name, wish.tenant)):
        yield Detail("/tenant", words)
    if wish.plan is not None and wish.plan not in plans:
        yield Detail("/plan", "No plan of this name is configured.")
    if wish.expires_at is not None and not now < wish.expires_at <= now + LONGEST_LIFE:
        yield Detail("/expires_at", f"Expected a time in the future, within {LONGEST_LIFE.days} days.")


def _complaint(check: Callable[[T], None], value: T) -> str | None:
    try:
        check(value)
    except ValueError as error:
        return f"{error}."
    return None


def _credential(key: StoredKey) -> Credential:
    principal = Principal(key.owner, key.tenant, frozenset(key.scopes), key.plan, key.id)
    return Credential(principal, key.digest, epoch_s(key.expires_at))

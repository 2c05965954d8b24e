"""API keys: held as SHA-256, found by digest, compared in constant time.

A key that nobody knows, that is wrong, that has expired or was revoked is one and the same to its bearer.
"""

import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from math import inf

from argentor_asgi.api_keys import ApiKey, Secret, check_name
from argentor_asgi.security.identity import Principal

VERIFIED = 4096
"""How many presented keys are remembered as good; beyond that the one remembered first is hashed again."""
ID_CHARACTERS = 12
"""How long the id in a generated key is."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_PRESENTABLE = re.compile(rb"[\x21-\x7e]{1,1024}").fullmatch


@dataclass(slots=True, eq=False)
class Credential:
    """One key, and whom it stands for.

    `expires_s`: seconds since 1970 from which it is refused, infinity for never, minus infinity once it is revoked.
    `is_used`: whether it was presented since somebody last cleared this.
    """

    principal: Principal
    digest: bytes = field(repr=False)
    expires_s: float = inf
    is_used: bool = False


class Keys:
    """Every key that opens, by digest and by id; it changes while the gateway runs."""

    def __init__(self, configured: Iterable[ApiKey] = ()) -> None:
        """Index the configured keys. Raises `ValueError` when two have one name or are the same key."""
        self._by_digest: dict[bytes, Credential] = {}
        self._by_id: dict[str, Credential] = {}
        self._verified: dict[bytes, Credential] = {}
        # What an unknown key is compared with: no key has this digest, and it has always been expired.
        self._nobody = Credential(Principal("nobody", scopes=frozenset()), bytes(32), -inf)
        for key in configured:
            self.add(credential_of(key))

    def __len__(self) -> int:
        """Return how many keys there are, expired ones with them."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Credential]:
        """Yield every key's credential, in the order in which they were added."""
        return iter(self._by_id.values())

    def verify(self, presented: bytes, now_s: float) -> Credential | None:
        """Return whom this key stands for at `now_s`; None when it opens nothing."""
        # PERF: 0.1 us for a key that was good before, against 1 us for hashing it. Only good ones are kept, so
        # guessing neither grows the map nor pushes anybody out.
        known = self._verified.get(presented)
        if known is not None and now_s < known.expires_s:
            known.is_used = True
            return known
        return self._look_up(presented, now_s)

    def _look_up(self, presented: bytes, now_s: float) -> Credential | None:
        if not _PRESENTABLE(presented):
            return None
        digest = sha256(presented).digest()
        found = self._by_digest.get(digest, self._nobody)
        # One path for all that is refused: each is hashed, compared and looked at for its end, whatever came before.
        if not (hmac.compare_digest(found.digest, digest) & (now_s < found.expires_s)):
            self._verified.pop(presented, None)
            return None
        if len(self._verified) >= VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[presented] = found
        found.is_used = True
        return found

    def is_known(self, presented: bytes) -> bool:
        """Say whether this key was good when it was last presented; asks no clock and hashes nothing."""
        return presented in self._verified

    def get(self, key_id: str) -> Credential | None:
        """Return the credential of the key with this id, None when there is none."""
        return self._by_id.get(key_id)

    def add(self, credential: Credential) -> None:
        """Let a key open from now on; its principal has its `key_id`. Raises `ValueError` for a known id or key."""
        key_id = credential.principal.key_id
        if key_id is None or key_id in self._by_id:
            raise ValueError(f"a key needs an id of its own, which {key_id!r} is not")
        if credential.digest in self._by_digest:
            raise ValueError(f"the key {key_id!r} is there already, under another id")
        self._by_id[key_id] = self._by_digest[credential.digest] = credential

    def remove(self, key_id: str) -> Credential | None:
        """Let a key open nothing from now on, and return its credential, which has then expired; None when unknown."""
        found = self._by_id.pop(key_id, None)
        if found is None:
            return None
        del self._by_digest[found.digest]
        found.expires_s = -inf
        for presented in [each for each, credential in self._verified.items() if credential is found]:
            del self._verified[presented]
        return found


def credential_of(key: ApiKey) -> Credential:
    """Return the credential of a configured key, whose name is both its id and its holder's."""
    principal = Principal(key.name, key.tenant, frozenset(key.scopes), key.plan, key.name)
    return Credential(principal, key.digest, epoch_s(key.expires_at))


def epoch_s(time: datetime | None) -> float:
    """Return an aware time as seconds since 1970; infinity for None, which is never."""
    return inf if time is None else time.timestamp()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: its id, its whole text, which is shown once, and what is kept of it."""

    id: str
    text: Secret
    digest: bytes = field(repr=False)


def new_key() -> NewKey:
    """Return a fresh key, `agtr_<id>_<secret>`, of 256 random bits; raises `OSError` where there is no randomness."""
    from secrets import choice, token_urlsafe  # noqa: PLC0415  seldom needed, and it drags in `random`

    key_id = "".join(choice(_ALPHABET) for _ in range(ID_CHARACTERS))
    text = f"agtr_{key_id}_{token_urlsafe(32)}"
    return NewKey(key_id, Secret(text), sha256(text.encode()).digest())


def entry_of(made: NewKey, name: str | None = None) -> str:
    """Return the entry of `auth.api_keys` that knows a key without holding it; its name is the key's id by default.

    Raises `ValueError` for a name that no key may have.
    """
    check_name(name or made.id)
    return f"{name or made.id}:sha256:{made.digest.hex()}"

"""API keys as they are configured: the secret that never shows, what a key may be called, and what it may do."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

HIDDEN = "***"
"""What shows of a secret."""
NAME_CHARACTERS = 100
"""How much an error shows of a name that somebody made up."""
SCOPES = 64
"""How many scopes a key may have."""
_KEY = re.compile(
    r"(?:(?P<name>[A-Za-z0-9._-]{1,64}):)?+(?:sha256:(?P<digest>[0-9a-fA-F]{64})|(?P<key>(?!\S*sha256:)[\x21-\x7e]{1,1024}))"
)
_PLAIN_KEY = re.compile(r"[\x21-\x7e]{1,1024}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
SCOPE = r"^(?:[a-z][a-z0-9_-]{0,63}:(?:read|write)|admin|\*)$"
"""What a scope looks like, as JSON Schema has it too."""
_SCOPE = re.compile(SCOPE)
_RESERVED_NAMES = frozenset({"anonymous", "sha256"})


class Secret:
    """A text that never shows: its `repr`, its `str` and every format of it are `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Hide the text."""
        self._text = text

    def reveal(self) -> str:
        """Return the text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is held: its public name, the SHA-256 of the key itself, and what its holder may do.

    `expires_at`: aware, in UTC; None for never.
    """

    name: str
    digest: bytes = field(repr=False)
    scopes: tuple[str, ...] = ("*",)
    tenant: str = "default"
    plan: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A row of `auth.keys`: exactly one of `key` and `sha256`, in hex, and what the holder may do.

    `scopes`: `*` for all, `admin`, or `<what>:read` and `<what>:write`. `expires_at`: aware, None for never.
    """

    name: str
    key: Secret | None = None
    sha256: Secret | None = None
    scopes: tuple[str, ...] = ("*",)
    tenant: str = "default"
    plan: str | None = None
    expires_at: datetime | None = None

    @property
    def held(self) -> ApiKey:
        """The key as it is held. Raises `ValueError`, which never holds any of it."""
        digest = _digest_of(self.key, self.sha256)
        return ApiKey(self.name, digest, self.scopes, self.tenant, self.plan, self.expires_at)


def parse_key(entry: Secret) -> ApiKey:
    """Return the key that `key`, `name:key` or `name:sha256:<hex>` stands for.

    One without a name is named after its digest. Raises `ValueError`, which never holds any of the entry.
    """
    text = entry.reveal()
    if not text.strip():
        raise ValueError("an API key is empty")
    found = _KEY.fullmatch(text)
    if found is None:
        raise ValueError("an API key is not `key`, `name:key` or `name:sha256:<64 hex digits>` in visible ASCII")
    digest = bytes.fromhex(found["digest"]) if found["digest"] else sha256(found["key"].encode()).digest()
    if found["name"] in _RESERVED_NAMES or (found["digest"] and not found["name"]):
        raise ValueError("an API key needs a name of its own: not `anonymous`, not `sha256`")
    return ApiKey(found["name"] or f"key-{digest.hex()[:8]}", digest)


def _digest_of(key: Secret | None, digest: Secret | None) -> bytes:
    """Return the SHA-256 of a key that is given itself or by its digest; raises `ValueError`, which shows neither."""
    if (key is None) == (digest is None):
        raise ValueError("exactly one of `key` and `sha256` is needed")
    if digest is not None:
        if not _DIGEST.fullmatch(digest.reveal()):
            raise ValueError("`sha256` is not 64 hex digits")
        return bytes.fromhex(digest.reveal())
    text = key.reveal() if key else ""
    if not text.strip():
        raise ValueError("an API key is empty")
    if not _PLAIN_KEY.fullmatch(text):
        raise ValueError("`key` is not 1 to 1024 characters of visible ASCII")
    return sha256(text.encode()).digest()


def check_name(name: str) -> None:
    """Raise `ValueError` unless a key, tenant or plan may be called this."""
    if not _NAME.fullmatch(name) or name in _RESERVED_NAMES:
        raise ValueError(
            "a name is 1 to 64 letters, digits, `.`, `_` and `-`, and not one of " + ", ".join(sorted(_RESERVED_NAMES))
        )


def check_scopes(scopes: Sequence[str]) -> None:
    """Raise `ValueError` for a scope that none could be, for a list without any, and for one that is too long."""
    if not 1 <= len(scopes) <= SCOPES:
        raise ValueError(f"expected 1 to {SCOPES} scopes")
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f"{scope[:NAME_CHARACTERS]!r} is no scope: `*`, `admin`, `<what>:read` or `<what>:write`")


def refuse_twins(keys: Iterable[ApiKey]) -> None:
    """Raise `ValueError` when two keys have one name, or are the same key."""
    names: set[str] = set()
    digests: set[bytes] = set()
    for key in keys:
        if key.name in names:
            raise ValueError(f"two API keys are named `{key.name}`")
        if key.digest in digests:
            raise ValueError("the same API key is listed under two names")
        names.add(key.name)
        digests.add(key.digest)

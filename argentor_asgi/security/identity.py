"""Who asks."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller, or the anonymous one.

    `id` names who holds the key, never the secret; with its tenant it owns what it makes, and is all that equality
    looks at, since a rotated key stands for the same principal. `plan`: the name of its limits, None for the default
    ones. `key_id`: the key that was presented, for audit and revocation.
    """

    id: str
    tenant: str = "default"
    scopes: frozenset[str] = field(default=frozenset({"*"}), compare=False)
    plan: str | None = field(default=None, compare=False)
    key_id: str | None = field(default=None, compare=False)

    def may(self, scope: str) -> bool:
        """Say whether the principal holds `scope`, itself or by `*`; `admin` grants nothing but what asks for it."""
        return scope in self.scopes or "*" in self.scopes


ANONYMOUS = Principal("anonymous")

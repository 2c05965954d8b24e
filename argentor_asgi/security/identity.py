"""Who asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller, or the anonymous one. `id` names the key, never the secret; it owns what it makes."""

    id: str
    tenant: str = "default"
    scopes: frozenset[str] = frozenset({"*"})

    def may(self, scope: str) -> bool:
        """Say whether the principal holds `scope`, itself or by `*`."""
        return scope in self.scopes or "*" in self.scopes


ANONYMOUS = Principal("anonymous")

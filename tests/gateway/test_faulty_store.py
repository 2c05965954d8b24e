"""The store that fails on demand keeps every promise of a store as long as nothing is demanded."""

from contracts.store import StoreContract
from faulty_store import FaultyStore


class TestFaultyStore(StoreContract):
    def make(self, clock):
        return FaultyStore(clock)

"""Keys, tickets and their keyring over a real store in memory, with a clock that a test turns by hand."""

from datetime import UTC, datetime, timedelta

from faulty_store import FaultyStore

from argentor_asgi.errors import StorageUnavailable
from argentor_asgi.gateway.keyring import Keyring, Wish
from argentor_asgi.security.identity import Principal
from argentor_asgi.security.keys import Keys
from argentor_asgi.security.tickets import Tickets

START = datetime(2030, 1, 1, tzinfo=UTC)
ROOT = Principal("root", scopes=frozenset({"*"}))
ADMIN = Principal("boss", "hq", frozenset({"admin", "keys:read", "keys:write"}))
CLERK = Principal("clerk", "acme", frozenset({"keys:read", "keys:write", "chat:write"}))
CHAT = Wish("chat", ("chat:write",))


class Hands:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.passed_s = 0.0

    def now(self):
        return START + timedelta(seconds=self.passed_s)

    def monotonic(self):
        return self.passed_s

    def wait(self, seconds):
        self.passed_s += seconds


class KeyHouse:
    """What `compose` puts together for keys. `store`: one that was there before, as after a restart."""

    def __init__(self, *configured, store=None, clock=None, plans=("pro",)):
        self.clock = clock or Hands()
        self.store = store or FaultyStore(clock=self.clock)
        self.keys = Keys(configured)
        self.tickets = Tickets()
        self.ring = Keyring(
            store=self.store,
            keys=self.keys,
            tickets=self.tickets,
            clock=self.clock,
            plans=plans,
            configured=configured,
        )

    def verify(self, text):
        """Return the credential that a key's text stands for now."""
        return self.keys.verify(text.reveal().encode(), self.clock.now().timestamp())

    def opens(self, text):
        return self.verify(text) is not None

    async def restarted(self):
        """Return another house with the same store, loaded."""
        other = KeyHouse(*self.ring._configured.values(), store=self.store, clock=self.clock)
        await other.ring.load()
        return other


async def failing(*_, **__):
    """Stand in for a method of a store that cannot be reached."""
    raise StorageUnavailable

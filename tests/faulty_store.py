"""A store in memory that fails, or waits, where a test wants it to; otherwise it is the real one."""

import asyncio
from functools import wraps

from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.grammar import check
from argentor_asgi.sessions.memory import MemoryStore


def _on_demand(name):
    """Return the store's method behind its gate and its fault."""
    method = getattr(MemoryStore, name)

    @wraps(method)
    async def call(self, *arguments, **named):
        gate = self.gates.get(name)
        if gate is not None:
            self.reached.set()
            await gate.wait()
        if name in self.faults:
            self.has_failed = True
            raise self.faults[name]
        return await method(self, *arguments, **named)

    return call


class FaultyStore(MemoryStore):
    """`faults`: what a method raises, by its name. `gates`: what a method waits for; `reached` tells that one waits."""

    def __init__(self, clock=None):
        super().__init__(clock=clock or SystemClock())
        self.faults = {}
        self.gates = {}
        self.reached = asyncio.Event()
        self.has_failed = False

    def check_runs(self):
        """Check what every run said whose end is stored; of a store that failed it may be anything."""
        for log in [] if self.has_failed else self._runs.values():
            if log.events and log.events[-1].is_terminal and log.events[0].seq == 1:
                check(log.events)

    def gate(self, name):
        """Make the method wait for the event that is returned."""
        self.reached.clear()
        self.gates[name] = asyncio.Event()
        return self.gates[name]

    begin_run = _on_demand("begin_run")
    start_run = _on_demand("start_run")
    append_events = _on_demand("append_events")
    save_run = _on_demand("save_run")
    get_run = _on_demand("get_run")
    get_claim = _on_demand("get_claim")
    events = _on_demand("events")
    recent = _on_demand("recent")
    get_session = _on_demand("get_session")
    count_sessions = _on_demand("count_sessions")
    prune = _on_demand("prune")
    check = _on_demand("check")
    usage_since = _on_demand("usage_since")
    request_approvals = _on_demand("request_approvals")
    decide_approval = _on_demand("decide_approval")
    get_approval = _on_demand("get_approval")
    list_approvals = _on_demand("list_approvals")
    add_key = _on_demand("add_key")
    all_keys = _on_demand("all_keys")
    list_keys = _on_demand("list_keys")
    get_key = _on_demand("get_key")
    save_key = _on_demand("save_key")
    mark_used = _on_demand("mark_used")

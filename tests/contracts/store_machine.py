"""A store compared, step by step, with dictionaries that say what it should hold.

class MineMachine(StoreMachine):
    def make(self, clock): return MyStore(..., clock=clock)

TestMineMachine = MineMachine.TestCase
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

from contracts.store_values import (
    ALL,
    ME,
    START,
    StillClock,
    a_key,
    a_message,
    a_run,
    a_session,
    an_event,
    numbers,
    texts,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from argentor_asgi.errors import SessionNotFound, StaleSession
from argentor_asgi.sessions.records import LIVE, Claim, Scope

SCOPES = st.sampled_from([ME, Scope("you"), Scope("me", "acme")])
SESSIONS = st.sampled_from(["s1", "s2", "s3"])
RUNS = st.sampled_from(["r1", "r2", "r3", "r4"])
KEYS = st.sampled_from([None, "k1", "k2"])
TEXTS = st.lists(st.text(max_size=3), max_size=3)
KEY_IDS = st.sampled_from(["a", "b", "c"])
DIGESTS = st.sampled_from([b"1", b"2", b"3"])
STATUSES = st.sampled_from(["running", "waiting_approval", "done", "failed"])


class StoreMachine(RuleBasedStateMachine):
    """Does things to a store and to the model; a subclass says how to `make` a store."""

    def make(self, clock):
        raise NotImplementedError

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.make(StillClock())
        self.sure(self.store.__aenter__())
        self.owners, self.said, self.runs, self.claims = {}, {}, {}, {}
        self.keys = {}

    def teardown(self):
        self.sure(self.store.__aexit__(None, None, None))
        self.runner.close()

    def sure(self, call):
        async def work():
            return await call

        return self.runner.run(work())

    def outcome(self, call):
        try:
            return self.sure(call)
        except (SessionNotFound, StaleSession, ValueError) as error:
            return type(error)

    def admits(self, session_id, scope):
        return self.owners.setdefault(session_id, scope) == scope

    @rule(session_id=SESSIONS, scope=SCOPES)
    def open_session(self, session_id, scope):
        found = self.outcome(self.store.open_session(a_session(session_id, scope)))
        if self.admits(session_id, scope):
            assert found.version == len(self.said.setdefault(session_id, []))
        else:
            assert found is SessionNotFound

    @rule(session_id=SESSIONS, said=TEXTS, off=st.sampled_from([None, 0, 0, 1]))
    def append(self, session_id, said, off):
        known = self.said.get(session_id)
        after = None if off is None else len(known or ()) + off
        found = self.outcome(self.store.append(session_id, [a_message(text) for text in said], after=after))
        if known is None:
            assert found is SessionNotFound
        elif off:
            assert found is StaleSession
        else:
            known += said
            assert found == len(known)

    @rule(session_id=SESSIONS, scope=SCOPES)
    def delete_session(self, session_id, scope):
        is_there = self.owners.get(session_id) == scope
        assert self.sure(self.store.delete_session(scope, session_id)) is is_there
        if is_there:
            del self.owners[session_id], self.said[session_id]
            self.runs = {run_id: run for run_id, run in self.runs.items() if run["session"] != session_id}

    @rule(run_id=RUNS, session_id=SESSIONS, scope=SCOPES, key=KEYS, is_queued=st.booleans())
    def begin_run(self, run_id, session_id, scope, key, is_queued):
        if run_id in self.runs:
            return
        claim = Claim(key, "f", run_id) if key else None
        run = a_run(run_id, session_id, scope, status="queued" if is_queued else "running", input="in")
        message = None if is_queued else a_message("in")
        session = a_session(session_id, scope)
        found = self.outcome(self.store.begin_run(run, session=session, message=message, claim=claim))
        if claim and (scope, key) in self.claims:
            assert found == self.claims[scope, key]
        elif self.owners.get(session_id, scope) != scope:
            assert found is SessionNotFound
        else:
            assert found is None
            self.owners[session_id] = scope
            self.said.setdefault(session_id, []).extend([] if is_queued else ["in"])
            self.runs[run_id] = {"session": session_id, "status": run.status, "unsaid": is_queued, "seqs": []}
            if claim:
                self.claims[scope, key] = claim

    @precondition(lambda self: self.runs)
    @rule(run_id=RUNS)
    def start_run(self, run_id):
        run = self.runs.get(run_id)
        found = self.outcome(self.store.start_run(a_run(run_id), a_message("in")))
        if run is None:
            assert found is SessionNotFound
            return
        self.said[run["session"]] += ["in"] if run["unsaid"] else []
        run |= {"status": "running", "unsaid": False}

    @precondition(lambda self: self.runs)
    @rule(run_id=RUNS, seqs=st.lists(st.integers(1, 6), max_size=4, unique=True).map(sorted), status=STATUSES)
    def save_run(self, run_id, seqs, status):
        events = [an_event(seq) for seq in seqs]
        self.sure(self.store.save_run(a_run(run_id, status=status), events))
        if run_id in self.runs:
            run = self.runs[run_id]
            run["status"] = status
            run["seqs"] += [seq for seq in seqs if seq > max(run["seqs"], default=0)]

    @rule()
    def crash(self):
        live = [run for _, run in sorted(self.runs.items()) if run["status"] in LIVE]
        waiting = {run["session"] for run in live if run["status"] == "waiting_approval"}
        kept = [
            run
            for run in live
            if run["status"] == "waiting_approval" or (run["status"] == "queued" and run["session"] in waiting)
        ]
        lost = [run for run in live if run not in kept]
        assert self.sure(self.store.interrupt_live(START)) == len(lost)
        for run in lost:
            self.said[run["session"]] += ["in"] if run["unsaid"] else []
            is_over = bool(run["seqs"]) and run["seqs"][-1] == run.get("end")
            run |= {"status": "failed" if is_over else "interrupted", "unsaid": False}
            if not is_over:
                run["end"] = max(run["seqs"], default=0) + 1
                run["seqs"].append(run["end"])

    def has_digest(self, digest, besides):
        return any(key.digest == digest and key_id != besides for key_id, key in self.keys.items())

    @rule(key_id=KEY_IDS, digest=DIGESTS)
    def add_key(self, key_id, digest):
        key = a_key(key_id, digest=digest)
        is_known = key_id in self.keys or self.has_digest(digest, key_id)
        assert self.outcome(self.store.add_key(key)) is (ValueError if is_known else True)
        if not is_known:
            self.keys[key_id] = key

    @rule(key_id=KEY_IDS, digest=DIGESTS, is_revoked=st.booleans())
    def save_key(self, key_id, digest, is_revoked):
        key = a_key(key_id, digest=digest, revoked_at=START if is_revoked else None)
        found = self.outcome(self.store.save_key(key))
        if self.has_digest(digest, key_id):
            assert found is ValueError
        elif key_id in self.keys:
            self.keys[key_id] = key

    @rule(key_id=KEY_IDS, second=st.integers(0, 3))
    def use_key(self, key_id, second):
        at = START + timedelta(seconds=second)
        self.sure(self.store.mark_used({key_id: at}))
        if key_id in self.keys:
            key = self.keys[key_id]
            self.keys[key_id] = replace(key, last_used_at=max(at, key.last_used_at or at))

    @invariant()
    def every_key_is_there(self):
        assert list(self.sure(self.store.all_keys())) == [key for _, key in sorted(self.keys.items())]

    @invariant()
    def everything_said_is_there(self):
        for session_id in ("s1", "s2", "s3"):
            assert texts(self.sure(self.store.messages(session_id, limit=ALL))) == self.said.get(session_id, [])

    @invariant()
    def every_run_is_there(self):
        for run_id, run in self.runs.items():
            stored = self.sure(self.store.get_run(self.owners[run["session"]], run_id))
            assert (stored.status, stored.last_seq) == (run["status"], max(run["seqs"], default=0))
            assert numbers(self.sure(self.store.events(run_id, limit=ALL))) == run["seqs"]

    @invariant()
    def every_list_is_the_scopes(self):
        for scope in set(self.owners.values()):
            mine = sorted((one for one, owner in self.owners.items() if owner == scope), reverse=True)
            assert [row.id for row in self.sure(self.store.list_sessions(scope, limit=ALL)).rows] == mine
            assert self.sure(self.store.count_sessions(scope)) == len(mine)
            runs = sorted((one for one, run in self.runs.items() if run["session"] in mine), reverse=True)
            assert [row.id for row in self.sure(self.store.list_runs(scope, limit=ALL)).rows] == runs

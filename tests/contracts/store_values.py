"""What the tests of stores put in and ask for."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings

from argentor_asgi.protocol.events import LoggedEvent
from argentor_asgi.protocol.messages import Message
from argentor_asgi.protocol.schema import scrub
from argentor_asgi.sessions.records import Run, Scope, Session, StoredKey

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ME = Scope("me")
OTHERS = (Scope("you"), Scope("me", "acme"), Scope("you", "acme"))
ALL = 10_000
PROPERTY = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors],  # each store's class runs it, which is the purpose
)


class StillClock:
    """A clock that stands where it is put."""

    def __init__(self):
        self.at = START

    def now(self):
        return self.at

    def monotonic(self):
        return 0.0

    def pass_by(self, seconds):
        self.at += timedelta(seconds=seconds)


def a_session(session_id="s", scope=ME, at=START, **fields):
    return Session(session_id, scope.owner, scope.tenant, at, at, **fields)


def a_message(text="hello", session_id="s", **fields):
    return Message(scrub(f"m-{text}")[:20], "user", text, session_id, START, **fields)


def a_run(run_id="r", session_id="s", scope=ME, at=START, **fields):
    fields = {"status": "running", "model": "builtin", "input": "hello"} | fields
    return Run(run_id, session_id, scope.owner, scope.tenant, created_at=at, updated_at=at, **fields)


def a_key(key_id="k", tenant="default", at=START, **fields):
    fields = {"name": "ci", "owner": "me", "scopes": ("chat:write",), "plan": None, "created_by": "root"} | fields
    return StoredKey(key_id, digest=fields.pop("digest", key_id.encode()), tenant=tenant, created_at=at, **fields)


def an_event(seq, kind="text_delta", data=None):
    return LoggedEvent(seq, kind, data if data is not None else f'{{"n":{seq}}}'.encode())


def texts(messages):
    return [message.content for message in messages]


def numbers(events):
    return [event.seq for event in events]


async def begin(store, run=None, **fields):
    """Begin a run in a session of its own scope."""
    run = run or a_run()
    session = a_session(run.session_id, Scope(run.owner, run.tenant), run.created_at)
    return await store.begin_run(run, **{"session": session, "message": a_message(session_id=run.session_id)} | fields)


async def pages(listing, limit):
    """Read a list page by page to its end; also how long each page was."""
    rows, sizes, cursor = [], [], None
    while True:
        page = await listing(limit=limit, cursor=cursor)
        rows += page.rows
        sizes.append(len(page.rows))
        cursor = page.cursor
        if cursor is None:
            return rows, sizes


class FreshStores:
    """Ways to a store for a test; a subclass says how to `make` one."""

    def make(self, clock):
        raise NotImplementedError

    @pytest.fixture
    def clock(self):
        return StillClock()

    @pytest.fixture
    async def store(self, clock):
        async with self.make(clock) as store:
            yield store

    @asynccontextmanager
    async def fresh(self):
        async with self.make(StillClock()) as store:
            yield store

    def run_fresh(self, scenario):
        """Run `scenario(store)` on a store and a loop of its own, as each example of a property needs."""

        async def work():
            async with self.fresh() as store:
                await scenario(store)

        asyncio.run(work())

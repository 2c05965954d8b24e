import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from contracts.store import StoreContract
from contracts.store_machine import StoreMachine
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
    begin,
    numbers,
    texts,
)
from hypothesis import settings

from argentor_asgi.errors import ConfigError, StorageUnavailable
from argentor_asgi.sessions.reader import SLICE_BYTES, SLICE_ROWS
from argentor_asgi.sessions.records import Claim, Note, Used
from argentor_asgi.sessions.schema_sql import MIGRATIONS, migrate
from argentor_asgi.sessions.sqlite import SqliteStore

pytestmark = pytest.mark.slow


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path_factory):
        self.folder = tmp_path_factory.mktemp("store")
        self.made = 0

    def make(self, clock):
        self.made += 1
        return SqliteStore(self.folder / f"{self.made}.db", clock=clock)


class SqliteMachine(StoreMachine):
    def make(self, clock):
        self.folder = TemporaryDirectory()
        return SqliteStore(Path(self.folder.name) / "a.db", clock=clock)

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


TestSqliteMachine = pytest.mark.slow(SqliteMachine.TestCase)
TestSqliteMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


def a_store(path, **fields):
    return SqliteStore(path, clock=StillClock(), **fields)


async def test_a_restart_keeps_everything(path):
    async with a_store(path) as store:
        await begin(store, claim=Claim("k", "f", "r"))
        await store.append_events("r", [an_event(1), an_event(2)])
        await store.add_note(ME, Note("n", "remember", START))
        before = (await store.get_session(ME, "s"), await store.get_run(ME, "r"))
    async with a_store(str(path)) as store:
        assert (await store.get_session(ME, "s"), await store.get_run(ME, "r")) == before
        assert texts(await store.messages("s", limit=ALL)) == ["hello"]
        assert numbers(await store.events("r", limit=ALL)) == [1, 2]
        assert [note.content for note in await store.notes(ME)] == ["remember"]
        assert await begin(store, a_run("r2"), claim=Claim("k", "f", "r2")) == Claim("k", "f", "r")


async def test_one_store_may_be_opened_again(path):
    store = a_store(path)
    for version in (1, 2):
        async with store:
            await store.open_session(a_session())
            assert await store.append("s", [a_message()]) == version


async def test_a_second_store_on_the_file_is_refused_and_the_first_goes_on(path, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    async with a_store(path) as store:
        for name in (path, tmp_path / "link.db"):
            with pytest.raises(ConfigError, match=r"storage\.url=redis://"):
                await a_store(name, lock_wait_s=0.0).__aenter__()
        await store.check()


async def test_a_store_that_is_not_open_is_unavailable(path):
    store = a_store(path)
    await store.aclose()
    with pytest.raises(StorageUnavailable):
        await store.check()
    async with store:
        pass
    await store.aclose()
    for call in (store.get_session(ME, "s"), store.open_session(a_session()), store.check(), store.notes(ME)):
        with pytest.raises(StorageUnavailable):
            await call


async def test_a_file_that_cannot_be_used_is_refused_and_its_lock_freed(path):
    path.write_bytes(b"not a database at all" * 99)
    for _ in range(2):
        with pytest.raises(ConfigError, match="not a database"):
            await a_store(path, lock_wait_s=0.0).__aenter__()
    path.unlink()
    async with a_store(path, lock_wait_s=0.0) as store:
        await store.check()


async def test_closing_frees_the_lock_and_leaves_one_whole_file(path, tmp_path):
    async with a_store(path) as store:
        await store.check()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db", "a.db.lock"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_closing_finishes_what_was_accepted(path):
    async with a_store(path) as store:
        await store.open_session(a_session())
        calls = [asyncio.ensure_future(store.append("s", [a_message(f"{n}")])) for n in range(100)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*calls) == list(range(1, 101))
    async with a_store(path) as store:
        assert len(await store.messages("s", limit=ALL)) == 100


async def limit_pages(store, count):
    """Let the file grow to `count` pages, as a full disk would; 0 lifts the limit."""
    await store._write(lambda db: db.execute(f"PRAGMA max_page_count = {count or 2**31 - 2}").fetchone()[0])


async def test_a_full_disk_is_unavailable_and_harms_nothing(path):
    async with a_store(path) as store:
        await store.open_session(a_session())
        await store.append("s", [a_message("kept")])
        await limit_pages(store, 1)  # SQLite takes the pages that there are
        with pytest.raises(StorageUnavailable):
            await store.append("s", [a_message("x" * 200_000)])
        assert texts(await store.messages("s", limit=ALL)) == ["kept"]
        await limit_pages(store, 0)
        assert await store.append("s", [a_message("again")]) == 2


async def test_a_file_damaged_while_it_is_used_is_unavailable(path):
    async with a_store(path) as store:
        await store.open_session(a_session())
        await store.append("s", [a_message("x" * 3000) for _ in range(100)])
        await store._write(lambda db: db.execute("DROP TABLE notes"))
        with pytest.raises(StorageUnavailable):
            await store.notes(ME)
        with pytest.raises(StorageUnavailable):
            await store.add_note(ME, Note("n", "x", START))
        assert len(await store.messages("s", limit=ALL)) == 100


async def test_json_in_the_file_that_is_none_is_unavailable(path):
    async with a_store(path) as store:
        await store.open_session(a_session(metadata={"a": 1}))
        for broken in (b"{", b"[]"):
            await store._write(lambda db, broken=broken: db.execute("UPDATE sessions SET metadata = ?", (broken,)))
            with pytest.raises(StorageUnavailable):
                await store.get_session(ME, "s")


@pytest.mark.parametrize(("count", "size"), [(SLICE_ROWS * 3, 1), (6, SLICE_BYTES)])
async def test_the_loop_runs_between_the_slices_of_a_long_read(path, count, size):
    async with a_store(path) as store:
        await store.open_session(a_session())
        await store.append("s", [a_message(f"{n}".ljust(size)) for n in range(count)])
        turns = 0

        async def watch():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        watching = asyncio.ensure_future(watch())
        found = await store.messages("s", limit=count)
        watching.cancel()
        assert [int(text) for text in texts(found)] == list(range(count))
        assert turns >= 2


async def test_a_read_that_is_under_way_does_not_hide_new_commits(path):
    async with a_store(path) as store:
        await store.open_session(a_session())
        await store.append("s", [a_message(f"{n}") for n in range(SLICE_ROWS * 4)])
        reading = asyncio.ensure_future(store.messages("s", limit=ALL))
        await asyncio.sleep(0)
        assert not reading.done()
        await store.open_session(a_session("s2"))
        assert await store.get_session(ME, "s2") is not None
        assert len(await reading) == SLICE_ROWS * 4


async def test_the_oldest_times_and_ids_are_columns_that_any_tool_can_read(path):
    async with a_store(path) as store:
        await begin(store)
    with closing(sqlite3.connect(path)) as db:
        row = db.execute("SELECT tenant, owner, created_at FROM sessions").fetchone()
        assert row == ("default", "me", 1772366400123456)
        assert db.execute("SELECT idx, content FROM messages").fetchall() == [(0, "hello")]


async def test_pruned_rows_go_in_steps_between_which_others_write(path):
    clock = StillClock()
    async with SqliteStore(path, clock=clock) as store:
        for n in range(100):
            await store.open_session(a_session(f"s{n}", expires_at=START))
        pruning = asyncio.ensure_future(store.prune(START - timedelta(days=1)))
        await store.open_session(a_session("new"))
        assert not pruning.done()
        assert await pruning == 100
        assert await store.count_sessions(ME) == 1


FIRST_ROWS = (
    "INSERT INTO sessions VALUES ('s', 'default', 'me', 1, 2, 'old', 1, NULL, NULL, NULL)",
    "INSERT INTO messages VALUES ('s', 0, 'm', 'user', 'hello', 1, NULL, NULL, NULL)",
    "INSERT INTO runs VALUES ('r', 's', 'default', 'me', 'done', '', '', 1, 2, '', NULL, NULL, 1, 3, 4, 0, 0, 1, 0, 1)",
    "INSERT INTO events VALUES ('r', 1, 'done', x'7b7d')",
    "INSERT INTO claims VALUES ('default', 'me', 'k', 'f', 'r', 1)",
    "INSERT INTO notes VALUES ('default', 'me', 'n', 'remember', 1, NULL)",
)


@pytest.mark.parametrize("since", range(1, len(MIGRATIONS)))
async def test_a_file_of_an_earlier_version_opens_and_keeps_its_rows(path, since):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db, MIGRATIONS[:1])
        for statement in FIRST_ROWS:
            db.execute(statement)
        migrate(db, MIGRATIONS[:since])
    async with a_store(path) as store:
        assert (await store.get_session(ME, "s")).title == "old"
        assert texts(await store.messages("s", limit=ALL)) == ["hello"]
        run = await store.get_run(ME, "r")
        assert (run.input, run.cost_micros, run.tool_calls, run.work_ms) == ("", None, 0, 0)
        assert numbers(await store.events("r", limit=ALL)) == [1]
        assert await store.get_claim(ME, "k") == Claim("k", "f", "r")
        assert [note.content for note in await store.notes(ME)] == ["remember"]
        found, total = await store.search_notes(ME, "remembering", limit=1)
        assert ([note.id for note, _ in found], total) == (["n"], 1)
        assert await store.usage_since(START - timedelta(days=99_999)) == [(ME, Used(7))]
        assert await store.add_key(a_key())
        assert await store.delete_note(ME, "n")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)


async def test_a_restart_keeps_keys_and_their_use(path):
    async with a_store(path) as store:
        await store.add_key(a_key())
        await store.mark_used({"k": START})
    async with a_store(path) as store:
        assert list(await store.all_keys()) == [a_key(last_used_at=START)]


async def test_the_depth_of_the_queue_is_what_is_accepted_and_not_committed(path):
    store = a_store(path)
    assert store.queue_depth == 0
    async with store:
        await store.open_session(a_session())
        calls = [asyncio.ensure_future(store.append("s", [a_message(f"{n}")])) for n in range(20)]
        await asyncio.sleep(0)
        assert store.queue_depth == 20
        calls[3].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await store.check()
        assert store.queue_depth == 0
    assert store.queue_depth == 0

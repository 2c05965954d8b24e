import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from contracts.store_values import START, StillClock

from argentor_asgi.sessions.records import LIVE
from argentor_asgi.sessions.sqlite import SqliteStore

SCRIPT = Path(__file__).parents[1] / "killed_writers.py"
KILLS = 50


def acknowledged(path, seed):
    """Let writers be killed, and return what they had acknowledged, by kind."""
    command = [sys.executable, SCRIPT, path, str(KILLS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603  our script
    assert (done.returncode, done.stderr) == (0, "")
    found = defaultdict(set)
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        found[kind].add(rest)
    return found


def column(path, sql):
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute(sql)]


@pytest.mark.slow
async def test_a_crash_at_any_moment_loses_nothing_acknowledged_and_corrupts_nothing(tmp_path):
    path = tmp_path / "killed.db"
    promised = acknowledged(path, seed=20260301)
    assert len(promised["message"]) > KILLS
    async with SqliteStore(path, clock=StillClock()) as store:
        await store.interrupt_live(START)
    assert column(path, "PRAGMA integrity_check") == ["ok"]
    assert column(path, "PRAGMA foreign_key_check") == []
    runs = set(column(path, "SELECT id FROM runs"))
    assert promised["run"] | promised["queued"] <= runs
    assert promised["message"] <= set(column(path, "SELECT id FROM messages"))
    assert promised["event"] <= set(column(path, "SELECT run_id || ' ' || seq FROM events"))
    assert promised["end"] <= set(column(path, "SELECT id FROM runs WHERE status = 'done'"))
    assert not LIVE & set(column(path, "SELECT DISTINCT status FROM runs"))
    ends = column(path, "SELECT run_id FROM events WHERE type IN ('done', 'error', 'cancelled')")
    assert sorted(ends) == sorted(runs)
    last = column(path, "SELECT type FROM events e WHERE seq = (SELECT max(seq) FROM events WHERE run_id = e.run_id)")
    assert set(last) == {"done", "error"}
    said = set(column(path, "SELECT session_id || content FROM messages WHERE content LIKE 'input %'"))
    assert {f"{run_id.split('.')[0]}input {run_id}" for run_id in promised["queued"]} <= said
    gaps = column(
        path, "SELECT id FROM sessions s WHERE version != (SELECT count(*) FROM messages WHERE session_id = s.id)"
    )
    assert gaps == []

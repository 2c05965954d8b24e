import json
import os
import resource
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.ops.audit_entry import FIRST_HASH, Link, entry, is_sound, row_of, seal
from argentor_asgi.ops.audit_files import RETENTION_CHECK, AuditFiles
from argentor_asgi.ops.audit_read import ACTIVE, HEAD, PAGE_BYTES, last_row, newest_first, page, read_head, rotated
from argentor_asgi.ops.audit_verify import verify

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(1)


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(now=NOW, **fields):
        files = AuditFiles(tmp_path, **{"file_bytes": 1000, "retention_days": 30} | fields)
        made.append(files)
        assert files.try_lock()
        files.open(now)
        return files

    yield make
    for files in made:
        files.close()


def some(count, at=NOW, **details):
    return [entry(at, "run_start", "success", {"number": number, **details}) for number in range(count)]


def found(directory):
    paths = [*rotated(directory), directory / ACTIVE]
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def test_a_sealed_line_is_read_back_and_its_hash_is_that_of_its_bytes():
    line, link = seal(some(1, text="é\ud800")[0], Link())
    row = row_of(line[:-1])
    assert (row.seq, row.prev, Link(row.seq, row.hash)) == (1, FIRST_HASH, link)
    assert is_sound(line[:-1], row)
    assert not is_sound(line[:-1].replace(b"run_start", b"run_begin"), row)


def test_a_file_is_full_at_its_size_and_the_chain_goes_on(opened, tmp_path):
    files = opened()
    assert files.append(some(50), NOW).taken == 50
    names = [path.name for path in rotated(tmp_path)]
    firsts = [json.loads(path.read_bytes().splitlines()[0])["seq"] for path in rotated(tmp_path)]
    assert names == [f"audit-{seq:012}.jsonl" for seq in firsts]
    assert len(names) > 5
    assert all(1000 <= path.stat().st_size < 1400 for path in rotated(tmp_path))
    assert read_head(tmp_path) == files.last
    assert verify(tmp_path).first_break is None


def test_a_file_of_one_byte_holds_one_entry(opened, tmp_path):
    opened(file_bytes=1).append(some(5), NOW)
    assert len(rotated(tmp_path)) == 5
    assert verify(tmp_path).entries == 6


def test_a_name_that_is_taken_is_not_overwritten_and_nothing_is_lost(opened, tmp_path):
    files = opened()
    (tmp_path / "audit-000000000001.jsonl").write_bytes(b"evidence")
    left = some(9)
    written = files.append(left, NOW)
    assert isinstance(written.error, FileExistsError)
    while left:
        assert written.taken > 0
        left = left[written.taken :]
        written = files.append(left, NOW)
    assert (tmp_path / "audit-000000000001.jsonl").read_bytes() == b"evidence"
    assert files.last.seq == 10


def test_a_second_writer_is_kept_out(opened, tmp_path):
    opened()
    assert AuditFiles(tmp_path, file_bytes=1, retention_days=1).try_lock() is False


def test_files_past_their_age_go_after_an_entry_says_so_and_the_active_one_never(opened, tmp_path):
    files = opened(now=NOW - 40 * DAY)
    files.append(some(20, NOW - 40 * DAY), NOW - 40 * DAY)
    old = rotated(tmp_path)
    assert len(old) > 2
    written = files.append(some(1), NOW)
    assert [each.action for each in written.entries] == ["run_start", "audit_retention"]
    assert not [path for path in old if path.exists()]
    told = written.entries[-1].details
    assert told == {"files": len(old), "last_seq": found(tmp_path)[0]["seq"] - 1}
    assert files.kept == len(found(tmp_path))
    assert verify(tmp_path).first_break is None
    assert last_row(tmp_path / ACTIVE).action == "audit_retention"


def test_a_file_goes_only_when_its_last_entry_is_too_old(opened, tmp_path):
    files = opened(now=NOW - 40 * DAY)
    files.append(some(1, NOW - 40 * DAY), NOW - 40 * DAY)
    files.append(some(2, NOW - 30 * DAY), NOW - 30 * DAY)
    [kept] = rotated(tmp_path)
    files.append(some(1), NOW)
    assert kept.exists()
    files.append(some(1), NOW + RETENTION_CHECK + timedelta(microseconds=1))
    assert not kept.exists()


def test_an_unfinished_line_is_cut_off_and_told(opened, tmp_path):
    opened().close()
    whole = (tmp_path / ACTIVE).read_bytes()
    (tmp_path / ACTIVE).write_bytes(whole + b'{"seq":3,"timest')
    opened()
    assert (tmp_path / ACTIVE).read_bytes().startswith(whole)
    assert [line["action"] for line in found(tmp_path)] == ["audit_opened", "audit_recovered", "audit_opened"]
    assert found(tmp_path)[1]["details"]["cut_bytes"] == 16
    assert verify(tmp_path).first_break is None


@pytest.mark.parametrize("broken", [b"garbage\n", b"{}\n", b"\xff\n", b"\n", b"x" * 300_000 + b"\n"])
def test_a_broken_chain_is_told_and_gone_on_with(opened, tmp_path, caplog, broken):
    opened().close()
    (tmp_path / ACTIVE).write_bytes((tmp_path / ACTIVE).read_bytes() + broken)
    files = opened()
    assert files.append(some(1), NOW).error is None
    assert "not as it was left" in caplog.text
    rows = [row for row, _ in newest_first(tmp_path) if row is not None]
    assert [row.action for row in rows] == ["run_start", "audit_opened", "audit_recovered", "audit_opened"]
    assert rows[2].details["flaw"] == "line 2: it is not an entry"
    assert verify(tmp_path).first_break.line == 2


def test_a_changed_line_is_told_at_start(opened, tmp_path):
    files = opened(file_bytes=10**6)
    files.append(some(3), NOW)
    files.close()
    active = tmp_path / ACTIVE
    active.write_bytes(active.read_bytes().replace(b'"number":1', b'"number":7'))
    opened(file_bytes=10**6)
    assert found(tmp_path)[-2]["details"]["flaw"] == "line 3: its hash is not that of its bytes"


def test_a_lost_head_is_made_anew(opened, tmp_path):
    opened().close()
    (tmp_path / HEAD).unlink()
    files = opened()
    assert read_head(tmp_path) == files.last
    assert verify(tmp_path).first_break is None


def test_a_number_is_never_used_twice(opened, tmp_path):
    files = opened()
    files.append(some(3), NOW)
    files.close()
    (tmp_path / ACTIVE).unlink()
    assert opened().last.seq > 4
    assert verify(tmp_path).first_break is None


def test_a_line_put_behind_our_back_is_noticed(opened, tmp_path, caplog):
    files = opened()
    with (tmp_path / ACTIVE).open("ab") as file:
        file.write(b"forged")
    assert [each.action for each in files.append(some(1), NOW).entries] == ["audit_recovered", "run_start"]
    assert "not as it was left" in caplog.text
    assert verify(tmp_path).first_break is None


def test_a_page_reads_a_bounded_piece_and_goes_on_from_there(opened, tmp_path):
    files = opened(file_bytes=10**9)
    while (tmp_path / ACTIVE).stat().st_size < 2 * PAGE_BYTES:
        files.append(some(500, text="x" * 1500), NOW)
    cursor, pages = None, 0
    while pages < 9:
        got = page(tmp_path, below=cursor, limit=5, is_wanted=lambda row: row.seq in (1, 2))
        pages += 1
        if got.cursor is None:
            break
        cursor = int(got.cursor)
    assert (pages, [row.seq for row in got.rows]) == (3, [2, 1])


def test_a_page_in_the_middle_of_a_large_file_begins_below_its_cursor(opened, tmp_path):
    files = opened(file_bytes=10**9)
    files.append(some(3000, text="x" * 100), NOW)
    for below in (2, 3, 500, 1500, 2999, 3001, 9999):
        rows = page(tmp_path, below=below, limit=3, is_wanted=lambda _: True).rows
        first = min(below, 3002) - 1
        assert [row.seq for row in rows] == [seq for seq in (first, first - 1, first - 2) if seq > 0]


def test_a_write_that_the_system_refuses_leaves_whole_lines(opened, tmp_path):
    files = opened(file_bytes=10**6)
    files.append(some(3), NOW)
    before = (tmp_path / ACTIVE).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        written = files.append(some(3), NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (written.taken, isinstance(written.error, OSError)) == (0, True)
    assert (tmp_path / ACTIVE).read_bytes() == before
    assert files.append(some(3), NOW).taken == 3
    assert verify(tmp_path).first_break is None


def test_what_could_not_be_cut_off_at_once_is_cut_off_before_the_next_write(opened, tmp_path):
    files = opened(file_bytes=10**6)
    os.write(files._fd, b'{"seq":2,')
    files._is_torn = True
    written = files.append(some(1), NOW)
    assert [each.action for each in written.entries] == ["run_start"]
    assert verify(tmp_path).first_break is None


@cache
def the_log(file_bytes):
    """Return a log of 60 entries, by file name."""
    with TemporaryDirectory() as folder:
        files = AuditFiles(Path(folder), file_bytes=file_bytes, retention_days=9)
        assert files.try_lock()
        files.open(NOW)
        files.append(some(59, text="x" * 3000), NOW)
        files.close()
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@contextmanager
def a_copy(file_bytes):
    with TemporaryDirectory() as folder:
        for name, data in the_log(file_bytes).items():
            (Path(folder) / name).write_bytes(data)
        yield Path(folder)


@given(
    file_bytes=st.sampled_from([20_000, 10**6]),
    below=st.none() | st.integers(1, 70),
    limit=st.integers(1, 70),
    modulus=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_any_page_is_that_of_a_log_read_whole(file_bytes, below, limit, modulus):
    with a_copy(file_bytes) as directory:
        got = page(directory, below=below, limit=limit, is_wanted=lambda row: row.seq % modulus == 0)
        wanted = [seq for seq in range(60, 0, -1) if (below is None or seq < below) and seq % modulus == 0]
        assert [row.seq for row in got.rows] == wanted[:limit]
        assert got.cursor is not None or len(wanted) <= limit


@given(kept=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_file_cut_anywhere_is_gone_on_with_and_the_loss_is_told(kept):
    with a_copy(20_000) as directory:
        active = directory / ACTIVE
        whole = active.read_bytes()
        kept = kept % (len(whole) + 1)
        active.write_bytes(whole[:kept])
        files = AuditFiles(directory, file_bytes=20_000, retention_days=9)
        assert files.try_lock()
        _, written = files.open(NOW)
        files.close()
        names = [each.action for each in written.entries]
        assert names == (["audit_opened"] if kept == len(whole) else ["audit_recovered", "audit_opened"])
        assert verify(directory).first_break is None

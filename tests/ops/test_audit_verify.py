import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops.audit_entry import entry
from argentor_asgi.ops.audit_files import AuditFiles
from argentor_asgi.ops.audit_read import ACTIVE, HEAD, rotated
from argentor_asgi.ops.audit_verify import Break, report_lines, verify

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUICK = settings(max_examples=50, deadline=None)


def filled(directory, entries=12, *, file_bytes=1000, now=NOW):
    """Write a log of some files, and return how many entries are in it."""
    files = AuditFiles(Path(directory), file_bytes=file_bytes, retention_days=30)
    assert files.try_lock()
    files.open(now)
    for number in range(entries):
        assert files.append([entry(now, "run_start", "success", {"number": number})], now).error is None
    files.close()
    return files.last.seq


@cache
def the_log():
    """Return a log of some files, by name."""
    with TemporaryDirectory() as folder:
        filled(folder, 6)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@contextmanager
def a_copy():
    with TemporaryDirectory() as folder:
        for name, data in the_log().items():
            (Path(folder) / name).write_bytes(data)
        yield Path(folder)


def all_files(directory):
    return [*rotated(directory), directory / ACTIVE]


def all_lines(directory):
    return [line for path in all_files(directory) for line in path.read_bytes().splitlines(keepends=True)]


def rewrite(directory, change):
    """Put changed lines back where they were, the first files as long as they were."""
    for path in all_files(directory):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(change(lines)))


def test_an_untouched_log_is_whole(tmp_path):
    entries = filled(tmp_path)
    report = verify(tmp_path)
    assert (report.entries, report.first_seq, report.last_seq) == (entries, 1, entries)
    assert (report.first_break, report.notes, report.exit_code) == (None, [], 0)
    assert len(rotated(tmp_path)) > 2
    assert report_lines(report) == [f"{entries} entries, 1 to {entries}", "the chain is whole"]


def test_a_log_over_several_starts_is_whole(tmp_path):
    for _ in range(3):
        filled(tmp_path, 3)
    report = verify(tmp_path)
    assert (report.first_break, report.notes, report.entries) == (None, [], 12)


@given(data=st.data())
@QUICK
def test_any_changed_byte_is_found(data):
    with a_copy() as directory:
        path = data.draw(st.sampled_from([*all_files(directory), directory / HEAD]))
        before = bytearray(path.read_bytes())
        before[data.draw(st.integers(0, len(before) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(before)
        assert verify(directory).exit_code == 1


@given(data=st.data())
@QUICK
def test_any_line_that_is_gone_is_found(data):
    with a_copy() as directory:
        number, gone = count(1), data.draw(st.integers(1, len(all_lines(directory))))
        rewrite(directory, lambda lines: [line for line in lines if next(number) != gone])
        assert verify(directory).exit_code == 1


@given(data=st.data())
@QUICK
def test_any_two_lines_that_changed_places_are_found(data):
    with a_copy() as directory:
        lines = all_lines(directory)
        one, other = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
        lines[one], lines[other] = lines[other], lines[one]
        new = iter(lines)
        rewrite(directory, lambda old: [next(new) for _ in old])
        assert verify(directory).exit_code == 1


@given(data=st.data())
@QUICK
def test_any_line_that_was_put_in_is_found(data):
    with a_copy() as directory:
        lines = all_lines(directory)
        extra = data.draw(st.sampled_from(lines) | st.binary(max_size=60).map(lambda text: text + b"\n"))
        path = data.draw(st.sampled_from(all_files(directory)))
        there = path.read_bytes().splitlines(keepends=True)
        there.insert(data.draw(st.integers(0, len(there))), extra)
        path.write_bytes(b"".join(there))
        assert verify(directory).exit_code == 1


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_file_that_is_gone_is_found(tmp_path, place):
    filled(tmp_path)
    rotated(tmp_path)[place].unlink()
    assert verify(tmp_path).exit_code == 1


def test_the_newest_entries_that_are_gone_are_found(tmp_path):
    last = filled(tmp_path)
    active = tmp_path / ACTIVE
    lines = active.read_bytes().splitlines(keepends=True)
    active.write_bytes(b"".join(lines[:-1]))
    assert verify(tmp_path).first_break == Break(ACTIVE, 0, f"entries {last} to {last} are missing at the end")
    active.unlink()
    assert verify(tmp_path).exit_code == 1


def test_a_file_of_another_name_or_without_entries_is_found(tmp_path):
    filled(tmp_path)
    first = rotated(tmp_path)[0]
    other = first.rename(tmp_path / "audit-000000000002.jsonl")
    assert "its name" in verify(tmp_path).first_break.what
    other.rename(first)
    (tmp_path / "audit-000000000002.jsonl").touch()
    assert verify(tmp_path).first_break == Break("audit-000000000002.jsonl", 0, "the file is empty")


def test_a_head_that_is_gone_or_another_logs_is_found(tmp_path):
    filled(tmp_path / "a", 8)
    filled(tmp_path / "b", 8, now=NOW + timedelta(1))
    (tmp_path / "a" / HEAD).write_bytes((tmp_path / "b" / HEAD).read_bytes())
    assert "a hash that the entry has not" in verify(tmp_path / "a").first_break.what
    (tmp_path / "a" / HEAD).unlink()
    assert verify(tmp_path / "a").first_break.file == HEAD


def test_a_rewritten_entry_with_a_fitting_hash_breaks_the_line_behind(tmp_path):
    filled(tmp_path, 3, file_bytes=10**6)
    lines = (tmp_path / ACTIVE).read_bytes().splitlines(keepends=True)
    forged = AuditFiles(tmp_path / "forged", file_bytes=10**6, retention_days=1)
    assert forged.try_lock()
    forged.open(NOW + timedelta(1))
    forged.close()
    lines[0] = (tmp_path / "forged" / ACTIVE).read_bytes()
    (tmp_path / ACTIVE).write_bytes(b"".join(lines))
    found = verify(tmp_path).first_break
    assert (found.line, found.what) == (2, "its `prev` is not the hash of the line before")
    assert report_lines(verify(tmp_path))[-1] == f"BROKEN: {ACTIVE}, line 2: {found.what}"


def test_files_deleted_for_their_age_are_no_break_and_any_more_are(tmp_path):
    filled(tmp_path, 20, now=NOW - timedelta(60))
    filled(tmp_path, 20)
    report = verify(tmp_path)
    assert report.first_break is None
    assert report.first_seq > 1
    rotated(tmp_path)[0].unlink()
    assert verify(tmp_path).exit_code == 1


def test_a_crash_that_lost_entries_is_told_and_not_taken_for_a_break(tmp_path):
    last = filled(tmp_path, 3, file_bytes=10**6)
    active = tmp_path / ACTIVE
    lines = active.read_bytes().splitlines(keepends=True)
    active.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    filled(tmp_path, 1, file_bytes=10**6)
    report = verify(tmp_path)
    told = json.loads(active.read_bytes().splitlines()[-3])
    assert told["action"] == "audit_recovered"
    assert told["details"] == {"last_seq": last - 2, "cut_bytes": 40, "lost": 2, "flaw": ""}
    assert (report.first_break, len(report.notes)) == (None, 1)
    assert "'lost': 2" in report_lines(report)[1]
    active.write_bytes(b"".join(active.read_bytes().splitlines(keepends=True)[1:]))
    assert verify(tmp_path).exit_code == 1


def test_a_directory_without_a_log_is_refused(tmp_path):
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="holds no audit log"):
            verify(directory)


def test_a_log_that_cannot_be_read_is_refused(tmp_path):
    filled(tmp_path)
    (tmp_path / ACTIVE).unlink()
    (tmp_path / ACTIVE).mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(tmp_path)


def test_the_only_entry_of_a_log_is_missed(tmp_path):
    filled(tmp_path, 0)
    assert verify(tmp_path).entries == 1
    (tmp_path / ACTIVE).write_bytes(b"")
    assert verify(tmp_path).exit_code == 1
    assert report_lines(verify(tmp_path))[0] == "no entries"

import errno
import re
import socket
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argentor_asgi import doctor
from argentor_asgi.config import Audit, Auth, Config, Key, Otel, Plan, Secret, Storage
from argentor_asgi.doctor import Finding, examine
from argentor_asgi.server import system
from argentor_asgi.sessions.lock import FileLock
from argentor_asgi.sessions.probe import SQLITE_VERSION, has_reset_bug, try_write, writer_of

KEY = Secret("ops:0123456789abcdef")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_machine_that_is_fine_has_nothing_that_fails(tmp_path: Path):
    found = list(examine({}, tmp_path, [f"127.0.0.1:{free_port()}"]))
    assert "fail" not in [finding.level for finding in found]
    subjects = ["python", "sqlite", "uvloop", "tzdata", "guards", "kernel", "config", "store", "disk", "audit", "files"]
    assert [finding.subject for finding in found] == [*subjects, "callers", "agent", "bind"]


def test_looking_changes_nothing(tmp_path: Path):
    list(examine({"ARGENTOR_STORAGE_URL": f"sqlite:///{tmp_path}/a.db"}, tmp_path, []))
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_does_not_load_fails_and_ends_it(tmp_path: Path):
    found = list(examine({"ARGENTOR_LIMITS_RUNS": "x"}, tmp_path, ["127.0.0.1:1"]))
    assert (found[-1].level, found[-1].subject) == ("fail", "config")


def test_memory_is_a_warning():
    assert doctor.store(None).level == "warn"


def test_a_store_in_a_missing_folder_fails(tmp_path: Path):
    assert doctor.store(tmp_path / "absent" / "a.db").level == "fail"


def test_a_store_that_can_be_written_is_fine_and_stays_as_it_was(tmp_path: Path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    before = path.read_bytes()
    assert doctor.store(path) == Finding("ok", "store", f"{path} can be written")
    assert path.read_bytes() == before


def test_a_store_that_is_no_database_fails(tmp_path: Path):
    path = tmp_path / "a.db"
    path.write_bytes(b"nothing of the kind" * 100)
    assert doctor.store(path).level == "fail"


def test_a_store_that_a_gateway_has_in_use_is_said_so_and_left_alone(tmp_path: Path):
    path = tmp_path / "a.db"
    path.write_bytes(b"")
    lock = FileLock(tmp_path / "a.db.lock")
    assert lock.try_acquire()
    try:
        found = doctor.store(path)
    finally:
        lock.release()
    assert (found.level, "in use by a running gateway" in found.words) == ("ok", True)
    assert writer_of(path) is None


def test_a_database_that_is_locked_is_not_written(tmp_path: Path):
    path = tmp_path / "a.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        try_write(path, wait_s=0.01)
    other.close()


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_reset_bug_is_told_by_the_version(version: tuple[int, ...], has: bool):
    assert has_reset_bug(version) == has


def test_the_version_of_the_library_is_named():
    assert doctor.sqlite().words.startswith(SQLITE_VERSION)


def test_a_library_without_full_text_search_fails():
    found = doctor.sqlite(search_module="no_such_module")
    assert (found.level, "lacks NO_SUCH_MODULE" in found.words) == ("fail", True)


def test_a_port_that_is_taken_is_a_warning():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = doctor.port(f"127.0.0.1:{taken.getsockname()[1]}")
    assert (found.level, "taken" in found.words) == ("warn", True)


@pytest.mark.parametrize("address", ["192.0.2.1:8000", "", "x", "localhost", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_cannot_be_listened_on_fails(address: str):
    assert doctor.port(address).level == "fail"


def test_the_reason_of_a_refused_port_is_given():
    found = doctor._not_free("a:1", OSError(errno.EACCES, "Permission denied"))
    assert found == Finding("fail", "bind", "a:1 cannot be listened on: Permission denied; choose another --bind")


def test_the_folder_of_a_unix_socket_must_exist(tmp_path: Path):
    assert doctor.port(f"unix:{tmp_path}/a.sock").level == "ok"
    assert doctor.port(f"unix:{tmp_path}/absent/a.sock").level == "fail"


@pytest.mark.parametrize(
    ("auth", "bind", "expected"),
    [
        (Auth(), "127.0.0.1:8000", "ok"),
        (Auth(), "[::1]:8000", "ok"),
        (Auth(), "unix:/run/a.sock", "ok"),
        (Auth(), "0.0.0.0:8000", "warn"),
        (Auth(), "[::]:8000", "warn"),
        (Auth(api_keys=(KEY,)), "0.0.0.0:8000", "ok"),
        (Auth(allow_anonymous=True), "127.0.0.1:8000", "ok"),
        (Auth(allow_anonymous=True, api_keys=(KEY,)), "0.0.0.0:8000", "warn"),
    ],
)
def test_who_is_served_is_told(auth: Auth, bind: str, expected: str):
    assert doctor.callers(Config(auth=auth), [bind]).level == expected


@pytest.mark.parametrize(("entry", "count"), [("ops:" + "k" * 15, 1), ("k" * 15, 1), ("ops:" + "k" * 16, 0)])
def test_a_short_key_is_a_warning_that_does_not_show_it(entry: str, count: int):
    found = list(doctor.keys(Config(auth=Auth(api_keys=(Secret(entry),)))))
    assert len(found) == count
    assert not any("kkk" in finding.words for finding in found)


@pytest.mark.parametrize(("text", "count"), [("k" * 15, 1), ("k" * 16, 0), ("a:" + "k" * 14, 0)])
def test_a_short_key_in_a_row_is_named_without_showing_it(text: str, count: int):
    rows = (Key("ci", key=Secret(text)), Key("hashed", sha256=Secret("ab" * 32)))
    found = list(doctor.keys(Config(auth=Auth(keys=rows))))
    assert len(found) == count
    assert all("`ci`" in each.words and text not in each.words for each in found)


def test_keys_in_rows_count_as_keys():
    config = Config(auth=Auth(keys=(Key("ci", key=Secret("k" * 16)),)))
    assert doctor.callers(config, ["0.0.0.0:8000"]).level == "ok"


def test_keys_are_counted_by_what_they_may_do_and_nothing_of_them_is_shown():
    keys = (
        Key("one", key=Secret("k" * 20), plan="free"),
        Key("two", key=Secret("l" * 20), plan="free", scopes=("chat:read",)),
        Key("three", key=Secret("m" * 20), expires_at=NOW),
    )
    config = Config(auth=Auth(api_keys=(KEY,), keys=keys), plans={"pro": Plan(), "free": Plan()})
    words = "4 configured, 3 with every scope, 1 expired, 2 of plan free, 0 of plan pro"
    assert list(doctor.holders(config, NOW)) == [Finding("ok", "keys", words)]
    assert list(doctor.holders(Config(), NOW)) == []


def test_guards_that_fit_are_fine_and_others_are_a_warning():
    assert doctor.guards().level == "ok"
    assert doctor.guarded("hypercorn 0.19.0").level == "warn"


def test_a_kernel_that_lacks_an_option_is_a_warning():
    assert doctor.kernel(system.missing_options()).level == "ok"
    assert "lacks TCP_NO_SUCH" in doctor.kernel(system.missing_options({"TCP_NO_SUCH": 1})).words


def test_the_audit_log_is_looked_for_where_it_will_be(tmp_path: Path):
    def found(url: str = "memory://", directory: str | None = None, *, enabled: bool = True) -> Finding:
        return doctor.audit(Config(storage=Storage(url), audit=Audit(enabled=enabled, directory=directory)))

    (tmp_path / "file").touch()
    assert found(f"sqlite:///{tmp_path}/a.db").words == f"{tmp_path}/a.db-audit can be written"
    assert found(directory=str(tmp_path / "b" / "c")).level == "ok"
    assert found(directory=str(tmp_path / "file")).level == "fail"
    assert found().level == "warn"
    assert found(enabled=False).words == "no audit log is kept"


def test_traces_need_their_extra():
    config = Config(otel=Otel(endpoint="http://127.0.0.1:4318"))
    assert list(doctor.traces(Config(), can_send=False)) == []
    assert [finding.level for finding in doctor.traces(config, can_send=doctor._has_otel())] == ["ok"]
    assert [finding.level for finding in doctor.traces(config, can_send=False)] == ["fail"]


def test_a_descriptor_is_nothing_to_try():
    assert doctor.port("fd://3").level == "ok"


def test_few_files_are_a_warning():
    assert doctor.files(1).level == "ok"
    assert doctor.files(10**9).level == "warn"


def test_the_disk_is_looked_at_where_the_store_will_be(tmp_path: Path):
    assert str(tmp_path) in doctor.disk(tmp_path / "absent" / "a.db").words


@given(st.text(max_size=30) | st.sampled_from(["localhost:1", "unix:x", "127.0.0.1:9", "[::1]:1"]))
def test_an_address_is_near_only_when_it_is_a_socket_file_or_names_this_machine(address: str):
    near = address.startswith("unix:") or re.match(r"127\.|\[|(.*\.)?localhost(:|$)", address, re.IGNORECASE)
    assert bool(near) or not doctor.is_near(address)

import asyncio
from pathlib import Path

import pytest
from audit_place import actions, lines, seen

from argentor_asgi.errors import ConfigError
from argentor_asgi.ops import audit as audit_module
from argentor_asgi.ops.audit import BATCH, QUEUED
from argentor_asgi.ops.audit_entry import ACTIONS, LINE_BYTES
from argentor_asgi.ops.audit_floods import REPEAT_S
from argentor_asgi.ops.audit_read import ACTIVE
from argentor_asgi.ops.audit_tally import AuditStats
from argentor_asgi.ops.audit_verify import verify

pytestmark = pytest.mark.slow


# --- what is kept ---


async def test_an_entry_is_one_line_with_everything_that_was_said(audit, tmp_path):
    audit.record(
        "tool_call",
        outcome="success",
        principal="ci",
        tenant="acme",
        session_id="s",
        skill_name="echo",
        request_id="r1",
        address="192.0.2.1",
        details={"arguments": {"text": "é", "api_key": "sk-1"}},
    )
    await audit.flush()
    line = lines(tmp_path / "audit")[-1]
    hashes = {line.pop("prev"), line.pop("hash")}
    assert {len(each) for each in hashes} == {64}
    assert line == {
        "seq": 2,
        "timestamp": "2026-03-01T12:00:00Z",
        "action": "tool_call",
        "outcome": "success",
        "principal": "ci",
        "tenant": "acme",
        "session_id": "s",
        "skill_name": "echo",
        "request_id": "r1",
        "address": "192.0.2.1",
        "details": {"arguments": {"text": "é", "api_key": "***"}},
    }


async def test_entries_stand_in_the_order_in_which_they_were_recorded(audit):
    # agent.md 1.10 D20
    for number in range(3 * BATCH):
        audit.record("run_start", outcome="success", details={"number": number})
        if number % 700 == 0:
            await asyncio.sleep(0)
    rows = [*await seen(audit, cursor=str(2 + 2 * BATCH)), *(await seen(audit))[-BATCH:]]
    numbers = [row.details["number"] for row in rows]
    assert numbers[-BATCH:] == list(range(2 * BATCH, 3 * BATCH))
    assert numbers[:-BATCH] == sorted(numbers[:-BATCH])


async def test_files_are_private_and_the_chain_is_whole_after_the_end(make, tmp_path):
    async with make(file_bytes=2000) as audit:
        for _ in range(30):
            audit.record("run_start", outcome="success")
    directory = tmp_path / "audit"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert verify(directory).first_break is None
    assert verify(directory).entries == audit.written == 32
    assert actions(directory)[-1] == "audit_closed"


async def test_what_was_recorded_before_the_end_is_on_the_disk_after_it(make, tmp_path):
    # agent.md 1.10 D20
    async with make() as audit:
        for _ in range(2000):
            audit.record("run_start", outcome="success")
    assert actions(tmp_path / "audit").count("run_start") == 2000
    assert audit.depth == 0


async def test_a_restart_goes_on_with_the_chain(make, tmp_path):
    for _ in range(3):
        async with make() as audit:
            audit.record("drain", outcome="success")
    found = lines(tmp_path / "audit")
    assert [line["seq"] for line in found] == list(range(1, 10))
    assert actions(tmp_path / "audit") == ["audit_opened", "drain", "audit_closed"] * 3
    assert verify(tmp_path / "audit").first_break is None


async def test_one_log_may_be_opened_again(make, clock, tmp_path):
    audit = make()
    for _ in range(2):
        async with audit:
            clock.pass_by(REPEAT_S)
            audit.record_rarely("k", "auth_failed", outcome="denied")
            audit.record_rarely("k", "auth_failed", outcome="denied")
            assert audit._flood_timer is not None
    assert actions(tmp_path / "audit").count("auth_failed") == 4
    assert verify(tmp_path / "audit").first_break is None


async def test_without_a_directory_there_is_one_that_goes_with_the_log(make):
    async with make(None) as audit:
        audit.record("drain", outcome="success")
        assert [row.action for row in await seen(audit)] == ["drain"]
        place = Path(audit._temporary.name)
        assert mode(place) == 0o700
    assert mode(place) is None


def mode(path):
    """Return the permissions of a path, None when there is nothing."""
    return path.stat().st_mode & 0o777 if path.exists() else None


async def test_a_log_that_is_off_keeps_nothing_and_touches_nothing(make, tmp_path):
    async with make(enabled=False) as audit:
        audit.record("drain", outcome="success")
        audit.record_rarely("k", "drain", outcome="success")
        await audit.flush()
        await audit.check()
        assert (await audit.logs(limit=1)).rows == ()
        assert audit.stats() == AuditStats(0, 0, 0.0, 0)
    assert list(tmp_path.iterdir()) == []
    assert (audit.dropped, audit.written, audit.errors, audit.depth) == (0, 0, 0, 0)


def test_every_action_of_the_log_itself_is_in_the_vocabulary():
    source = (
        Path(audit_module.__file__).read_text() + Path(audit_module.__file__).with_name("audit_files.py").read_text()
    )
    named = {word for word in source.replace("'", '"').split('"') if word.startswith("audit_") and word.isidentifier()}
    assert named <= set(ACTIONS)


# --- never in the way ---


async def test_recording_before_the_start_and_after_the_end_is_counted_and_told(make, tmp_path):
    audit = make()
    audit.record("drain", outcome="success")
    async with audit:
        pass
    audit.record("drain", outcome="success")
    assert audit.dropped == 2
    [told] = [line for line in lines(tmp_path / "audit") if line["action"] == "audit_dropped"]
    assert told["details"] == {"n": 1}


class Bad(dict):
    def items(self):
        raise RuntimeError


@pytest.mark.parametrize("details", [Bad(a=1), 3, "text"])
async def test_details_that_cannot_be_read_are_dropped_and_harm_nobody(audit, details):
    audit.record("drain", outcome="success", details=details)
    audit.record_rarely("k", "drain", outcome="success", details=details)
    audit.record("run_end", outcome="success")
    assert [row.action for row in await seen(audit)] == ["run_end"]
    assert audit.dropped == 2


async def test_entries_beyond_the_queue_are_dropped_counted_and_told(audit, tmp_path):
    # agent.md 1.10 D9
    for _ in range(QUEUED + 7):
        audit.record("run_start", outcome="success")
    assert (audit.depth, audit.dropped) == (QUEUED, 7)
    audit.record("run_end", outcome="success")
    await audit.flush()
    audit.record("run_end", outcome="success")
    await audit.flush()
    told = [line["details"] for line in lines(tmp_path / "audit") if line["action"] == "audit_dropped"]
    assert told == [{"n": 8}]
    assert audit.depth == 0


async def test_the_largest_entry_fits_its_line(audit, tmp_path):
    evil = "\x01" * 100_000
    audit.record(
        evil,
        outcome="error",
        details={f"{evil}{n}": evil for n in range(2000)},
        principal=evil,
        tenant=evil,
        session_id=evil,
        skill_name=evil,
        request_id=evil,
        address=evil,
    )
    await audit.flush()
    assert len((tmp_path / "audit" / ACTIVE).read_bytes().splitlines()[-1]) < LINE_BYTES


# --- floods ---


async def test_a_flood_is_written_once_and_then_counted(audit, clock):
    for number in range(50):
        audit.record_rarely("ip", "auth_failed", outcome="denied", address="192.0.2.1", details={"number": number})
    assert [row.details for row in await seen(audit)] == [{"number": 0}]
    clock.pass_by(REPEAT_S)
    audit._tell_of_floods()
    assert [row.details for row in await seen(audit)][1:] == [{"number": 49, "repeated": 49}]


async def test_the_timer_of_a_flood_is_set_once_and_ends_with_the_log(make, clock, tmp_path):
    async with make() as audit:
        assert audit._flood_timer is None
        audit.record_rarely("a", "auth_failed", outcome="denied")
        timer = audit._flood_timer
        audit.record_rarely("b", "auth_failed", outcome="denied")
        assert audit._flood_timer is timer
        clock.pass_by(REPEAT_S)
        audit._tell_of_floods()
        assert audit._flood_timer is None
        audit.record_rarely("c", "rate_limited", outcome="denied")
        audit.record_rarely("c", "rate_limited", outcome="denied")
        timer = audit._flood_timer
    assert timer.cancelled()
    assert lines(tmp_path / "audit")[-2]["details"] == {"repeated": 1}


# --- starting ---


async def test_a_directory_that_cannot_be_made_is_refused_with_the_way_out(make, tmp_path):
    (tmp_path / "file").touch()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"audit\.enabled=false"):
            await make(tmp_path / "file" / "audit").__aenter__()


async def test_a_directory_in_use_is_refused_and_free_after_the_end(make):
    async with make():
        with pytest.raises(ConfigError, match="in use by another process"):
            await make(lock_wait_s=0.12).__aenter__()
    async with make() as audit:
        await audit.check()


async def test_a_start_that_is_cancelled_holds_nothing(make):
    async with make():
        starting = asyncio.ensure_future(make().__aenter__())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    async with make() as audit:
        await audit.check()

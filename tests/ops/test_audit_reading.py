import pytest
from audit_place import seen

from argentor_asgi.errors import InvalidInput
from argentor_asgi.ops.audit_read import ACTIVE
from argentor_asgi.ops.audit_tally import AuditStats

# --- reading ---


async def test_logs_are_paged_newest_first_over_all_files(make):
    async with make(file_bytes=1500) as audit:
        for number in range(40):
            audit.record("run_start", outcome="success", details={"number": number})
        await audit.flush()
        cursor, found, sizes = None, [], []
        while True:
            page = await audit.logs(limit=7, cursor=cursor)
            found += [row.seq for row in page.rows]
            sizes.append(len(page.rows))
            cursor = page.cursor
            if cursor is None:
                break
        assert found == list(range(41, 0, -1))
        assert sizes == [7] * 5 + [6]


async def test_a_page_is_not_moved_by_what_comes_meanwhile(make):
    async with make(file_bytes=1500) as audit:
        for _ in range(10):
            audit.record("run_start", outcome="success")
        await audit.flush()
        cursor = (await audit.logs(limit=3)).cursor
        for _ in range(30):
            audit.record("run_end", outcome="success")
        await audit.flush()
        assert [row.seq for row in (await audit.logs(limit=3, cursor=cursor)).rows] == [8, 7, 6]


async def test_a_tenant_sees_its_own_entries_alone(audit):
    for tenant in ("acme", None, "other", "acme"):
        audit.record("run_start", outcome="denied", tenant=tenant)
    assert {row.tenant for row in await seen(audit, tenant="acme")} == {"acme"}
    assert len(await seen(audit, tenant="acme")) == 2
    assert len(await seen(audit)) == 4
    assert await seen(audit, tenant="nobody") == []


async def test_violations_are_what_was_denied_or_blocked_whatever_its_name(audit):
    audit.record("policy_updated", outcome="success")
    audit.record("violation_seen", outcome="error", details={"blocked": True})
    audit.record("forbidden", outcome="denied")
    audit.record("guardrail_input", outcome="success", details={"violations_count": 1, "block_violations": 0})
    audit.record("guardrail_output", outcome="success", details={"block_violations": 2})
    assert [row.action for row in await seen(audit, violations_only=True)] == ["forbidden", "guardrail_output"]


@pytest.mark.parametrize("cursor", ["", "0", "-1", "x", "01", "1.5", "²", "9" * 16, " 1"])
async def test_a_cursor_that_no_page_gave_is_refused(audit, cursor):
    with pytest.raises(InvalidInput) as caught:
        await audit.logs(limit=1, cursor=cursor)
    assert caught.value.details[0].pointer == "/cursor"


@pytest.mark.parametrize("limit", [0, -5])
async def test_a_limit_below_one_is_one(audit, limit):
    audit.record("drain", outcome="success")
    await audit.flush()
    assert len((await audit.logs(limit=limit)).rows) == 1


async def test_lines_that_are_none_are_passed_over(audit, tmp_path):
    audit.record("run_start", outcome="success")
    await audit.flush()
    with (tmp_path / "audit" / ACTIVE).open("ab") as file:
        file.write(b"garbage\n{}\n\xff\xfe\n\n" + b"x" * 200_000 + b"\n")
    audit.record("run_end", outcome="success")
    assert [row.action for row in await seen(audit)] == ["run_start", "run_end"]
    assert audit.stats().events_today == 4


# --- numbers ---


async def test_numbers_are_of_the_day_in_utc_and_of_the_tenant(audit, clock):
    audit.record("run_start", outcome="success", tenant="acme")
    audit.record("forbidden", outcome="denied", tenant="acme")
    audit.record("forbidden", outcome="denied")
    await audit.flush()
    assert audit.stats() == AuditStats(4, 2, 50.0, 4)
    assert audit.stats("acme") == AuditStats(2, 1, 50.0, 2)
    assert audit.stats("nobody") == AuditStats(0, 0, 0.0, 0)
    clock.pass_by(86_400)
    assert audit.stats() == AuditStats(0, 0, 0.0, 4)
    assert audit.stats("acme") == AuditStats(0, 0, 0.0, 2)


async def test_numbers_survive_a_restart(make, clock):
    async with make(file_bytes=1500) as audit:
        audit.record("forbidden", outcome="denied", tenant="acme")
        clock.pass_by(86_400)
        for _ in range(20):
            audit.record("forbidden", outcome="denied", tenant="acme")
    async with make(file_bytes=1500) as audit:
        assert audit.stats("acme") == AuditStats(20, 20, 100.0, 21)
        assert audit.stats() == AuditStats(22, 20, 90.91, 24)

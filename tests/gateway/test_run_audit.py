"""What the audit log has of runs and their calls: who, which, and how it ended, and not a word of what was said."""

import asyncio

import pytest
from asgi_driver import PATIENCE_S, soon
from audit_place import an_audit, seen
from collector import collecting
from doors import CHAT, doors
from house import ME, TENANT, House
from scripted_backend import Park, answer, call, calling
from workbench import SESSION, bench

from argentor_asgi.agent.skills import skill
from argentor_asgi.errors import ProviderUnavailable, StorageUnavailable
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.ops.spans import UNKNOWN_SKILL
from argentor_asgi.ops.tracing import Tracing
from argentor_asgi.protocol.llm import TextPiece

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
OUTER = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture
async def audit(tmp_path):
    async with an_audit(tmp_path / "audit") as log:
        yield log


@skill("whisper", "Says what it heard.")
def whisper(text: str, loud: bool = False) -> str:
    """Return the text."""
    return text * (1 + loud)


@skill("burst", "Fails.")
def burst() -> str:
    """Raise."""
    raise RuntimeError("SECRET")


def told(rows):
    return [(row.action, row.outcome, row.details) for row in rows]


@pytest.mark.parametrize("who", [ME, TENANT])
async def test_a_run_is_its_start_and_its_end_of_whom_in_which_session(audit, who):
    house = House(answer("SECRET reply"), audit=audit)
    run = await house.start("SECRET question", who=who)
    ended = await house.outcome(run, who=who)
    rows = await seen(audit)
    used = ended.usage.input_tokens + ended.usage.output_tokens
    assert used > 0
    assert told(rows) == [
        ("run_start", "success", {"run_id": run.id}),
        ("run_end", "success", {"run_id": run.id, "status": "done", "error_code": None, "tokens": used}),
    ]
    assert {(row.principal, row.tenant, row.session_id) for row in rows} == {(who.id, who.tenant, run.session_id)}
    assert "SECRET" not in repr(rows)


async def test_a_run_that_fails_ends_with_its_code(audit):
    house = House([ProviderUnavailable("SECRET")], audit=audit)
    await house.outcome(await house.start())
    end = (await seen(audit))[-1]
    assert (end.action, end.outcome) == ("run_end", "error")
    assert (end.details["status"], end.details["error_code"]) == ("failed", "provider_unavailable")
    assert "SECRET" not in repr(end)


async def test_a_run_that_is_cancelled_ends_as_asked(audit):
    house = House([TextPiece("half"), Park()], audit=audit)
    run = await house.start()
    await soon(house.backend.parked.wait())
    await house.cancel(run)
    await house.outcome(run)
    end = (await seen(audit))[-1]
    assert (end.action, end.outcome, end.details["status"]) == ("run_end", "success", "cancelled")


async def test_a_run_that_was_never_stored_never_was(audit):
    house = House(audit=audit)
    house.store.faults["begin_run"] = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await house.start()
    assert await seen(audit) == []


async def test_a_call_is_written_down_before_and_after_with_the_names_of_its_arguments(audit):
    made = bench(calling(call("c", "whisper", '{"text":"SECRET","loud":true}')), answer("done"), skills=[whisper])
    made.audit = audit
    await made.work("SECRET question")
    rows = await seen(audit)
    ids = {"run_id": "r1", "call_id": "c"}
    assert told(rows) == [
        ("tool_call", "success", {**ids, "arguments": ["loud", "text"]}),
        ("tool_result", "success", {**ids, "error": None}),
    ]
    assert {(row.principal, row.session_id, row.skill_name) for row in rows} == {("me", SESSION, "whisper")}
    assert "SECRET" not in repr(rows)


@pytest.mark.parametrize(
    ("name", "arguments", "actions"),
    [
        ("burst", "{}", ["tool_call", "tool_result"]),
        ("whisper", '{"text":1}', ["tool_call", "tool_result"]),
        ("SECRET", "{}", ["tool_call", "tool_result"]),
        ("whisper", '["SECRET"]', ["tool_result"]),
    ],
)
async def test_a_call_that_fails_says_so_and_one_that_cannot_be_made_was_not(audit, name, arguments, actions):
    made = bench(calling(call("c", name, arguments)), answer("done"), skills=[whisper, burst])
    made.audit = audit
    await made.work()
    rows = await seen(audit)
    assert [row.action for row in rows] == actions
    assert (rows[-1].outcome, rows[-1].details["error"]) == ("error", "tool_error")
    assert rows[-1].skill_name == (UNKNOWN_SKILL if name == "SECRET" else name)
    assert "SECRET" not in repr(rows)


async def test_a_call_that_its_run_gives_up_was_cancelled(audit):
    begun = asyncio.Event()

    @skill("wait", "Waits.")
    async def wait() -> str:
        begun.set()
        await asyncio.get_running_loop().create_future()
        return ""

    made = bench(calling(call("c", "wait", "{}")), skills=[wait])
    made.audit = audit
    working = asyncio.create_task(made.work())
    await soon(begun.wait())
    working.cancel()
    await soon(working)
    assert told(await seen(audit))[-1] == (
        "tool_result",
        "error",
        {"run_id": "r1", "call_id": "c", "error": "cancelled"},
    )


async def exemplars(house):
    text, _ = await house.metrics.render("application/openmetrics-text; version=1.0.0")
    return [line for line in text.decode().splitlines() if "run_duration" in line and "trace_id" in line]


@pytest.mark.parametrize("trace", [OUTER, None])
async def test_the_time_of_a_run_points_to_its_trace_where_that_is_kept(trace):
    with collecting() as collector:
        spans = Tracing(endpoint=collector.url, service_name="gate", version="9", clock=SystemClock())
        house = House(answer("done"), spans=spans)
        await house.outcome(await house.start(trace=trace))
        await spans.close()
    found = await exemplars(house)
    assert [f'trace_id="{TRACE_ID}"' in line for line in found] == ([True] if trace else [])


async def test_without_spans_no_time_points_to_a_trace():
    house = House(answer("done"))
    await house.outcome(await house.start(trace=OUTER))
    assert await exemplars(house) == []


async def written(house, count):
    """Return the log once it has so many entries, beside what it says of itself; the disk is behind the answers."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await house.get("/api/v1/audit/logs")
            if sum(not entry["action"].startswith("audit_") for entry in found.json()) >= count:
                return found


async def test_the_gateway_writes_down_the_runs_and_the_sessions_that_are_deleted():
    async with doors(answer("hello"), keys=("me",)) as house:
        session_id = (await house.post(CHAT, {"message": "SECRET"})).json()["session_id"]
        statuses = [(await house.delete(f"/api/v1/sessions/{session_id}")).status for _ in range(2)]
        assert statuses == [200, 404]
        found = await written(house, 3)
        entries = [entry for entry in found.json() if not entry["action"].startswith("audit_")]
    assert [entry["action"] for entry in entries] == ["session_delete", "run_end", "run_start"]
    assert {(entry["principal"], entry["session_id"]) for entry in entries} == {("me", session_id)}
    assert (entries[0]["address"], len(entries[0]["request_id"])) == ("127.0.0.1", 16)
    assert b"SECRET" not in found.body

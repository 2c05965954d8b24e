import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skillcalls import answer, outcome, refusal

from argentor_asgi.agent.opt_in_skills.regex import WAITING, Workers, regex_skill
from argentor_asgi.agent.skills import FunctionSkill, SkillRefused

pytestmark = pytest.mark.slow

PATIENT_S = 20.0
"""Long enough for a worker on a machine that is busy with other tests."""
ENDLESS = {"operation": "match", "pattern": "(a+)+$", "text": "a" * 40 + "b"}
REQUEST = {"operation": "match", "pattern": "a", "flags": [], "text": "a", "replacement": "", "limit": 1, "count": None}


@pytest.fixture
async def patient() -> AsyncIterator[Workers]:
    workers = Workers(limit_s=PATIENT_S)
    yield workers
    await workers.aclose()


@pytest.fixture
async def strict() -> AsyncIterator[Workers]:
    workers = Workers(limit_s=0.05)
    yield workers
    await workers.aclose()


def is_there(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody has reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_without_the_loop(pid: int) -> None:
    latest = time.monotonic() + PATIENT_S
    while is_there(pid):
        assert time.monotonic() < latest


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENT_S):
        while is_there(pid):  # noqa: ASYNC110  it is another process
            await asyncio.sleep(0.005)


async def test_every_operation_answers(patient: Workers) -> None:
    regex = regex_skill(patient)
    assert (await answer(regex, operation="match", pattern="b+", text="abb"))["start"] == 1
    assert (await answer(regex, operation="find_all", pattern="[ab]", text="abc"))["total"] == 2
    assert await answer(regex, operation="replace", pattern="b", text="abb", replacement="c", count=1) == {
        "text": "acb",
        "count": 1,
    }
    assert await answer(regex, operation="split", pattern=" *, *", text="a , b,c") == {"parts": ["a", "b", "c"]}
    assert await answer(regex, operation="validate", pattern="a") == {"valid": True, "groups": 0, "names": []}
    assert len(patient.pids) == 1


async def test_what_is_wrong_is_a_refusal(patient: Workers) -> None:
    regex = regex_skill(patient)
    assert await refusal(regex, operation="split", pattern="a") == "The operation split also needs: text."
    assert "unterminated" in await refusal(regex, operation="match", pattern="(", text="a")
    assert "argument validation failed" in await refusal(regex, operation="match", pattern="a" * 2001, text="a")


async def test_odd_texts_come_back_as_they_went(patient: Workers) -> None:
    regex = regex_skill(patient)
    for text in ("\U0001f600", "a\u2028b", "\x00", "\r\n"):
        assert (await answer(regex, operation="match", pattern="(?s).+", text=text))["text"] == text
    got = await outcome(regex, {"operation": "match", "pattern": ".", "text": "\ud800"})
    assert '"text":"?"' in got.content


async def test_the_largest_text_fits_the_line(patient: Workers) -> None:
    regex = regex_skill(patient)
    text = "\U0001f600" * (128 * 1024)
    assert (await answer(regex, operation="replace", pattern="x", text=text))["text"] == text


async def test_a_pattern_without_end_is_killed_and_the_next_call_works(strict: Workers) -> None:
    """agent.md 1.10 D12: a call has a time, and `re` has none."""
    regex = regex_skill(strict)
    assert "took longer than 50 ms" in await refusal(regex, **ENDLESS)
    (killed,) = strict.pids or {0}
    await gone(killed)
    strict._limit_s = PATIENT_S
    assert (await answer(regex, operation="match", pattern="a", text="a"))["matched"] is True


async def test_other_calls_go_on_beside_one_without_end(patient: Workers) -> None:
    regex = regex_skill(patient)
    endless = asyncio.create_task(outcome(regex, ENDLESS))
    for _ in range(5):
        assert (await answer(regex, operation="match", pattern="a", text="a"))["matched"] is True
    assert len(patient.pids) <= 2
    endless.cancel()
    await asyncio.wait([endless])


async def test_a_cancelled_call_kills_its_worker() -> None:
    workers = Workers(limit_s=PATIENT_S, count=1)
    regex = regex_skill(workers)
    await answer(regex, operation="match", pattern="a", text="a")
    (pid,) = workers.pids
    endless = asyncio.create_task(outcome(regex, ENDLESS))
    await asyncio.sleep(0)
    endless.cancel()
    await asyncio.wait([endless])
    await gone(pid)
    await workers.aclose()


async def test_a_worker_that_died_while_idle_is_replaced(patient: Workers) -> None:
    regex = regex_skill(patient)
    await answer(regex, operation="match", pattern="a", text="a")
    (pid,) = patient.pids
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    assert (await answer(regex, operation="match", pattern="a", text="a"))["matched"] is True
    assert pid not in patient.pids


async def test_a_worker_whose_death_nobody_has_noticed_is_replaced(patient: Workers) -> None:
    regex = regex_skill(patient)
    await answer(regex, operation="match", pattern="a", text="a")
    (pid,) = patient.pids
    os.kill(pid, signal.SIGKILL)
    wait_without_the_loop(pid)
    assert (await answer(regex, operation="match", pattern="a", text="a" * 100_000))["matched"] is True
    assert pid not in patient.pids


async def test_a_request_that_ends_every_worker_is_refused(patient: Workers) -> None:
    with pytest.raises(SkillRefused, match="it takes too much"):
        await patient.ask({"no": "request"})
    assert (await patient.ask(REQUEST))["result"]["matched"] is True


async def test_so_many_calls_wait_and_no_more(patient: Workers) -> None:
    calls = [asyncio.create_task(patient.ask(REQUEST)) for _ in range(WAITING + 1)]
    await asyncio.wait(calls)
    refused = [call for call in calls if call.exception() is not None]
    assert [str(call.exception()) for call in refused] == [
        "Too many regular expressions are being matched; try again later."
    ]
    assert len(patient.pids) == 2


async def test_closing_ends_every_process_and_refuses_what_follows() -> None:
    workers = Workers(limit_s=PATIENT_S)
    regex: FunctionSkill = regex_skill(workers)
    await answer(regex, operation="match", pattern="a", text="a")
    (pid,) = workers.pids
    endless = asyncio.create_task(outcome(regex, ENDLESS))
    await asyncio.sleep(0)
    await workers.aclose()
    assert not is_there(pid)
    assert (await endless).is_error
    assert "shutting down" in await refusal(regex, operation="match", pattern="a", text="a")
    await workers.aclose()


async def test_a_worker_has_nothing_of_the_gateway_and_little_memory(patient: Workers) -> None:
    await patient.ask(REQUEST)
    (pid,) = patient.pids
    process = Path(f"/proc/{pid}")
    names = {each.partition(b"=")[0] for each in process.joinpath("environ").read_bytes().split(b"\0")}
    assert names <= {b"", b"LD_LIBRARY_PATH"}
    assert process.joinpath("cwd").readlink() == Path("/")
    files = [str(each.readlink()) for each in process.joinpath("fd").iterdir()]
    assert all(each.startswith(("pipe:", "socket:", "/dev/null")) for each in files)
    assert os.getsid(pid) == pid
    assert "536870912" in process.joinpath("limits").read_text()


async def test_a_worker_whose_gateway_is_gone_ends_itself() -> None:
    program = Path(__file__).parents[3] / "argentor_asgi/agent/opt_in_skills/regex_worker.py"
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(program)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(REQUEST | ENDLESS).encode() + b"\n")
    worker.stdin.close()
    async with asyncio.timeout(PATIENT_S):
        assert await worker.wait() == -signal.SIGALRM

"""A run that is cancelled, at any await: a sound history, closed calls, a closed stream, and no task left."""

import asyncio
from itertools import count

import pytest
from histories import flaws
from scripted_backend import Park, ScriptedBackend, answer, call, calling
from workbench import ME, NOW, SESSION, Workbench, bench

from argentor_asgi.agent.skills import skill
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.events import ToolCallEnd
from argentor_asgi.protocol.llm import Finish, TextPiece, ToolArgs, ToolStart
from argentor_asgi.protocol.messages import Message, Part
from argentor_asgi.protocol.turn import CANCELLED
from argentor_asgi.sessions.memory import MemoryStore

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


@skill("wait", "Takes its time.")
async def wait(steps: int) -> int:
    for _ in range(steps):
        await asyncio.sleep(0)
    return steps


@skill("alone", "Takes its time, alone.", parallel_safe=False)
async def alone(steps: int) -> int:
    for _ in range(steps):
        await asyncio.sleep(0)
    return steps


class LeisurelyStore(MemoryStore):
    """A `MemoryStore` that lets others run before and after each append."""

    async def append(self, session_id, messages, *, after=None):
        await asyncio.sleep(0)
        version = await super().append(session_id, messages, after=after)
        await asyncio.sleep(0)
        return version


class StuckStore(MemoryStore):
    """A `MemoryStore` whose next append waits for `release`, once `is_stuck` is set."""

    is_stuck = False

    async def append(self, session_id, messages, *, after=None):
        if self.is_stuck:
            await asyncio.Event().wait()
        return await super().append(session_id, messages, after=after)


async def carry_and_cancel(made, steps):
    """Cancel a run after so many steps of the loop; return how it ended."""
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    try:
        return await running
    except asyncio.CancelledError:
        assert steps == 0  # the run had not begun
        return None


async def assert_sound(made):
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert made.backend.streams == 0
    history = await made.history()
    assert flaws(history) == []
    assert len({message.id for message in history}) == len(history)
    worked = await made.work("next")
    assert worked.context.text == "ok"
    assert flaws(made.backend.requests[-1].messages) == []


WAIT = '{"steps":5}'
SCENARIOS = {
    "text": [answer("a", "b", "c")],
    "together": [
        [TextPiece("x"), *calling(call("c", "wait", '{"ste', 'ps":5}'), call("d", "wait", WAIT))],
        answer("y"),
    ],
    "alone": [
        calling(call("c", "wait", WAIT), call("d", "alone", WAIT)),
        calling(call("c", "wait", WAIT)),
        answer("y"),
    ],
    "interleaved": [[ToolStart("c", "wait"), ToolStart("d", "wait"), ToolArgs("d", WAIT), Finish("length")]],
    "pause": [answer("x", reason="pause"), answer("y")],
    "overflow": [[TextPiece("x"), Finish("context_overflow")], answer("y")],
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_run_may_be_cancelled_at_any_await(scenario):
    for steps in count():
        store = LeisurelyStore(clock=SystemClock())
        made = Workbench(ScriptedBackend(*SCENARIOS[scenario]), [wait, alone], store=store)
        worked = await carry_and_cancel(made, steps)
        if worked is not None and worked.events[-1].type != "cancelled":
            break
        made.backend = ScriptedBackend()
        await assert_sound(made)
    assert steps > 5


@pytest.mark.parametrize("scenario", ["together", "interleaved"])
async def test_a_second_cancel_cuts_the_cleaning_short_and_the_next_run_mends_the_rest(scenario):
    for steps in range(1, 30):
        for more in range(3):
            store = LeisurelyStore(clock=SystemClock())
            made = Workbench(ScriptedBackend(*SCENARIOS[scenario]), [wait], store=store)
            await made.open()
            await made.ask()
            running = asyncio.create_task(made.runner.run(made.context, made.emit))
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            for _ in range(more):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait((running,))
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            made.backend = ScriptedBackend()
            worked = await made.work("next")
            assert worked.context.text == "ok"
            assert flaws(made.backend.requests[-1].messages) == []


async def test_a_cancel_reaches_the_one_who_waits_for_the_run():
    made = bench([Park()])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.runner.run(made.context, made.emit))
    await made.backend.parked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not made.context.steer("late")


async def test_what_was_said_before_a_cancel_is_kept_and_marked():
    made = bench(
        [TextPiece("so "), TextPiece("far"), ToolStart("c", "wait"), ToolArgs("c", "{"), Park()], skills=[wait]
    )
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    running.cancel()
    worked = await running
    assert worked.events[-2] == ToolCallEnd("c", "wait", None)
    assert worked.events[-1].text == worked.context.text == "so far"
    assert made.backend.streams == 0
    _, said, told = await made.history()
    assert said.content == "so far"
    assert said.metadata["interrupted"] is True
    assert told.parts == (Part("tool_result", id="c", name="wait", content=CANCELLED, is_error=True),)


async def test_a_result_that_was_there_before_the_cancel_is_kept():
    hold = asyncio.Event()

    @skill("hold", "Waits for the cancel.")
    async def held() -> str:
        hold.set()
        await asyncio.Event().wait()
        return "never"

    made = bench(calling(call("a", "hold"), call("b", "wait", '{"steps":0}')), skills=[held, wait])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await hold.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    await running
    assert [part.content for part in (await made.history())[-1].parts] == [CANCELLED, "0"]


async def test_what_the_user_left_for_a_cancelled_run_stays_in_the_session():
    made = bench([Park()])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    made.context.steer("and this")
    running.cancel()
    await running
    assert [message.content for message in await made.history()] == ["hi", "and this"]


async def test_a_run_whose_session_is_gone_ends_like_any_other(caplog):
    made = bench([TextPiece("a"), Park()])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    await made.store.delete_session(ME, SESSION)
    running.cancel()
    worked = await running
    assert worked.events[-1].text == "a"
    assert "did not end cleanly: No session has this id." in caplog.text


async def test_a_write_that_has_begun_is_finished_once_though_the_run_is_cancelled():
    store = LeisurelyStore(clock=SystemClock())
    made = Workbench(ScriptedBackend(answer("said")), store=store)
    await made.open()
    await store.append(SESSION, [Message("u", "user", "hi", SESSION, NOW)])
    running = asyncio.create_task(made.runner.run(made.context, made.emit))
    while made.context.text != "said":  # noqa: ASYNC110  the step before the write shows no event
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert [message.content for message in await made.history()] == ["hi", "said"]


@pytest.mark.slow
async def test_a_store_that_hangs_does_not_keep_a_cancelled_run():
    store = StuckStore(clock=SystemClock())
    made = Workbench(ScriptedBackend([TextPiece("a"), Park()]), store=store)
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    store.is_stuck = True
    running.cancel()
    worked = await running
    assert worked.events[-1].type == "cancelled"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.slow
async def test_a_skill_that_is_deaf_to_its_cancel_does_not_keep_the_run():
    begun, heard = asyncio.Event(), asyncio.Event()

    @skill("deaf", "Hears nothing.")
    async def deaf() -> str:
        begun.set()
        while not heard.is_set():
            try:
                await heard.wait()
            except asyncio.CancelledError:
                continue
        return "done"

    made = bench(calling(call("c", "deaf")), skills=[deaf])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await begun.wait()
    running.cancel()
    worked = await running
    assert worked.events[-1].type == "cancelled"
    assert (await made.history())[-1].parts[0].content == CANCELLED
    (left,) = asyncio.all_tasks() - {asyncio.current_task()}
    heard.set()
    await asyncio.wait((left,))


@pytest.mark.slow
async def test_a_stream_that_does_not_close_does_not_keep_the_run():
    class Clinging(ScriptedBackend):
        async def _play(self, script):
            try:
                async for event in super()._play(script):
                    yield event
            finally:
                await asyncio.Event().wait()

    made = Workbench(Clinging([TextPiece("a"), TextPiece("b")]))
    await made.open()
    await made.ask()
    emitting = asyncio.Event()

    async def emit(_event):
        emitting.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(made.runner.run(made.context, emit))
    await emitting.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert [message.content for message in await made.history()] == ["hi", "a"]


@pytest.mark.slow
async def test_readers_that_hang_do_not_keep_a_cancelled_run_from_storing_what_was_there():
    made = bench([TextPiece("a"), ToolStart("c", "wait"), Park()])
    await made.open()
    await made.ask()

    async def emit(_event):
        if made.backend.parked.is_set():
            await asyncio.Event().wait()

    running = asyncio.create_task(made.runner.run(made.context, emit))
    await made.backend.parked.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert [message.content for message in await made.history()] == ["hi", "a", CANCELLED]

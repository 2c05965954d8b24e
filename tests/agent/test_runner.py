"""The agent loop: what it emits, what it stores, and how it ends, whatever the model does."""

import asyncio
import gc
import logging
import weakref

import pytest
from histories import flaws
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_backend import USAGE, Park, ScriptedBackend, answer, call, calling
from workbench import ME, NOW, SESSION, Workbench, bench

from argentor_asgi.agent.run_context import STEERING, RunContext
from argentor_asgi.agent.skills import SkillContext, SkillRefused, skill
from argentor_asgi.errors import (
    ContentFiltered,
    ContextOverflow,
    MaxTurns,
    Overloaded,
    ProviderUnavailable,
    RunTimeout,
    SessionNotFound,
    StreamTruncated,
    ToolFailed,
)
from argentor_asgi.ops.clock import SystemClock
from argentor_asgi.protocol.events import Steered, TextDelta, ToolResult, TurnEnd
from argentor_asgi.protocol.history import NO_RESULT
from argentor_asgi.protocol.llm import Finish, ReasoningPiece, TextPiece, ToolArgs, ToolSpec, ToolStart
from argentor_asgi.protocol.messages import Message, Part, Usage
from argentor_asgi.protocol.turn import CANCELLED


@skill("add", "Adds.")
def add(a: int, b: int) -> int:
    return a + b


@skill("refuse", "Refuses.")
def refuse() -> str:
    raise SkillRefused("not today")


@skill("whoami", "Tells who asks.")
def whoami(context: SkillContext) -> list[str]:
    return [context.run_id, context.session_id, context.call_id, context.scope.owner]


def results(worked):
    return [(event.id, event.content, event.is_error) for event in worked.events if isinstance(event, ToolResult)]


# --- answers ------------------------------------------------------------------------------------------------------


async def test_an_answer_is_told_stored_and_counted():
    made = bench(answer("Hel", "", "lo"))
    worked = await made.work("hi there")
    assert worked.events[1:-1] == [TextDelta("Hel", 0), TextDelta("lo", 1), TurnEnd(1, "stop", USAGE)]
    assert (worked.context.text, worked.context.turns, worked.context.finish_reason) == ("Hello", 1, "stop")
    assert worked.context.usage == USAGE
    asked, answered = await made.history()
    assert asked.content == "hi there"
    assert (answered.role, answered.content, answered.session_id) == ("assistant", "Hello", SESSION)
    assert answered.parts == (Part("text", text="Hello"),)
    assert answered.metadata == {
        "usage": {"input_tokens": 3, "output_tokens": 2, "cached_tokens": 0, "estimated": False}
    }


async def test_the_model_hears_the_prompt_the_history_and_the_skills():
    made = bench(answer("one"), answer("two"), skills=[add])
    await made.work("first")
    await made.work("second")
    request = made.backend.requests[1]
    assert request.system == "Be brief."
    assert [message.content for message in request.messages] == ["first", "one", "second"]
    assert request.tools == [ToolSpec("add", "Adds.", add.descriptor.parameters_schema)]
    assert made.backend.streams == 0


async def test_what_the_model_thinks_is_told_and_kept_but_is_no_answer():
    made = bench([ReasoningPiece("hm"), *answer("42")])
    worked = await made.work()
    assert worked.kinds == ["run_started", "reasoning_delta", "text_delta", "turn_end", "done"]
    assert worked.context.text == "42"
    assert [part.type for part in (await made.history())[-1].parts] == ["reasoning", "text"]


async def test_what_a_backend_leaves_with_its_finish_comes_back_to_it():
    made = bench([TextPiece("a"), Finish("stop", metadata={"plan": [1]})], answer("b"))
    await made.work()
    await made.work()
    assert made.backend.requests[1].messages[1].metadata["backend"] == {"plan": [1]}


async def test_an_answer_without_words_is_no_message():
    made = bench(answer())
    worked = await made.work()
    assert worked.kinds == ["run_started", "turn_end", "done"]
    assert [message.role for message in await made.history()] == ["user"]


async def test_an_answer_that_is_cut_by_its_length_ends_the_run_and_says_so():
    # agent.md 1.10 D6
    made = bench(answer("long", reason="length"))
    worked = await made.work()
    assert worked.context.finish_reason == "length"
    assert len(made.backend.requests) == 1


async def test_a_model_that_pauses_is_asked_to_go_on():
    made = bench(answer("so ", reason="pause"), answer("far"))
    worked = await made.work()
    assert worked.context.text == "far"
    assert worked.context.usage == Usage(6, 4)
    assert [message.content for message in made.backend.requests[1].messages] == ["hi", "so "]


async def test_only_the_newest_messages_are_shown_to_the_model_and_never_a_result_first():
    made = bench(calling(call("c", "add", '{"a":1,"b":2}')), answer("3"), context_messages=3, skills=[add])
    await made.work("one")
    await made.work("two")
    assert [message.content for message in made.backend.requests[-1].messages] == ["two"]


async def test_a_run_that_has_ended_is_freed_at_once_and_not_when_somebody_collects_cycles():
    class Emit:
        async def __call__(self, event):
            del event

    made, emit = bench(calling(call("c1", "add", '{"a": 1, "b": 2}')), answer("3"), skills=[add]), Emit()
    alive = weakref.ref(emit)
    await made.open()
    await made.ask()
    gc.disable()
    try:
        await made.runner.run(made.context, emit)
        del emit
        assert alive() is None
    finally:
        gc.enable()


# --- skills -------------------------------------------------------------------------------------------------------


async def test_a_call_is_run_and_its_result_goes_back_to_the_model():
    # agent.md 1.10 D1
    made = bench([TextPiece("Adding."), *calling(call("c", "add", '{"a":1,', '"b":2}'))], answer("3"), skills=[add])
    worked = await made.work()
    assert worked.kinds == [
        "run_started",
        "text_delta",
        "tool_call_start",
        "tool_call_delta",
        "tool_call_delta",
        "tool_call_end",
        "turn_end",
        "tool_result",
        "text_delta",
        "turn_end",
        "done",
    ]
    assert results(worked) == [("c", "3", False)]
    assert worked.context.text == "3"
    seen = made.backend.requests[1].messages
    assert [message.role for message in seen] == ["user", "assistant", "tool"]
    assert seen[1].parts == (
        Part("text", text="Adding."),
        Part("tool_call", id="c", name="add", arguments={"a": 1, "b": 2}),
    )
    assert seen[2].parts == (Part("tool_result", id="c", name="add", content="3", is_error=False),)
    assert seen[2].content == "3"
    assert [message.parts for message in await made.history()][:3] == [message.parts for message in seen]


async def test_a_skill_learns_who_calls():
    made = bench(calling(call("c", "whoami")), skills=[whoami])
    assert results(await made.work()) == [("c", '["r1","s","c","me"]', False)]


async def test_calls_of_one_turn_run_together_and_their_results_keep_call_order():
    # agent.md 1.10 D2
    arrived, late = asyncio.Event(), asyncio.Event()

    @skill("slow", "Waits for the other.")
    async def slow() -> str:
        arrived.set()
        await late.wait()
        return "slow"

    @skill("quick", "Lets the other go.")
    async def quick() -> str:
        await arrived.wait()
        late.set()
        return "quick"

    made = bench(calling(call("a", "slow"), call("b", "quick")), skills=[slow, quick])
    worked = await made.work()
    assert results(worked) == [("a", "slow", False), ("b", "quick", False)]
    assert [part.id for part in (await made.history())[2].parts] == ["a", "b"]


async def test_calls_run_one_after_the_other_when_one_of_them_must():
    running = []

    @skill("alone", "Wants to be alone.", parallel_safe=False)
    async def alone() -> int:
        running.append("alone")
        await asyncio.sleep(0)
        return running.pop() == "alone" and len(running)

    @skill("any", "Does not care.")
    async def whenever() -> int:
        running.append("any")
        await asyncio.sleep(0)
        return running.pop() == "any" and len(running)

    made = bench(calling(call("a", "any"), call("b", "alone"), call("c", "any")), skills=[alone, whenever])
    assert results(await made.work()) == [("a", "0", False), ("b", "0", False), ("c", "0", False)]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("refuse", "{}", "not today"),
        ("addd", "{}", "There is no skill named 'addd'. The nearest: add"),
        ("add", '{"a":1}', "b"),
        ("add", "{", "The arguments must be one JSON object."),
        ("add", '{"a":1,"a":2}', "twice"),
    ],
)
async def test_a_call_that_cannot_be_done_is_told_to_the_model_so_that_it_can_mend_it(name, arguments, words):
    made = bench(calling(call("c", name, arguments)), answer("sorry"), skills=[add, refuse])
    worked = await made.work()
    ((_, content, is_error),) = results(worked)
    assert is_error
    assert words in content
    assert worked.context.text == "sorry"
    assert flaws(made.backend.requests[1].messages) == []


async def test_calls_count_before_the_reason_that_the_model_gives():
    made = bench(calling(call("c", "add", '{"a":1,"b":2}'), reason="stop"), answer("3"), skills=[add])
    worked = await made.work()
    assert [event.finish_reason for event in worked.events if isinstance(event, TurnEnd)] == ["tool_calls", "stop"]
    assert worked.context.text == "3"


async def test_a_call_that_was_cut_by_the_length_is_not_run_and_the_run_ends():
    # agent.md 1.10 D6
    made = bench([ToolStart("c", "add"), ToolArgs("c", '{"a":1'), Finish("length")], skills=[add])
    worked = await made.work()
    assert worked.kinds[-3:] == ["tool_call_end", "turn_end", "done"]
    assert worked.context.finish_reason == "length"
    assert flaws(await made.history()) == []
    assert "cut off" in (await made.history())[-1].content


async def test_the_same_call_failing_three_times_ends_the_run():
    made = bench(*[calling(call("c", "refuse"))] * 4, skills=[refuse])
    worked = await made.work()
    assert isinstance(worked.error, ToolFailed)
    assert len(made.backend.requests) == 3
    assert [part.id for message in await made.history() for part in message.tool_calls] == ["c", "c-2", "c-3"]
    assert flaws(await made.history()) == []


async def test_skills_that_are_known_are_counted_and_invented_names_are_not():
    made = bench(calling(call("c", "refuse"), call("d", "invented")), skills=[refuse])
    await made.work()
    text = (await made.metrics.render(None))[0].decode()
    assert 'argentor_tool_errors_total{agent="argentor",tool="refuse"} 1.0' in text
    assert "invented" not in text
    assert 'argentor_turns_total{finish_reason="tool_calls",provider="scripted"} 1.0' in text
    assert 'argentor_tokens_used_total{direction="input",provider="scripted"} 6.0' in text


async def test_a_skill_that_cancels_itself_has_failed_and_the_run_goes_on():
    @skill("quit", "Gives up.")
    async def give_up() -> str:
        raise asyncio.CancelledError

    made = bench(calling(call("c", "quit")), answer("then not"), skills=[give_up])
    worked = await made.work()
    assert results(worked) == [("c", CANCELLED, True)]
    assert worked.context.text == "then not"


# --- failures -----------------------------------------------------------------------------------------------------


async def test_a_run_that_uses_all_its_turns_fails_with_a_sound_history():
    made = bench(*[calling(call("c", "add", f'{{"a":{n},"b":1}}')) for n in range(9)], skills=[add], max_turns=3)
    worked = await made.work()
    assert isinstance(worked.error, MaxTurns)
    assert (len(made.backend.requests), worked.context.turns) == (3, 3)
    assert flaws(await made.history()) == []
    assert (await made.history())[-1].role == "tool"


async def test_a_refusal_of_the_model_ends_the_run_and_its_calls_are_not_run():
    script = [TextPiece("I "), *calling(call("c", "add", '{"a":1,"b":2}'), reason="content_filter")]
    made = bench(script, skills=[add])
    worked = await made.work()
    assert isinstance(worked.error, ContentFiltered)
    assert worked.context.text == "I "
    assert (await made.history())[1].metadata["interrupted"] is True
    assert (await made.history())[2].parts[0].content == CANCELLED


@pytest.mark.parametrize("full", [Finish("context_overflow"), ContextOverflow()])
async def test_a_history_that_does_not_fit_is_halved_once(full):
    made = bench(answer("1"), answer("2"), [full], answer("fits"), answer("3"))
    for text in "ab":
        await made.work(text)
    worked = await made.work("c")
    assert worked.context.text == "fits"
    assert [len(request.messages) for request in made.backend.requests] == [1, 3, 5, 1]
    assert made.backend.requests[-1].messages[0].content == "c"
    assert len(await made.history()) == 6


async def test_a_history_that_does_not_fit_even_halved_fails():
    made = bench(answer("1"), [ContextOverflow()], [TextPiece("x"), Finish("context_overflow")])
    await made.work()
    worked = await made.work()
    assert isinstance(worked.error, ContextOverflow)
    assert len(made.backend.requests) == 3


async def test_a_single_message_that_does_not_fit_fails_at_once():
    made = bench([ContextOverflow()])
    assert isinstance((await made.work()).error, ContextOverflow)
    assert len(made.backend.requests) == 1


async def test_a_stream_that_ends_without_its_finish_is_cut_off_and_what_was_there_is_kept():
    made = bench([TextPiece("par"), *call("c", "add", "{}"), ToolStart("d", "add")], answer("whole"), skills=[add])
    worked = await made.work()
    assert isinstance(worked.error, StreamTruncated)
    assert worked.kinds[-2:] == ["tool_call_end", "error"]
    assert worked.context.text == "par"
    _, said, told = await made.history()
    assert said.metadata["interrupted"] is True
    assert [part.content for part in told.parts] == [CANCELLED, CANCELLED]
    assert (await made.work()).context.text == "whole"
    assert flaws(made.backend.requests[1].messages) == []


async def test_an_exception_of_the_backend_is_logged_and_its_text_told_to_nobody(caplog):
    made = bench([TextPiece("a"), ValueError("secret URL")])
    with caplog.at_level(logging.ERROR):
        worked = await made.work()
    assert isinstance(worked.error, ProviderUnavailable)
    assert "secret" not in str(worked.error)
    assert "secret URL" in caplog.text
    assert (await made.history())[-1].metadata["interrupted"] is True


async def test_a_failure_that_the_backend_declares_is_the_runs():
    made = bench([Overloaded("The model is busy.")])
    worked = await made.work()
    assert (worked.error.code, worked.error.message) == ("overloaded", "The model is busy.")
    assert [message.role for message in await made.history()] == ["user"]
    assert 'finish_reason="overloaded"' in (await made.metrics.render(None))[0].decode()


async def test_a_backend_that_fails_before_its_stream_begins_is_not_available(caplog):
    def broken(_request):
        raise RuntimeError("no such model")

    made = Workbench(ScriptedBackend(then=broken))
    assert isinstance((await made.work()).error, ProviderUnavailable)
    assert "no such model" in caplog.text


async def test_a_session_that_is_deleted_meanwhile_ends_the_run():
    made = bench([TextPiece("a"), Park(), *answer("b")])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    await made.store.delete_session(ME, SESSION)
    made.backend.release.set()
    assert isinstance((await running).error, SessionNotFound)


async def test_a_reader_that_fails_ends_the_run_with_its_error_and_the_stream_is_closed():
    made = bench(answer("a", "b"))
    await made.open()
    await made.ask()

    async def emit(_event):
        raise Overloaded

    with pytest.raises(Overloaded):
        await made.runner.run(made.context, emit)
    assert made.backend.streams == 0
    assert [message.content for message in await made.history()] == ["hi", "a"]


async def test_a_reader_that_breaks_is_a_bug_that_is_raised_and_what_was_said_is_kept(caplog):
    made = bench([TextPiece("a"), ToolStart("c", "add"), *answer("b")])
    await made.open()
    await made.ask()

    async def emit(event):
        if event.type != "text_delta":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await made.runner.run(made.context, emit)
    assert "did not end cleanly" in caplog.text
    assert [message.content for message in await made.history()] == ["hi", "a", CANCELLED]


async def test_a_stream_that_cannot_be_closed_early_is_let_go():
    class Plain:
        def __init__(self):
            self.events = iter([TextPiece("a"), Finish("stop"), TextPiece("never heard")])

        def __aiter__(self):
            return self

        async def __anext__(self):
            return next(self.events)

    class PlainBackend(ScriptedBackend):
        def stream(self, _request):
            return Plain()

    assert (await Workbench(PlainBackend()).work()).context.text == "a"


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_s", [-1.0, 0.0, 0.02])
async def test_a_run_past_its_deadline_is_stopped_and_what_was_there_is_kept(left_s):
    made = bench([TextPiece("par"), Park()])
    await made.open()
    await made.ask()
    made.context.deadline = SystemClock().monotonic() + left_s
    worked = await made.carry()
    assert isinstance(worked.error, RunTimeout)
    assert made.backend.streams == 0
    assert [message.content for message in await made.history()] == (["hi", "par"] if left_s > 0 else ["hi"])


async def test_a_timeout_that_the_backend_raises_is_not_the_runs():
    made = bench([TimeoutError("connect")])
    await made.open()
    await made.ask()
    made.context.deadline = SystemClock().monotonic() + 60
    assert isinstance((await made.carry()).error, ProviderUnavailable)


# --- steering -----------------------------------------------------------------------------------------------------


async def test_words_left_for_a_run_are_handed_over_after_its_skills():
    made = bench([Park(), *calling(call("c", "add", '{"a":1,"b":2}'))], answer("short"), skills=[add])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    assert made.context.steer("shorter")
    made.backend.release.set()
    worked = await running
    assert worked.kinds[-5:] == ["tool_result", "steered", "text_delta", "turn_end", "done"]
    assert [(message.role, message.content) for message in made.backend.requests[1].messages] == [
        ("user", "hi"),
        ("assistant", ""),
        ("tool", "3"),
        ("user", "shorter"),
    ]


async def test_words_left_while_the_answer_was_given_bring_another_turn():
    made = bench(answer("one"), answer("two"))
    await made.open()
    await made.ask()
    made.context.steer("again")
    made.context.steer("and again")
    worked = await made.carry()
    assert worked.context.text == "two"
    assert [event.text for event in worked.events if isinstance(event, Steered)] == ["again", "and again"]
    assert [message.content for message in await made.history()] == ["hi", "one", "again", "and again", "two"]


def test_a_run_takes_only_so_many_words_at_a_time():
    context = RunContext("r", "s", ME)
    assert [context.steer("x") for _ in range(STEERING + 1)] == [True] * STEERING + [False]


async def test_a_run_that_has_ended_takes_no_more_words():
    made = bench(answer("one"))
    await made.work()
    assert not made.context.steer("late")


async def test_words_that_a_failing_run_had_taken_stay_in_the_session():
    made = bench([Park(), Overloaded()])
    await made.open()
    await made.ask()
    running = asyncio.create_task(made.carry())
    await made.backend.parked.wait()
    made.context.steer("please")
    made.backend.release.set()
    worked = await running
    assert isinstance(worked.error, Overloaded)
    assert [message.content for message in await made.history()] == ["hi", "please"]


# --- crashes ------------------------------------------------------------------------------------------------------


async def test_a_session_that_a_crash_left_with_open_calls_is_usable():
    made = bench(answer("on we go"))
    await made.open()
    parts = (Part("tool_call", id="c", name="add", arguments={}),)
    await made.ask("first")
    await made.store.append(SESSION, [Message("a", "assistant", "", SESSION, NOW, parts)])
    worked = await made.work("second")
    assert worked.context.text == "on we go"
    seen = made.backend.requests[0].messages
    assert flaws(seen) == []
    assert [message.content for message in seen] == ["first", "", NO_RESULT, "second"]


# --- any script ---------------------------------------------------------------------------------------------------


STEPS = st.one_of(
    st.builds(TextPiece, st.sampled_from(["a", "b", ""])),
    st.builds(ReasoningPiece, st.just("hm")),
    st.builds(ToolStart, st.sampled_from("cd"), st.sampled_from(["add", "refuse", "none"])),
    st.builds(ToolArgs, st.sampled_from("cd"), st.sampled_from(["{}", '{"a":1,"b":2}', "{"])),
)
CALLS = st.builds(
    call,
    st.sampled_from("cd"),
    st.sampled_from(["add", "refuse", "none"]),
    st.sampled_from(["{}", '{"a":1,"b":2}', "{"]),
)
ENDS = st.sampled_from(
    [*map(Finish, ["stop", "stop", "length", "content_filter", "pause", "context_overflow"]), Overloaded(), KeyError()]
)
SCRIPTS = st.builds(
    lambda steps, end, is_cut: [*(step for part in steps for step in part), *([] if is_cut else [end])],
    st.lists(st.one_of(CALLS, STEPS.map(lambda step: [step])), max_size=5),
    ENDS,
    st.sampled_from([False] * 5 + [True]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SCRIPTS, max_size=5), st.sets(st.integers(0, 5)))
def test_whatever_the_model_does_the_stream_keeps_its_grammar_and_the_history_every_wire_takes(scripts, steered):
    async def scenario():
        made = bench(*scripts, skills=[add, refuse], max_turns=4)
        await made.open()
        for number in range(2):
            await made.ask()
            if number in steered:
                made.context.steer("and")
            await made.carry()
        assert flaws(await made.history()) == []
        assert [flaw for request in made.backend.requests for flaw in flaws(request.messages)] == []
        assert made.backend.streams == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())

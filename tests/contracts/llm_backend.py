"""What every model backend must do. Subclass `LlmBackendContract` in a test file and fill in its three hooks.

    class TestMine(LlmBackendContract):
        def make(self): return MyBackend(...)
        def text_request(self): return LlmRequest("", [user("hello")])
        def tool_request(self): return LlmRequest("", [user("what is 2+2?")], [calculator_spec])

Each test opens its own backend by `make` and closes it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from argentor_asgi.agent.backends import LlmBackend
from argentor_asgi.protocol.grammar import Grammar
from argentor_asgi.protocol.llm import (
    Finish,
    LlmEvent,
    LlmRequest,
    ReasoningPiece,
    TextPiece,
    ToolArgs,
    ToolEnd,
    ToolSpec,
    ToolStart,
    UsageReport,
)
from argentor_asgi.protocol.messages import Message, Part, plain_text
from argentor_asgi.protocol.schema import decode_value, to_builtins
from argentor_asgi.protocol.turn import Turn, results

PATIENCE_S = 5.0
"""How long one answer may take before its test fails."""


def said(role: str, *parts: Part) -> Message:
    """Return a message of a conversation that no store has seen."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Message("m", role, plain_text(parts), "s", now, parts)  # type: ignore[arg-type]  # the tests pass real roles


def user(text: str) -> Message:
    """Return what a user says."""
    return said("user", Part("text", text=text))


class LlmBackendContract:
    """The contract; `make`, `text_request` and `tool_request` are the subclass's to fill in."""

    def make(self) -> LlmBackend:
        """Return a new backend that answers both requests, each as often as it is asked."""
        raise NotImplementedError

    def text_request(self) -> LlmRequest:
        """Return a request that is answered with at least two pieces of text and no call."""
        raise NotImplementedError

    def tool_request(self) -> LlmRequest:
        """Return a request, with tools, that is answered with at least one call."""
        raise NotImplementedError

    async def test_a_backend_says_who_it_is(self):
        async with self._opened() as backend:
            assert backend.name
            assert backend.model

    async def test_an_answer_is_text_and_then_its_finish(self):
        async with self._opened() as backend:
            events = await _heard(backend, self.text_request())
        assert isinstance(events[-1], Finish)
        assert events[-1].reason == "stop"
        assert all(isinstance(event, TextPiece | ReasoningPiece | UsageReport) for event in events[:-1])
        assert sum(isinstance(event, TextPiece) and bool(event.text) for event in events) >= 2

    async def test_a_call_starts_has_its_arguments_and_ends(self):
        request = self.tool_request()
        async with self._opened() as backend:
            events = await _heard(backend, request)
        assert isinstance(events[-1], Finish)
        assert not any(isinstance(event, Finish) for event in events[:-1])
        starts = [event for event in events if isinstance(event, ToolStart)]
        assert starts
        assert len({start.id for start in starts}) == len(starts)
        assert {start.name for start in starts} <= {tool.name for tool in request.tools}
        for start in starts:
            mine = [event for event in events if isinstance(event, ToolStart | ToolArgs | ToolEnd)]
            mine = [event for event in mine if event.id == start.id]
            assert isinstance(mine[0], ToolStart)
            assert isinstance(mine[-1], ToolEnd)
            pieces = [event.piece for event in mine[1:-1] if isinstance(event, ToolArgs)]
            assert len(pieces) == len(mine) - 2
            assert isinstance(decode_value("".join(pieces).encode() or b"{}"), dict)

    async def test_no_piece_holds_what_utf8_cannot_carry(self):
        async with self._opened() as backend:
            for request in (self.text_request(), self.tool_request()):
                for event in await _heard(backend, request):
                    str(to_builtins(event)).encode()

    async def test_tokens_are_reported_before_the_finish(self):
        async with self._opened() as backend:
            for request in (self.text_request(), self.tool_request()):
                reports = [event for event in await _heard(backend, request) if isinstance(event, UsageReport)]
                assert reports
                assert reports[-1].usage.input_tokens >= 0
                assert reports[-1].usage.output_tokens > 0

    async def test_a_turn_of_its_events_keeps_the_grammar(self):
        async with self._opened() as backend:
            for request in (self.text_request(), self.tool_request()):
                turn = Turn(next_index=0, taken=set())
                grammar = Grammar(after=1)
                heard = [out for event in await _heard(backend, request) for out in turn.feed(event)]
                for seq, event in enumerate(heard, 2):
                    grammar.feed({**to_builtins(event), "seq": seq})
                assert turn.finish is not None
                assert not turn.close()
                assert all(found.refusal is None for found in turn.calls)

    async def test_results_bring_the_next_turn(self):
        request = self.tool_request()
        async with self._opened() as backend:
            turn = Turn(next_index=0, taken=set())
            for event in await _heard(backend, request):
                turn.feed(event)
            outputs = {found.id: ("The skill failed.", True) for found in turn.calls}
            answered = [said("assistant", *turn.parts), said("tool", *results(turn.calls, outputs))]
            events = await _heard(backend, replace(request, messages=[*request.messages, *answered]))
        assert isinstance(events[-1], Finish)

    async def test_a_long_history_with_every_role_is_taken(self):
        request = self.text_request()
        before = [said("system", Part("text", text="Earlier: nothing.")), user("hi"), user("there")]
        spoken = said("assistant", Part("reasoning", text="hm"), Part("text", text="hello"))
        used = said("assistant", Part("tool_call", id="old", name="a_skill_long_gone", arguments={"a": [1, None]}))
        told = said("tool", Part("tool_result", id="old", name="a_skill_long_gone", content="{}", is_error=True))
        async with self._opened() as backend:
            history = [*before, spoken, user("go"), used, told, spoken, *request.messages]
            events = await _heard(backend, replace(request, messages=history))
        assert isinstance(events[-1], Finish)

    async def test_a_request_is_not_changed(self):
        for request in (self.text_request(), self.tool_request()):
            before = deepcopy(request)
            async with self._opened() as backend:
                await _heard(backend, request)
            assert request == before

    async def test_a_stream_can_be_closed_after_any_event(self):
        for request in (self.text_request(), self.tool_request()):
            async with self._opened() as backend:
                for kept in range(len(await _heard(backend, request))):
                    stream = backend.stream(request)
                    for _ in range(kept):
                        await anext(stream)
                    await stream.aclose()  # type: ignore[attr-defined]  # the contract: an iterator that closes
                    with pytest.raises(StopAsyncIteration):
                        await anext(stream)
                assert isinstance((await _heard(backend, request))[-1], Finish)

    async def test_a_reader_can_be_cancelled_at_any_await(self):
        for request in (self.text_request(), self.tool_request()):
            async with self._opened() as backend:
                for steps in range(50):
                    task = asyncio.create_task(_heard(backend, request))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    if not task.cancel():
                        break
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert isinstance((await _heard(backend, request))[-1], Finish)

    async def test_streams_side_by_side_do_not_mix(self):
        async with self._opened() as backend:
            requests = [self.text_request(), self.tool_request()] * 2
            alone = [await _heard(backend, request) for request in requests]
            together = await asyncio.gather(*(_heard(backend, request) for request in requests))
        assert [_told(events) for events in together] == [_told(events) for events in alone]

    async def test_a_tool_that_is_offered_need_not_be_called(self):
        spec = ToolSpec("zz_unrelated", "Does nothing that anybody asks for.", {"type": "object", "properties": {}})
        async with self._opened() as backend:
            events = await _heard(backend, replace(self.text_request(), tools=[spec]))
        assert isinstance(events[-1], Finish)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[LlmBackend]:
        backend = self.make()
        try:
            yield backend
        finally:
            await backend.aclose()


async def _heard(backend: LlmBackend, request: LlmRequest) -> list[LlmEvent]:
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in backend.stream(request)]


def _told(events: list[LlmEvent]) -> tuple[str, list[str]]:
    """Return what a stream says, whatever its ids and however it was cut in pieces."""
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    pieces = "".join(event.piece for event in events if isinstance(event, ToolArgs))
    return text, [event.name for event in events if isinstance(event, ToolStart)] + [pieces]

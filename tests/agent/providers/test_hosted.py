"""`argentor_asgi.agent.providers.hosted`: real requests on real sockets, whatever the other side does."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from contracts.llm_backend import LlmBackendContract
from hosted_models import (
    HELLO,
    KEY,
    LOOK_THERE,
    OVERLOADED,
    TEXT,
    WIRES,
    answer_of,
    asking,
    heard,
    openai_chunk,
    talk,
)
from raw_server import raw_server, sse
from wire_cases import CASES, MODELS, golden

from argentor_asgi.agent.providers.hosted import NOTE_CHARS, REFUSAL_BYTES, Manner, Refused, base
from argentor_asgi.agent.providers.pace import PIECES, STRETCH_S, Pace
from argentor_asgi.errors import (
    ContextOverflow,
    ProviderAuth,
    ProviderBadRequest,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from argentor_asgi.protocol.llm import Finish, TextPiece, UsageReport
from argentor_asgi.protocol.messages import Usage

pytestmark = pytest.mark.slow

USED = UsageReport(Usage(3, 2))
SAID = [TextPiece("two "), TextPiece("piécés")]


def stream_of(*events):
    """Return the bytes of an SSE stream."""
    return b"".join(event if isinstance(event, bytes) else sse(event) for event in events)


class HostedContract(LlmBackendContract):
    """The contract over a wire, against a real server."""

    wire = ""

    @pytest.fixture(autouse=True)
    async def _served(self):
        async with raw_server(talk(self.wire)) as self.raw:
            yield

    def make(self):
        return asking(self.raw, self.wire)

    def text_request(self):
        return HELLO

    def tool_request(self):
        return LOOK_THERE


class TestHostedOpenAi(HostedContract):
    wire = "openai"


class TestHostedAnthropic(HostedContract):
    wire = "anthropic"


class TestHostedGemini(HostedContract):
    wire = "gemini"


# --- what is sent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "target", "header", "value"),
    [
        ("openai", "/v1/chat/completions", "authorization", f"Bearer {KEY}"),
        ("groq", "/v1/chat/completions", "authorization", f"Bearer {KEY}"),
        ("azure", "/v1/chat/completions", "api-key", KEY),
        ("claude", "/v1/messages", "x-api-key", KEY),
        ("gemini", "/v1beta/models/m-1:streamGenerateContent?alt=sse", "x-goog-api-key", KEY),
    ],
)
async def test_the_key_goes_in_the_header_that_the_provider_wants_and_nowhere_else(provider, target, header, value):
    """agent.md 1.10 D14: no key in a URL."""
    async with raw_server(talk("openai")) as raw:
        await heard(asking(raw, provider=provider))
    (asked,) = raw.asked
    assert (asked.method, asked.target, asked.headers[header]) == ("POST", target, value)
    assert KEY not in asked.target + asked.body.decode()
    assert [name for name, text in asked.headers.items() if KEY in text] == [header]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", ["first_round", "second_round"])
async def test_what_is_sent_is_what_the_wire_makes_byte_for_byte(wire, case):
    """agent.md 8 item 3: the bytes as a server gets them."""
    async with raw_server(talk(wire)) as raw:
        await heard(asking(raw, wire, model=MODELS[wire]), CASES[case])
    assert raw.asked[0].body == golden(wire, case)


async def test_a_server_that_needs_no_key_gets_none():
    async with raw_server(talk("openai")) as raw:
        assert (await heard(asking(raw, provider="ollama", key=None)))[:2] == SAID
    assert "authorization" not in raw.asked[0].headers


async def test_a_call_goes_on_with_the_trace_of_its_turn():
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with raw_server(talk("openai")) as raw:
        await heard(asking(raw), replace(HELLO, trace_parent=parent))
        await heard(asking(raw))
    assert [asked.headers.get("traceparent") for asked in raw.asked] == [parent, None]


@pytest.mark.parametrize(
    ("manner", "request_", "sampling"),
    [
        (Manner(9), HELLO, {"max_completion_tokens": 9}),
        (Manner(9, 0.5, "max_tokens"), HELLO, {"max_tokens": 9, "temperature": 0.5}),
        (Manner(9, 0.5), replace(HELLO, max_tokens=7, temperature=0.0), {"max_completion_tokens": 7, "temperature": 0}),
    ],
)
async def test_what_a_request_leaves_open_is_as_configured(manner, request_, sampling):
    async with raw_server(talk("openai")) as raw:
        await heard(asking(raw, manner=manner), request_)
    body = raw.asked[0].json()
    assert {name: body[name] for name in body if name.startswith(("max_", "temp"))} == sampling


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_a_base_may_end_in_a_slash_or_a_version(path):
    assert base(f"https://api.example.org/x{path}") == "https://api.example.org/x"


# --- what is heard ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_is_the_same_however_the_network_cuts_it(wire):
    """agent.md 1.10 D13: a character split between two chunks is whole again."""

    async def drip(_asked, line):
        await line.stream(content_type="Text/Event-Stream; charset=utf-8")
        await line.chunks(stream_of(*TEXT[wire]))
        await line.end()

    async with raw_server(talk(wire), drip) as raw:
        whole, cut = await heard(asking(raw, wire)), await heard(asking(raw, wire))
    assert whole == cut
    assert [event for event in whole if isinstance(event, TextPiece)] == SAID
    assert [event for event in whole if isinstance(event, UsageReport)][-1] == USED


@pytest.mark.parametrize("told", [[], [openai_chunk(usage={"prompt_tokens": 0, "completion_tokens": 0})]])
async def test_tokens_that_the_provider_does_not_tell_are_estimated(told):
    async with raw_server(lambda _, line: line.events(*TEXT["openai"][:2], *told, "[DONE]")) as raw:
        *_, used, finish = await heard(asking(raw))
    assert used == UsageReport(Usage(len(raw.asked[0].body) // 4 + 1, 3, estimated=True))
    assert isinstance(finish, Finish)


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_that_is_cut_at_any_byte_never_finishes(wire):
    """agent.md 1.10 D13, 8 item 4: neither when the connection ends there, nor when HTTP says that this was all."""
    whole = stream_of(*TEXT[wire])

    async def cut(asked, line):
        at = int(asked.headers["traceparent"])
        await line.stream(content_type="text/event-stream")
        await line.send(b"%x\r\n%b" % (len(whole), whole[:at]))
        await line.cut()

    async def end(asked, line):
        await line.stream(content_type="text/event-stream")
        await line.chunk(whole[: int(asked.headers["traceparent"])] or b"\n")
        await line.end()

    # What follows OpenAI's finish reason may be missing; so may the blank line behind the last frame of any wire.
    needed = len(stream_of(*(TEXT[wire][:2] if wire == "openai" else TEXT[wire]))) - 2
    for handler, most in ((cut, len(whole)), (end, needed - 1)):
        async with raw_server(handler) as raw:
            backend = asking(raw, wire)
            for at in range(1, most + 1, 1 if wire == "openai" else 5):
                with pytest.raises((StreamTruncated, ProviderUnavailable)):
                    assert not [event async for event in _finishes(backend, at)]
            await backend.aclose()


async def _finishes(backend, at):
    async for event in backend.stream(replace(HELLO, trace_parent=str(at))):
        if isinstance(event, Finish):
            yield event


async def test_an_answer_whose_http_does_not_end_cleanly_is_truncated_even_behind_its_last_frame():
    async def talking(_asked, line):
        await line.events(*TEXT["openai"], end=False)
        await line.cut()

    async with raw_server(talking) as raw:
        events = await heard(asking(raw))
    assert events[:2] == SAID
    assert isinstance(events[-1], StreamTruncated)
    assert not any(isinstance(event, Finish) for event in events)


@pytest.mark.parametrize("said", [0, 1])
async def test_a_connection_that_is_reset_is_no_answer(said):
    async def talking(_asked, line):
        await line.events(*TEXT["openai"][:said], end=False)
        line.abort()

    async with raw_server(talking) as raw:
        events = await heard(asking(raw))
    assert (
        [type(event) for event in events]
        in (
            [ProviderUnavailable],  # a reset overtakes what was sent
            [TextPiece, StreamTruncated][1 - said :],
        )
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [(None, [ProviderUnavailable]), ([], [ProviderUnavailable]), (TEXT["openai"][:1], [TextPiece, StreamTruncated])],
)
async def test_an_answer_that_stalls_ends_with_its_time_and_its_connection(events, expected):
    async def talking(_asked, line):
        if events is not None:
            await line.events(*events, end=False)
        await line.stall()

    async with raw_server(talking) as raw:
        found = await heard(asking(raw, first_byte_s=0.05, idle_s=0.05))
        await raw.lines[0].gone()
    assert [type(event) for event in found] == expected


async def test_a_frame_that_makes_no_sense_ends_the_answer():
    async with raw_server(lambda _, line: line.events(TEXT["openai"][0], "{nonsense")) as raw:
        events = await heard(asking(raw))
        await raw.lines[0].gone()
    assert [type(event) for event in events] == [TextPiece, StreamTruncated]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("said", [0, 4])
async def test_an_error_within_a_stream_is_an_error(wire, said, caplog):
    """agent.md 1.10 D13: HTTP has said 200 already."""
    said = min(said, len(TEXT[wire]) - 1)
    async with raw_server(lambda _, line: line.events(*TEXT[wire][:said], OVERLOADED[wire])) as raw:
        *_, error = await heard(asking(raw, wire))
    assert isinstance(error, ProviderUnavailable)
    assert error.message == ProviderUnavailable.message
    assert "no room for ***" in caplog.text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, ProviderBadRequest) for status in (204, 301, 302, 307, 400, 404, 422)),
        *((status, ProviderAuth) for status in (401, 403)),
        *((status, ProviderUnavailable) for status in (408, 409, 500, 502, 503, 504, 529)),
        (413, ContextOverflow),
        (429, ProviderRateLimited),
    ],
)
async def test_each_status_is_a_declared_error(status, expected):
    async with raw_server(lambda _, line: line.answer(b"", status, location="http://127.0.0.1:1/")) as raw:
        (error,) = await heard(asking(raw))
    assert type(error) is expected
    assert isinstance(error.__cause__, Refused)
    assert error.__cause__.status == status
    assert len(raw.asked) == 1


async def test_a_rate_limit_tells_its_wait():
    async with raw_server(lambda _, line: line.answer(b"{}", 429, {"retry-after": "7"})) as raw:
        (error,) = await heard(asking(raw))
    assert error.retry_after == 7


async def test_an_answer_that_is_no_stream_is_refused():
    async with raw_server(lambda _, line: line.answer_json({"choices": []})) as raw:
        (error,) = await heard(asking(raw))
    assert isinstance(error, ProviderBadRequest)


async def test_a_provider_that_is_not_there_is_not_available():
    async with raw_server() as raw:
        pass
    (error,) = await heard(asking(raw.url))
    assert isinstance(error, ProviderUnavailable)


async def test_what_a_provider_says_of_a_refusal_is_for_the_log_and_the_key_for_nobody(caplog):
    said = {"error": {"message": f"model m-1 is gone; you sent {KEY}", "type": "invalid_request_error", "code": "x"}}
    async with raw_server(lambda _, line: line.answer_json(said, 404)) as raw:
        (error,) = await heard(asking(raw))
    assert error.message == ProviderBadRequest.message
    assert KEY not in f"{error.__notes__} {caplog.text}"
    assert "model m-1 is gone; you sent ***" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        {"code": KEY, "type": f"Bearer {KEY.upper()}"},
        *({"message": "x" * (NOTE_CHARS - cut) + KEY} for cut in range(20, len(KEY) + 40, 9)),
    ],
)
async def test_no_part_of_the_key_is_written_down_whatever_the_provider_makes_of_it(error, caplog):
    async with raw_server(lambda _, line: line.answer_json({"error": error}, 404)) as raw:
        (error,) = await heard(asking(raw))
    written = f"{error.__notes__} {caplog.text}".lower()
    assert "***" in written or "xxx" in written
    assert KEY[:9].lower() not in written


async def test_a_note_of_an_odd_kind_of_answer_is_one_short_line_without_the_key(caplog):
    kind = f"text/html; a={KEY.upper()}; \x9b31m\x85{'A' * 9999}"
    async with raw_server(lambda _, line: line.answer(b"hi", content_type=kind)) as raw:
        (error,) = await heard(asking(raw))
    (note,) = error.__notes__
    assert note.startswith("The provider answered 200 with text/html; a=***;")
    assert len(note) == NOTE_CHARS
    assert note.isprintable()
    assert note in caplog.text


async def test_frames_and_events_that_come_at_once_are_worked_on_in_turn_with_others():
    """Neither a flood of frames that say nothing nor one frame that says much holds the loop."""
    texts = [{"type": "text", "text": "a"}] * 3000
    empty = b"data: {}\n\n" * 9000

    async def talking(_asked, line):
        await line.events(empty, openai_chunk({"content": texts}), openai_chunk({}, "stop"), "[DONE]")

    turns, steps, most = 0, 0, 5

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def now():
        nonlocal steps
        steps += 1
        return steps * STRETCH_S / most

    async with raw_server(talking) as raw:
        backend = asking(raw)
        backend._pace = Pace(now)  # a clock by which each step takes its time
        task = asyncio.create_task(others())
        seen = [turns async for _ in backend.stream(HELLO)]
        task.cancel()
        await backend.aclose()
    assert len(seen) == 3002
    assert max(Counter(seen).values()) <= (most + 1) * PIECES
    assert turns > 9000 / ((most + 1) * PIECES)


async def test_a_long_refusal_is_read_only_so_far():
    async def talking(_asked, line):
        await line.stream(500)
        while not line.closed.done():
            await line.chunk(b" " * REFUSAL_BYTES)

    async with raw_server(talking) as raw:
        (error,) = await heard(asking(raw))
    assert isinstance(error, ProviderUnavailable)


async def test_a_refusal_whose_body_breaks_off_is_that_refusal():
    async def talking(_asked, line):
        await line.head(401, {"content-length": "100"})
        await line.cut()

    async with raw_server(talking) as raw:
        (error,) = await heard(asking(raw))
    assert isinstance(error, ProviderAuth)


# --- cancelling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_closing_the_answer_after_any_event_closes_the_socket(wire):
    """agent.md 1.10 D9: an answer that nobody reads is not paid for."""
    events = [*TEXT[wire][:-1]]

    async def talking(_asked, line):
        await line.events(*events, end=False)
        await line.stall()

    async with raw_server(talking) as raw:
        backend = asking(raw, wire)
        for kept in (1, 2):
            stream = backend.stream(HELLO)
            for _ in range(kept):
                await anext(stream)
            await stream.aclose()
            await raw.lines[-1].gone()
        await backend.aclose()
    assert len(raw.lines) == 2


async def test_a_cancel_at_any_await_closes_the_socket():
    async def talking(_asked, line):
        await asyncio.sleep(0)
        await line.stream(content_type="text/event-stream")
        for event in TEXT["openai"][:2]:
            await asyncio.sleep(0)
            await line.chunk(sse(event))
        await line.stall()

    async with raw_server(talking) as raw:
        backend = asking(raw)
        for steps in range(40):
            task = asyncio.create_task(answer_of(backend))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        for line in raw.lines:
            await line.gone()
        await backend.aclose()
    assert len(raw.lines) > 10


async def test_an_answer_that_waits_for_its_head_can_be_cancelled():
    async with raw_server(lambda _, line: line.stall()) as raw:
        backend = asking(raw)
        task = asyncio.create_task(answer_of(backend))
        await raw.heard()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await raw.lines[0].gone()
        await backend.aclose()


async def test_a_connection_is_used_again_after_a_whole_answer_and_after_a_refusal():
    async def refuse(_asked, line):
        await line.answer_json({}, 500)

    async with raw_server(talk("openai"), refuse, talk("openai")) as raw:
        backend = asking(raw)
        await answer_of(backend)
        with pytest.raises(ProviderUnavailable):
            await answer_of(backend)
        assert (await answer_of(backend))[:2] == SAID
        await backend.aclose()
    assert len(raw.lines) == 1

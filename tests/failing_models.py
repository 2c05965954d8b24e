"""Models that fail, as scripts of `raw_server`, and what the clients of a gateway before them must see.

async with led(line, breaks_off("openai"), says(*TEXT["openai"])):      # line: of `relay`, to which the gateway goes
    told = await house.ask("ws", "Say it.")
    failed(told, "stream_truncated", partial="two ")
    await goes_on(house, "ws", told)
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hosted_gateways import House, Told
from hosted_models import TEXT
from raw_server import Handler, RawServer, raw_server
from relay import Relay

ANSWER = "two piécés"
"""What `TEXT` says."""
BEGUN = {"openai": 1, "anthropic": 3, "gemini": 1}
"""How many events of `TEXT` say its first piece, `two `."""


@asynccontextmanager
async def led(line: Relay, *handlers: Handler) -> AsyncIterator[RawServer]:
    """Lead the relay to a raw server with this script, one handler a request."""
    async with raw_server(*handlers) as raw:
        line.to(raw.port)
        yield raw


def says(*events: bytes | str | dict, then: str = "end") -> Handler:
    """Return a handler that streams these events, and then ends, breaks off (`cut`, `reset`) or stalls."""

    async def handler(_, line):
        await line.events(*events, end=then == "end")
        if then == "stall":
            await line.stall()
        elif then == "reset":
            line.abort()
        elif then == "cut":
            await line.cut()

    return handler


def breaks_off(wire: str, then: str = "cut") -> Handler:
    """Return a handler that says one piece and then nothing more, one way or another."""
    return says(*TEXT[wire][: BEGUN[wire]], then=then)


def refuses(status: int, body: object = None, **headers: object) -> Handler:
    """Return a handler that answers with this status; `retry_after=1` is another way to write a header field."""
    fields = {name.replace("_", "-"): str(value) for name, value in headers.items()}

    async def handler(_, line):
        await line.answer_json({} if body is None else body, status, fields)

    return handler


def failed(told: Told, code: str, *, partial: str | None = None, before: str = "") -> None:
    """Check that it failed with this code alone.

    `partial`: what the model had said when it broke off, as it is kept; `before`: what it said in whole turns.
    """
    assert told.code == code, told.answer
    last = told.heard.last
    assert (last["type"], last["code"]) == ("error", code)
    assert told.heard.of("done") == []
    assert (told.run["status"], told.run["error_code"]) == ("failed", code)
    assert told.broken_off == ([partial] if partial else [])
    assert told.text == before + (partial or "")
    calls, results = told.parts("tool_call"), told.parts("tool_result")
    assert [part["id"] for part in results] == [part["id"] for part in calls]
    assert len(told.heard.of("tool_call_start")) == len(told.heard.of("tool_call_end"))


async def goes_on(house: House, way: str, told: Told, answer: str = ANSWER) -> None:
    """Check that the next message of the session is answered."""
    again = await house.ask(way, "And now?", told.session_id)
    assert (again.code, again.text) == (None, answer), again.answer
    assert again.session_id == told.session_id
    assert again.said[-1] == ("assistant", answer)

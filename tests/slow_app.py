"""A gateway whose model and skill wait at gates that a test opens, for servers in processes of their own.

What the user says is what happens, `NAME` being the gate:

    model NAME        half an answer, then the gate, then the other half
    call NAME         half a call, then the gate, then the other half
    skill NAME        a call of the skill `wait`, which waits at the gate, then an answer
    long NAME         a whole turn with a call, then half an answer, the gate, and the other half
    takes SECONDS     half an answer, then that much time, then the other half
    anything else     is repeated

`GET /gates/NAME` answers when somebody waits there, `POST /gates/NAME` opens it for good. `app` is the ASGI callable,
`made` what the launcher serves.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from scripted_backend import Park, ScriptedBackend, Step, answer, call, calling

from argentor_asgi.agent.skills import skill
from argentor_asgi.asgi.route import route
from argentor_asgi.compose import gateway
from argentor_asgi.protocol.llm import Finish, LlmEvent, LlmRequest, TextPiece, ToolArgs, ToolEnd, ToolStart
from argentor_asgi.protocol.messages import Message

HALVES = (TextPiece("half "), Park(), TextPiece("whole"), Finish("stop"))


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate by its name."""

    name: str


class Gated:
    """A model of scripted ones: one for each gate, so that each parks and goes on by itself."""

    name = "gated"
    model = "gated-1"

    def __init__(self) -> None:
        self.gates: dict[str, ScriptedBackend] = defaultdict(lambda: ScriptedBackend(then=script))

    def stream(self, request: LlmRequest) -> AsyncIterator[LlmEvent]:
        verb, gate = words(request.messages)
        return taking(float(gate)) if verb == "takes" else self.gates[gate].stream(request)

    async def aclose(self) -> None:
        for each in self.gates.values():
            await each.aclose()


def words(messages: Sequence[Message]) -> tuple[str, str]:
    """Return what the user wants, and at which gate."""
    said = next((message.content for message in reversed(messages) if message.role == "user"), "")
    verb, _, gate = said.partition(" ")
    return (verb, gate) if verb in {"model", "call", "skill", "long", "takes"} else ("say", "")


async def taking(seconds: float) -> AsyncIterator[LlmEvent]:
    """Answer in two halves; for servers that let nobody in to open a gate once they stop."""
    yield HALVES[0]
    await asyncio.sleep(seconds)
    yield HALVES[2]
    yield HALVES[3]


def script(request: LlmRequest) -> Sequence[Step]:
    """Return what the model does with a request."""
    verb, gate = words(request.messages)
    is_first = request.messages[-1].role == "user"
    if verb == "model":
        return HALVES
    if verb == "call" and is_first:
        return [ToolStart("c1", "wait"), ToolArgs("c1", '{"gate": '), Park(), ToolEnd("c1"), Finish("tool_calls")]
    if verb == "skill" and is_first:
        return calling(call("c1", "wait", '{"gate": ', f'"{gate}"}}'))
    if verb == "long":
        return long_script(is_first=is_first)
    return answer("after", "wards") if verb == "skill" else answer("you said ", request.messages[-1].content)


def long_script(*, is_first: bool) -> Sequence[Step]:
    """Return a turn with every kind of event, then one that waits in the middle."""
    if is_first:
        return [
            TextPiece("I "),
            TextPiece("look. "),
            *calling(call("c1", "calculator", '{"operation": "evalu', 'ate", "expression": "6*7"}')),
        ]
    return HALVES


@skill("wait", "Waits at a gate.")
async def wait(gate: str) -> str:
    """Wait until the gate is open."""
    backend.gates[gate].parked.set()
    await backend.gates[gate].release.wait()
    return f"{gate} is open"


@route("GET", "/gates/{name}", needs="chat:read", even_draining=True)
async def parked(name: str) -> Gate:
    """Answer when somebody waits at the gate."""
    await backend.gates[name].parked.wait()
    return Gate(name)


@route("POST", "/gates/{name}", needs="chat:write", even_draining=True)
async def opened(name: str) -> Gate:
    """Open the gate."""
    backend.gates[name].release.set()
    return Gate(name)


backend = Gated()
made = gateway(agent=backend, skills=[wait], routes=[parked, opened])
app = made.app
